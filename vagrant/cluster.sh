#!/usr/bin/env bash
# cluster.sh MANAGER ROLE=ADDRESS…: run on the manager as root once all other machines are up. Creates the Swarm, builds the
# images and copies them to the nodes, deploys, and casts a vote. A second run updates what changed.
#
# It reaches the nodes over ssh. The Swarm's token is piped through that connection; it is in no file, argument or log.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../stack/swarm/lib.sh
. "$(dirname "$0")/../stack/swarm/lib.sh"

SWARM=$TURNOUT_ROOT/stack/swarm
KEY=${TURNOUT_KEY:-/root/turnout.key}
SSH_SECONDS_MAX=300
READY_SECONDS_MAX=120

# on ADDRESS COMMAND…: runs a command on a node as root. Vagrant has just created these machines on a host-only network and may
# recreate them under the same address, so their host keys are not known in advance.
on() {
  local address=$1
  shift
  ssh -i "$KEY" -o BatchMode=yes -o ConnectTimeout=5 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
    -o LogLevel=ERROR "${SUDO_USER:-vagrant}@$address" "sudo ${*@Q}"
}

answers() { on "$1" true </dev/null 2>/dev/null; }

# image_ids [on ADDRESS]: prints the ids of this version's images, here or on a node.
image_ids() {
  "$@" docker image ls --no-trunc --filter "reference=turnout-*:$TURNOUT_VERSION" --format '{{.ID}}' </dev/null | sort
}

join_all() {
  local node
  for node in "$@"; do
    wait_until "$SSH_SECONDS_MAX" "ssh to ${node#*=}" answers "${node#*=}"
    "$SWARM/token.sh" worker |
      on "${node#*=}" /opt/turnout/stack/swarm/join.sh --manager "$manager" --advertise "${node#*=}"
  done
}

bring_images() {
  local node
  archive=$(mktemp)
  trap 'rm -f "$archive"' EXIT
  for node in "$@"; do
    [ "$(image_ids on "${node#*=}")" != "$(image_ids)" ] || continue
    [ -s "$archive" ] || "$SWARM/images.sh" save "$archive"
    say "Copying the images to ${node#*=} (${node%%=*})."
    on "${node#*=}" /opt/turnout/stack/swarm/images.sh load /dev/stdin <"$archive"
  done
}

nodes() {
  docker node ls --quiet | xargs docker node inspect --format '{{.ID}} {{.Status.State}} {{.Status.Addr}} {{index .Spec.Labels "role"}}'
}

roles_are_right() {
  local node seen
  forget_former_selves
  "$SWARM/label.sh"
  seen=$(nodes)
  for node in "$@"; do
    [[ $seen == *" ready ${node#*=} ${node%%=*}"* ]] || return 1
  done
}

# A recreated machine is in the Swarm twice; the entry that is down will never return.
forget_former_selves() {
  local id state address seen
  seen=$(nodes)
  while read -r id state address _; do
    if [ "$state" = down ] && [[ $seen == *" ready $address "* ]]; then
      docker node rm "$id" >/dev/null
      say "Removed the previous node at $address."
    fi
  done <<<"$seen"
}

[ $# -ge 2 ] || usage
manager=$1
shift
TURNOUT_VERSION=$(content_version)
export TURNOUT_VERSION
set -a
# shellcheck source-path=SCRIPTDIR source=settings.env
. "$TURNOUT_ROOT/vagrant/settings.env"
set +a

"$SWARM/init.sh" --advertise "$manager"
join_all "$@"
wait_until "$READY_SECONDS_MAX" 'all nodes with their roles' roles_are_right "$@"
say "Building the images, version $TURNOUT_VERSION. The first time takes minutes."
"$SWARM/images.sh" build
bring_images "$@"
"$SWARM/secrets.sh"
"$SWARM/deploy.sh"
"$SWARM/verify.sh"
"$SWARM/secrets.sh" --show
