"""Mounted files that may be replaced while the process runs, as Kubernetes does with Secrets and ConfigMaps."""

import re
from pathlib import Path

from registry_status.config import SettingsError, flag

LOOK_EVERY = 2.0
"""Seconds between two looks at a file: far less than the minute that the kubelet takes to bring a change."""
LARGEST = 64 * 1024
"""Bytes. No password and no key is larger."""

Stamp = tuple[int, int, int, int, int] | None


class Watched:
    """Tells when a file, or any of several, is another one than at the last look.

    Kubernetes swaps a symbolic link in the path, so what counts is the file behind it.
    """

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._stamps: tuple[Stamp, ...] = ()
        self._look_at = float("-inf")

    def changed(self, now: float) -> bool:
        """Look, but not too often. The first look finds a change."""
        if now < self._look_at:
            return False
        self._look_at = now + LOOK_EVERY
        before, self._stamps = self._stamps, tuple(map(_stamp, self._paths))
        return self._stamps != before


class SecretFile:
    """A secret in a mounted file. It gives what it holds to those who ask for `text`, and shows it in no other way."""

    def __init__(self, path: Path, setting: str, form: re.Pattern[str] | None = None) -> None:
        self.path = path
        self._setting = setting
        self._form = form
        self._watched = Watched(path)
        self._text = ""

    def __repr__(self) -> str:
        return f"SecretFile({str(self.path)!r})"

    @property
    def text(self) -> str:
        """The secret, as of the last look."""
        return self._text

    def look(self, now: float) -> bool:
        """Read the file if it was replaced. Returns whether the secret is another one than before.

        Raises `SettingsError`, and keeps the secret that it had, if the file holds none.
        """
        if not self._watched.changed(now):
            return False
        before, self._text = self._text, self._read()
        return self._text != before

    def _read(self) -> str:
        try:
            with self.path.open("rb") as file:
                text = file.read(LARGEST + 1).decode().rstrip("\r\n")
        except OSError as error:
            raise unusable(self._setting, self.path, f"cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:  # whose text would show a piece of the secret
            raise unusable(self._setting, self.path, "is no text in UTF-8") from None
        if not text:
            raise unusable(self._setting, self.path, "is empty")
        if len(text) > LARGEST or (self._form is not None and not self._form.fullmatch(text)):
            raise unusable(self._setting, self.path, "holds something else than what is asked for")
        return text


def unusable(setting: str, path: Path, why: str) -> SettingsError:
    """Say which setting names which file, and what is wrong with it."""
    return SettingsError([f"{flag(setting)}: {path} {why}"])


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
