#!/usr/bin/env bash
# retire.sh INSTANCE: drains a frontend that Auto Scaling wants to terminate, then releases it and its disk. If the drain does
# not finish, the lifecycle hook expires and the instance ends, but its disk is kept for the next frontend of that zone.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

HEARTBEAT_SECONDS=${TURNOUT_HEARTBEAT_SECONDS:-300}

[[ $# -eq 1 && $1 == i-* ]] || usage
instance=$1
node=$(node_name frontend "$instance")
hook=(--auto-scaling-group-name "$STACK-frontend" --lifecycle-hook-name drain --instance-id "$instance")

# Auto Scaling waits as long as heartbeats arrive.
beat() {
  while sleep "$HEARTBEAT_SECONDS"; do aws autoscaling record-lifecycle-action-heartbeat "${hook[@]}" || true; done
}

require_manager
# The drain reads the dashboard's audit, which requires a password.
fetch_credentials
read -r _ _ DASHBOARD_HOST <<<"$(parameter release)"
export DASHBOARD_HOST
# If the engine does not respond this fails and is retried. After a restart two nodes may have this name, of which one is Ready.
nodes=$(docker node ls --format '{{.ID}} {{.Hostname}} {{.Status}}')
id=$(awk -v name="$node" '$2 == name && (id == "" || $3 == "Ready") { id = $1 } END { print id }' <<<"$nodes")
if [ -n "$id" ]; then
  beat &
  heart=$!
  # shellcheck disable=SC2064
  trap "kill $heart" EXIT
  "$SWARM/retire.sh" "$id"
  # From here on every vote on the disk is counted.
  aws ec2 modify-instance-attribute --instance-id "$instance" \
    --block-device-mappings '[{"DeviceName":"/dev/sdf","Ebs":{"DeleteOnTermination":true}}]'
else
  say "$node is not in the Swarm; its disk, if any, is kept."
fi
aws autoscaling complete-lifecycle-action "${hook[@]}" --lifecycle-action-result CONTINUE
say "$node is released."
