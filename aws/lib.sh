# shellcheck shell=bash
# What the scripts of this folder share on an instance. They run as root. What they know beforehand is in node.env, which
# the instance's user data writes: STACK, ROLE, BUCKET, AWS_DEFAULT_REGION, and on the store DATA_VOLUME.

# A fault inside $(…) is a fault.
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

# metadata PATH: what EC2 says about this instance.
metadata() {
  local token
  token=$(curl --fail --silent --show-error --max-time 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$METADATA/latest/api/token")
  curl --fail --silent --show-error --max-time 5 -H "X-aws-ec2-metadata-token: $token" "$METADATA/latest/meta-data/$1"
}

# parameter NAME: the value of the stack's parameter; nothing when there is none or this role may not read it.
parameter() {
  aws ssm get-parameter --with-decryption --name "/turnout/$STACK/$1" --query Parameter.Value --output text 2>/dev/null || true
}

# keep_parameter TYPE NAME: keeps standard input as the stack's parameter. It is in no argument, and written when it differs.
keep_parameter() {
  local value
  value=$(cat)
  [ "$(parameter "$2")" != "$value" ] || return 0
  printf '%s' "$value" |
    aws ssm put-parameter --overwrite --type "$1" --name "/turnout/$STACK/$2" --value file:///dev/stdin >/dev/null
  say "Wrote the parameter $2."
}

# The name of an instance in the Swarm, and the way back.
node_name() { printf '%s-%s' "$1" "${2#i-}"; }
instance_of() { printf 'i-%s' "${1##*-}"; }

is_leader() { [ "$(docker node inspect self --format '{{with .ManagerStatus}}{{.Leader}}{{end}}' 2>/dev/null)" = true ]; }

# A registry password lasts 12 hours, so it is drawn for each use and forgotten after it.
login_to_registry() {
  DOCKER_CONFIG=$(mktemp -d)
  export DOCKER_CONFIG
  trap 'rm -rf "$DOCKER_CONFIG"' EXIT
  aws ecr get-login-password | docker login --username AWS --password-stdin "${1%%/*}" >/dev/null 2>&1
}

# The file of secrets.sh, on whichever manager needs it. Standard input and files are the only ways it travels.
fetch_credentials() {
  local value
  value=$(parameter credentials)
  [ -n "$value" ] || return 0
  install -d -m 700 "$(dirname "$CREDENTIALS")"
  (umask 077 && printf '%s\n' "$value" >"$CREDENTIALS.new" && mv "$CREDENTIALS.new" "$CREDENTIALS")
}
