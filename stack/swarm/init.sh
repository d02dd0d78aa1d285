#!/usr/bin/env bash
# init.sh --advertise ADDRESS: makes this machine the first manager of a Swarm, unless it is already one.
#
# Overlay networks use 10.128.0.0/9 with 4,000 addresses each, enough for hundreds of frontends; TURNOUT_POOL selects another
# range.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

[ "${1-} $#" = "--advertise 2" ] || usage
require_engine
if is_manager; then
  say 'This machine is already a manager.'
else
  docker swarm init --advertise-addr "$2" --default-addr-pool "${TURNOUT_POOL:-10.128.0.0/9}" \
    --default-addr-pool-mask-length 20 >/dev/null
  say "Created a Swarm; this machine is its manager at $2."
fi
