#!/usr/bin/env bash
# Installs the Debian packages that the local cluster, the image builds and the test of the dashboard need. Does nothing, and needs no
# root, when all are there.
set -euo pipefail
packages=(runc containernetworking-plugins iptables nftables conntrack buildah debootstrap debian-archive-keyring openssl iproute2 procps util-linux
  prometheus)
missing=()
for package in "${packages[@]}"; do
  dpkg-query --show --showformat='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
[ "${#missing[@]}" = 0 ] && exit 0
echo "packages.sh: installing ${missing[*]}" >&2
# The tests run a Prometheus of their own: the package's service is masked before it comes, so that it never starts.
unit=/etc/systemd/system/prometheus.service
if [[ " ${missing[*]} " == *" prometheus "* && ! -e $unit ]]; then
  mkdir -p "$(dirname $unit)"
  ln -sfn /dev/null $unit
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install --yes --no-install-recommends "${missing[@]}" >&2
