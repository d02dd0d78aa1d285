# shellcheck shell=bash
# Shared by the scripts of this folder, which operators, Vagrant, AWS and `npm run cluster` run. Every script is idempotent.
# Docker is reached through DOCKER_HOST.

TURNOUT_STACK=${TURNOUT_STACK:-turnout}
# The label of a node that says which role it has in this stack.
export TURNOUT_ROLE_LABEL=${TURNOUT_ROLE_LABEL:-role}
# shellcheck disable=SC2034
TURNOUT_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck disable=SC2034
TURNOUT_ROLES='interlock frontend worker store'
# The secrets that secrets.sh creates, without the prefix of the stack.
# shellcheck disable=SC2034
TURNOUT_SECRETS='voter_key siteverify_secret redis_acl vote_redis_url worker_queue_nodes dashboard_queue_nodes postgres_password
  postgres_roles worker_database_url results_database_url dashboard_database_url dashboard_users proxy_users'

DASHBOARD_HOST=${DASHBOARD_HOST:-dashboard.votingapp.local}
# The passwords that secrets.sh generated.
CREDENTIALS=${TURNOUT_CREDENTIALS:-/etc/turnout/credentials}

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
    fail "no Docker engine responds here; run stack/swarm/install-docker.sh first"
}

is_manager() { [ "$(docker info --format '{{.Swarm.ControlAvailable}}' 2>/dev/null)" = true ]; }

require_manager() {
  require_engine
  is_manager || fail "this must run on a manager of the Swarm"
}

require_credentials() { [ -r "$CREDENTIALS" ] || fail "$CREDENTIALS is missing; run this where secrets.sh was run"; }

# wait_until SECONDS WHAT COMMAND…: runs the command once a second until it succeeds.
wait_until() {
  local seconds=$1 what=$2 deadline
  shift 2
  deadline=$((SECONDS + seconds))
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || fail "$what: not within $seconds s"
    sleep 1
  done
}

# request HOST PATH [OPTION…]: sends a request to a site through the proxy at $url, over TLS if the site redirects to it. The
# options of curl go to the site only. Fails on an error status.
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

# dashboard PATH [OPTION…]: a request to the dashboard. The password is passed in a file, so that the process list does not show it.
dashboard() {
  request "$DASHBOARD_HOST" "$@" --config <(sed -n 's/^operator=\(.*\)/user = "operator:\1"/p' "$CREDENTIALS")
}

# A version that is a hash of all that the images are built from, so that a deployment replaces only what differs: files, base
# images and the other settings of images.sh.
content_version() {
  {
    (cd "$TURNOUT_ROOT" && find .dockerignore package.json dist stack db -type f -print0 | sort -z | xargs -0 sha256sum)
    printf '%s\n' "${NODE_IMAGE-}" "${REDIS_IMAGE-}" "${HAPROXY_IMAGE-}" "${POSTGRES_IMAGE-}" "${TURNOUT_PLATFORM-}" "${TURNOUT_SOURCE-}"
  } | sha256sum | cut -c 1-12
}

# pin_base_images [MIRROR]: pulls the base images of stack/Dockerfile, or those that are set, and exports them by digest. So a
# patched base image is another version.
pin_base_images() {
  local variable name digest
  for variable in NODE_IMAGE REDIS_IMAGE HAPROXY_IMAGE POSTGRES_IMAGE; do
    name=${!variable-}
    [ -n "$name" ] || name=${1:+$1/}$(sed -n "s/^ARG $variable=//p" "$TURNOUT_ROOT/stack/Dockerfile")
    if [[ $name != *@* ]]; then
      docker pull --quiet "$name" >/dev/null
      digest=$(docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$name" | grep -F -m 1 "${name%:*}@") ||
        fail "$name has no digest"
      name=$digest
    fi
    export "$variable=$name"
  done
}

# Prints name and secret of each certificate of certificate.sh, one a line, the newest last.
certificate_secrets() {
  docker secret ls --quiet --filter "label=turnout.stack=$TURNOUT_STACK" --filter label=turnout.certificate |
    xargs -r docker secret inspect --format '{{.CreatedAt.UnixNano}} {{index .Spec.Labels "turnout.certificate"}} {{.Spec.Name}}' |
    sort -n | cut -d ' ' -f 2-
}

# Turns the lines of certificate_secrets into a file for `docker stack deploy` that mounts them in the controllers.
stack_of_certificates() {
  awk '
    { secret[$1] = $2 }
    END {
      print "version: \"3.8\"\nservices:\n  interlock:\n    secrets:"
      for (name in secret) printf "      - { source: certificate_%s, target: %s.pem, uid: \"10001\", gid: \"10001\", mode: 0400 }\n", name, name
      print "secrets:"
      for (name in secret) printf "  certificate_%s: { external: true, name: \"%s\" }\n", name, secret[name]
    }'
}

role_of() { docker node inspect --format "{{index .Spec.Labels \"$TURNOUT_ROLE_LABEL\"}}" "$1"; }

# nodes_with ROLE: prints the host names of all nodes with this role, one a line.
nodes_with() {
  docker node ls --quiet |
    xargs docker node inspect --format "{{.Description.Hostname}} {{index .Spec.Labels \"$TURNOUT_ROLE_LABEL\"}}" |
    awk -v role="$1" '$2 == role { print $1 }'
}

# Prints the URL of the proxy: the first ready node with role=interlock.
proxy_url() {
  local node
  for node in $(docker node ls --quiet); do
    [ "$(role_of "$node") $(docker node inspect --format '{{.Status.State}}' "$node")" = 'interlock ready' ] || continue
    printf 'http://%s' "$(docker node inspect --format '{{.Status.Addr}}' "$node")"
    return
  done
  fail 'no ready node has the role interlock'
}
