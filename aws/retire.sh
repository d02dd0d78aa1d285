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
# An engine that does not answer now says nothing about the node: this fails then, and is tried again. After a restart there
# may be two nodes of this name, of which one is Ready.
nodes=$(docker node ls --format '{{.ID}} {{.Hostname}} {{.Status}}')
id=$(awk -v name="$node" '$2 == name && (id == "" || $3 == "Ready") { id = $1 } END { print id }' <<<"$nodes")
if [ -n "$id" ]; then
  beat &
  heart=$!
  # shellcheck disable=SC2064
  trap "kill $heart" EXIT
  "$SWARM/retire.sh" "$id"
  # From here on nothing is on the disk that is not counted.
  aws ec2 modify-instance-attribute --instance-id "$instance" \
    --block-device-mappings '[{"DeviceName":"/dev/sdf","Ebs":{"DeleteOnTermination":true}}]'
else
  say "$node is not in the Swarm; if it has a disk, that stays."
fi
aws autoscaling complete-lifecycle-action "${hook[@]}" --lifecycle-action-result CONTINUE
say "$node may go."
