#!/bin/sh
# The first process of the local cluster's namespaces (pid, mount, network): prepares them, then only lives. When it is killed, the
# kernel ends every process and undoes every mount in there: nothing can be left behind.
#   node-init.sh STATE NODE_ADDRESS/BITS [FOLDER TO HAVE AN OWN ONE OF ...]
set -eu
state=$1
address=$2
shift 2

mount --make-rshared /                 # the kubelet wants to pass mounts on to containers; our parent made us private before
for folder in /run /var/log "$@"; do   # containerd, runc, CNI and the kubelet leave files there
  mount -t tmpfs tmpfs "$folder"
done

ip link set lo up
ip link add node0 type bridge          # the node's interface: kube-proxy and the kubelet want one with an address
ip address add "$address" dev node0
ip link set node0 up
ip route add default dev node0         # the API server wants a default route; this one leads nowhere
sysctl -qw net.ipv4.ip_forward=1
sysctl -qw net.bridge.bridge-nf-call-iptables=1 2>/dev/null || true   # only there with br_netfilter; kube-proxy copes

touch "$state/init-done"
exec env --ignore-signal=CHLD sleep infinity   # so that the kernel reaps the orphans that come to us
