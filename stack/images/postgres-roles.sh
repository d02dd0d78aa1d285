#!/usr/bin/env bash
# Runs once, at the creation of the database: creates roles with least privilege, and sets their passwords.
set -euo pipefail
psql --quiet --no-psqlrc -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
  --file /usr/local/lib/turnout/roles.sql \
  --file /run/secrets/postgres_roles.sql
