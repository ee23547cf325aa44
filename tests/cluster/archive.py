"""Write a folder as an image archive that containerd and buildah take, without an image builder."""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Sequence
from pathlib import Path

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def write_archive(image: str, folder: Path, target: Path, entrypoint: Sequence[str]) -> None:
    """Write `folder` as the one layer of `image` (docker archive format)."""
    layer = target.with_suffix(".layer")
    with tarfile.open(layer, "w") as tar:
        tar.add(folder, arcname=".")
    with layer.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    config = {
        "architecture": _architecture(),
        "os": "linux",
        "config": {"Entrypoint": list(entrypoint), "Env": [PATH]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created_by": "tests/cluster/archive.py"}],
    }
    config_bytes = json.dumps(config).encode()
    config_name = f"{hashlib.sha256(config_bytes).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [image], "Layers": [f"{digest}/layer.tar"]}]
    unfinished = target.with_suffix(".new")
    with tarfile.open(unfinished, "w") as tar:
        _add(tar, config_name, config_bytes)
        tar.add(layer, arcname=f"{digest}/layer.tar")
        _add(tar, "manifest.json", json.dumps(manifest).encode())
    layer.unlink()
    unfinished.rename(target)  # a reader finds all of it or nothing


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
