#!/usr/bin/env bash
# Builds the programs of the local test cluster from the Go modules pinned in go.mod beside this file.
#   tests/tools/build.sh [PROGRAM ...]      all of them by default
#   tests/tools/build.sh kind               only this one, from the module in kind/: it is of use only where Docker runs
# Prints the folder they are in: ${XDG_CACHE_HOME:-~/.cache}/registry-status-operator/bin/<hash of the pins>, outside the
# repository, and reused: a second call takes no time. `bin/current` is a link to the newest set.
set -euo pipefail
cd "$(dirname "$0")"
root="${XDG_CACHE_HOME:-$HOME/.cache}/registry-status-operator/bin"
all=(etcd kube-apiserver kubectl helm kube-controller-manager kube-scheduler kubelet kube-proxy containerd containerd-shim-runc-v2 ctr)
if [ "$*" = kind ]; then
  cd kind
  link=kind
else
  link=current
fi

pin() { sed -n "s|^[[:space:]]*\(require \)\?$1 v\([^ ]*\).*|\2|p" go.mod | head -n 1; }
kubernetes=$(pin k8s.io/kubernetes)
stamp="-s -w"
if [ -n "$kubernetes" ]; then # without a version stamp the API server calls itself v0.0.0
  IFS=. read -r major minor _ <<<"$kubernetes"
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    stamp="$stamp -X $package.gitVersion=v$kubernetes -X $package.gitMajor=$major -X $package.gitMinor=$minor"
  done
  stamp="$stamp -X helm.sh/helm/v3/internal/version.version=v$(pin helm.sh/helm/v3)"
  for package in chartutil lint/rules; do # else helm takes every cluster that it cannot ask for version 1.20
    stamp="$stamp -X helm.sh/helm/v3/pkg/$package.k8sVersionMajor=$major -X helm.sh/helm/v3/pkg/$package.k8sVersionMinor=$minor"
  done
fi

out="$root/$( (cat go.mod go.sum && echo "$stamp") | sha256sum | cut -c1-12)"
mkdir -p "$out"
exec 9>"$out/.lock"
flock 9 # two test runs at once build each program once

package() {
  case "$1" in
    etcd) echo go.etcd.io/etcd/server/v3 ;;
    helm) echo helm.sh/helm/v3/cmd/helm ;;
    kind) echo sigs.k8s.io/kind ;;
    containerd | containerd-shim-runc-v2 | ctr) echo "github.com/containerd/containerd/v2/cmd/$1" ;;
    kube-apiserver | kube-controller-manager | kube-scheduler | kube-proxy | kubectl | kubelet) echo "k8s.io/kubernetes/cmd/$1" ;;
    *) echo "build.sh: no such program: $1 (there are: ${all[*]} kind)" >&2; return 2 ;;
  esac
}

for program in "${@:-${all[@]}}"; do
  path=$(package "$program")
  [ -x "$out/$program" ] && continue
  began=$SECONDS
  echo "building $program from $path ..." >&2
  CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags "$stamp" -o "$out/$program.new" "$path"
  mv "$out/$program.new" "$out/$program"
  echo "built $program in $((SECONDS - began)) s" >&2
done
[ "$(readlink "$root/$link")" = "${out##*/}" ] || ln -sfn "${out##*/}" "$root/$link"
echo "$out"
