#!/usr/bin/env bash
# install-docker.sh [--role ROLE]: installs the Docker engine where there is none, and starts it.
#
# With --role the engine declares what this node is for; label.sh on a manager makes that the node's label.
# Knows Debian, Ubuntu and Amazon Linux 2023. Elsewhere install Docker 20.10 or newer yourself.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

DAEMON_CONFIG=${DAEMON_CONFIG:-/etc/docker/daemon.json}

role=
while [ $# -gt 0 ]; do
  case $1 in
    --role) role=${2:?}; shift 2 ;;
    *) usage ;;
  esac
done
[ -z "$role" ] || [[ " $TURNOUT_ROLES manager " == *" $role "* ]] || fail "a role is one of: $TURNOUT_ROLES manager"

# Written before the engine is installed, so that its first start reads it.
if [ -n "$role" ]; then
  wanted="{ \"labels\": [\"role=$role\"], \"live-restore\": false }"
  if [ ! -e "$DAEMON_CONFIG" ]; then
    install -d "$(dirname "$DAEMON_CONFIG")"
    printf '%s\n' "$wanted" >"$DAEMON_CONFIG"
    has_new_config=yes
  elif [ "$(cat "$DAEMON_CONFIG")" != "$wanted" ]; then
    fail "$DAEMON_CONFIG has other settings; add \"labels\": [\"role=$role\"] to it"
  fi
fi

if ! command -v dockerd >/dev/null; then
  if command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends docker.io
  elif command -v dnf >/dev/null; then
    dnf install -y -q docker
  else
    fail "install Docker 20.10 or newer first: https://docs.docker.com/engine/install/"
  fi
fi
if command -v systemctl >/dev/null && [ -d /run/systemd/system ]; then
  systemctl enable --quiet --now docker
  [ -z "${has_new_config-}" ] || systemctl restart docker
fi
wait_until 60 'the Docker engine' docker version --format 'Docker {{.Server.Version}} runs'
