#!/usr/bin/env bash
# join.sh --manager ADDRESS --advertise ADDRESS [--token-file FILE]: joins this machine to a Swarm, unless it is in one.
#
# The token comes from the file or from standard input, never from an argument, which everybody on the machine could read.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

PENDING_SECONDS_MAX=${TURNOUT_PENDING_SECONDS_MAX:-60}

manager='' advertise='' token_file=''
while [ $# -gt 0 ]; do
  case $1 in
    --manager) manager=${2:?}; shift 2 ;;
    --advertise) advertise=${2:?}; shift 2 ;;
    --token-file) token_file=${2:?}; shift 2 ;;
    *) usage ;;
  esac
done
if [ -z "$manager" ] || [ -z "$advertise" ]; then usage; fi
require_engine
[[ $manager == *:* ]] || manager=$manager:2377

state() { docker info --format '{{.Swarm.LocalNodeState}}'; }

# shellcheck disable=SC2016
has_manager() { timeout 5 bash -c 'exec 3<>"/dev/tcp/${1%:*}/${1##*:}"' _ "$manager" 2>/dev/null; }

# A node that has just started waits for its managers, and must not be taken for one that they have forgotten.
deadline=$((SECONDS + PENDING_SECONDS_MAX))
while [ "$(state)" = pending ] && [ "$SECONDS" -lt "$deadline" ]; do sleep 1; done
case $(state) in
  active)
    say 'This machine is in a Swarm already.'
    exit 0
    ;;
  inactive) ;;
  pending)
    has_manager || fail "this machine is in a Swarm, and waits for its managers"
    docker swarm leave --force >/dev/null
    ;;
  *) docker swarm leave --force >/dev/null ;;
esac
[ -z "$token_file" ] || exec <"$token_file"
token=''
# A file without a line end is a token as well.
read -r token || true
[ -n "$token" ] || fail 'there is no token'
# The command line of this one process does show the token; Docker has no other way to take it.
docker swarm join --advertise-addr "$advertise" --token "$token" "$manager" >/dev/null
say "Joined the Swarm of $manager as $advertise."
