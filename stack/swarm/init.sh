#!/usr/bin/env bash
# init.sh --advertise ADDRESS: makes this machine the first manager of a Swarm, unless it is a manager already.
#
# Overlay networks come from 10.128.0.0/9 with room for 4,000 tasks each, so that hundreds of frontends fit into one; take
# another range with TURNOUT_POOL when that one is in use.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

[ "${1-} $#" = "--advertise 2" ] || usage
require_engine
if is_manager; then
  say 'This machine is a manager already.'
else
  docker swarm init --advertise-addr "$2" --default-addr-pool "${TURNOUT_POOL:-10.128.0.0/9}" \
    --default-addr-pool-mask-length 20 >/dev/null
  say "Made a Swarm; this machine is its manager, at $2."
fi
