#!/usr/bin/env bash
# deploy.sh: deploys stack/turnout.yml and waits until every service is up to date.
#
# Settings are the variables of the file: TURNOUT_REGISTRY, TURNOUT_VERSION, VOTE_HOST, RESULTS_HOST, DASHBOARD_HOST, WORKERS,
# … Without a registry the images must be on the nodes (images.sh load). TURNOUT_STACK_FILES adds files, separated by spaces.
# A second run updates what changed, including the polls.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

# Services limited to one task per node, such as Redis, are updated node by node.
SECONDS_MAX=300
SECONDS_MAX_PER_NODE=20
# An update starts shortly after the command returns, so the state must be stable for this many seconds.
STABLE_CHECKS=3

# Configs are immutable, so a hash of the content is part of their name.
POLLS_FILE=${POLLS_FILE:-$TURNOUT_ROOT/stack/polls.json}
[ -r "$POLLS_FILE" ] || fail "$POLLS_FILE cannot be read"
# A config is one file, so the images beside it go into it.
work=$(mktemp --directory)
trap 'rm -r "$work"' EXIT
while read -r image; do
  [[ $image =~ ^[A-Za-z0-9_-][A-Za-z0-9_.-]*$ ]] || fail "$POLLS_FILE names the image $image; it must be the name of a file beside it"
  image_file=$(dirname "$POLLS_FILE")/$image
  [ -r "$image_file" ] || fail "$POLLS_FILE names the image $image, which cannot be read"
  printf 's|("image"[[:space:]]*:[[:space:]]*)"%s"|\\1"data:;base64,%s"|g\n' "${image//./[.]}" "$(base64 --wrap 0 "$image_file")"
done < <(grep --only-matching --extended-regexp '"image"[[:space:]]*:[[:space:]]*"[^":]*"' "$POLLS_FILE" | cut -d '"' -f 4 | sort -u) >"$work/images.sed"
sed --regexp-extended --file "$work/images.sed" "$POLLS_FILE" >"$work/polls.json"
POLLS_FILE=$work/polls.json
POLLS_VERSION=$(sha256sum "$POLLS_FILE" | cut -c 1-12)
OBSERVABILITY_VERSION=$(cat "$TURNOUT_ROOT"/stack/observability/*.yml "$TURNOUT_ROOT"/stack/observability/grafana/* ${ALERTMANAGER_FILE:+"$ALERTMANAGER_FILE"} | sha256sum | cut -c 1-12)
export POLLS_FILE POLLS_VERSION OBSERVABILITY_VERSION
export TURNOUT_IMAGES=${TURNOUT_REGISTRY:+$TURNOUT_REGISTRY/}turnout-

# Prints services with too few running tasks or an update in progress. A global service with no wanted task has no node with
# its role. Swarm rolls back a failed update.
unfinished() {
  local name mode replicas update
  docker stack services --format '{{.Name}} {{.Mode}} {{.Replicas}}' "$TURNOUT_STACK" | while read -r name mode replicas _; do
    update=$(docker service inspect --format '{{with .UpdateStatus}}{{.State}}{{end}}' "$name")
    if [ "${replicas%/*}" != "${replicas#*/}" ] || [ "$mode ${replicas#*/}" = 'global 0' ] || [ "$update" = updating ] ||
      [ "$update" = rollback_started ]; then
      printf '%s (%s%s) ' "$name" "$replicas" "${update:+, $update}"
    fi
  done
}

# Prints services whose update failed, with Swarm's message.
failed_updates() {
  docker stack services --quiet "$TURNOUT_STACK" | while read -r id; do
    docker service inspect --format '{{with .UpdateStatus}}{{.State}} {{$.Spec.Name}}: {{.Message}}{{end}}' "$id"
  done | sed -n 's/^\(paused\|rollback_paused\|rollback_completed\) //p'
}

# Interlock routes nothing while its service cluster has two proxies.
refuse_second_proxy() {
  local proxy stack cluster
  for proxy in $(docker service ls --quiet --filter label=com.docker.lb.proxy=true); do
    stack=$(docker service inspect --format '{{index .Spec.Labels "com.docker.stack.namespace"}}' "$proxy")
    cluster=$(docker service inspect --format '{{index .Spec.Labels "com.docker.lb.service_cluster"}}' "$proxy")
    if [ "$stack" = "$TURNOUT_STACK" ] || [ "$cluster" != "${SERVICE_CLUSTER-}" ]; then continue; fi
    fail "the stack $stack already has the proxy of the service cluster '$cluster'; set another SERVICE_CLUSTER"
  done
}

require_manager
stores=$(nodes_with store)
[ "$(wc -l <<<"$stores")" = 1 ] || fail "only one node may have role=store, because the votes are on its disk; these have it: ${stores//$'\n'/, }"
refuse_second_proxy
files=(-c "$TURNOUT_ROOT/stack/turnout.yml")
for file in ${TURNOUT_STACK_FILES-}; do files+=(-c "$file"); done
# Without them the deployment would take the certificates from the controllers.
certificates=$(certificate_secrets)
if [ -n "$certificates" ]; then
  stack_of_certificates <<<"$certificates" >"$work/certificates.yml"
  files+=(-c "$work/certificates.yml")
fi
options=(--with-registry-auth)
[ -n "${TURNOUT_REGISTRY-}" ] || options=(--resolve-image never)
docker stack deploy "${options[@]}" "${files[@]}" "$TURNOUT_STACK"

seconds_max=${TURNOUT_DEPLOY_SECONDS_MAX:-$((SECONDS_MAX + SECONDS_MAX_PER_NODE * $(docker node ls --quiet | wc -l)))}
deadline=$((SECONDS + seconds_max))
shown=
stable=0
while [ "$stable" -lt "$STABLE_CHECKS" ]; do
  failed=$(failed_updates)
  [ -z "$failed" ] || fail "the update failed and was rolled back; see docker service ps: $failed"
  left=$(unfinished)
  if [ -z "$left" ]; then
    stable=$((stable + 1))
    sleep 1
    continue
  fi
  stable=0
  if [ "$SECONDS" -ge "$deadline" ]; then
    docker stack ps --no-trunc --filter desired-state=running --format '{{.Name}} on {{.Node}}: {{.CurrentState}} {{.Error}}' "$TURNOUT_STACK" >&2
    fail "not up to date after $seconds_max s: $left"
  fi
  [ "$left" = "$shown" ] || say "Waiting for $left"
  shown=$left
  sleep 1
done
say "Every service of $TURNOUT_STACK is up to date."
