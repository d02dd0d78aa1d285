#!/usr/bin/env bash
# cluster.sh MANAGER ROLE=ADDRESS…: run on the manager, as root, when all other machines are up: makes the Swarm, builds the
# images and brings them to the nodes, deploys, and sends a vote. Running it again changes what has changed.
#
# Everything goes from here to the nodes over ssh. The token of the Swarm travels inside that connection, from one standard
# output to one standard input; it is in no file, in no argument of ssh, and on no other machine.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../stack/swarm/lib.sh
. "$(dirname "$0")/../stack/swarm/lib.sh"

SWARM=$TURNOUT_ROOT/stack/swarm
KEY=${TURNOUT_KEY:-/root/turnout.key}
SSH_SECONDS_MAX=300
READY_SECONDS_MAX=120

# on ADDRESS COMMAND…: runs a command there as root. Vagrant made these machines a moment ago on a network of this machine
# alone, and may make them anew under the same address, so there is no key of theirs to know beforehand.
on() {
  local address=$1
  shift
  ssh -i "$KEY" -o BatchMode=yes -o ConnectTimeout=5 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
    -o LogLevel=ERROR "${SUDO_USER:-vagrant}@$address" "sudo ${*@Q}"
}

answers() { on "$1" true </dev/null 2>/dev/null; }

# image_ids [on ADDRESS]: which images of this version are here, or there.
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
    say "Bringing the images to ${node#*=} (${node%%=*})."
    on "${node#*=}" /opt/turnout/stack/swarm/images.sh load /dev/stdin <"$archive"
  done
}

nodes() {
  docker node ls --quiet | xargs docker node inspect --format '{{.ID}} {{.Status.State}} {{.Status.Addr}} {{index .Spec.Labels "role"}}'
}

roles_are_right() {
  local node seen
  "$SWARM/label.sh"
  seen=$(nodes)
  for node in "$@"; do
    [[ $seen == *" ready ${node#*=} ${node%%=*}"* ]] || return 1
  done
}

# A machine that was destroyed and made anew is in the Swarm twice; the one that is down never comes back.
forget_former_selves() {
  local id state address seen
  seen=$(nodes)
  while read -r id state address _; do
    if [ "$state" = down ] && [[ $seen == *" ready $address "* ]]; then
      docker node rm "$id" >/dev/null
      say "Forgot what $address was before."
    fi
  done <<<"$seen"
}

[ $# -ge 2 ] || usage
manager=$1
shift
TURNOUT_VERSION=$(content_version)
export TURNOUT_VERSION

"$SWARM/init.sh" --advertise "$manager"
join_all "$@"
wait_until "$READY_SECONDS_MAX" 'all nodes with their roles' roles_are_right "$@"
forget_former_selves
say "Building the images, version $TURNOUT_VERSION. The first time this takes minutes."
"$SWARM/images.sh" build
bring_images "$@"
"$SWARM/secrets.sh"
"$SWARM/deploy.sh"
"$SWARM/verify.sh"
"$SWARM/secrets.sh" --show
