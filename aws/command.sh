# shellcheck shell=bash
# Shared by the operator's scripts: runs commands on the manager whose instance id is in $manager, through Systems Manager.

COMMAND_SECONDS_MAX=3600
# Systems Manager's data lags behind.
ANSWER_SECONDS_MAX=300
POLL_SECONDS=${TURNOUT_POLL_SECONDS:-5}

# Prints the running managers of the stack $name.
managers() {
  # shellcheck disable=SC2154
  aws ec2 describe-instances --query 'Reservations[].Instances[].InstanceId' --output text --filters \
    "Name=tag:turnout:stack,Values=$name" Name=tag:turnout:role,Values=manager Name=instance-state-name,Values=running
}

# shellcheck disable=SC2154
is_online() {
  [ "$(aws ssm describe-instance-information --filters "Key=InstanceIds,Values=$manager" --output text \
    --query 'InstanceInformationList[0].PingStatus')" = Online ]
}

# on_manager COMMAND: runs a command on the manager as root through Systems Manager, and prints its output.
on_manager() {
  local id status
  id=$(aws ssm send-command --document-name AWS-RunShellScript --instance-ids "$manager" --query Command.CommandId --output text \
    --parameters "{\"commands\":[\"$1\"],\"executionTimeout\":[\"$COMMAND_SECONDS_MAX\"]}")
  local deadline=$((SECONDS + COMMAND_SECONDS_MAX + ANSWER_SECONDS_MAX))
  while :; do
    sleep "$POLL_SECONDS"
    [ "$SECONDS" -lt "$deadline" ] || fail "on the manager, $1: the outcome is unknown
$(aws ssm get-command-invocation --command-id "$id" --instance-id "$manager" --query Status --output text 2>&1)"
    status=$(invocation Status)
    case $status in
      Pending | InProgress | Delayed | '') ;;
      *) break ;;
    esac
  done
  invocation StandardOutputContent
  [ "$status" = Success ] || fail "on the manager, $1: $status
$(invocation StandardErrorContent)"
}

# A new invocation is not visible at once.
invocation() {
  aws ssm get-command-invocation --command-id "$id" --instance-id "$manager" --query "$1" --output text 2>/dev/null || true
}
