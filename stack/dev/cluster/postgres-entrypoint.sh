#!/usr/bin/env bash
# Replaces the entrypoint of the official PostgreSQL image in the cluster's base image: creates the database on the first
# start from POSTGRES_DB, POSTGRES_PASSWORD_FILE, POSTGRES_INITDB_ARGS and /docker-entrypoint-initdb.d.
set -euo pipefail

BIN=/usr/local/pgsql/bin
# The socket folder of this PostgreSQL build.
export PGHOST=/tmp
export POSTGRES_USER=${POSTGRES_USER:-postgres} POSTGRES_DB=${POSTGRES_DB:-postgres}

if [ ! -e "$PGDATA/PG_VERSION" ]; then
  # Prepared under another name, so that an interrupted start leaves no partial database.
  unfinished=$PGDATA.unfinished
  rm -rf "$unfinished"
  mkdir -p "$(dirname "$PGDATA")"
  # shellcheck disable=SC2086
  "$BIN/initdb" --pgdata "$unfinished" --username "$POSTGRES_USER" --pwfile "$POSTGRES_PASSWORD_FILE" \
    ${POSTGRES_INITDB_ARGS-} >/dev/null
  printf 'host all all all scram-sha-256\n' >>"$unfinished/pg_hba.conf"
  "$BIN/pg_ctl" --pgdata "$unfinished" --options '-c listen_addresses=' --wait --silent start
  psql --quiet --no-psqlrc --username "$POSTGRES_USER" --dbname postgres --command "create database \"$POSTGRES_DB\""
  for script in /docker-entrypoint-initdb.d/*.sh; do bash "$script"; done
  "$BIN/pg_ctl" --pgdata "$unfinished" --wait --silent stop
  mv "$unfinished" "$PGDATA"
fi

[ "$1" = postgres ] && shift
exec "$BIN/postgres" -D "$PGDATA" -c 'listen_addresses=*' "$@"
