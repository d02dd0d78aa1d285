#!/usr/bin/env bash
# secrets.sh: creates the missing Swarm secrets of Turnout.
# secrets.sh --show: prints the logins for the dashboard and the proxy's statistics.
#
# Several secrets share passwords, so these are generated once and kept in a file readable by root only:
# /etc/turnout/credentials, or TURNOUT_CREDENTIALS. Keep a copy, and install it first on any other manager. For an external
# database set TURNOUT_DATABASE to host:port/name, with parameters if needed. For a challenge (CHALLENGE), write the service's
# secret there as siteverify=… before the first run; a generated one makes every check fail.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

NAMES='voter_key siteverify redis_vote redis_worker redis_dashboard postgres worker results dashboard audit operator
  viewer statistics grafana'

umask 077

generate_passwords() {
  local name
  install -d -m 700 "$(dirname "$CREDENTIALS")"
  touch "$CREDENTIALS"
  for name in $NAMES; do
    grep -q "^$name=" "$CREDENTIALS" || printf '%s=%s\n' "$name" "$(openssl rand -hex 24)" >>"$CREDENTIALS"
  done
}

password() { sed -n "s/^$1=//p" "$CREDENTIALS"; }

sha256() { password "$1" | tr -d '\n' | sha256sum | cut -d ' ' -f 1; }

# Creates one secret, so that a second run completes an interrupted one.
create() {
  local name=$TURNOUT_STACK"_$1"
  if docker secret inspect "$name" >/dev/null 2>&1; then
    cat >/dev/null
  else
    docker secret create "$name" - >/dev/null
    say "Created the secret $name."
  fi
}

# Same as renderRedisAcl of stack/runtime/redis-acl.ts: no comments, one line per user, hashes of the passwords.
redis_acl() {
  local user script=''
  for user in vote worker dashboard; do
    script+="s/#<$user>/#$(sha256 "redis_$user")/;"
  done
  grep -vE '^(#|[[:space:]]*$)' "$TURNOUT_ROOT/stack/redis.acl" |
    awk '/^[[:space:]]/ { sub(/^[[:space:]]+/, " "); printf "%s", $0; next } NR > 1 { print "" } { printf "%s", $0 } END { print "" }' |
    sed "$script"
}

postgres_roles() {
  local role
  for role in worker results dashboard audit; do
    printf "alter role turnout_%s password '%s';\n" "$role" "$(password "$role")"
  done
}

database_url() {
  printf 'postgres://turnout_%s:%s@%s' "$1" "$(password "$1")" "${TURNOUT_DATABASE:-postgres:5432/turnout}"
}

# A hash would cost HAProxy CPU on every request and protect nothing: the secret holds the password.
proxy_users() { printf 'userlist operators\n  user operator insecure-password %s\n' "$(password statistics)"; }

case ${1-} in
  --show)
    [ -r "$CREDENTIALS" ] || fail "$CREDENTIALS is missing; run secrets.sh first"
    say "dashboard: operator $(password operator)"
    say "dashboard, to look only: viewer $(password viewer)"
    say "proxy statistics: operator $(password statistics)"
    say "Grafana, with stack/observability.yml: admin $(password grafana)"
    exit 0
    ;;
  '') ;;
  *) usage ;;
esac
require_manager
generate_passwords
password voter_key | create voter_key
password siteverify | create siteverify_secret
redis_acl | create redis_acl
printf 'unix://vote:%s@/run/redis/redis.sock' "$(password redis_vote)" | create vote_redis_url
printf 'dns:worker:%s@tasks.redis:6379' "$(password redis_worker)" | create worker_queue_nodes
printf 'dns:dashboard:%s@tasks.redis:6379' "$(password redis_dashboard)" | create dashboard_queue_nodes
password postgres | create postgres_password
postgres_roles | create postgres_roles
for role in worker results dashboard; do database_url "$role" | create "${role}_database_url"; done
printf 'operator:#%s,viewer/viewer:#%s' "$(sha256 operator)" "$(sha256 viewer)" | create dashboard_users
proxy_users | create proxy_users
password statistics | tr -d '\n' | create statistics_password
password grafana | tr -d '\n' | create grafana_password
say "All secrets exist; the passwords are in $CREDENTIALS."
