"""Archives: images read without a container engine, charts packed so that the same source gives the same bytes."""

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LABEL = "org.opencontainers.image"
USER = "65532:65532"
ENTRYPOINT = ("/opt/registry-status/bin/registry-status",)


@dataclass(frozen=True)
class Image:
    """The configuration of an image, as far as a release promises it."""

    user: str
    entrypoint: tuple[str, ...]
    labels: Mapping[str, str]


def read_image(archive: Path) -> Image:
    """Read the configuration of the one image in a docker archive."""
    with tarfile.open(archive) as tar:
        (image,) = json.loads(_content(tar, "manifest.json"))
        config = json.loads(_content(tar, image["Config"]))["config"]
    return Image(config.get("User", ""), tuple(config.get("Entrypoint") or ()), config.get("Labels") or {})


def image_faults(image: Image, labels: Mapping[str, str]) -> list[str]:
    """Compare an image with what it must be: its user, its entry point, its labels."""
    wanted = {"user": USER, "entry point": ENTRYPOINT} | {f"label {name}": value for name, value in labels.items()}
    found = {"user": image.user, "entry point": image.entrypoint}
    found |= {f"label {name}": image.labels.get(name, "absent") for name in labels}
    return [f"the image's {what} is {found[what]}, not {value}" for what, value in wanted.items() if found[what] != value]


def normalise(package: Path, made: int) -> None:
    """Pack a .tgz anew: files in order, of nobody, all of one time (Unix seconds) where Helm writes that of packing."""
    with tarfile.open(package, "r:gz") as tar:
        files = {member.name: _content(tar, member.name) for member in tar.getmembers() if member.isfile()}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(content), made, 0o644
            tar.addfile(member, io.BytesIO(content))
    package.write_bytes(gzip.compress(packed.getvalue(), mtime=made))


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file in the archive")
    return file.read()
