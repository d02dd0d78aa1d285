#!/usr/bin/env bash
# down.sh: removes the stack from the Swarm. Votes, secrets and the Swarm itself stay.
# down.sh --secrets: also removes the secrets of secrets.sh; the passwords stay in its file. Certificates stay.
#
# The votes are in volumes: turnout_redis-data on frontends, turnout_postgres-data on the store. Remove them on the nodes with
# docker volume rm when they are no longer needed.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

case "${1-} $#" in
  ' 0' | '--secrets 1') ;;
  *) usage ;;
esac

has_ended() {
  [ -z "$(docker stack ps --quiet "$TURNOUT_STACK" 2>/dev/null)" ] &&
    [ -z "$(docker network ls --quiet --filter "label=com.docker.stack.namespace=$TURNOUT_STACK")" ]
}

require_manager
if [ -n "$(docker stack services --quiet "$TURNOUT_STACK" 2>/dev/null)" ]; then docker stack rm "$TURNOUT_STACK"; fi
wait_until 120 'all tasks stopped' has_ended
if [ "${1-}" = --secrets ]; then
  for secret in $TURNOUT_SECRETS; do
    name=${TURNOUT_STACK}_$secret
    docker secret inspect "$name" >/dev/null 2>&1 || continue
    docker secret rm "$name" >/dev/null
    say "Removed the secret $name."
  done
fi
say "The stack $TURNOUT_STACK is removed."
