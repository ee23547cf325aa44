"""The programs of the test clusters: built from pinned Go modules, kept in the cache outside the repository."""

import functools
import os
import shutil
from pathlib import Path

from tests.cluster.processes import CommandError, run

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "tests" / "tools" / "build.sh"
BUILD_TIMEOUT = 3600.0

CLIENTS = ("kubectl", "helm")
CONTROL_PLANE = ("etcd", "kube-apiserver", "kubectl")
NODE = ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "containerd", "containerd-shim-runc-v2", "ctr")
ONE_NODE = (*CONTROL_PLANE, "helm", *NODE)


def cache() -> Path:
    """Where everything is kept that is costly to make: binaries, base image, layers."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "registry-status-operator"


def build(*names: str) -> None:
    """Build what is missing of these, all in one go."""
    if shutil.which("go"):
        run([BUILD, *names], timeout=BUILD_TIMEOUT)


@functools.cache
def program(name: str) -> Path:
    """Return the path of one program; build it first where it is missing."""
    if not shutil.which("go"):
        return _without_go(name)
    return Path(run([BUILD, name], timeout=BUILD_TIMEOUT).splitlines()[-1]) / name


def why_not(*names: str) -> str | None:
    """Say why these programs can't be had, or None."""
    if shutil.which("go"):
        return None
    missing = []
    for name in names:
        try:
            _without_go(name)
        except CommandError:
            missing.append(name)
    return f"Go is not installed, and so {', '.join(missing)} can't be built" if missing else None


def _without_go(name: str) -> Path:
    """Find a program that was built earlier, or is on the PATH, for machines that have no Go."""
    link = "kind" if name == "kind" else "current"
    for path in (cache() / "bin" / link / name, shutil.which(name)):
        if path and Path(path).exists():
            return Path(path)
    raise CommandError(f"{name}: not built, not on the PATH, and without Go it can't be built")
