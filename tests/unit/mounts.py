"""Mounted folders whose files are swapped as a kubelet swaps those of Secrets and ConfigMaps."""

import tempfile
from pathlib import Path

PEMS = Path(__file__).parents[1] / "data" / "tls"


def swap(folder: Path, **files: str) -> None:
    """Put other certificates into a mounted folder: all at once, by a link."""
    data = Path(tempfile.mkdtemp(dir=folder))
    for name, source in files.items():
        (data / name).write_bytes((PEMS / f"{source}.pem").read_bytes())
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path("..data") / name)
    (folder / "..new").symlink_to(data)
    (folder / "..new").rename(folder / "..data")
