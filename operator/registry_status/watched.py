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
        self._is_unused = False
        """What the last look found could not be used."""
        self._told: set[str] = set()
        """Why not, as far as it was told of these files."""

    def changed(self, now: float) -> bool:
        """Look, but not too often. The first look finds a change, and so does each one after a file that could not be used."""
        if now < self._look_at:
            return False
        self._look_at = now + LOOK_EVERY
        before, self._stamps = self._stamps, tuple(map(_stamp, self._paths))
        is_another, was_unused, self._is_unused = self._stamps != before, self._is_unused, False
        if is_another:
            self._told.clear()
        return is_another or was_unused

    def failed(self, why: str) -> bool:
        """What was found cannot be used, if only for a moment, as with too many open files. Returns whether that is news."""
        self._is_unused, is_news = True, why not in self._told
        self._told.add(why)
        return is_news


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
