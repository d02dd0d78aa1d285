#!/usr/bin/env bash
# install-docker.sh [--role ROLE] [--firewall PEERS]: installs the Docker engine if it is missing, and starts it.
#
# With --role the engine declares the role of this node; label.sh on a manager turns it into the node's label. The kernel gets the
# settings of that role (kernel.sh), now and at each boot.
# With --firewall only PEERS reach Swarm's ports and the proxy's statistics on this machine: 2377, 7946 and 8404 TCP, 7946 and
# 4789 UDP. PEERS are addresses and networks, comma-separated, and include every other node. Other ports stay as they are.
# Supports Debian 12 and 13, Ubuntu 24.04 and Amazon Linux 2023. On other systems install Docker 20.10 or newer first.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=kernel.sh
. "$(dirname "$0")/kernel.sh"

DAEMON_CONFIG=${DAEMON_CONFIG:-/etc/docker/daemon.json}
FIREWALL_CONFIG=${FIREWALL_CONFIG:-/etc/turnout/firewall.nft}
UNITS=${UNITS:-/etc/systemd/system}
SYSCTL_CONFIG=$HOST/etc/sysctl.d/90-turnout.conf
MODULES_CONFIG=$HOST/etc/modules-load.d/turnout.conf

role='' peers=''
while [ $# -gt 0 ]; do
  case $1 in
    --role) role=${2:?}; shift 2 ;;
    --firewall) peers=${2:?}; shift 2 ;;
    *) usage ;;
  esac
done
[ -z "$role" ] || [[ " $TURNOUT_ROLES manager " == *" $role "* ]] || fail "ROLE must be one of: $TURNOUT_ROLES manager"

has_systemd() { command -v systemctl >/dev/null && [ -d /run/systemd/system ]; }

install_packages() {
  if command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
  elif command -v dnf >/dev/null; then
    dnf install -y -q "$@"
  else
    fail "install these first: $*"
  fi
}

# Prints the accept rules of nftables for PEERS.
accept_peers() {
  local peer v4='' v6=''
  for peer in ${peers//,/ }; do
    [[ $peer =~ ^[0-9a-fA-F.:]+(/[0-9]{1,3})?$ ]] || fail "PEERS has no address or network: $peer"
    if [[ $peer == *:* ]]; then v6+="${v6:+, }$peer"; else v4+="${v4:+, }$peer"; fi
  done
  [ -z "$v4" ] || printf '    ip saddr { %s } accept\n' "$v4"
  [ -z "$v6" ] || printf '    ip6 saddr { %s } accept\n' "$v6"
}

# A table of its own, which Docker does not touch. It comes before address translation, so that it sees the ports that Docker
# publishes as they arrive.
close_ports() {
  local rules
  rules=$(accept_peers)
  command -v nft >/dev/null || install_packages nftables
  install -d "$(dirname "$FIREWALL_CONFIG")"
  cat >"$FIREWALL_CONFIG.new" <<END
table inet turnout
delete table inet turnout
table inet turnout {
  chain strangers {
    type filter hook prerouting priority raw; policy accept;
    iifname "lo" accept
    fib daddr type != local accept
$rules
    tcp dport { 2377, 7946, 8404 } drop
    udp dport { 4789, 7946 } drop
  }
}
END
  nft -f "$FIREWALL_CONFIG.new"
  mv "$FIREWALL_CONFIG.new" "$FIREWALL_CONFIG"
  if has_systemd; then
    cat >"$UNITS/turnout-firewall.service" <<END
[Unit]
Description=Closes the ports of Swarm to strangers
Wants=network-pre.target
Before=network-pre.target docker.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=$(command -v nft) -f $FIREWALL_CONFIG

[Install]
WantedBy=multi-user.target
END
    systemctl daemon-reload
    systemctl enable --quiet turnout-firewall.service
  else
    say 'There is no systemd here: run this again after a restart.'
  fi
  say "Only $peers reach the ports of Swarm and the statistics."
}

# Never lowers a setting. What this kernel does not have or forbids, as in a container, verify.sh --node shows.
set_kernel() {
  local name bound value now lines=''
  if [ "$role" = interlock ]; then
    # Its settings exist only while the module is loaded; systemd loads modules before it applies settings.
    install -D -m 644 <(echo nf_conntrack) "$MODULES_CONFIG"
    modprobe nf_conntrack 2>/dev/null || true
  fi
  while read -r name bound value; do
    now=$(kernel_value "$name")
    if is_set "$bound" "$value" "$now"; then value=$now; else printf '%s\n' "$value" 2>/dev/null >"$(kernel_file "$name")" || true; fi
    lines+="$name = $value"$'\n'
  done < <(kernel_settings "$role")
  install -D -m 644 <(printf '%s' "$lines") "$SYSCTL_CONFIG"
  say "Kernel settings of the role $role:"
  show_kernel_settings "$role" || say 'Some settings cannot be made on this machine.'
}

# Before the engine starts, which opens its ports.
if [ -n "$peers" ]; then close_ports; fi

if [ -n "$role" ]; then set_kernel; fi

# Written before the installation, so that the engine's first start reads it.
if [ -n "$role" ]; then
  wanted="{ \"labels\": [\"$TURNOUT_ROLE_LABEL=$role\"], \"live-restore\": false }"
  if [ ! -e "$DAEMON_CONFIG" ]; then
    install -d "$(dirname "$DAEMON_CONFIG")"
    printf '%s\n' "$wanted" >"$DAEMON_CONFIG"
    has_new_config=yes
  elif [ "$(cat "$DAEMON_CONFIG")" != "$wanted" ]; then
    fail "$DAEMON_CONFIG has other settings; add \"labels\": [\"$TURNOUT_ROLE_LABEL=$role\"] to it"
  fi
fi

if ! command -v dockerd >/dev/null || ! command -v docker >/dev/null; then
  packages=(docker)
  if command -v apt-get >/dev/null; then
    packages=(docker.io ca-certificates curl openssl)
    apt-get update -qq
    # From Debian 13 on the client is a package of its own; before, it is in docker.io.
    if apt-cache show docker-cli >/dev/null 2>&1; then packages+=(docker-cli); fi
  elif ! command -v dnf >/dev/null; then
    fail "install Docker 20.10 or newer first: https://docs.docker.com/engine/install/"
  fi
  install_packages "${packages[@]}"
fi
if has_systemd; then
  systemctl enable --quiet --now docker
  [ -z "${has_new_config-}" ] || systemctl restart docker
fi
wait_until 60 'the Docker engine' docker version --format 'Docker {{.Server.Version}} runs'
