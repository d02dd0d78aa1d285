#!/usr/bin/env bash
# label.sh: labels every node without a role with the one its engine declares (install-docker.sh --role).
# label.sh NODE ROLE: sets the role of one node: interlock, frontend, worker or store. This returns a retired node to service.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

is_retiring() { [ -n "$(docker node inspect --format '{{index .Spec.Labels "retiring"}}' "$1")" ]; }

label() {
  if is_retiring "$1"; then docker node update --label-rm retiring --availability active "$1" >/dev/null; fi
  docker node update --label-add "role=$2" "$1" >/dev/null
  say "$(docker node inspect --format '{{.Description.Hostname}}' "$1") is now $2."
}

require_manager
case $# in
  0)
    for node in $(docker node ls --quiet); do
      # A node being retired has no role on purpose.
      if [ -n "$(role_of "$node")" ] || is_retiring "$node"; then continue; fi
      declared=$(docker node inspect --format '{{with .Description.Engine.Labels}}{{index . "role"}}{{end}}' "$node")
      if [[ -n $declared && " $TURNOUT_ROLES " == *" $declared "* ]]; then label "$node" "$declared"; fi
    done
    ;;
  2)
    [[ " $TURNOUT_ROLES " == *" $2 "* ]] || fail "ROLE must be one of: $TURNOUT_ROLES"
    if [ "$(role_of "$1")" != "$2" ] || is_retiring "$1"; then label "$1" "$2"; fi
    ;;
  *) usage ;;
esac
