#!/usr/bin/env bash
# destroy.sh [--name NAME] [--region REGION] [--undrained] [--yes]: removes the CloudFormation stack NAME (turnout).
#
# It drains the frontends first, so that every accepted vote is counted; --undrained skips that. Then it deletes everything. A last snapshot of the store's disk, or of RDS, is kept; the script prints how to list it. Asks for
# confirmation unless --yes. After an interruption, run it again with the same options.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../stack/swarm/lib.sh
. "$(dirname "$0")/../stack/swarm/lib.sh"

RELEASE_SECONDS_MAX=300
DRAIN_SECONDS_MAX=${TURNOUT_DRAIN_SECONDS_MAX:-3600}

name=turnout drain=yes sure=
while [ $# -gt 0 ]; do
  case $1 in
    --name) name=${2:?}; shift 2 ;;
    --region) export AWS_DEFAULT_REGION=${2:?} AWS_REGION=$2; shift 2 ;;
    --undrained) drain=; shift ;;
    --yes) sure=yes; shift ;;
    *) usage ;;
  esac
done

# A failed call is an error, not a missing stack.
has_stack() {
  local answer
  if answer=$(aws cloudformation describe-stacks --stack-name "$name" 2>&1); then return 0; fi
  [[ $answer == *'does not exist'* ]] || fail "$answer"
  return 1
}

output() {
  aws cloudformation describe-stacks --stack-name "$name" --output text \
    --query "Stacks[0].Outputs[?OutputKey=='$1'].OutputValue | [0]"
}

# group QUERY: reads the group of frontends.
group() {
  aws autoscaling describe-auto-scaling-groups --auto-scaling-group-names "$name-frontend" --output text \
    --query "AutoScalingGroups$1"
}

# A failed call is an error, not an empty result.
no_frontends() {
  local left
  left=$(group '[].Instances[].InstanceId') || return 1
  [ -z "$left" ]
}

# volumes STATUS[,STATUS]: lists the disks of frontends.
volumes() {
  aws ec2 describe-volumes --query 'Volumes[].VolumeId' --output text \
    --filters "Name=tag:turnout:stack,Values=$name" Name=tag:turnout:role,Values=frontend "Name=status,Values=$1"
}

no_volumes_in_use() {
  local left
  left=$(volumes in-use) || return 1
  [ -z "$left" ]
}

# drain_frontends: returns once every frontend has ended with an empty queue.
drain_frontends() {
  local exists left
  # It has a status while it is being deleted.
  exists=$(group '[?Status==null].AutoScalingGroupName')
  [ -z "$exists" ] ||
    aws autoscaling update-auto-scaling-group --auto-scaling-group-name "$name-frontend" --min-size 0 --desired-capacity 0
  wait_until "$DRAIN_SECONDS_MAX" 'the end of all frontends' no_frontends
  wait_until "$RELEASE_SECONDS_MAX" 'the release of all disks of frontends' no_volumes_in_use
  left=$(volumes available)
  [ -z "$left" ] || fail "these disks of frontends may hold uncounted votes: $left
start a frontend in their zone, which takes them over, or run this with --undrained"
}

delete_stack() {
  local bucket
  bucket=$(output Bucket)
  # A second run may find the bucket deleted.
  if [ "$bucket" != None ] && aws s3api head-bucket --bucket "$bucket" >/dev/null 2>&1; then
    aws s3 rm --only-show-errors --recursive "s3://$bucket"
  fi
  aws cloudformation delete-stack --stack-name "$name"
  say 'Waiting for the stack to be deleted.'
  aws cloudformation wait stack-delete-complete --stack-name "$name"
}

# Prints what no stack owns: the disks of frontends, and the parameters that the scripts wrote.
leftovers() {
  volumes available &&
    aws ssm describe-parameters --query 'Parameters[].Name' --output text \
      --parameter-filters "Key=Name,Option=BeginsWith,Values=/turnout/$name/"
}

disk=None
if has_stack; then
  disk=$(output StoreDisk)
else
  left=$(leftovers)
  [ -n "${left//[[:space:]]/}" ] || fail "no stack is named $name in this region"
fi
if [ -z "$sure" ]; then
  printf 'This removes everything of the stack %s. Type its name to go on: ' "$name"
  read -r answer
  [ "$answer" = "$name" ] || fail 'nothing removed'
fi
if [ -n "$drain" ]; then
  say 'Draining the frontends.'
  drain_frontends
fi
if has_stack; then delete_stack; fi
if [ -z "$drain" ]; then
  left=$(volumes available)
  for volume in $left; do
    aws ec2 delete-volume --volume-id "$volume"
    say "Removed the disk $volume."
  done
fi
for parameter in worker-token manager-token release credentials; do
  aws ssm delete-parameter --name "/turnout/$name/$parameter" 2>/dev/null || true
done
say "The stack $name is deleted. Snapshots of its data remain and incur a small cost. List them with:"
if [ "$disk" != None ]; then
  say "  aws ec2 describe-snapshots --owner-ids self --filters Name=volume-id,Values=$disk"
else
  say "  aws ec2 describe-snapshots --owner-ids self --filters Name=tag:turnout:snapshots,Values=$name"
  say '  aws rds describe-db-snapshots --snapshot-type manual'
fi
