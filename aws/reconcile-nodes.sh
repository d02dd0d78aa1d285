#!/usr/bin/env bash
# reconcile-nodes.sh: what the leading manager looks after, every ten seconds (turnout-reconcile-nodes.timer): new nodes get their role, nodes whose
# instance is gone are forgotten, and frontends that Auto Scaling wants to end are retired first.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

# A node that is only down may come back; one whose instance EC2 no longer has does not.
forget_gone() {
  local down alive id name
  down=$(docker node ls --format '{{.ID}} {{.Hostname}} {{.Status}}' | awk '$3 == "Down" { print $1, $2 }')
  [ -n "$down" ] || return 0
  alive=$(aws ec2 describe-instances --query 'Reservations[].Instances[].InstanceId' --output text --filters \
    "Name=tag:turnout:stack,Values=$STACK" Name=instance-state-name,Values=pending,running,stopping,stopped | tr '\t\n' '  ')
  # This instance runs; an answer without it is not to be believed about others.
  [[ " $alive " == *" $(instance_of "$(hostname)") "* ]] || fail 'EC2 does not know this instance'
  while read -r id name; do
    [[ " $alive " != *" $(instance_of "$name") "* ]] || continue
    [ "$(docker node inspect --format '{{.Spec.Role}}' "$id")" = worker ] || docker node demote "$id" >/dev/null
    docker node rm "$id" >/dev/null
    say "Forgot $name."
  done <<<"$down"
}

# Each on its own, because a drain can take long. Starting one that is under way does nothing.
retire_leaving() {
  local id
  for id in $(aws autoscaling describe-auto-scaling-groups --auto-scaling-group-names "$STACK-frontend" --output text \
    --query "AutoScalingGroups[].Instances[?LifecycleState=='Terminating:Wait'].InstanceId"); do
    systemctl start --no-block "turnout-retire@$id.service"
  done
}

if ! is_leader; then exit 0; fi
"$SWARM/label.sh"
forget_gone
retire_leaving
