#!/usr/bin/env bash
# Makes the certificates of the TLS tests anew, valid for a hundred years. They are committed: tests need no openssl.
# The keys guard nothing.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/openssl.cnf" <<'CONF'
[ca]
default_ca = default
[default]
dir = $ENV::WORK
database = $dir/index.txt
new_certs_dir = $dir
rand_serial = yes
default_md = sha256
policy = policy
unique_subject = no
[policy]
commonName = supplied
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
subjectAltName = $ENV::NAMES
CONF
export WORK=$work NAMES=DNS:unused
touch "$work/index.txt"

key() { openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1-key.pem"; }

authority() { # FILE
  key "$work/$1"
  openssl req -new -key "$work/$1-key.pem" -subj "/CN=$1" -config "$work/openssl.cnf" -out "$work/$1.csr"
  openssl ca -batch -notext -config "$work/openssl.cnf" -extensions authority -selfsign -keyfile "$work/$1-key.pem" \
    -startdate 20200101000000Z -enddate 21200101000000Z -in "$work/$1.csr" -out "$1.pem" 2> /dev/null
}

leaf() { # FILE AUTHORITY NAMES [END]
  export NAMES=$3
  key "$1"
  openssl req -new -key "$1-key.pem" -subj "/CN=$1" -config "$work/openssl.cnf" -out "$work/$1.csr"
  openssl ca -batch -notext -config "$work/openssl.cnf" -extensions leaf -cert "$2.pem" -keyfile "$work/$2-key.pem" \
    -startdate 20200101000000Z -enddate "${4:-21200101000000Z}" -in "$work/$1.csr" -out "$1.pem" 2> /dev/null
}

authority ca
authority other-ca
leaf server ca IP:127.0.0.1,DNS:localhost
leaf rotated ca IP:127.0.0.1,DNS:localhost
leaf foreign other-ca IP:127.0.0.1,DNS:localhost
leaf expired ca IP:127.0.0.1,DNS:localhost 20210101000000Z
leaf elsewhere ca DNS:elsewhere.example
leaf client ca DNS:client.example
openssl pkcs8 -topk8 -in client-key.pem -passout pass:secret -out encrypted-key.pem
