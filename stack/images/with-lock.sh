#!/bin/sh
# with-lock.sh <lock file> <program> [arguments…]: runs a program with exclusive use of its data folder.
#
# A node that was cut off from its Swarm may start a new task before the old one has exited. Two Redis or Postgres servers
# on the same files would corrupt them, and do not detect each other across containers. The kernel holds the lock until the
# program exits, however it ends.
set -eu
lock=$1
shift
exec flock --no-fork "$lock" "$@"
