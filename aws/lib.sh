# shellcheck shell=bash
# Shared by the scripts of this folder on an instance, which run as root. node.env, written by the instance's user data, holds
# STACK, ROLE, BUCKET, AWS_DEFAULT_REGION, and on the store DATA_VOLUME.

# A failure inside $(…) fails the script.
shopt -s inherit_errexit

TURNOUT_ENV=${TURNOUT_ENV:-/etc/turnout/node.env}
# shellcheck source=/dev/null
[ ! -r "$TURNOUT_ENV" ] || . "$TURNOUT_ENV"
export AWS_DEFAULT_REGION

# shellcheck source-path=SCRIPTDIR source=../stack/swarm/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../stack/swarm/lib.sh"
# shellcheck disable=SC2034
SWARM=$TURNOUT_ROOT/stack/swarm
CREDENTIALS=${TURNOUT_CREDENTIALS:-/etc/turnout/credentials}
METADATA=${TURNOUT_METADATA:-http://169.254.169.254}

# metadata PATH: prints EC2 metadata of this instance.
metadata() {
  local token
  token=$(curl --fail --silent --show-error --max-time 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$METADATA/latest/api/token")
  curl --fail --silent --show-error --max-time 5 -H "X-aws-ec2-metadata-token: $token" "$METADATA/latest/meta-data/$1"
}

# parameter NAME: prints a parameter of the stack; nothing if it is missing or not readable by this role.
parameter() {
  aws ssm get-parameter --with-decryption --name "/turnout/$STACK/$1" --query Parameter.Value --output text 2>/dev/null || true
}

# keep_parameter TYPE NAME: stores standard input as a parameter of the stack, if it differs. The value is in no argument.
keep_parameter() {
  local value
  value=$(cat)
  [ "$(parameter "$2")" != "$value" ] || return 0
  printf '%s' "$value" |
    aws ssm put-parameter --overwrite --type "$1" --name "/turnout/$STACK/$2" --value file:///dev/stdin >/dev/null
  say "Wrote the parameter $2."
}

# Converts between an instance id and the name of its node.
node_name() { printf '%s-%s' "$1" "${2#i-}"; }
instance_of() { printf 'i-%s' "${1##*-}"; }

is_leader() { [ "$(docker node inspect self --format '{{with .ManagerStatus}}{{.Leader}}{{end}}' 2>/dev/null)" = true ]; }

# Registry passwords expire after 12 hours, so one is requested for each use.
login_to_registry() {
  DOCKER_CONFIG=$(mktemp -d)
  export DOCKER_CONFIG
  trap 'rm -rf "$DOCKER_CONFIG"' EXIT
  aws ecr get-login-password | docker login --username AWS --password-stdin "${1%%/*}" >/dev/null 2>&1
}

# Restores the credentials file of secrets.sh on a manager. It is passed through standard input and files only.
fetch_credentials() {
  local value
  value=$(parameter credentials)
  [ -n "$value" ] || return 0
  install -d -m 700 "$(dirname "$CREDENTIALS")"
  (umask 077 && printf '%s\n' "$value" >"$CREDENTIALS.new" && mv "$CREDENTIALS.new" "$CREDENTIALS")
}
