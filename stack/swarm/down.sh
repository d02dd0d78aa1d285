#!/usr/bin/env bash
# down.sh: takes the stack off the Swarm. Votes, secrets and the Swarm itself stay.
# down.sh --secrets: removes the secrets of secrets.sh as well; the passwords stay in its file. Certificates stay.
#
# The votes are in volumes of the nodes: turnout_redis-data on frontends, turnout_postgres-data on the store. Remove those
# on the nodes, with docker volume rm, once you no longer need them.

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
wait_until 120 'the end of all tasks' has_ended
if [ "${1-}" = --secrets ]; then
  for secret in $TURNOUT_SECRETS; do
    name=${TURNOUT_STACK}_$secret
    docker secret inspect "$name" >/dev/null 2>&1 || continue
    docker secret rm "$name" >/dev/null
    say "Removed the secret $name."
  done
fi
say "The stack $TURNOUT_STACK is gone."
