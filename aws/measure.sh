#!/usr/bin/env bash
# measure.sh: reads the dashboard's ledger once and sends what alarms need to CloudWatch: the age of the oldest vote that
# waits, votes lost, failed, pending and accepted, and queues that cannot be reached. turnout-measure.timer runs it each
# minute on every manager; only the leader does it. When it cannot, nothing is sent, and that is an alarm as well.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

HISTORY=${TURNOUT_HISTORY:-/var/lib/turnout/history.json}

if ! is_leader; then exit 0; fi
release=$(parameter release)
[ -n "$release" ] || exit 0
read -r _ _ dashboard_host <<<"$release"
[ -r "$CREDENTIALS" ] || fetch_credentials

url=${TURNOUT_DASHBOARD:-$(proxy_url)}

# The password comes from standard input: arguments can be read by everybody.
ledger=$(printf 'user = "operator:%s"\n' "$(sed -n 's/^operator=//p' "$CREDENTIALS")" |
  request "$dashboard_host" /ledger --config -)
[ "$(jq .postgres.reachable <<<"$ledger")" = true ] || fail 'the dashboard cannot ask Postgres'

install -d "$(dirname "$HISTORY")"
[ -s "$HISTORY" ] || printf '{}\n' >"$HISTORY"
measures=$(jq --from-file "$TURNOUT_ROOT/aws/measure.jq" --slurpfile last "$HISTORY" --arg stack "$STACK" \
  --argjson now "$(date +%s)" <<<"$ledger")
jq .history <<<"$measures" >"$HISTORY.new"
mv "$HISTORY.new" "$HISTORY"
aws cloudwatch put-metric-data --namespace Turnout --metric-data "$(jq --compact-output .metrics <<<"$measures")"
