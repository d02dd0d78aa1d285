#!/usr/bin/env bash
# token.sh worker|manager: prints the Swarm's join token, for join.sh.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

[[ $# -eq 1 && $1 =~ ^(worker|manager)$ ]] || usage
require_manager
docker swarm join-token --quiet "$1"
