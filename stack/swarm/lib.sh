# shellcheck shell=bash
# What the scripts of this folder share. They are run by an operator, by Vagrant, by AWS, and by `npm run lab`; every one
# may be run again, and then changes nothing that is already right. Docker is reached as DOCKER_HOST says.

TURNOUT_STACK=${TURNOUT_STACK:-turnout}
# shellcheck disable=SC2034
TURNOUT_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck disable=SC2034
TURNOUT_ROLES='interlock frontend worker store'
# The secrets that secrets.sh makes, each with the name of the stack before it.
# shellcheck disable=SC2034
TURNOUT_SECRETS='voter_key redis_acl vote_redis_url worker_queue_nodes dashboard_queue_nodes postgres_password postgres_roles
  worker_database_url results_database_url dashboard_database_url dashboard_users proxy_users'

say() { printf '%s\n' "$*"; }

fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

usage() {
  sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

require_engine() {
  docker version --format '{{.Server.Version}}' >/dev/null 2>&1 ||
    fail "no Docker engine answers here; run stack/swarm/install-docker.sh first"
}

is_manager() { [ "$(docker info --format '{{.Swarm.ControlAvailable}}' 2>/dev/null)" = true ]; }

require_manager() {
  require_engine
  is_manager || fail "this must run on a manager of the Swarm"
}

# wait_until SECONDS WHAT COMMAND…: asks once a second until the command succeeds.
wait_until() {
  local seconds=$1 what=$2 deadline
  shift 2
  deadline=$((SECONDS + seconds))
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || fail "$what: not within $seconds s"
    sleep 1
  done
}

# request HOST PATH [OPTION…]: asks a site at the proxy of $url, over TLS where the site takes nothing else. What curl is told
# in the options is sent only there. Fails unless the answer is one.
request() {
  local host=$1 path=$2 address
  shift 2
  # shellcheck disable=SC2154
  case $(curl --silent --max-time 5 --output /dev/null --write-out '%{http_code}' --header "Host: $host" "$url/" </dev/null) in
    000) return 1 ;;
    30[1278])
      address=${url#*://}
      curl --silent --show-error --fail --max-time 20 --connect-to "$host:443:${address%%[:/]*}:443" "$@" "https://$host$path"
      ;;
    *) curl --silent --show-error --fail --max-time 20 --header "Host: $host" "$@" "$url$path" ;;
  esac
}

# A version that changes with the content, so that a deployment replaces exactly what is different.
content_version() {
  (cd "$TURNOUT_ROOT" && find dist stack db -type f -print0 | sort -z | xargs -0 sha256sum) | sha256sum | cut -c 1-12
}

role_of() { docker node inspect --format '{{index .Spec.Labels "role"}}' "$1"; }

# The address of the proxy: that of the first node that is up and whose role is interlock.
proxy_url() {
  local node
  for node in $(docker node ls --quiet); do
    [ "$(role_of "$node") $(docker node inspect --format '{{.Status.State}}' "$node")" = 'interlock ready' ] || continue
    printf 'http://%s' "$(docker node inspect --format '{{.Status.Addr}}' "$node")"
    return
  done
  fail 'no node that is up has the role interlock'
}
