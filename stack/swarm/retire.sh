#!/usr/bin/env bash
# retire.sh NODE [--url http://ADDRESS] [--reason TEXT]: takes a frontend out of service without losing a vote.
#
# Its handler leaves the proxy, writes its buffer and stops. Then the dashboard is asked to retire the node: workers fence its
# sources, count its last votes and mark it as retired. Its Redis stays until then. On any failure the node keeps its Redis, and
# a second run continues. label.sh NODE frontend returns the node to service, under a new id.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

STOP_SECONDS_MAX=120
REQUEST_SECONDS_MAX=${TURNOUT_REQUEST_SECONDS_MAX:-60}
COUNT_SECONDS_MAX=${TURNOUT_RETIRE_SECONDS_MAX:-900}

[ $# -ge 1 ] || usage
node=$1
reason='retired by retire.sh'
shift
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || usage
  case $1 in
    --url) url=${2%/} ;;
    --reason) reason=$2 ;;
    *) usage ;;
  esac
  shift 2
done
require_manager
docker node inspect "$node" >/dev/null 2>&1 || fail "no node is named $node"
require_credentials
url=${url:-$(proxy_url)}
name=$(docker node inspect --format '{{.Description.Hostname}}' "$node")
case $(role_of "$node") in
  frontend) ;;
  '') [ -n "$(docker node inspect --format '{{index .Spec.Labels "retiring"}}' "$node")" ] || fail "$node is not a frontend" ;;
  *) fail "$node is not a frontend" ;;
esac

# grace_of SERVICE: the seconds that its tasks have to stop.
grace_of() {
  local nanoseconds
  nanoseconds=$(docker service inspect --format '{{json .Spec.TaskTemplate.ContainerSpec.StopGracePeriod}}' "${TURNOUT_STACK}_$1")
  echo $((nanoseconds / 1000000000))
}

# has_ended SERVICE: its task on the node neither runs nor should run. A failed call of Docker is no answer.
has_ended() {
  local tasks
  tasks=$(docker node ps --format '{{.DesiredState}} {{.CurrentState}} {{.Name}}' "$node") || return 1
  ! grep -qE "^(Running .*|[A-Za-z]+ Running .*) ${TURNOUT_STACK}_$1\." <<<"$tasks"
}

# field NAME: a value of the node's entry, without quotes.
field() { printf '%s' "$entry" | sed -n 's/.*"'"$1"'":"\{0,1\}\([^",}]*\).*/\1/p'; }

# Reads the audit. It must be a current one: while Postgres is unavailable the dashboard shows the last known one.
read_report() {
  report=$(dashboard /ledger 2>/dev/null) || return 1
  [[ $report == *'"postgres":{"reachable":true,'* ]]
}

# entries_of FIELDS: the entries of nodes that begin with these fields, one a line. Text of operators is at their end.
entries_of() { printf '%s' "$report" | grep -o '{"node":"'"$1"'","state":"[^}]*' || true; }

# Requests the retirement of the node and sets `id`, which stays empty for a node that has captured nothing.
is_requested() {
  local current answer
  read_report || return 1
  current=$(entries_of '[a-z2-7]*","name":"'"$name" | grep -v '","state":"retired"' || true)
  if [ -z "$current" ]; then
    is_unused
    return
  fi
  [ "$(printf '%s\n' "$current" | wc -l)" = 1 ] || fail "several nodes are named $name; retire the right one on the dashboard"
  id=$(printf '%s' "$current" | sed 's/^{"node":"\([^"]*\).*/\1/')
  [[ $current != *'","state":"retiring"'* ]] || return 0
  answer=$(dashboard "/nodes/$id/retire" --data-urlencode "reason=$reason" 2>/dev/null) || return 1
  [[ $answer == *'"status":"retiring"'* ]]
}

# A node has no name until a worker has read its first source, so it may be an unnamed one, or one that does not respond.
is_unused() {
  ! printf '%s' "$report" | grep -q '"address":"[^"]*","reachable":false' &&
    ! printf '%s' "$report" | grep -q '"name":"'"$name"'","address":' &&
    ! entries_of '\([a-z2-7]*\)","name":"\1' | grep -qv '","state":"retired"'
}

is_retired() {
  read_report || return 1
  entry=$(entries_of "$id"'","name":"[^"]*')
  [ -n "$entry" ] || return 1
  [ "$(field lost)" = 0 ] || fail "the audit reports lost votes of $node; its Redis stays for inspection"
  [ "$(field failed)" = 0 ] || fail "jobs of $node have failed; retry them on the dashboard, then run this again"
  [ "$(field pending)" = 0 ] && [ "$(field state)" = retired ]
}

report=''
entry=''
id=''
if [ "$(role_of "$node")" = frontend ]; then
  docker node update --label-add retiring=true "$node" >/dev/null
  wait_until "$STOP_SECONDS_MAX" "the handler on $node stopped" has_ended vote
  # Docker calls a task rejected as soon as its node no longer qualifies, while its container still stops. A handler that is
  # fenced before it has stopped refuses votes.
  grace=$(grace_of vote)
  say "Waiting $grace seconds, the longest that the handler on $node may take to stop."
  sleep "$grace"
  say "$node accepts no more votes."
  wait_until "$REQUEST_SECONDS_MAX" "the retirement of $node requested on the dashboard" is_requested
  if [ -n "$id" ]; then
    wait_until "$COUNT_SECONDS_MAX" "the last votes of $node counted and $node retired" is_retired
    say "Every vote of $node is counted: $(field accepted) accepted, $(field pending) pending."
  fi
  docker node update --label-rm "$TURNOUT_ROLE_LABEL" "$node" >/dev/null
fi
wait_until "$STOP_SECONDS_MAX" "the Redis on $node stopped" has_ended redis
docker node update --availability drain "$node" >/dev/null
say "$node is retired. Next: docker swarm leave on it, then docker node rm $node here. Its Redis volume stays."
