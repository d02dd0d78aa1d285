#!/usr/bin/env bash
# deploy.sh: deploys stack/turnout.yml and waits until every service runs where it belongs.
#
# The settings are those of the file: TURNOUT_REGISTRY, TURNOUT_VERSION, VOTE_HOST, RESULTS_HOST, DASHBOARD_HOST, WORKERS,
# … Without a registry the images must be on the nodes (images.sh load). TURNOUT_STACK_FILES adds more files, separated by
# spaces. Running it again updates what has changed, the polls included.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

RUNNING_SECONDS_MAX=${TURNOUT_DEPLOY_SECONDS_MAX:-300}

# Configs cannot be changed, so their content is part of their name.
POLLS_FILE=${POLLS_FILE:-$TURNOUT_ROOT/stack/polls.json}
[ -r "$POLLS_FILE" ] || fail "$POLLS_FILE cannot be read"
POLLS_VERSION=$(sha256sum "$POLLS_FILE" | cut -c 1-12)
export POLLS_FILE POLLS_VERSION
export TURNOUT_IMAGES=${TURNOUT_REGISTRY:+$TURNOUT_REGISTRY/}turnout-

# Names of the services that have too few running tasks, or whose update is under way. A global service that wants none
# has found no node with its role.
unfinished() {
  local name mode replicas update
  docker stack services --format '{{.Name}} {{.Mode}} {{.Replicas}}' "$TURNOUT_STACK" | while read -r name mode replicas _; do
    update=$(docker service inspect --format '{{with .UpdateStatus}}{{.State}}{{end}}' "$name")
    if [ "${replicas%/*}" != "${replicas#*/}" ] || [ "$mode ${replicas#*/}" = 'global 0' ] || [ "$update" = updating ]; then
      printf '%s (%s%s) ' "$name" "$replicas" "${update:+, $update}"
    fi
  done
}

require_manager
files=(-c "$TURNOUT_ROOT/stack/turnout.yml")
for file in ${TURNOUT_STACK_FILES-}; do files+=(-c "$file"); done
options=(--with-registry-auth)
[ -n "${TURNOUT_REGISTRY-}" ] || options=(--resolve-image never)
docker stack deploy "${options[@]}" "${files[@]}" "$TURNOUT_STACK"

deadline=$((SECONDS + RUNNING_SECONDS_MAX))
shown=
while :; do
  left=$(unfinished)
  [ -n "$left" ] || break
  if [ "$SECONDS" -ge "$deadline" ]; then
    docker stack ps --no-trunc --filter desired-state=running --format '{{.Name}} on {{.Node}}: {{.CurrentState}} {{.Error}}' "$TURNOUT_STACK" >&2
    fail "not everything runs after $RUNNING_SECONDS_MAX s: $left"
  fi
  [ "$left" = "$shown" ] || say "Waiting for $left"
  shown=$left
  sleep 1
done
say "Every service of $TURNOUT_STACK runs."
