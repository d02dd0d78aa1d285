#!/usr/bin/env bash
# Stands in for programs that change a machine: machine-cli.sh PROGRAM ARGUMENTS… (stand-ins.ts). A disk is a file; one with a
# file system has a line of text.
set -euo pipefail
program=$1
shift
printf '%s\n' "$program $*" >>"$STAND_INS/calls"
case $program in
  hostname) cat "$STAND_INS/hostname" 2>/dev/null || echo fresh ;;
  hostnamectl) printf '%s\n' "$2" >"$STAND_INS/hostname" ;;
  mkfs.xfs)
    [ ! -s "${!#}" ] || { echo "mkfs.xfs: ${!#} appears to contain an existing filesystem" >&2; exit 1; }
    printf 'uuid-of-%s\n' "$(basename "${!#}")" >"${!#}"
    ;;
  blkid)
    [ -s "${!#}" ] || exit 2
    case $* in
      *TYPE*) echo xfs ;;
      *) cat "${!#}" ;;
    esac
    ;;
  mountpoint) [ -e "$STAND_INS/mounted" ] ;;
  mount) printf '%s\n' "$1" >"$STAND_INS/mounted" ;;
esac
