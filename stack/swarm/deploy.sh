#!/usr/bin/env bash
# deploy.sh: deploys stack/turnout.yml and waits until every service runs where it belongs.
#
# The settings are those of the file: TURNOUT_REGISTRY, TURNOUT_VERSION, VOTE_HOST, RESULTS_HOST, DASHBOARD_HOST, WORKERS,
# … Without a registry the images must be on the nodes (images.sh load). TURNOUT_STACK_FILES adds more files, separated by
# spaces. Running it again updates what has changed, the polls included.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

# A service that must not have two tasks on a node, such as Redis, is updated one node after the other.
SECONDS_MAX=300
SECONDS_MAX_PER_NODE=20
# An update begins a moment after the command has returned.
CALM_LOOKS=3

# Configs cannot be changed, so their content is part of their name.
POLLS_FILE=${POLLS_FILE:-$TURNOUT_ROOT/stack/polls.json}
[ -r "$POLLS_FILE" ] || fail "$POLLS_FILE cannot be read"
POLLS_VERSION=$(sha256sum "$POLLS_FILE" | cut -c 1-12)
export POLLS_FILE POLLS_VERSION
export TURNOUT_IMAGES=${TURNOUT_REGISTRY:+$TURNOUT_REGISTRY/}turnout-

# Names of the services that have too few running tasks, or whose update is under way. A global service that wants none
# has found no node with its role. Of an update that fails Swarm goes back to what ran before.
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

# Names of the services whose update failed, and what Swarm says of it.
undone() {
  docker stack services --quiet "$TURNOUT_STACK" | while read -r id; do
    docker service inspect --format '{{with .UpdateStatus}}{{.State}} {{$.Spec.Name}}: {{.Message}}{{end}}' "$id"
  done | sed -n 's/^\(paused\|rollback_paused\|rollback_completed\) //p'
}

require_manager
files=(-c "$TURNOUT_ROOT/stack/turnout.yml")
for file in ${TURNOUT_STACK_FILES-}; do files+=(-c "$file"); done
options=(--with-registry-auth)
[ -n "${TURNOUT_REGISTRY-}" ] || options=(--resolve-image never)
docker stack deploy "${options[@]}" "${files[@]}" "$TURNOUT_STACK"

seconds_max=${TURNOUT_DEPLOY_SECONDS_MAX:-$((SECONDS_MAX + SECONDS_MAX_PER_NODE * $(docker node ls --quiet | wc -l)))}
deadline=$((SECONDS + seconds_max))
shown=
calm=0
while [ "$calm" -lt "$CALM_LOOKS" ]; do
  failed=$(undone)
  [ -z "$failed" ] || fail "what ran before runs on, because an update failed; docker service ps says more: $failed"
  left=$(unfinished)
  if [ -z "$left" ]; then
    calm=$((calm + 1))
    sleep 1
    continue
  fi
  calm=0
  if [ "$SECONDS" -ge "$deadline" ]; then
    docker stack ps --no-trunc --filter desired-state=running --format '{{.Name}} on {{.Node}}: {{.CurrentState}} {{.Error}}' "$TURNOUT_STACK" >&2
    fail "not everything runs after $seconds_max s: $left"
  fi
  [ "$left" = "$shown" ] || say "Waiting for $left"
  shown=$left
  sleep 1
done
say "Every service of $TURNOUT_STACK runs."
