#!/usr/bin/env bash
# measure.sh: reads the dashboard's audit and publishes metrics to CloudWatch: age of the oldest pending vote; lost, failed,
# pending and accepted votes; unreachable queues. turnout-measure.timer runs it every minute on every manager; only the leader
# publishes. On failure it publishes nothing, which raises an alarm.

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

# The password is read from standard input: arguments are visible to every user.
ledger=$(printf 'user = "operator:%s"\n' "$(sed -n 's/^operator=//p' "$CREDENTIALS")" |
  request "$dashboard_host" /ledger --config -)
[ "$(jq .postgres.reachable <<<"$ledger")" = true ] || fail 'Postgres is unavailable to the dashboard'

install -d "$(dirname "$HISTORY")"
[ -s "$HISTORY" ] || printf '{}\n' >"$HISTORY"
measures=$(jq --from-file "$TURNOUT_ROOT/aws/measure.jq" --slurpfile last "$HISTORY" --arg stack "$STACK" \
  --argjson now "$(date +%s)" <<<"$ledger")
jq .history <<<"$measures" >"$HISTORY.new"
mv "$HISTORY.new" "$HISTORY"
aws cloudwatch put-metric-data --namespace Turnout --metric-data "$(jq --compact-output .metrics <<<"$measures")"
