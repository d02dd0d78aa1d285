#!/usr/bin/env bash
# reconcile-nodes.sh: run by the leading manager every ten seconds (turnout-reconcile-nodes.timer): labels new nodes, removes
# nodes of terminated instances, retires frontends that Auto Scaling wants to terminate, and reports frontends and proxies that
# have become ready.

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

# instances_in ROLE STATE: prints the instances of this role in this state of their life cycle.
instances_in() {
  aws autoscaling describe-auto-scaling-groups --auto-scaling-group-names "$STACK-$1" --output text \
    --query "AutoScalingGroups[].Instances[?LifecycleState=='$2'].InstanceId"
}

# One unit per instance, because a drain can take long. Starting a running one has no effect.
retire_leaving() {
  local ids id
  ids=$(instances_in frontend Terminating:Wait)
  for id in $ids; do
    systemctl start --no-block "turnout-retire@$id.service"
  done
}

# admit_ready ROLE SERVICE: until then Auto Scaling does not count a new instance as in service, so that an instance refresh
# replaces no other one. Before the first release there is nothing to wait for.
admit_ready() {
  local ids id release
  ids=$(instances_in "$1" Pending:Wait)
  [ -n "$ids" ] || return 0
  release=$(parameter release)
  for id in $ids; do
    if [ -n "$release" ] && ! runs "$2" "$(node_name "$1" "$id")"; then continue; fi
    aws autoscaling complete-lifecycle-action --auto-scaling-group-name "$STACK-$1" --lifecycle-hook-name ready \
      --instance-id "$id" --lifecycle-action-result CONTINUE
    say "$id is in service."
  done
}

# runs SERVICE NODE: Swarm calls a task running once its health check passes, which for a handler means that it accepts votes.
runs() {
  local tasks
  tasks=$(docker node ps --filter desired-state=running --format '{{.Name}} {{.CurrentState}}' "$2" 2>/dev/null) || return 1
  grep -q "^${TURNOUT_STACK}_$1\.[^ ]* Running " <<<"$tasks"
}

if ! is_leader; then exit 0; fi
forget_gone
retire_leaving
admit_ready frontend vote
admit_ready interlock proxy
# Last, because it fails on a second store. A terminated one has been forgotten above.
"$SWARM/label.sh"
