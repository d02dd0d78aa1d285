#!/usr/bin/env bash
# node.sh: makes this instance a node of its stack's Swarm. turnout-node.service runs it at every boot and retries until it
# succeeds, so it waits for nothing: a missing precondition is a failure. It is idempotent.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

# Root of this machine's files; tests set another one.
HOST=${TURNOUT_HOST_ROOT:-}
VOLUMES=$HOST/var/lib/docker/volumes
UNITS=$HOST/etc/systemd/system
DATA_DEVICE_NAME=/dev/sdf
FRONTEND_DISK_GIB=${FRONTEND_DISK_GIB:-20}
DATA_SECONDS_MAX=120
export DAEMON_CONFIG=$HOST/etc/docker/daemon.json

# The host name identifies the instance and is part of every receipt.
take_name() {
  local name
  name=$(node_name "$ROLE" "$INSTANCE")
  install -d "$HOST/etc/cloud/cloud.cfg.d"
  printf 'preserve_hostname: true\n' >"$HOST/etc/cloud/cloud.cfg.d/99-turnout.cfg"
  [ "$(hostname)" = "$name" ] || hostnamectl set-hostname "$name"
}

# The store's disk outlives it too. EC2 refuses to attach it while a former instance has it.
attach_store_volume() {
  [ -n "$(volumes "Name=attachment.instance-id,Values=$INSTANCE")" ] || attach "$DATA_VOLUME"
}

# A frontend's disk outlives it, because it may hold uncounted votes. A new frontend first takes over such a disk in its zone,
# and the workers drain its queue from here.
find_frontend_volume() {
  local mine volume
  mine=$(volumes "Name=attachment.instance-id,Values=$INSTANCE")
  if [ -n "$mine" ]; then
    printf '%s' "$mine"
    return
  fi
  for volume in $(volumes Name=status,Values=available "Name=availability-zone,Values=$(metadata placement/availability-zone)"); do
    # Another instance may be faster.
    if attach "$volume"; then
      say "Took over $volume." >&2
      printf '%s' "$volume"
      return
    fi
  done
  volume=$(aws ec2 create-volume --availability-zone "$(metadata placement/availability-zone)" --volume-type gp3 --encrypted \
    --size "$FRONTEND_DISK_GIB" --query VolumeId --output text --tag-specifications \
    "ResourceType=volume,Tags=[{Key=turnout:stack,Value=$STACK},{Key=turnout:role,Value=frontend},{Key=Name,Value=$STACK-frontend}]")
  aws ec2 wait volume-available --volume-ids "$volume"
  attach "$volume"
  printf '%s' "$volume"
}

volumes() {
  aws ec2 describe-volumes --query 'Volumes[].VolumeId' --output text \
    --filters "Name=tag:turnout:stack,Values=$STACK" "Name=tag:turnout:role,Values=$ROLE" "$@"
}

attach() { aws ec2 attach-volume --volume-id "$1" --instance-id "$INSTANCE" --device "$DATA_DEVICE_NAME" >/dev/null; }

# Docker volumes are on the data disk. Docker does not start without it, so that votes never land on an ephemeral disk.
mount_data() {
  local volume=$1 device uuid
  device=$HOST/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${volume/-/}
  wait_until "$DATA_SECONDS_MAX" "the disk of $volume" test -e "$device"
  # Formats an empty disk only; mkfs refuses any other.
  [ -n "$(probe TYPE "$device")" ] || mkfs.xfs -q "$device"
  uuid=$(probe UUID "$device")
  [ -n "$uuid" ] || fail "$device has no file system"
  install -d "$VOLUMES" "$UNITS/docker.service.d"
  printf '[Unit]\nRequiresMountsFor=%s\n' "$VOLUMES" >"$UNITS/docker.service.d/turnout.conf"
  if ! grep -q "^UUID=$uuid " "$HOST/etc/fstab"; then
    printf 'UUID=%s %s xfs defaults,noatime,nofail 0 2\n' "$uuid" "$VOLUMES" >>"$HOST/etc/fstab"
  fi
  systemctl daemon-reload
  mountpoint -q "$VOLUMES" || mount "$VOLUMES"
  # Restored or enlarged disks still have a file system of the old size.
  xfs_growfs "$VOLUMES" >/dev/null
}

# Probes the disk itself, because udev's data of a newly attached disk may be incomplete.
probe() { blkid --probe --output value --match-tag "$1" "$2" || true; }

# Swarm passes a registry password to nodes with each deployment, which expires after 12 hours. A node that joins later pulls its
# images with its own role; Swarm uses them when it cannot pull.
pull_images() {
  local release registry version name names
  release=$(parameter release)
  [ -n "$release" ] || return 0
  read -r registry version _ <<<"$release"
  case $ROLE in
    manager) names=docker-api ;;
    interlock) names='proxy interlock' ;;
    frontend) names='redis vote' ;;
    worker) names='worker issuer' ;;
    store) names='postgres results dashboard' ;;
  esac
  login_to_registry "$registry"
  for name in $names; do docker pull --quiet "$registry/turnout-$name:$version"; done
}

# join KIND: joins through the first manager that responds.
join() {
  local token manager
  token=$(parameter "$1-token")
  [ -n "$token" ] || return 1
  for manager in $(parameter managers); do
    [ "$manager" != "$ADDRESS" ] || continue
    if printf '%s\n' "$token" | "$SWARM/join.sh" --manager "$manager" --advertise "$ADDRESS"; then return 0; fi
  done
  return 1
}

# Only the first manager creates a Swarm, and only if it cannot join one.
become_manager() {
  local managers kind
  read -r -a managers <<<"$(parameter managers)"
  if ! is_manager && ! join manager; then
    [ "$ADDRESS" = "${managers[0]-}" ] || fail 'no manager accepts this manager yet'
    if [ "${#managers[@]}" -gt 1 ] && [ -n "$(parameter manager-token)" ]; then
      fail 'a Swarm exists, but none of its managers responds'
    fi
    "$SWARM/init.sh" --advertise "$ADDRESS"
  fi
  for kind in worker manager; do "$SWARM/token.sh" "$kind" | keep_parameter SecureString "$kind-token"; done
  cp "$TURNOUT_ROOT"/aws/units/* "$UNITS"
  systemctl daemon-reload
  systemctl enable --quiet --now turnout-reconcile-nodes.timer turnout-measure.timer
}

INSTANCE=$(metadata instance-id)
ADDRESS=$(metadata local-ipv4)
take_name
case $ROLE in
  frontend)
    volume=$(find_frontend_volume)
    mount_data "$volume"
    ;;
  store)
    if [ -n "${DATA_VOLUME-}" ]; then
      attach_store_volume
      mount_data "$DATA_VOLUME"
    fi
    ;;
  manager) command -v jq >/dev/null || dnf install -y -q jq ;;
esac
"$SWARM/install-docker.sh" --role "$ROLE"
if [ "$ROLE" = manager ]; then
  become_manager
  pull_images
else
  pull_images
  join worker || fail 'no manager accepts this node yet'
fi
say "This is $(node_name "$ROLE" "$INSTANCE"), at $ADDRESS."
