#!/usr/bin/env bash
# join.sh --manager ADDRESS --advertise ADDRESS [--token-file FILE]: joins this machine to a Swarm, unless it is in one.
#
# The token comes from the file or from standard input, never from an argument, which everybody on the machine could read.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

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
case $(docker info --format '{{.Swarm.LocalNodeState}}') in
  active)
    say 'This machine is in a Swarm already.'
    exit 0
    ;;
  inactive) ;;
  *) docker swarm leave --force >/dev/null ;;
esac
[[ $manager == *:* ]] || manager=$manager:2377
[ -z "$token_file" ] || exec <"$token_file"
token=''
# A file without a line end is a token as well.
read -r token || true
[ -n "$token" ] || fail 'there is no token'
# The command line of this one process does show the token; Docker has no other way to take it.
docker swarm join --advertise-addr "$advertise" --token "$token" "$manager" >/dev/null
say "Joined the Swarm of $manager as $advertise."
