#!/usr/bin/env bash
# verify.sh [--url http://ADDRESS]: casts a vote through the proxy and waits until it is counted. The vote is a real one; with
# TURNOUT_VERIFY_VOTE=no, or while the poll does not accept votes, it only reads the pages.
# verify.sh --node: shows the kernel settings of this node, and fails if one is not as its role requires.
#
# ADDRESS is the proxy's; the default is the first node with role=interlock (run this on a manager then).

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=kernel.sh
. "$(dirname "$0")/kernel.sh"

VOTE_HOST=${VOTE_HOST:-votingapp.local}
RESULTS_HOST=${RESULTS_HOST:-results.votingapp.local}
COUNTED_SECONDS_MAX=60

# Shows the settings of the role that install-docker.sh gave to this machine's engine.
verify_node() {
  local role
  role=$(docker info --format '{{range .Labels}}{{println .}}{{end}}' 2>/dev/null | sed -n "s/^$TURNOUT_ROLE_LABEL=//p") || true
  [ -n "$role" ] || fail "the engine has no label $TURNOUT_ROLE_LABEL; run install-docker.sh --role ROLE on this machine"
  say "Kernel settings of this node ($role):"
  show_kernel_settings "$role" || fail "run install-docker.sh --role $role on this machine; the daemon's settings stay as they are"
}

case "${1-} $#" in
  '--node 1')
    verify_node
    exit 0
    ;;
  ' 0')
    require_manager
    url=$(proxy_url)
    ;;
  '--url 2') url=${2%/} ;;
  *) usage ;;
esac

# The first poll is on the page of the host; its definition has an address of its own.
has_poll() {
  page=$(request "$VOTE_HOST" / 2>/dev/null) || return 1
  poll=$(printf '%s' "$page" | sed -n 's/.*<form [^>]*data-poll="\([^"]*\)".*/\1/p')
  definition=$(request "$VOTE_HOST" "/polls/$poll.json" 2>/dev/null)
}

has_results() { request "$RESULTS_HOST" "/polls/$poll/results" >/dev/null 2>&1; }

vote() {
  answer=$(request "$VOTE_HOST" "/polls/$poll/votes" -H 'Content-Type: application/json' \
    --data "{\"choice\":\"$choice\"}" 2>/dev/null)
}

is_counted() { request "$RESULTS_HOST" "/receipts/$receipt" 2>/dev/null | grep -q '"counted"'; }

cast_one() {
  wait_until 60 "a 202 for a vote at $url" vote
  receipt=$(printf '%s' "$answer" | sed -n 's/.*"receipt":"\([^"]*\)".*/\1/p')
  say "Voted $choice in $poll, receipt $receipt."
  wait_until "$COUNTED_SECONDS_MAX" "$receipt counted" is_counted
  say 'The vote is counted.'
}

wait_until 60 "a page for $VOTE_HOST at $url" has_poll
choice=$(printf '%s' "$definition" | sed -n 's/.*"choices":\[{"id":"\([^"]*\)".*/\1/p')
if [ -z "$poll" ] || [ -z "$choice" ]; then fail "not a poll: $definition"; fi
if [ "${TURNOUT_VERIFY_VOTE:-yes}" = no ] || [ "${VOTER_ADMISSION:-open}" = issued ] || [[ $definition != *'"phase":"open"'* ]]; then
  wait_until 60 "results for $RESULTS_HOST at $url" has_results
  say "The pages of $poll respond. No vote was cast: the poll is not open, or requires a token."
else
  cast_one
fi
say
say "Point these names at ${url#http://}, for instance in /etc/hosts:"
for host in "$VOTE_HOST" "$RESULTS_HOST" "$DASHBOARD_HOST"; do say "  http://$host"; done
say "verify.sh --node, on each machine, shows its kernel settings."
say "secrets.sh --show prints the logins for the dashboard and the proxy's statistics (port 8404)."
