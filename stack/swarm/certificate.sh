#!/usr/bin/env bash
# certificate.sh NAME CHAIN KEY: installs or renews the certificate NAME from two files in PEM, without restarting a proxy.
#
# Services use it with the label com.docker.lb.ssl_cert=NAME. CHAIN begins with the certificate of the site; KEY is not encrypted.
# Run it on a manager, before the first deployment or at any time later, also as the hook of an ACME client.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

# What HAProxy takes over its socket, CERTIFICATE_BYTES_MAX of stack/interlock/certificates.ts.
BYTES_MAX=15000

[ $# -eq 3 ] || usage
name=$1 chain=$2 key=$3
[[ $name =~ ^[a-z0-9][a-z0-9_-]{0,19}$ ]] || fail "NAME must have 1 to 20 of a-z, 0-9, - and _: $name"
for file in "$chain" "$key"; do [ -r "$file" ] || fail "$file cannot be read"; done
openssl x509 -in "$chain" -noout 2>/dev/null || fail "$chain has no certificate in PEM"
public=$(openssl pkey -in "$key" -passin pass: -pubout 2>/dev/null) || fail "$key has no key in PEM, or an encrypted one"
[ "$public" = "$(openssl x509 -in "$chain" -noout -pubkey)" ] || fail "$key is not the key of $chain"
openssl x509 -in "$chain" -noout -checkend 0 >/dev/null || fail "$chain has expired"
[ "$(cat "$chain" "$key" | wc -c)" -lt "$BYTES_MAX" ] || fail "chain and key exceed $BYTES_MAX bytes"
require_manager

service=${TURNOUT_STACK}_interlock
secret=${TURNOUT_STACK}_certificate_${name}_$(cat "$chain" "$key" | sha256sum | cut -c 1-12)
if ! docker secret inspect "$secret" >/dev/null 2>&1; then
  {
    cat "$chain"
    # The chain may lack its last newline.
    printf '\n'
    cat "$key"
  } | docker secret create --label "turnout.stack=$TURNOUT_STACK" --label "turnout.certificate=$name" "$secret" - >/dev/null
fi

# Restarts the controllers one by one, which interrupts nothing; each gives the certificate to its proxy.
mounted=$(docker service inspect --format \
  '{{range .Spec.TaskTemplate.ContainerSpec.Secrets}}{{println .SecretName .File.Name}}{{end}}' "$service" 2>/dev/null) || mounted=missing
if [ "$mounted" != missing ] && ! grep -qx "$secret $name.pem" <<<"$mounted"; then
  changes=(--secret-add "source=$secret,target=$name.pem,uid=10001,gid=10001,mode=0400")
  while read -r old file; do
    [ "$file" != "$name.pem" ] || changes+=(--secret-rm "$old")
  done <<<"$mounted"
  docker service update --quiet "${changes[@]}" "$service" >/dev/null
fi

for old in $(certificate_secrets | awk -v name="$name" -v secret="$secret" '$1 == name && $2 != secret { print $2 }'); do
  docker secret rm "$old" >/dev/null || say "The secret $old is still in use."
done
say "The certificate $name is installed; it ends on $(openssl x509 -in "$chain" -noout -enddate | cut -d = -f 2)."
