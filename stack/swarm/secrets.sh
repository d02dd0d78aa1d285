#!/usr/bin/env bash
# secrets.sh: makes the Swarm's secrets that Turnout needs and that do not exist yet.
# secrets.sh --show: prints how an operator logs in to the dashboard and to the proxy's statistics.
#
# Passwords are drawn at random once and kept in a file that only root can read, because several secrets have to agree on
# them: /etc/turnout/credentials, or TURNOUT_CREDENTIALS. Keep a copy; on another manager put it there first. For a database
# that is not the stack's own, TURNOUT_DATABASE is host:port/name, with parameters if need be.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

CREDENTIALS=${TURNOUT_CREDENTIALS:-/etc/turnout/credentials}
NAMES='voter_key redis_vote redis_worker redis_dashboard postgres worker results dashboard audit operator statistics'

umask 077

draw_passwords() {
  local name
  install -d -m 700 "$(dirname "$CREDENTIALS")"
  touch "$CREDENTIALS"
  for name in $NAMES; do
    grep -q "^$name=" "$CREDENTIALS" || printf '%s=%s\n' "$name" "$(openssl rand -hex 24)" >>"$CREDENTIALS"
  done
}

password() { sed -n "s/^$1=//p" "$CREDENTIALS"; }

# Every secret on its own: a run that was interrupted is finished by the next one.
make() {
  local name=$TURNOUT_STACK"_$1"
  if docker secret inspect "$name" >/dev/null 2>&1; then
    cat >/dev/null
  else
    docker secret create "$name" - >/dev/null
    say "Made the secret $name."
  fi
}

# What renderRedisAcl of stack/runtime/redis-acl.ts does: no comments, a line a user, hashes instead of passwords.
redis_acl() {
  local user script=''
  for user in vote worker dashboard; do
    script+="s/#<$user>/#$(password "redis_$user" | tr -d '\n' | sha256sum | cut -d ' ' -f 1)/;"
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

# HAProxy would compute a hash for every request; the secret is the password anyway.
proxy_users() { printf 'userlist operators\n  user operator insecure-password %s\n' "$(password statistics)"; }

case ${1-} in
  --show)
    [ -r "$CREDENTIALS" ] || fail "there is no $CREDENTIALS here; run secrets.sh first"
    say "dashboard: operator $(password operator)"
    say "proxy statistics: operator $(password statistics)"
    exit 0
    ;;
  '') ;;
  *) usage ;;
esac
require_manager
draw_passwords
password voter_key | make voter_key
redis_acl | make redis_acl
printf 'unix://vote:%s@/run/redis/redis.sock' "$(password redis_vote)" | make vote_redis_url
printf 'dns:worker:%s@tasks.redis:6379' "$(password redis_worker)" | make worker_queue_nodes
printf 'dns:dashboard:%s@tasks.redis:6379' "$(password redis_dashboard)" | make dashboard_queue_nodes
password postgres | make postgres_password
postgres_roles | make postgres_roles
for role in worker results dashboard; do database_url "$role" | make "${role}_database_url"; done
printf 'operator:%s' "$(password operator)" | make dashboard_users
proxy_users | make proxy_users
say "The secrets are there; the passwords are in $CREDENTIALS."
