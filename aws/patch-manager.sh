#!/usr/bin/env bash
# patch-manager.sh: run on a manager by patch.sh: upgrades the operating system, restarts it, and returns once all managers are
# reachable again. Systems Manager restarts a machine whose script exits with 194, and then runs the script again:
# https://docs.aws.amazon.com/systems-manager/latest/userguide/send-commands-reboot.html

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

RESTART=194
REACHABLE_SECONDS_MAX=${TURNOUT_REACHABLE_SECONDS_MAX:-600}
UPGRADED=${TURNOUT_HOST_ROOT:-}/var/lib/turnout/upgraded

# Fails without a quorum, too.
all_managers_are_reachable() {
  local states
  states=$(docker node ls --filter role=manager --format '{{.ManagerStatus}}') || return 1
  [ -n "$states" ] && ! grep -qvxE 'Leader|Reachable' <<<"$states"
}

# Also before the restart: with another manager away, it would cost the quorum.
wait_until "$REACHABLE_SECONDS_MAX" 'all managers reachable' all_managers_are_reachable
if [ ! -e "$UPGRADED" ]; then
  dnf upgrade -y -q --releasever=latest
  install -d "$(dirname "$UPGRADED")"
  touch "$UPGRADED"
  exit "$RESTART"
fi
rm "$UPGRADED"
say "$(hostname) is patched."
