#!/usr/bin/env bash
# join.sh --manager ADDRESS --advertise ADDRESS [--token-file FILE]: joins this machine to a Swarm, unless it is in one.
#
# The token is read from the file or from standard input: arguments are visible to every user of the machine.
#
# A worker that its managers have removed leaves their Swarm first. A manager never does, nor does a locked or failed node: its
# disk may hold the last copy of the Swarm's state.

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

# A manager keeps the Swarm's state in this folder, also while it waits for the others.
holds_state() { [ -e "$(docker info --format '{{.DockerRootDir}}')/swarm/raft" ]; }

# shellcheck disable=SC2016
has_manager() { timeout 5 bash -c 'exec 3<>"/dev/tcp/${1%:*}/${1##*:}"' _ "$manager" 2>/dev/null; }

# A node that has just started is still waiting for its managers, which is not the same as having been removed by them.
deadline=$((SECONDS + PENDING_SECONDS_MAX))
while [ "$(state)" = pending ] && [ "$SECONDS" -lt "$deadline" ]; do sleep 1; done
case $(state) in
  active)
    say 'This machine is already in a Swarm.'
    exit 0
    ;;
  inactive) ;;
  pending)
    if holds_state; then fail 'this machine is a manager that waits for the others; start them'; fi
    has_manager || fail "this machine is in a Swarm whose managers do not respond"
    docker swarm leave --force >/dev/null
    ;;
  locked) fail 'this machine is a locked manager; run docker swarm unlock' ;;
  *)
    fail "this machine's Swarm has failed: $(docker info --format '{{.Swarm.Error}}')
repair it or, if another manager works, run docker swarm leave --force and this again"
    ;;
esac
[ -z "$token_file" ] || exec <"$token_file"
token=''
# The file may lack a trailing newline.
read -r token || true
[ -n "$token" ] || fail 'the token is empty'
# Docker accepts the token as an argument only, so the command line of this process shows it briefly.
docker swarm join --advertise-addr "$advertise" --token "$token" "$manager" >/dev/null
say "Joined the Swarm of $manager as $advertise."
