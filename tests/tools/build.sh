#!/usr/bin/env bash
# Builds the programs of the local test cluster from the Go modules pinned in go.mod beside this file.
#   tests/tools/build.sh [PROGRAM ...]      all of them by default
# They are kept in ${XDG_CACHE_HOME:-~/.cache}/registry-status-operator/bin/<hash of go.mod and this file>, outside the repository,
# and reused: a second call takes no time. A `bin/current` link names the newest set.
set -euo pipefail
cd "$(dirname "$0")"
root="${XDG_CACHE_HOME:-$HOME/.cache}/registry-status-operator/bin"
out="$root/$(cat go.mod go.sum build.sh | sha256sum | cut -c1-12)"
mkdir -p "$out"
exec 9>"$out/.lock"
flock 9

kubernetes=$(sed -n 's|^\tk8s.io/kubernetes v\([^ ]*\).*|\1|p' go.mod | head -n 1)
helm=$(sed -n 's|^\thelm.sh/helm/v3 v\([^ ]*\).*|\1|p' go.mod | head -n 1)
stamp="-s -w -X k8s.io/component-base/version.gitVersion=v$kubernetes -X k8s.io/client-go/pkg/version.gitVersion=v$kubernetes"
stamp="$stamp -X k8s.io/component-base/version.gitMajor=${kubernetes%%.*} -X k8s.io/component-base/version.gitMinor=$(cut -d. -f2 <<<"$kubernetes")"
stamp="$stamp -X helm.sh/helm/v3/internal/version.version=v$helm"

package() {
  case "$1" in
    etcd) echo go.etcd.io/etcd/server/v3 ;;
    helm) echo helm.sh/helm/v3/cmd/helm ;;
    containerd | containerd-shim-runc-v2 | ctr) echo "github.com/containerd/containerd/v2/cmd/$1" ;;
    kube-apiserver | kube-controller-manager | kube-scheduler | kube-proxy | kubectl | kubelet) echo "k8s.io/kubernetes/cmd/$1" ;;
    *) echo "build.sh: no such program: $1" >&2; return 2 ;;
  esac
}

all=(etcd kube-apiserver kubectl helm kube-controller-manager kube-scheduler kubelet kube-proxy containerd containerd-shim-runc-v2 ctr)
for program in "${@:-${all[@]}}"; do
  [ -x "$out/$program" ] && continue
  began=$SECONDS
  CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags "$stamp" -o "$out/$program.new" "$(package "$program")"
  mv "$out/$program.new" "$out/$program"
  echo "built $program in $((SECONDS - began)) s" >&2
done
echo "$out"
