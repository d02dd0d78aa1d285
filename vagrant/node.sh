#!/usr/bin/env bash
# node.sh ROLE MANAGER: provisions a machine as root: unpacks the archive, installs Docker, and authorizes the manager's key.
# Vagrant has copied turnout.tar.gz and turnout.key (on the manager) or turnout.key.pub into the home folder of its user.

set -euo pipefail

role=${1:?} manager=${2:?}
user=${SUDO_USER:-vagrant}
home=$(getent passwd "$user" | cut -d : -f 6)
root=/opt/turnout

# Replaces the folder, so that no file of an earlier archive remains.
rm -rf "$root.new"
install -d "$root.new"
tar -xzf "$home/turnout.tar.gz" -C "$root.new" --no-same-owner
rm -rf "$root"
mv "$root.new" "$root"
rm "$home/turnout.tar.gz"

if [ "$role" = manager ]; then
  install -m 600 "$home/turnout.key" /root/turnout.key
  rm "$home/turnout.key"
else
  # The manager joins this machine to the Swarm; the key is accepted from its address only.
  allowed="from=\"$manager\",restrict $(cat "$home/turnout.key.pub")"
  keys=$home/.ssh/authorized_keys
  grep -qxF "$allowed" "$keys" || printf '%s\n' "$allowed" >>"$keys"
  rm "$home/turnout.key.pub"
fi

exec "$root/stack/swarm/install-docker.sh" --role "$role"
