#!/usr/bin/env bash
# Installs the Debian packages that the local cluster, the image builds and the tests of the dashboard and of proxies need. Does nothing,
# and needs no root, when all are there.
set -euo pipefail
packages=(runc containernetworking-plugins iptables nftables conntrack buildah debootstrap debian-archive-keyring openssl iproute2 procps util-linux
  prometheus nginx haproxy)
missing=()
for package in "${packages[@]}"; do
  dpkg-query --show --showformat='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
[ "${#missing[@]}" = 0 ] && exit 0
echo "packages.sh: installing ${missing[*]}" >&2
# The tests run servers of their own: the packages' services are masked before they come, so that they never start.
mask() {
  local unit=/etc/systemd/system/$1.service
  if [[ " ${missing[*]} " == *" $1 "* && ! -e $unit ]]; then
    mkdir -p "$(dirname "$unit")"
    ln -sfn /dev/null "$unit"
  fi
}
mask prometheus
mask nginx
mask haproxy
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install --yes --no-install-recommends "${missing[@]}" >&2
