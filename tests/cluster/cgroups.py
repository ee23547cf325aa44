"""The control group that holds the local cluster's pods: made by us, so that it can be removed whole."""

import contextlib
from pathlib import Path

from tests.cluster.processes import wait_for

MOUNT = Path("/sys/fs/cgroup")
NAME = "registry-status-node"
V2_CONTROLLERS = "+cpuset +cpu +io +memory +pids"


def make() -> None:
    """Make the group in every hierarchy; the kubelet does not do it."""
    if (MOUNT / "cgroup.controllers").exists():
        with contextlib.suppress(OSError):  # some may be there already, some not exist: the kubelet says what it misses
            (MOUNT / "cgroup.subtree_control").write_text(V2_CONTROLLERS)
    for hierarchy in _hierarchies():
        group = hierarchy / NAME
        group.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):  # in version 1 they start empty, and then nothing may run there
            source, target = hierarchy / name, group / name
            if source.exists() and target.exists() and not target.read_text().strip():
                target.write_text(source.read_text())


def remove() -> None:
    """Remove the group with all groups below; its processes have ended."""
    for hierarchy in _hierarchies():
        wait_for(lambda root=hierarchy / NAME: _removed(root), 20, f"removal of {hierarchy / NAME}")  # type: ignore[misc]


def _removed(root: Path) -> bool:
    groups = [root, *(path for path in root.rglob("*") if path.is_dir())] if root.exists() else []
    for group in sorted(groups, reverse=True):
        with contextlib.suppress(OSError):  # busy until the kernel has reaped what was in it
            group.rmdir()
    return not root.exists()


def _hierarchies() -> list[Path]:
    if (MOUNT / "cgroup.controllers").exists():
        return [MOUNT]
    return [path for path in MOUNT.iterdir() if path.is_dir() and not path.is_symlink()]
