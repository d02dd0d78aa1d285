#!/usr/bin/env bash
# scale.sh [--min N] [--max N] [--up-seconds S]: adds or removes one worker, by the age of the oldest vote that waits.
#
# A vote that has waited for S seconds (default 10) on any node adds a worker, up to --max (default 6); when no vote waits, one is
# removed, down to --min (default 2). Run it on a manager, once a minute, from cron or a systemd timer. Takes --url
# http://ADDRESS, the proxy's; the default is the first node with role=interlock.
#
# It changes nothing while the last change is under way, or while the dashboard, PostgreSQL or a node cannot be read: then votes
# wait for another reason.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

min=2
max=6
up_seconds=10
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || usage
  case $1 in
    --min) min=$2 ;;
    --max) max=$2 ;;
    --up-seconds) up_seconds=$2 ;;
    --url) url=${2%/} ;;
    *) usage ;;
  esac
  shift 2
done
for number in "$min" "$max" "$up_seconds"; do
  [[ $number =~ ^[1-9][0-9]{0,3}$ ]] || usage
done
[ "$min" -le "$max" ] || fail "--min $min is above --max $max"
require_manager
require_credentials
url=${url:-$(proxy_url)}
service=${TURNOUT_STACK}_worker

# keep REASON: ends without a change.
keep() {
  say "$workers workers stay: $1."
  exit 0
}

replicas=$(docker service ls --filter "name=$service" --format '{{.Name}} {{.Replicas}}' | sed -n "s/^$service \([0-9]*\)\/\([0-9]*\).*/\1 \2/p")
[ -n "$replicas" ] || fail "there is no service $service"
running=${replicas% *}
workers=${replicas#* }
report=$(dashboard /ledger) || fail "the dashboard at $url cannot be read; $workers workers stay"
[[ $report == *'"postgres":{"reachable":true,'* ]] || keep 'PostgreSQL is unavailable, which more workers would not help'
[[ $report != *'"address":"'*'","reachable":false'* ]] || keep 'a node cannot be read'
[ "$running" = "$workers" ] || keep "$running are running, so the last change is under way"

oldest=$(printf '%s' "$report" | grep -o '"oldestMs":[0-9]*' | sed 's/.*://' | sort -n | tail -1 || true)
if [ -z "$oldest" ]; then
  next=$((workers > min ? workers - 1 : min))
  reason='no vote waits'
elif [ "$oldest" -ge $((up_seconds * 1000)) ]; then
  next=$((workers < max ? workers + 1 : max))
  reason="a vote has waited for $((oldest / 1000)) s"
else
  next=$((workers < min ? min : workers))
  reason="the oldest vote has waited for less than $up_seconds s"
fi
[ "$next" -ne "$workers" ] || keep "$reason"
docker service scale --detach "$service=$next" >/dev/null
say "$workers → $next workers: $reason."
