#!/usr/bin/env bash
# retire.sh INSTANCE: drains a frontend that Auto Scaling wants to end, then lets it go, its disk included. If it cannot be
# drained it goes when the lifecycle hook runs out, but its disk stays, and the next frontend of that zone takes it over.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

HEARTBEAT_SECONDS=${TURNOUT_HEARTBEAT_SECONDS:-300}

[[ $# -eq 1 && $1 == i-* ]] || usage
instance=$1
node=$(node_name frontend "$instance")
hook=(--auto-scaling-group-name "$STACK-frontend" --lifecycle-hook-name drain --instance-id "$instance")

# Auto Scaling waits for as long as somebody says that it is worth waiting.
beat() {
  while sleep "$HEARTBEAT_SECONDS"; do aws autoscaling record-lifecycle-action-heartbeat "${hook[@]}" || true; done
}

require_manager
# The drain ends when the dashboard says so, and that wants a password.
fetch_credentials
read -r _ _ DASHBOARD_HOST <<<"$(parameter release)"
export DASHBOARD_HOST
if docker node inspect "$node" >/dev/null 2>&1; then
  beat &
  heart=$!
  # shellcheck disable=SC2064
  trap "kill $heart" EXIT
  "$SWARM/retire.sh" "$node"
  # From here on nothing is on the disk that is not counted.
  aws ec2 modify-instance-attribute --instance-id "$instance" \
    --block-device-mappings '[{"DeviceName":"/dev/sdf","Ebs":{"DeleteOnTermination":true}}]'
else
  say "$node is not in the Swarm; if it has a disk, that stays."
fi
aws autoscaling complete-lifecycle-action "${hook[@]}" --lifecycle-action-result CONTINUE
say "$node may go."
