#!/usr/bin/env bash
# polls.sh list: shows every poll: its state, its last change, and who has taken it.
# polls.sh open POLL --reason TEXT: opens it now, again if it has closed.
# polls.sh close POLL --reason TEXT: closes it now.
# polls.sh extend POLL --minutes N | --until TIME --reason TEXT: closes it later; TIME is like 2027-02-07T23:30:00Z.
# polls.sh embargo POLL [--lift] --reason TEXT: shows its result only once it is final, or now.
# polls.sh forget POLL --reason TEXT: deletes the votes of a final poll; its result stays. A hidden poll disappears.
# Each takes --url http://ADDRESS, the proxy's; the default is the first node with role=interlock (run this on a manager then).
#
# The dashboard makes the change and records it with the reason, under its user operator. The script waits until every node and
# handler has taken it, and fails after 15 s with the names of those that have not.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

TAKEN_SECONDS_MAX=${TURNOUT_TAKEN_SECONDS_MAX:-15}

# has_poll: this is a command that takes a poll.
has_poll() { [[ " open close extend embargo forget " == *" $1 "* ]]; }

command=${1-}
poll=''
reason=''
results=closed
fields=()
if has_poll "$command"; then
  poll=${2-}
  [[ $poll =~ ^[a-z0-9][a-z0-9-]*$ ]] || usage
  shift 2
elif [ "$command" = list ]; then
  shift
else
  usage
fi
while [ $# -gt 0 ]; do
  if [ "$command $1" = 'embargo --lift' ]; then
    results=live
    shift
    continue
  fi
  [ $# -ge 2 ] || usage
  case "$command $1" in
    *' --url') url=${2%/} ;;
    'list '*) usage ;;
    *' --reason') reason=$2 ;;
    'extend --minutes') fields+=(--data-urlencode "minutes=$2") ;;
    'extend --until') fields+=(--data-urlencode "closesAt=$2") ;;
    *) usage ;;
  esac
  shift 2
done
[ "$command" = list ] || [ -n "$reason" ] || usage
[ "$command" != embargo ] || fields+=(--data-urlencode "results=$results")
require_credentials
if [ -z "${url-}" ]; then
  require_manager
  url=$(proxy_url)
fi

# Sends the change, once: to repeat "5 minutes later" would extend the poll twice. Prints why it was refused.
change() {
  local answer
  answer=$(dashboard "/polls/$poll/$command" --no-fail --write-out ' %{http_code}' --data-urlencode "reason=$reason" "${fields[@]}") ||
    fail "the dashboard did not answer; whether $poll has changed is unknown, see polls.sh list"
  case $answer in
    *'"status":"done"'*' 202') ;;
    *'"status":"unchanged"'*' 202') say "Nothing changed: $(printf '%s' "$answer" | text_of reason)." ;;
    *'"code":'*) fail "$poll does not change: $(printf '%s' "$answer" | text_of detail)" ;;
    *) fail "the dashboard did not change $poll (status ${answer##* })" ;;
  esac
}

# text_of NAME: a text of the JSON object on standard input. The dashboard's own texts have no escapes but \".
text_of() { sed -n 's/.*"'"$1"'":"\(\([^"\\]\|\\.\)*\)".*/\1/p' | sed 's/\\"/"/g'; }

# Reads the lines about the poll.
read_poll() {
  lines=$(dashboard /polls.txt 2>/dev/null) || return 1
  lines=$(printf '%s\n' "$lines" | awk -v poll="$poll" '/^[^ ]/ { is_mine = $1 == poll } is_mine')
}

is_taken() { read_poll && ! grep -q '^  Taken by .*; not yet by ' <<<"$lines"; }

if [ "$command" = list ]; then
  dashboard /polls.txt || fail 'the dashboard did not answer'
  exit
fi
change
lines=''
deadline=$((SECONDS + TAKEN_SECONDS_MAX))
until is_taken; do
  if [ "$SECONDS" -ge "$deadline" ]; then
    say "$lines"
    fail "not every node and handler has taken the change within $TAKEN_SECONDS_MAX s"
  fi
  sleep 1
done
say "$lines"
