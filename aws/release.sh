#!/usr/bin/env bash
# release.sh: run on the first manager by deploy.sh. Waits for the nodes, builds the images for their architecture, pushes them
# to ECR, creates the secrets, deploys, and casts a vote. A second run updates what changed.
#
# stack.env beside this file holds outputs of CloudFormation; settings.env, the operator's settings, takes precedence.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

NODES_SECONDS_MAX=${TURNOUT_NODES_SECONDS_MAX:-900}
RDS_CA=/etc/turnout/rds.pem
RDS_CA_URL=https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem
# The base images of stack/Dockerfile, from a mirror without a pull limit.
MIRROR=public.ecr.aws/docker/library

# Waits until every running instance is a ready node with a role; managers need none.
nodes_are_ready() {
  local expected ready id
  expected=$(aws ec2 describe-instances --query 'Reservations[].Instances[].InstanceId' --output text --filters \
    "Name=tag:turnout:stack,Values=$STACK" Name=instance-state-name,Values=pending,running)
  ready=$(docker node ls --format '{{.Hostname}} {{.Status}}' | sed -n 's/^.*-\([0-9a-f]*\) Ready$/i-\1/p')
  "$SWARM/label.sh"
  for id in $expected; do [[ $ready == *"$id"* ]] || return 1; done
}

images() {
  if aws ecr describe-images --repository-name "$STACK/turnout-postgres" --image-ids "imageTag=$TURNOUT_VERSION" >/dev/null 2>&1; then
    say "Images of version $TURNOUT_VERSION are already in the registry."
    return
  fi
  "$SWARM/images.sh" build
  # Postgres is pushed last, so its presence implies all others.
  "$SWARM/images.sh" push
}

secrets() {
  fetch_credentials
  "$SWARM/secrets.sh"
  keep_parameter SecureString credentials <"$CREDENTIALS"
}

# With RDS the roles are created from here; otherwise by the image of Postgres.
database_roles() {
  local role
  curl --fail --silent --show-error --max-time 30 --output "$RDS_CA" "$RDS_CA_URL"
  RDS_CA_VERSION=$(sha256sum "$RDS_CA" | cut -c 1-12)
  export RDS_CA_VERSION
  PGPASSWORD=$(aws secretsmanager get-secret-value --secret-id "$DATABASE_SECRET" --query SecretString --output text | jq --raw-output .password)
  export PGPASSWORD
  {
    cat "$TURNOUT_ROOT/db/roles.sql"
    for role in worker results dashboard audit; do
      printf "alter role turnout_%s password '%s';\n" "$role" "$(sed -n "s/^$role=//p" "$CREDENTIALS")"
    done
  } | docker run --rm --interactive --env PGPASSWORD --env PGSSLMODE=verify-full --env PGSSLROOTCERT=/rds.pem \
    --volume "$RDS_CA:/rds.pem:ro" --entrypoint psql "$TURNOUT_REGISTRY/turnout-postgres:$TURNOUT_VERSION" \
    --quiet --no-psqlrc --host "$DATABASE_HOST" --username turnout_owner --dbname turnout -v ON_ERROR_STOP=1 --file -
  unset PGPASSWORD
  say "The roles on $DATABASE_HOST are up to date."
}

require_manager
set -a
# shellcheck source=/dev/null
. "$TURNOUT_ROOT/aws/stack.env"
# shellcheck source-path=SCRIPTDIR source=settings.env
. "$TURNOUT_ROOT/aws/settings.env"
set +a
pin_base_images "$MIRROR"
TURNOUT_VERSION=$(content_version)
export TURNOUT_VERSION TURNOUT_IMAGES=$TURNOUT_REGISTRY/turnout- TURNOUT_STACK_FILES=$TURNOUT_ROOT/aws/logs.yml
for file in ${STACK_FILES-}; do TURNOUT_STACK_FILES+=" $TURNOUT_ROOT/$file"; done
if [ -n "${DATABASE_HOST-}" ]; then
  export TURNOUT_DATABASE="$DATABASE_HOST:5432/turnout?sslmode=verify-full&sslrootcert=$RDS_CA"
  TURNOUT_STACK_FILES+=" $TURNOUT_ROOT/aws/rds.yml"
fi

wait_until "$NODES_SECONDS_MAX" 'all instances as nodes' nodes_are_ready
login_to_registry "$TURNOUT_REGISTRY"
images
secrets
if [ -n "${DATABASE_HOST-}" ]; then database_roles; fi
"$SWARM/deploy.sh"
printf '%s %s %s' "$TURNOUT_REGISTRY" "$TURNOUT_VERSION" "$DASHBOARD_HOST" | keep_parameter String release
"$SWARM/verify.sh"
