#!/usr/bin/env bash
# patch.sh [--name NAME] [--region REGION]: gives every machine of the CloudFormation stack NAME (turnout) the newest operating
# system. Managers upgrade theirs and restart, one after the other. All others are replaced by instance refreshes, which go on in
# the background: frontends are drained first, and a new store takes over the disk. A manager that fails stops the script.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../stack/swarm/lib.sh
. "$(dirname "$0")/../stack/swarm/lib.sh"
# shellcheck source-path=SCRIPTDIR source=command.sh
. "$(dirname "$0")/command.sh"

JOIN_SECONDS_MAX=900

name=turnout
while [ $# -gt 0 ]; do
  case $1 in
    --name) name=${2:?}; shift 2 ;;
    --region) export AWS_DEFAULT_REGION=${2:?} AWS_REGION=$2; shift 2 ;;
    *) usage ;;
  esac
done

# refresh ROLE: a refresh that is under way is not started again.
refresh() {
  local answer
  if answer=$(aws autoscaling start-instance-refresh --auto-scaling-group-name "$name-$1" --query InstanceRefreshId --output text 2>&1); then
    say "Replacing all machines of $name-$1."
  else
    [[ $answer == *InstanceRefreshInProgress* ]] || fail "$answer"
    say "$name-$1 is already being refreshed."
  fi
}

managers=$(managers)
[ -n "$managers" ] || fail "no stack is named $name in this region"
for manager in $managers; do
  say "Patching the manager $manager."
  # The unit fetches the scripts of the last deployment. After the restart it fails until the other managers respond.
  on_manager "timeout $JOIN_SECONDS_MAX sh -c 'until systemctl restart turnout-node.service; do sleep 10; done' && /opt/turnout/aws/patch-manager.sh"
done
for role in worker interlock frontend store; do refresh "$role"; done
say 'See how far they are with: aws autoscaling describe-instance-refreshes --auto-scaling-group-name NAME'
