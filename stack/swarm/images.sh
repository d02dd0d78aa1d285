#!/usr/bin/env bash
# images.sh build: builds all images from dist/ (see npm run build).
# images.sh push: pushes them to the registry TURNOUT_REGISTRY.
# images.sh bundle: builds dist/ in a container, on a machine without Node.
# images.sh publish: builds the images for amd64 and arm64, pushes them to TURNOUT_REGISTRY with SBOM and provenance, and prints
#   their digests.
# images.sh save FILE, images.sh load FILE: transfer them to nodes without a registry.
#
# Names are [TURNOUT_REGISTRY/]turnout-<name>:<TURNOUT_VERSION>. NODE_IMAGE, REDIS_IMAGE, HAPROXY_IMAGE and POSTGRES_IMAGE
# override the base images of stack/Dockerfile, with a digest if you pin one; TURNOUT_PLATFORM overrides the platform or, for
# publish, the platforms. Each build pulls the newest base images, unless TURNOUT_PULL=no, which uses those of this machine.
# bundle requires BuildKit (Docker 23 or newer). publish requires a builder for several platforms (docker buildx create --use)
# and, for the other architecture, QEMU (Debian: qemu-user-static).
# OCI labels carry version, revision, license and, from TURNOUT_SOURCE, the URL of the source.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

NAMES='vote issuer worker results dashboard interlock proxy docker-api redis postgres'

version() {
  [ -n "${TURNOUT_VERSION-}" ] || TURNOUT_VERSION=$(package version)
  printf '%s' "$TURNOUT_VERSION"
}

image() { printf '%s' "${TURNOUT_REGISTRY:+$TURNOUT_REGISTRY/}turnout-$1:$(version)"; }

images() { for name in $NAMES; do printf '%s\n' "$(image "$name")"; done; }

# package FIELD: the text of a top-level field of package.json.
package() { sed -n "s/^  \"$1\": \"\(.*\)\",\$/\1/p" "$TURNOUT_ROOT/package.json"; }

# label KEY VALUE: appends an OCI label to args unless the value is empty.
label() { [ -z "$2" ] || args+=(--label "org.opencontainers.image.$1=$2"); }

# Sets args to what the builds of all images have in common.
collect_args() {
  local name base
  args=()
  for name in vote issuer worker results dashboard interlock; do
    [ -f "$TURNOUT_ROOT/dist/$name.mjs" ] || fail "dist/$name.mjs is missing; run npm run build or images.sh bundle first"
  done
  for base in NODE_IMAGE REDIS_IMAGE HAPROXY_IMAGE POSTGRES_IMAGE; do
    [ -z "${!base-}" ] || args+=(--build-arg "$base=${!base}")
  done
  [ "${TURNOUT_PULL-}" = no ] || args+=(--pull)
  label version "$(version)"
  label revision "$(git -C "$TURNOUT_ROOT" rev-parse HEAD 2>/dev/null || true)"
  label source "${TURNOUT_SOURCE-}"
  label licenses "$(package license)"
  label description "$(package description)"
}

build() {
  local name args
  collect_args
  [ -z "${TURNOUT_PLATFORM-}" ] || args+=(--platform "$TURNOUT_PLATFORM")
  for name in $NAMES; do
    docker build --quiet "${args[@]}" --file "$TURNOUT_ROOT/stack/Dockerfile" --target "$name" \
      --tag "$(image "$name")" "$TURNOUT_ROOT" >/dev/null
    say "Built $(image "$name")."
  done
}

bundle() {
  local args=()
  [ -z "${NODE_IMAGE-}" ] || args+=(--build-arg "NODE_IMAGE=$NODE_IMAGE")
  [ "${TURNOUT_PULL-}" = no ] || args+=(--pull)
  DOCKER_BUILDKIT=1 docker build --quiet ${args[@]:+"${args[@]}"} --file "$TURNOUT_ROOT/stack/Dockerfile.bundles" \
    --output "$TURNOUT_ROOT/dist" "$TURNOUT_ROOT" >/dev/null
  say 'Built dist/.'
}

publish() {
  local name args digest metadata
  collect_args
  metadata=$(mktemp)
  # shellcheck disable=SC2064
  trap "rm -f '$metadata'" EXIT
  for name in $NAMES; do
    docker buildx build --quiet "${args[@]}" --platform "${TURNOUT_PLATFORM:-linux/amd64,linux/arm64}" \
      --sbom=true --provenance=mode=max --push --metadata-file "$metadata" --file "$TURNOUT_ROOT/stack/Dockerfile" \
      --target "$name" --tag "$(image "$name")" "$TURNOUT_ROOT" >/dev/null
    digest=$(sed -n 's/.*"containerimage.digest": *"\(sha256:[0-9a-f]*\)".*/\1/p' "$metadata")
    [ -n "$digest" ] || fail "$(image "$name") was pushed without a digest"
    say "$(image "$name")@$digest"
  done
}

require_registry() { [ -n "${TURNOUT_REGISTRY-}" ] || fail 'TURNOUT_REGISTRY must name the registry to push to'; }

case "${1-} $#" in
  'build 1') require_engine; build ;;
  'bundle 1') require_engine; bundle ;;
  'publish 1') require_registry; require_engine; publish ;;
  'push 1')
    require_registry
    require_engine
    images | while read -r name; do docker push --quiet "$name"; done
    ;;
  'save 2')
    require_engine
    # shellcheck disable=SC2046
    docker save $(images) >"$2"
    ;;
  'load 2') require_engine; docker load --quiet --input "$2" ;;
  *) usage ;;
esac
