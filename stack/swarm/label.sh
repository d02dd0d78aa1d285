#!/usr/bin/env bash
# label.sh: labels every node without a role with the one its engine declares (install-docker.sh --role).
# label.sh NODE ROLE: sets the role of one node: interlock, frontend, worker or store. This returns a retired node to service.
#
# There is one store: on a second one Swarm would start Postgres with an empty database when the first is away. To move the
# store, stop the stack, copy the volume turnout_postgres-data, and remove the role of the former store first:
# docker node update --label-rm role NODE.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

is_retiring() { [ -n "$(docker node inspect --format '{{index .Spec.Labels "retiring"}}' "$1")" ]; }

# is_second_store NODE ROLE: whether this label would make a second store; says so.
is_second_store() {
  local store
  if [ "$2" != store ] || [ "$(role_of "$1")" = store ]; then return 1; fi
  store=$(nodes_with store) || fail 'the nodes cannot be listed'
  [ -n "$store" ] || return 1
  printf '%s\n' "$store already is the store; $1 would start with an empty database" >&2
}

label() {
  if is_retiring "$1"; then docker node update --label-rm retiring --availability active "$1" >/dev/null; fi
  docker node update --label-add "$TURNOUT_ROLE_LABEL=$2" "$1" >/dev/null
  say "$(docker node inspect --format '{{.Description.Hostname}}' "$1") is now $2."
}

require_manager
case $# in
  0)
    refused=
    for node in $(docker node ls --quiet); do
      # A node being retired has no role on purpose.
      if [ -n "$(role_of "$node")" ] || is_retiring "$node"; then continue; fi
      declared=$(docker node inspect --format \
        "{{with .Description.Engine.Labels}}{{index . \"$TURNOUT_ROLE_LABEL\"}}{{end}}" "$node")
      [[ -n $declared && " $TURNOUT_ROLES " == *" $declared "* ]] || continue
      if is_second_store "$node" "$declared"; then refused=yes; else label "$node" "$declared"; fi
    done
    [ -z "$refused" ] || fail 'there may be one store only; see label.sh'
    ;;
  2)
    [[ " $TURNOUT_ROLES " == *" $2 "* ]] || fail "ROLE must be one of: $TURNOUT_ROLES"
    if is_second_store "$1" "$2"; then exit 1; fi
    if [ "$(role_of "$1")" != "$2" ] || is_retiring "$1"; then label "$1" "$2"; fi
    ;;
  *) usage ;;
esac
