#!/usr/bin/env bash
# install-docker.sh [--role ROLE]: installs the Docker engine if it is missing, and starts it.
#
# With --role the engine declares the role of this node; label.sh on a manager turns it into the node's label.
# Supports Debian 12 and 13, Ubuntu 24.04 and Amazon Linux 2023. On other systems install Docker 20.10 or newer first.

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
[ -z "$role" ] || [[ " $TURNOUT_ROLES manager " == *" $role "* ]] || fail "ROLE must be one of: $TURNOUT_ROLES manager"

# Written before the installation, so that the engine's first start reads it.
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

if ! command -v dockerd >/dev/null || ! command -v docker >/dev/null; then
  if command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    packages=(docker.io ca-certificates curl openssl)
    # From Debian 13 on the client is a package of its own; before, it is in docker.io.
    if apt-cache show docker-cli >/dev/null 2>&1; then packages+=(docker-cli); fi
    apt-get install -y -qq --no-install-recommends "${packages[@]}"
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
