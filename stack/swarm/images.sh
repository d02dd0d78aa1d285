#!/usr/bin/env bash
# images.sh build: builds all images from dist/ (see npm run build).
# images.sh push: pushes them to the registry TURNOUT_REGISTRY.
# images.sh save FILE, images.sh load FILE: transfer them to nodes without a registry.
#
# Names are [TURNOUT_REGISTRY/]turnout-<name>:<TURNOUT_VERSION>. NODE_IMAGE, REDIS_IMAGE, HAPROXY_IMAGE and POSTGRES_IMAGE
# override the base images of stack/Dockerfile, with a digest if you pin one; TURNOUT_PLATFORM overrides the platform. Each
# build pulls the newest base images, unless TURNOUT_PULL=no, which uses those of this machine.
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

build() {
  local name base args=()
  for name in vote issuer worker results dashboard interlock; do
    [ -f "$TURNOUT_ROOT/dist/$name.mjs" ] || fail "dist/$name.mjs is missing; run npm run build first"
  done
  for base in NODE_IMAGE REDIS_IMAGE HAPROXY_IMAGE POSTGRES_IMAGE; do
    [ -z "${!base-}" ] || args+=(--build-arg "$base=${!base}")
  done
  [ "${TURNOUT_PULL-}" = no ] || args+=(--pull)
  [ -z "${TURNOUT_PLATFORM-}" ] || args+=(--platform "$TURNOUT_PLATFORM")
  label version "$(version)"
  label revision "$(git -C "$TURNOUT_ROOT" rev-parse HEAD 2>/dev/null || true)"
  label source "${TURNOUT_SOURCE-}"
  label licenses "$(package license)"
  label description "$(package description)"
  for name in $NAMES; do
    docker build --quiet "${args[@]}" --file "$TURNOUT_ROOT/stack/Dockerfile" --target "$name" \
      --tag "$(image "$name")" "$TURNOUT_ROOT" >/dev/null
    say "Built $(image "$name")."
  done
}

case "${1-} $#" in
  'build 1') require_engine; build ;;
  'push 1')
    [ -n "${TURNOUT_REGISTRY-}" ] || fail 'TURNOUT_REGISTRY must name the registry to push to'
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
