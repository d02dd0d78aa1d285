#!/usr/bin/env bash
# rescue.sh repair FOLDER: cuts off the damaged end of the append-only file in FOLDER, a copy of a Redis volume, and names the
#   jobs in it. The bytes are kept in FOLDER.
# rescue.sh start FOLDER --node NODE: on a manager, runs a Redis on FOLDER of that node. Workers find it and drain it.
# rescue.sh stop: removes that Redis. Its folder stays.
#
# For a frontend that will not return but whose disk can be read. Never let the old Redis start again: both have the same id.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

SERVICE=${TURNOUT_STACK}_redis-rescue
JOBS_SHOWN_MAX=100

# Checks the files in $folder with Redis's own program, of this machine or of the image.
check_files() {
  local manifest=appendonly.aof.manifest
  if command -v redis-check-aof >/dev/null; then
    (cd "$folder/appendonlydir" && redis-check-aof "$manifest")
  else
    docker run --rm --network none --volume "$folder/appendonlydir:/data:ro" --entrypoint redis-check-aof \
      "${REDIS_RESCUE_IMAGE:-turnout-redis:${TURNOUT_VERSION:-0.1.0}}" "/data/$manifest"
  fi
}

repair() {
  local output last name size good cut jobs
  [ -s "$folder/appendonlydir/appendonly.aof.manifest" ] || fail "$folder holds no append-only file of Redis 7"
  exec 9>"$folder/lock"
  flock --nonblock 9 || fail "a Redis runs on $folder; copy the folder and repair the copy"
  if output=$(check_files 2>&1); then
    say "The append-only file in $folder is whole."
    return
  fi
  last=$(sed -n 's/^file \(.*\) seq [0-9]* type i.*/\1/p' "$folder/appendonlydir/appendonly.aof.manifest" | tail -n 1)
  read -r name size good < <(sed -n 's/^AOF analyzed: filename=\(.*\), size=\([0-9]*\), ok_up_to=\([0-9]*\),.*/\1 \2 \3/p' <<<"$output" | tail -n 1) ||
    fail "redis-check-aof reports no end to cut off: $(tail -n 1 <<<"$output")"
  name=${name##*/}
  # After a fault in an older file, everything newer would refer to data that is not there.
  [ "$name" = "$last" ] || fail "$name is damaged, which is not the newest file ($last); it cannot be repaired by cutting"
  [ "$good" -lt "$size" ] || fail "redis-check-aof reports no end to cut off: $(tail -n 1 <<<"$output")"
  cut=$folder/cut-$name-from-$good
  tail -c "+$((good + 1))" "$folder/appendonlydir/$name" >"$cut"
  sync "$cut"
  truncate --size "$good" "$folder/appendonlydir/$name"
  sync "$folder/appendonlydir/$name"
  say "Cut $((size - good)) of $size bytes off $name; they are in $cut."
  if [ -z "$(tr -d '\0' <"$cut" | head -c 1)" ]; then
    say 'They are zeros: no vote was in them.'
    return
  fi
  jobs=$(grep -aoE '[A-Za-z0-9][A-Za-z0-9.-]*-[a-z2-7]{13}\.[a-z0-9]{1,16}-[a-z0-9]{1,16}\.[0-9]+' "$cut" | sort -u || true)
  [ -n "$jobs" ] || {
    say 'They name no job.'
    return
  }
  say "They name $(wc -l <<<"$jobs") jobs. Those without a receipt are lost if they were acknowledged:"
  head -n "$JOBS_SHOWN_MAX" <<<"$jobs"
}

case "${1-} $#" in
  'repair 2')
    folder=$(realpath "$2")
    repair
    # The user of the image, which no account uses.
    [ "$(id -u)" != 0 ] || chown -R 10001:10001 "$folder"
    ;;
  'start 4')
    [ "$3" = --node ] || usage
    require_manager
    docker node inspect "$4" >/dev/null 2>&1 || fail "no node is named $4"
    [[ $2 == /* ]] || fail "$2 must be an absolute path on $4"
    # Workers drain every task of the name "redis". It needs no limit of memory, because nothing adds votes.
    docker service create --name "$SERVICE" --label "com.docker.stack.namespace=$TURNOUT_STACK" \
      --network "name=${TURNOUT_STACK}_capture,alias=redis" --endpoint-mode dnsrr --constraint "node.hostname==$4" \
      --mount "type=bind,source=$2,target=/data" --mount type=tmpfs,destination=/run/redis,tmpfs-mode=1777 \
      --secret "source=${TURNOUT_STACK}_redis_acl,target=redis_acl,uid=10001,gid=10001,mode=0400" \
      --read-only --cap-drop ALL --stop-grace-period 60s \
      "$(docker service inspect --format '{{.Spec.TaskTemplate.ContainerSpec.Image}}' "${TURNOUT_STACK}_redis")" \
      redis-server /etc/turnout/redis.conf --maxmemory 0
    say "Workers drain $2. When the dashboard shows nothing pending of its node, retire the node there, then: rescue.sh stop"
    ;;
  'stop 1')
    require_manager
    docker service rm "$SERVICE" >/dev/null
    say "The Redis of the rescue is removed."
    ;;
  *) usage ;;
esac
