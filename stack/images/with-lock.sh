#!/bin/sh
# with-lock.sh <lock file> <program> [arguments…]: runs a program on a data folder that no other copy of it is using.
#
# A node that was cut off from its Swarm for a while may be told to start a task again before the old one has ended. Two
# Redis servers, or two Postgres servers, on the same files would destroy them, and neither notices the other across
# containers. The kernel keeps the lock for as long as the program lives, however it ends.
set -eu
lock=$1
shift
exec flock --no-fork "$lock" "$@"
