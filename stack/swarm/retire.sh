#!/usr/bin/env bash
# retire.sh NODE [--url http://ADDRESS]: takes a frontend out of service without losing a vote.
#
# The proxy leaves its handler, which writes its last votes and ends; its Redis stays until the workers have counted every
# job of the node, by the audit of the dashboard; then the node is declared retired, so that results need not wait for it.
# If something is in the way the node keeps its Redis, and running this again goes on. label.sh NODE frontend takes it back.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

DASHBOARD_HOST=${DASHBOARD_HOST:-dashboard.votingapp.local}
CREDENTIALS=${TURNOUT_CREDENTIALS:-/etc/turnout/credentials}
STOP_SECONDS_MAX=120
COUNT_SECONDS_MAX=${TURNOUT_RETIRE_SECONDS_MAX:-900}

node=${1-}
case "${2-} $#" in
  ' 1') ;;
  '--url 3') url=${3%/} ;;
  *) usage ;;
esac
require_manager
docker node inspect "$node" >/dev/null 2>&1 || fail "there is no node $node"
[ -r "$CREDENTIALS" ] || fail "there is no $CREDENTIALS here; run this where secrets.sh was run"
url=${url:-$(proxy_url)}
name=$(docker node inspect --format '{{.Description.Hostname}}' "$node")
case $(role_of "$node") in
  frontend) ;;
  '') [ -n "$(docker node inspect --format '{{index .Spec.Labels "retiring"}}' "$node")" ] || fail "$node is no frontend" ;;
  *) fail "$node is no frontend" ;;
esac

# dashboard PATH [OPTION…]. The password comes from a file, so that the list of processes does not show it.
dashboard() {
  request "$DASHBOARD_HOST" "$@" --config <(sed -n 's/^operator=\(.*\)/user = "operator:\1"/p' "$CREDENTIALS")
}

has_ended() {
  ! docker node ps --filter desired-state=running --format '{{.Name}} {{.CurrentState}}' "$node" | grep -q "^${TURNOUT_STACK}_$1\." &&
    ! docker node ps --format '{{.Name}} {{.CurrentState}}' "$node" | grep -q "^${TURNOUT_STACK}_$1\..* Running"
}

# field NAME: a number of the node's line in the ledger.
field() { printf '%s' "$line" | sed -n 's/.*"'"$1"'":\([0-9]*\).*/\1/p'; }

# Only a ledger that is true now can say so: while Postgres or the node cannot be asked the dashboard shows what it last knew.
is_counted() {
  local report
  report=$(dashboard /ledger 2>/dev/null) || return 1
  [[ $report == *'"postgres":{"reachable":true,'* ]] || return 1
  line=$(printf '%s' "$report" | grep -o '{"node":"'"$name"'"[^}]*}' | head -n 1)
  if [ -z "$line" ]; then
    # A node that never took a vote is not in the ledger. Nor is one that could never be asked.
    [[ $report != *'"reachable":false'* ]]
    return
  fi
  [[ $line == *'"reachable":true'* ]] || return 1
  [ "$(field lost)" = 0 ] || fail "the audit says that votes of $node are lost; its Redis stays for you to look at"
  [ "$(field failed)" = 0 ] || fail "jobs of $node have failed; retry them on the dashboard, then run this again"
  [ "$(field pending)" = 0 ]
}

line=''
if [ "$(role_of "$node")" = frontend ]; then
  docker node update --label-add retiring=true "$node" >/dev/null
  wait_until "$STOP_SECONDS_MAX" "the end of the handler on $node" has_ended vote
  say "$node takes no more votes."
  wait_until "$COUNT_SECONDS_MAX" "the count of the last votes of $node" is_counted
  accepted=$(field accepted)
  say "Every vote of $node is counted: ${accepted:-0} accepted, 0 pending."
  docker node update --label-rm role "$node" >/dev/null
fi
wait_until "$STOP_SECONDS_MAX" "the end of the Redis on $node" has_ended redis

is_retired() {
  local answer
  answer=$(dashboard "/nodes/$name/retire" --request POST --no-fail 2>/dev/null) || return 1
  # A node that never took a vote is unknown, and nobody waits for it.
  [[ $answer == *'"status":"retired"'* ]] || [[ -z $line && $answer == *'"code":"unknown_node"'* ]]
}
wait_until 60 "the dashboard to take note that $node is retired" is_retired
docker node update --availability drain "$node" >/dev/null
say "$node is retired. On it, docker swarm leave; then here, docker node rm $node. Its file of jobs stays in its volume."
