#!/usr/bin/env bash
# postgres-backup.sh COMMAND: backup and restore with what every PostgreSQL image has. It runs where PostgreSQL runs;
# stack/swarm/backup.sh is the command of operators.
#
#   archive PATH NAME    stores a WAL segment: archive_command = 'postgres-backup.sh archive "%p" "%f"'
#   fetch NAME PATH      reads one: restore_command
#   backup               writes a base backup of the running server, and deletes those beyond BACKUPS_KEPT (7) with their WAL
#   verify               checks every file, and that no WAL segment is missing
#   restore [--to TIME]  replaces PGDATA; the old folder stays beside it. The server must be stopped
#   drill [--to TIME]    restores into a scratch folder, starts a server there, reads every table, removes it
#
# BACKUP_DIR is the folder of the backups, PGDATA that of the server; PGHOST, PGUSER, … select the running server. TIME needs a
# zone, as in 2027-02-07T23:30:00Z. Without one, everything that was archived is replayed.

set -euo pipefail

BACKUPS_KEPT=${BACKUPS_KEPT:-7}
# The wait for a checkpoint, and for the last segment of a backup to be archived.
STATEMENT_SECONDS_MAX=${BACKUP_STATEMENT_SECONDS_MAX:-600}
RECOVERY_SECONDS_MAX=${BACKUP_RECOVERY_SECONDS_MAX:-14400}
# An exit status above 125 stops a recovery. A smaller one means that the segment does not exist, which ends it.
STOP_RECOVERY=200

self=$(realpath "${BASH_SOURCE[0]}")
export BACKUP_DIR=${BACKUP_DIR:?must name the folder of the backups}
export PGUSER=${PGUSER:-postgres} PGDATABASE=${PGDATABASE:-turnout}
# The fifth line is the folder of the server's socket.
if [ -z "${PGHOST-}" ] && [ -r "${PGDATA-}/postmaster.pid" ]; then PGHOST=$(sed -n 5p "$PGDATA/postmaster.pid") && export PGHOST; fi
wal=$BACKUP_DIR/wal
bases=$BACKUP_DIR/base

say() { printf '%s\n' "$*"; }

fail() {
  printf 'postgres-backup.sh: %s\n' "$*" >&2
  exit 1
}

usage() {
  sed -n '2,/^$/s/^# \{0,1\}//p' "$self" >&2
  exit 2
}

query() { psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 "$@"; }

# Makes a finished file visible under its name, all of it or nothing, even after a power loss.
publish() {
  sync "$1"
  mv "$1" "$2"
  sync "$(dirname "$2")"
}

archive() {
  local path=$1 name=$2 target=$wal/$2.gz
  # `backup` creates the folder, so a share that is not mounted is not taken for an empty archive.
  [ -d "$wal" ] || fail "$wal is missing: take a base backup, or mount the folder"
  if [ -e "$target" ]; then
    # PostgreSQL repeats a segment whose success it has not recorded before a crash.
    gzip -dc "$target" | cmp -s - "$path" || fail "$target already has another content: does another server use this folder?"
    return
  fi
  gzip -1nc <"$path" >"$wal/.$name.new"
  publish "$wal/.$name.new" "$target"
}

fetch() {
  local name=$1 path=$2
  [ -d "$wal" ] || exit "$STOP_RECOVERY"
  [ -e "$wal/$name.gz" ] || exit 1
  gzip -dc <"$wal/$name.gz" >"$path" || exit "$STOP_RECOVERY"
}

lock_folder() {
  exec 8>"$BACKUP_DIR/lock"
  flock --nonblock 8 || fail "another backup, restore or drill uses $BACKUP_DIR"
}

# Prints the base backups, oldest first.
list_bases() { find "$bases" -mindepth 1 -maxdepth 1 -name '[0-9]*' -printf '%f\n' 2>/dev/null | sort; }

field() { sed -n "s/^$2=//p" "$bases/$1/info"; }

# Runs within the session of pg_backup_start. Files change while tar reads them; the WAL repairs that.
copy_data() {
  local statuses=(0 0)
  tar --create --directory "$PGDATA" --exclude './pg_wal/*' --exclude ./postmaster.pid --exclude ./postmaster.opts \
    --exclude './pg_replslot/*' --exclude './pg_dynshmem/*' --exclude './pg_notify/*' --exclude './pg_serial/*' \
    --exclude './pg_snapshots/*' --exclude './pg_stat_tmp/*' --exclude './pg_subtrans/*' --exclude 'pgsql_tmp*' \
    --exclude 'pg_internal.init*' --warning no-file-changed --warning no-file-removed . |
    gzip -1 >"$DRAFT/base.tar.gz" || statuses=("${PIPESTATUS[@]}")
  # 1 of tar: files changed or vanished meanwhile.
  [ "${statuses[0]}" -le 1 ] && [ "${statuses[1]}" = 0 ]
  : >"$DRAFT/copied"
}

backup() {
  local name
  mkdir -p "$bases" "$wal"
  lock_folder
  PGDATA=$(query --command 'show data_directory')
  [ "$(query --command 'show archive_mode')" != off ] || fail 'archive_mode is off: a base backup without WAL cannot be restored'
  [ "$(query --command 'show wal_segment_size')" = 16MB ] || fail 'WAL segments must have 16 MB'
  [ "$(query --command "select count(*) from pg_tablespace where spcname !~ '^pg_'")" = 0 ] || fail 'tablespaces are not supported'
  name=$(date -u +%Y%m%dT%H%M%SZ)
  export DRAFT=$bases/.$name.new PGDATA
  rm -rf "$bases"/.*.new
  mkdir "$DRAFT"
  # The backup ends with the session, so one session runs it all. psql ignores the status of \!, hence the file `copied`.
  query --set name="$name" --set label="$DRAFT/backup_label" --set info="$DRAFT/info" --set copy="bash '$self' copy-data" \
    --set seconds="${STATEMENT_SECONDS_MAX}s" >/dev/null <<'SQL'
set statement_timeout = :'seconds';
select pg_backup_start(:'name', fast => true);
\setenv COPY :copy
\! eval "$COPY"
\o :label
select labelfile from pg_backup_stop();
\o :info
select 'ended=' || ceil(extract(epoch from clock_timestamp()) * 1000000);
SQL
  [ -e "$DRAFT/copied" ] || fail "the data folder could not be copied"
  sed -n 's/^START WAL LOCATION: .*(file \([0-9A-F]*\)).*/first=\1/p' "$DRAFT/backup_label" >>"$DRAFT/info"
  grep -q '^first=' "$DRAFT/info" || fail "the label names no WAL segment"
  (cd "$DRAFT" && rm copied && sha256sum base.tar.gz backup_label info >sha256 && sync ./*)
  publish "$DRAFT" "$bases/$name"
  say "Backup $name: $(du -sh "$bases/$name" | cut -f 1), from WAL segment $(field "$name" first)."
  prune
}

# Deletes base backups beyond the newest BACKUPS_KEPT, and the WAL that only they need.
prune() {
  local name first file
  list_bases | head -n "-$BACKUPS_KEPT" | while read -r name; do
    rm -rf "${bases:?}/$name"
    say "Deleted backup $name."
  done
  first=$(field "$(list_bases | head -n 1)" first)
  # The first eight digits are the timeline; the order of segments does not depend on it.
  for file in "$wal"/????????????????????????*.gz; do
    name=${file##*/}
    if [ -e "$file" ] && [[ ${name:8:16} < ${first:8:16} ]]; then rm "$file"; fi
  done
}

# Prints the position of a segment in the WAL, in segments.
position() { echo $((16#${1:8:8} * 256 + 16#${1:16:8})); }

verify() {
  local base faults=0 first expected='' at name file
  [ -n "$(list_bases)" ] || fail "$bases holds no backup"
  for base in $(list_bases); do
    (cd "$bases/$base" && sha256sum --check --quiet --strict sha256) || {
      say "Backup $base is damaged."
      faults=$((faults + 1))
    }
  done
  first=$(position "$(field "$(list_bases | head -n 1)" first)")
  while read -r name; do
    at=$(position "$name")
    [ "$at" -ge "$first" ] || continue
    if [ "$at" -gt "${expected:-$first}" ]; then
      say "WAL is missing before $name: $((at - ${expected:-$first})) segments."
      faults=$((faults + 1))
    fi
    expected=$((at + 1))
    gzip --test "$wal/$name.gz" || {
      say "WAL segment $name is damaged."
      faults=$((faults + 1))
    }
  done < <(find "$wal" -name '????????????????????????.gz' -printf '%f\n' | sed 's/\.gz$//' | sort -k 1.9)
  file=$(find "$wal" -name '*.gz' -printf '%T@ %TFT%TT\n' | sort -n | tail -n 1)
  [ -n "$expected" ] || fail 'no WAL was archived since the oldest backup'
  say "$(list_bases | wc -l) backups, the newest $(list_bases | tail -n 1); $((expected - first)) WAL segments, the last archived at ${file#* }."
  [ "$faults" = 0 ] || fail "$faults faults"
}

# unpack TARGET TIME: puts the newest base backup that ended before TIME into the new folder TARGET, ready for recovery.
unpack() {
  local target=$1 to=$2 base chosen='' time=''
  if [ -n "$to" ]; then
    [[ $to =~ :[0-9.]+(Z|[+-][0-9]{2}(:?[0-9]{2})?)$ ]] || fail "$to has no time zone"
    time=$(date -u -d "$to" '+%F %T.%6N+00') || fail "$to is not a time"
  fi
  for base in $(list_bases); do
    if [ -z "$to" ] || [ "$(field "$base" ended)" -le "$(date -d "$to" +%s%6N)" ]; then chosen=$base; fi
  done
  [ -n "$chosen" ] || fail "no backup ended ${to:+before $to}"
  (cd "$bases/$chosen" && sha256sum --check --quiet --strict sha256) || fail "backup $chosen is damaged"
  say "Restoring backup $chosen and the WAL since then${to:+ until $to}."
  rm -rf "$target"
  mkdir -m 700 "$target"
  tar --extract --gzip --directory "$target" --file "$bases/$chosen/base.tar.gz"
  cp "$bases/$chosen/backup_label" "$target/"
  : >"$target/recovery.signal"
  # Every setting each time, because the file may have those of an earlier restore.
  cat >>"$target/postgresql.auto.conf" <<CONF
restore_command = 'BACKUP_DIR="$BACKUP_DIR" bash "$self" fetch "%f" "%p"'
recovery_target_time = '$time'
recovery_target_action = 'promote'
recovery_target_timeline = 'latest'
CONF
}

# recover TARGET ARCHIVE_MODE: recovers the folder with a server that only this user can connect to. It runs on success.
recover() {
  local target=$1 deadline=$((SECONDS + RECOVERY_SECONDS_MAX))
  sockets=$(mktemp -d)
  say 'local all all trust' >"$sockets/hba"
  # Without hot_standby the server needs no setting of the one before, and accepts no connection until recovery has ended.
  pg_ctl start --silent --no-wait --pgdata "$target" --log "$target.log" --options \
    "-c listen_addresses= -c port=5432 -c unix_socket_directories=$sockets -c hba_file=$sockets/hba -c hot_standby=off \
     -c archive_mode=$2 -c archive_command='BACKUP_DIR=$BACKUP_DIR bash $self archive %p %f'"
  # pg_ctl returns before the server has written its pid file.
  until query_private --command 'select 1' >/dev/null 2>&1; do
    sleep 0.2
    if [ "$SECONDS" -lt "$deadline" ] && ! grep -q 'database system is shut down' "$target.log"; then continue; fi
    grep -E 'FATAL|ERROR' "$target.log" | grep -v 'is starting up\|is in recovery\|not accepting' >&2 || tail -n 5 "$target.log" >&2
    pg_ctl stop --silent --mode immediate --pgdata "$target" 2>/dev/null || true
    rm -rf "$target" "$target.log" "$sockets"
    fail 'the recovery failed; nothing has changed. A TIME after the last archived commit cannot be reached: leave it out'
  done
}

query_private() { PGHOST=$sockets PGPORT=5432 query "$@"; }

# Prints the time of the last commit that was replayed.
recovered_to() { query_private --command "select coalesce(pg_last_xact_replay_timestamp()::text, 'the end of the backup')"; }

end_private() {
  pg_ctl stop --silent --wait --mode fast --pgdata "$1" --timeout "$RECOVERY_SECONDS_MAX"
  rm -rf "$sockets" "$1.log"
}

restore() {
  local new=$PGDATA.restoring old
  old=$PGDATA.before-$(date -u +%Y%m%dT%H%M%SZ)
  lock_folder
  mkdir -p "$(dirname "$PGDATA")"
  # with-lock.sh holds this lock while PostgreSQL runs.
  exec 9>"${POSTGRES_LOCK:-/var/lib/postgresql/lock}"
  flock --nonblock 9 || fail 'PostgreSQL runs on this data; stop it first'
  unpack "$new" "$1"
  # What was not archived yet, if the disk still has it.
  if [ -d "$PGDATA/pg_wal" ]; then find "$PGDATA/pg_wal" -maxdepth 1 -type f -name '[0-9A-F]*' -exec cp {} "$new/pg_wal/" \;; fi
  # With archiving, so that the new timeline reaches the archive.
  recover "$new" on
  say "Restored to $(recovered_to)."
  end_private "$new"
  if [ -d "$PGDATA" ] && ! rmdir "$PGDATA" 2>/dev/null; then
    mv "$PGDATA" "$old"
    say "The old data is in $old."
  fi
  mv "$new" "$PGDATA"
  sync "$(dirname "$PGDATA")"
}

drill() {
  local target=$BACKUP_DIR/drill
  lock_folder
  unpack "$target" "$1"
  # Without archiving, so that the drill leaves no timeline in the archive.
  recover "$target" off
  say "Restored to $(recovered_to). Rows by table:"
  query_private <<'SQL'
select format('select %L, count(*) from %I.%I', relname, nspname, relname)
from pg_class join pg_namespace on pg_namespace.oid = relnamespace
where relkind = 'r' and nspname !~ '^(pg_|information_schema)' order by relname \gexec
SQL
  end_private "$target"
  rm -rf "$target"
  say 'The drill succeeded.'
}

command=${1-}
[ $# -eq 0 ] || shift
case $command in
  archive | fetch) [ $# -eq 2 ] || usage ;;
  backup | verify | copy-data) [ $# -eq 0 ] || usage ;;
  restore | drill)
    case "${1-} $#" in
      ' 0') set -- '' ;;
      '--to 2') set -- "$2" ;;
      *) usage ;;
    esac
    ;;
  *) usage ;;
esac
case $command in
  copy-data) copy_data ;;
  *) "$command" "$@" ;;
esac
