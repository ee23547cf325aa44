"""Files that may be replaced while the process runs, as Kubernetes does with Secrets, ConfigMaps and service accounts."""

from pathlib import Path

LOOK_EVERY = 2.0
"""Seconds between two looks at a file: far less than the minute that the kubelet takes to bring a change."""

Stamp = tuple[int, int, int, int, int] | None


class Watched:
    """Tells when a file, or any of several, is another one than at the last look.

    Kubernetes swaps a symbolic link in the path, so what counts is the file behind it.
    """

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._stamps: tuple[Stamp, ...] = ()
        self._look_at = float("-inf")
        self._trouble = self._told = ""
        """Why what the last look found cannot be used, and what was found before, if that is the same files."""

    def changed(self, now: float) -> bool:
        """Look, but not too often. The first look finds a change, and so does each one after a file that could not be used."""
        if now < self._look_at:
            return False
        self._look_at = now + LOOK_EVERY
        before, self._stamps = self._stamps, tuple(map(_stamp, self._paths))
        is_another = self._stamps != before
        self._told, self._trouble = "" if is_another else self._trouble, ""
        return is_another or bool(self._told)

    def failed(self, why: str) -> bool:
        """What was found cannot be used, if only for a moment, as with too many open files. Returns whether that is news."""
        self._trouble = why
        return why != self._told


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
