# shellcheck shell=bash
# The kernel settings of a node by its role. install-docker.sh applies them, verify.sh --node shows them. README.md ("Kernel
# settings") explains each and has the arithmetic.
#
# They are settings of the whole kernel. Those of a container's network are in turnout.yml, because it inherits none.

# Root of this machine's files; tests set another one.
HOST=${TURNOUT_HOST_ROOT:-}
PROC=$HOST/proc

# Bytes of the kernel for one tracked connection: 256 (the slab nf_conntrack of Linux 6.18, x86-64), and half a bucket of 8.
CONNTRACK_BYTES=260
# The most that a node tracks, however much memory it has: 16,777 new connections a second.
CONNTRACK_MAX=2097152
# A connection is tracked by the host and by the proxy's container, so both tables together take at most 1/8 of the memory.
CONNTRACK_MEMORY_PART=16

# Prints the most connections that a node of this memory tracks.
conntrack_max() {
  awk -v bytes="$CONNTRACK_BYTES" -v part="$CONNTRACK_MEMORY_PART" -v most="$CONNTRACK_MAX" \
    '$1 == "MemTotal:" { max = int($2 * 1024 / part / bytes); print (max > most ? most : max) }' "$PROC/meminfo"
}

# kernel_settings ROLE: prints the settings, one a line: name, "least" or "exactly", value.
kernel_settings() {
  local max
  cat <<END_OF_ALL
net.ipv4.neigh.default.gc_thresh1 least 4096
net.ipv4.neigh.default.gc_thresh2 least 8192
net.ipv4.neigh.default.gc_thresh3 least 16384
END_OF_ALL
  case $1 in
    interlock)
      max=$(conntrack_max)
      printf 'net.netfilter.nf_conntrack_max least %s\n' "$max"
      printf 'net.netfilter.nf_conntrack_buckets least %s\n' $((max / 2))
      ;;
    frontend) printf 'vm.overcommit_memory exactly 1\n' ;;
  esac
}

kernel_file() { printf '%s/sys/%s' "$PROC" "${1//.//}"; }

# Prints the value of a setting; nothing where the kernel does not have it.
kernel_value() { cat "$(kernel_file "$1")" 2>/dev/null || true; }

# is_set BOUND VALUE NOW: whether the value NOW is as wanted.
is_set() {
  case $1 in
    least) [ "${3:-0}" -ge "$2" ] ;;
    *) [ "$3" = "$2" ] ;;
  esac
}

# show_kernel_settings ROLE: prints each setting with its value. Fails if one is not as wanted.
show_kernel_settings() {
  local name bound value now is_ready=yes
  while read -r name bound value; do
    now=$(kernel_value "$name")
    if is_set "$bound" "$value" "$now"; then
      say "  $name = $now"
    else
      say "  $name = ${now:-missing}, wanted: ${bound/least/at least} $value"
      is_ready=no
    fi
  done < <(kernel_settings "$1")
  [ "$is_ready" = yes ]
}
