#!/usr/bin/env bash
# backup.sh now: writes a base backup of the running PostgreSQL.
# backup.sh verify: checks every file of the backups, and that no WAL segment is missing.
# backup.sh drill [--to TIME]: restores into a scratch folder beside the backups, reads every table, and removes it.
# backup.sh restore [--to TIME]: replaces PostgreSQL's data; the old data stays on the same volume. Stop PostgreSQL first.
#
# Runs on the node with role=store. BACKUP_FOLDER is the folder that deploy.sh was given, a volume by default. TIME needs a zone,
# as in 2027-02-07T23:30:00Z; without one everything that was archived is restored.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

SCRIPT=/usr/local/lib/turnout/postgres-backup.sh
BACKUP_FOLDER=${BACKUP_FOLDER:-${TURNOUT_STACK}_postgres-backup}

case "${1-} $#" in
  'now 1' | 'verify 1' | 'drill 1' | 'restore 1') ;;
  'drill 3' | 'restore 3') [ "$2" = --to ] || usage ;;
  *) usage ;;
esac
require_engine
of_service=(--filter "label=com.docker.swarm.service.name=${TURNOUT_STACK}_postgres")
running=$(docker ps --quiet "${of_service[@]}")

# alone VOLUME… -- ARGUMENT…: runs the script in a container of its own, so that it takes no memory from PostgreSQL.
alone() {
  local image volumes=()
  image=${POSTGRES_BACKUP_IMAGE:-$(docker ps --all --format '{{.Image}}' "${of_service[@]}" | head -n 1)}
  [ -n "$image" ] || fail "no container of ${TURNOUT_STACK}_postgres was on this node; set POSTGRES_BACKUP_IMAGE to its image"
  while [ "$1" != -- ]; do
    volumes+=(--volume "$1")
    shift
  done
  shift
  docker run --rm --network none --read-only --cap-drop ALL --tmpfs /tmp --tmpfs /dev/shm \
    --volume "$BACKUP_FOLDER:/backup" ${volumes[@]+"${volumes[@]}"} --entrypoint bash "$image" "$SCRIPT" "$@"
}

case $1 in
  now)
    [ -n "$running" ] || fail "${TURNOUT_STACK}_postgres does not run on this node"
    docker exec "$running" bash "$SCRIPT" backup
    ;;
  verify | drill) alone -- "$@" ;;
  restore)
    [ -z "$running" ] || fail "PostgreSQL runs; on a manager: docker service scale ${TURNOUT_STACK}_postgres=0"
    alone "${TURNOUT_STACK}_postgres-data:/var/lib/postgresql" -- "$@"
    say "Next, on a manager: docker service scale ${TURNOUT_STACK}_postgres=1, then the audit."
    ;;
esac
