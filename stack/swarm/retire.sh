#!/usr/bin/env bash
# retire.sh NODE [--url http://ADDRESS]: takes a frontend out of service without losing a vote.
#
# Its handler leaves the proxy, writes its buffer and stops; its Redis stays until the dashboard's audit shows every job of the
# node as counted; then the node is retired, so that results do not wait for it. On any failure the node keeps its Redis, and a
# second run continues. label.sh NODE frontend returns the node to service.

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
docker node inspect "$node" >/dev/null 2>&1 || fail "no node is named $node"
[ -r "$CREDENTIALS" ] || fail "$CREDENTIALS is missing; run this where secrets.sh was run"
url=${url:-$(proxy_url)}
name=$(docker node inspect --format '{{.Description.Hostname}}' "$node")
case $(role_of "$node") in
  frontend) ;;
  '') [ -n "$(docker node inspect --format '{{index .Spec.Labels "retiring"}}' "$node")" ] || fail "$node is not a frontend" ;;
  *) fail "$node is not a frontend" ;;
esac

# dashboard PATH [OPTION…]. The password is passed in a file, so that the process list does not show it.
dashboard() {
  request "$DASHBOARD_HOST" "$@" --config <(sed -n 's/^operator=\(.*\)/user = "operator:\1"/p' "$CREDENTIALS")
}

has_ended() {
  ! docker node ps --filter desired-state=running --format '{{.Name}} {{.CurrentState}}' "$node" | grep -q "^${TURNOUT_STACK}_$1\." &&
    ! docker node ps --format '{{.Name}} {{.CurrentState}}' "$node" | grep -q "^${TURNOUT_STACK}_$1\..* Running"
}

# field NAME: a number of the node's entry in the audit.
field() { printf '%s' "$line" | sed -n 's/.*"'"$1"'":\([0-9]*\).*/\1/p'; }

# Requires a current audit: while Postgres or the node is unreachable the dashboard shows the last known one.
is_counted() {
  local report
  report=$(dashboard /ledger 2>/dev/null) || return 1
  [[ $report == *'"postgres":{"reachable":true,'* ]] || return 1
  line=$(printf '%s' "$report" | grep -o '{"node":"'"$name"'"[^}]*}' | head -n 1)
  if [ -z "$line" ]; then
    # A node without any vote is not in the audit; nor is one that was never reached.
    [[ $report != *'"reachable":false'* ]]
    return
  fi
  [[ $line == *'"reachable":true'* ]] || return 1
  [ "$(field lost)" = 0 ] || fail "the audit reports lost votes of $node; its Redis stays for inspection"
  [ "$(field failed)" = 0 ] || fail "jobs of $node have failed; retry them on the dashboard, then run this again"
  [ "$(field pending)" = 0 ]
}

line=''
if [ "$(role_of "$node")" = frontend ]; then
  docker node update --label-add retiring=true "$node" >/dev/null
  wait_until "$STOP_SECONDS_MAX" "the handler on $node stopped" has_ended vote
  say "$node accepts no more votes."
  wait_until "$COUNT_SECONDS_MAX" "the last votes of $node counted" is_counted
  accepted=$(field accepted)
  say "Every vote of $node is counted: ${accepted:-0} accepted, 0 pending."
  docker node update --label-rm role "$node" >/dev/null
fi
wait_until "$STOP_SECONDS_MAX" "the Redis on $node stopped" has_ended redis

is_retired() {
  local answer
  answer=$(dashboard "/nodes/$name/retire" --request POST --no-fail 2>/dev/null) || return 1
  # A node without any vote is unknown to the dashboard; results do not wait for it.
  [[ $answer == *'"status":"retired"'* ]] || [[ -z $line && $answer == *'"code":"unknown_node"'* ]]
}
wait_until 60 "$node retired on the dashboard" is_retired
docker node update --availability drain "$node" >/dev/null
say "$node is retired. Next: docker swarm leave on it, then docker node rm $node here. Its Redis volume stays."
