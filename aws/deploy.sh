#!/usr/bin/env bash
# deploy.sh [--name NAME] [--region REGION] [Parameter=Value …]: creates or updates the CloudFormation stack NAME (turnout),
# deploys Turnout on it, casts a vote and prints the URLs. Parameters are those of turnout.yaml; omitted ones keep their values.
# Run it again after every change.
#
#   aws/deploy.sh FrontendCount=30 WorkerCount=6
#
# Requires the AWS CLI version 2 with sufficient credentials, Node 20 or newer, and npm.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../stack/swarm/lib.sh
. "$(dirname "$0")/../stack/swarm/lib.sh"
# shellcheck source-path=SCRIPTDIR source=command.sh
. "$(dirname "$0")/command.sh"

ONLINE_SECONDS_MAX=900
# Until a disk has its new size; its optimization may take hours and blocks nothing.
ENLARGE_SECONDS_MAX=600
DEMOTE_SECONDS_MAX=120

name=turnout
parameters=()
while [ $# -gt 0 ]; do
  case $1 in
    --name) name=${2:?}; shift 2 ;;
    --region) export AWS_DEFAULT_REGION=${2:?} AWS_REGION=$2; shift 2 ;;
    [A-Z]*=*) parameters+=("$1"); shift ;;
    *) usage ;;
  esac
done
[[ $name =~ ^[a-z][a-z0-9-]{0,30}$ ]] || fail 'NAME must be 1 to 31 lower-case letters, digits and hyphens, and start with a letter'
for program in aws npm tar curl; do
  command -v "$program" >/dev/null || fail "$program is missing; see aws/HOWTO.md"
done

outputs=
# Prints an output of the template; nothing if these parameters do not create it.
output() {
  [ -n "$outputs" ] || outputs=$(aws cloudformation describe-stacks --stack-name "$name" --output text \
    --query 'Stacks[0].Outputs[].[OutputKey,OutputValue]')
  awk -F '\t' -v key="$1" '$1 == key { print $2 }' <<<"$outputs"
}

has_stack() {
  local answer
  if answer=$(aws cloudformation describe-stacks --stack-name "$name" 2>&1); then return 0; fi
  [[ $answer == *'does not exist'* ]] || fail "$answer"
  return 1
}

# setting NAME: prints the present value of a parameter of the stack.
setting() {
  local answer
  answer=$(aws cloudformation describe-stacks --stack-name "$name" --output text \
    --query "Stacks[0].Parameters[?ParameterKey=='$1'].ParameterValue | [0]")
  [ "$answer" = None ] || printf '%s' "$answer"
}

# CloudFormation would carry these changes out, and break the stack.
prepare_changes() {
  local pair parameter present
  for pair in ${parameters[@]:+"${parameters[@]}"}; do
    parameter=${pair%%=*}
    [[ " Architecture Zones UseRds StoreSnapshot ManagerCount " == *" $parameter "* ]] || continue
    present=$(setting "$parameter")
    [ "$present" != "${pair#*=}" ] || continue
    [ "$parameter" = ManagerCount ] || fail "$parameter is fixed when the stack is created; it is ${present:-empty}"
    if [ "$present" -gt "${pair#*=}" ]; then demote_managers; fi
  done
}

# The tables of a snapshot have the former passwords, and votes the former key.
require_former_credentials() {
  [[ " ${parameters[*]-} " == *' StoreSnapshot=snap-'* ]] || return 0
  aws ssm get-parameter --name "/turnout/$name/credentials" --query Parameter.Name --output text >/dev/null 2>&1 ||
    fail "the parameter /turnout/$name/credentials must hold the passwords of the snapshot's stack; see aws/HOWTO.md"
}

# CloudFormation ends two managers at once, after which the last one alone would have no quorum. So both become workers first.
demote_managers() {
  local ids id node
  manager=$(output FirstManager)
  ids=$(managers)
  for id in $ids; do
    [ "$id" != "$manager" ] || continue
    node=manager-${id#i-}
    say "Demoting $node."
    # Swarm removes it from the quorum a moment later.
    on_manager "docker node demote $node && timeout $DEMOTE_SECONDS_MAX sh -c 'until docker node inspect --format={{.ManagerStatus}} $node | grep -q nil; do sleep 1; done'"
  done
}

# Settings for release.sh: NAME=value of the output after the colon.
stack_env() {
  local pair value
  for pair in TURNOUT_REGISTRY:Registry LOG_GROUP:LogGroup VOTE_HOST:VoteHost RESULTS_HOST:ResultsHost \
    DASHBOARD_HOST:DashboardHost WORKERS:Workers DATABASE_HOST:DatabaseHost DATABASE_SECRET:DatabaseSecret; do
    value=$(output "${pair#*:}")
    [ -z "$value" ] || printf '%s=%q\n' "${pair%%:*}" "$value"
  done
}

# Adds stack.env to the archive, where release.sh reads it, without touching this checkout.
pack() {
  mkdir "$scratch/aws"
  stack_env >"$scratch/aws/stack.env"
  tar -czf "$1" -C "$TURNOUT_ROOT" .dockerignore package.json stack dist db/roles.sql aws -C "$scratch" aws/stack.env
}

# Frontends create their disks themselves, so CloudFormation does not enlarge them.
enlarge_frontend_disks() {
  local gib volumes volume
  gib=$(output FrontendDiskGiB)
  volumes=$(aws ec2 describe-volumes --query "Volumes[?Size<\`$gib\`].VolumeId" --output text \
    --filters "Name=tag:turnout:stack,Values=$name" Name=tag:turnout:role,Values=frontend)
  for volume in $volumes; do
    say "Enlarging $volume to $gib GiB."
    aws ec2 modify-volume --volume-id "$volume" --size "$gib" >/dev/null
  done
  # shellcheck disable=SC2086
  [ -z "$volumes" ] || wait_until "$ENLARGE_SECONDS_MAX" 'the disks enlarged' are_enlarged $volumes
}

are_enlarged() {
  local left
  left=$(aws ec2 describe-volumes-modifications --volume-ids "$@" --output text \
    --query "VolumesModifications[?ModificationState=='modifying'].VolumeId") || return 1
  [ -z "$left" ]
}

# Nodes with a data disk run node.sh again, which enlarges the file system. It retries until it succeeds.
enlarge_file_systems() {
  aws ssm send-command --document-name AWS-RunShellScript --query Command.CommandId --output text \
    --targets "Key=tag:turnout:stack,Values=$name" Key=tag:turnout:role,Values=frontend,store \
    --parameters '{"commands":["systemctl restart --no-block turnout-node.service"]}' >/dev/null
}

aws sts get-caller-identity --query Account --output text >/dev/null || fail 'the AWS command line has no credentials'
if has_stack; then prepare_changes; else require_former_credentials; fi
npm --prefix "$TURNOUT_ROOT" run --silent build
say "Creating or updating the stack $name. The first time takes five to ten minutes, with RDS twenty."
aws cloudformation deploy --stack-name "$name" --template-file "$TURNOUT_ROOT/aws/turnout.yaml" \
  --capabilities CAPABILITY_IAM --no-fail-on-empty-changeset \
  ${parameters[@]:+--parameter-overrides "${parameters[@]}"}

# Caches the outputs, which a subshell could not do.
output Bucket >/dev/null
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
pack "$scratch/turnout.tar.gz"
aws s3 cp --only-show-errors "$scratch/turnout.tar.gz" "s3://$(output Bucket)/turnout.tar.gz"
manager=$(output FirstManager)
wait_until "$ONLINE_SECONDS_MAX" "Systems Manager on $manager" is_online
on_manager 'systemctl restart turnout-node.service'
say 'Building the images and deploying. The first time takes some minutes.'
on_manager /opt/turnout/aws/release.sh
enlarge_frontend_disks
enlarge_file_systems

# Verify again from outside, by the path of a voter.
VOTE_HOST=$(output VoteHost) RESULTS_HOST=$(output ResultsHost) DASHBOARD_HOST=$(output DashboardHost)
export VOTE_HOST RESULTS_HOST DASHBOARD_HOST
"$TURNOUT_ROOT/stack/swarm/verify.sh" --url "http://$(output LoadBalancer)"
say
say "Vote: $(output VoteUrl), results: $(output ResultsUrl), dashboard: $(output DashboardUrl)."
say "The dashboard's user is operator; print its password with:"
say "  aws ssm get-parameter --with-decryption --name /turnout/$name/credentials --query Parameter.Value --output text | grep ^operator="
