#!/usr/bin/env bash
# health.sh PORT PATH: the container's health check: asks the process on its admin port. In bash, because starting a Node in every
# container every few seconds takes a large part of a small machine.
#
# Handlers and workers are asked /startupz. Docker gives the name of a handler to the proxy only once it is healthy, so a task that
# has never been ready gets no request, and Swarm replaces a worker only by one that has prepared the database. Whether it is
# ready now is another question, which the proxy asks; a process that waits for its Redis must not be killed for it.

set -euo pipefail

exec 3<>"/dev/tcp/127.0.0.1/$1"
printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$2" >&3
read -r -t 9 _ status _ <&3
[ "$status" = 200 ]
