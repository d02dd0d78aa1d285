#!/usr/bin/env bash
# reconcile-nodes.sh: run by the leading manager every ten seconds (turnout-reconcile-nodes.timer): labels new nodes, removes
# nodes of terminated instances, and retires frontends that Auto Scaling wants to terminate.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

# A node that is down may return, unless EC2 has terminated its instance.
forget_gone() {
  local down alive id name
  down=$(docker node ls --format '{{.ID}} {{.Hostname}} {{.Status}}' | awk '$3 == "Down" { print $1, $2 }')
  [ -n "$down" ] || return 0
  alive=$(aws ec2 describe-instances --query 'Reservations[].Instances[].InstanceId' --output text --filters \
    "Name=tag:turnout:stack,Values=$STACK" Name=instance-state-name,Values=pending,running,stopping,stopped | tr '\t\n' '  ')
  # A response without this running instance is incomplete.
  [[ " $alive " == *" $(instance_of "$(hostname)") "* ]] || fail 'EC2 does not list this instance'
  while read -r id name; do
    [[ " $alive " != *" $(instance_of "$name") "* ]] || continue
    [ "$(docker node inspect --format '{{.Spec.Role}}' "$id")" = worker ] || docker node demote "$id" >/dev/null
    docker node rm "$id" >/dev/null
    say "Removed $name."
  done <<<"$down"
}

# One unit per instance, because a drain can take long. Starting a running one has no effect.
retire_leaving() {
  local id
  for id in $(aws autoscaling describe-auto-scaling-groups --auto-scaling-group-names "$STACK-frontend" --output text \
    --query "AutoScalingGroups[].Instances[?LifecycleState=='Terminating:Wait'].InstanceId"); do
    systemctl start --no-block "turnout-retire@$id.service"
  done
}

if ! is_leader; then exit 0; fi
forget_gone
retire_leaving
# Last, because it fails on a second store. A terminated one has been forgotten above.
"$SWARM/label.sh"
