#!/usr/bin/env bash
# Runs once, when the database is made: roles that may do their own work and no more, and their passwords.
set -euo pipefail
psql --quiet --no-psqlrc -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
  --file /usr/local/lib/turnout/roles.sql \
  --file /run/secrets/postgres_roles.sql
