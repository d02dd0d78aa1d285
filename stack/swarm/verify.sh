#!/usr/bin/env bash
# verify.sh [--url http://ADDRESS]: sends a vote through the proxy and waits until it is counted.
#
# The address is the proxy's; without it, that of the first node whose role is interlock (then run this on a manager).

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

VOTE_HOST=${VOTE_HOST:-votingapp.local}
RESULTS_HOST=${RESULTS_HOST:-results.votingapp.local}
DASHBOARD_HOST=${DASHBOARD_HOST:-dashboard.votingapp.local}
COUNTED_SECONDS_MAX=60

case "${1-} $#" in
  ' 0')
    require_manager
    url=$(proxy_url)
    ;;
  '--url 2') url=${2%/} ;;
  *) usage ;;
esac

request() { curl --silent --show-error --max-time 5 "$@"; }

vote() {
  answer=$(request --fail -H "Host: $VOTE_HOST" -H 'Content-Type: application/json' \
    --data "{\"choice\":\"$choice\"}" "$url/polls/$poll/votes" 2>/dev/null)
}

is_counted() {
  request --fail -H "Host: $RESULTS_HOST" "$url/receipts/$receipt" 2>/dev/null | grep -q '"counted"'
}


has_poll() { definition=$(request --fail -H "Host: $VOTE_HOST" -H 'Accept: application/json' "$url/" 2>/dev/null); }
wait_until 60 "a page for $VOTE_HOST at $url" has_poll
poll=$(printf '%s' "$definition" | sed -n 's/^{"poll":"\([^"]*\)".*/\1/p')
choice=$(printf '%s' "$definition" | sed -n 's/.*"choices":\[{"id":"\([^"]*\)".*/\1/p')
if [ -z "$poll" ] || [ -z "$choice" ]; then fail "this is not a poll: $definition"; fi
wait_until 60 "a 202 for a vote at $url" vote
receipt=$(printf '%s' "$answer" | sed -n 's/.*"receipt":"\([^"]*\)".*/\1/p')
say "Voted $choice in $poll; the receipt is $receipt."
wait_until "$COUNTED_SECONDS_MAX" "the count of $receipt" is_counted
say 'The vote is counted.'
say
say "Point these names at ${url#http://}, for instance in /etc/hosts:"
for host in "$VOTE_HOST" "$RESULTS_HOST" "$DASHBOARD_HOST"; do say "  http://$host"; done
say "Log in to the dashboard and the proxy's statistics (port 8404) with what secrets.sh --show prints."
