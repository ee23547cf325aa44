"""Secrets in mounted files, read anew when they are replaced."""

import re
from pathlib import Path

from registry_status.config import SettingsError, flag
from registry_status.watched import Watched

LARGEST = 64 * 1024
"""Bytes. No password and no key is larger."""


class SecretFile:
    """A secret in a mounted file. It gives what it holds to those who ask for `text`, and shows it in no other way."""

    def __init__(self, path: Path, setting: str, form: re.Pattern[str] | None = None) -> None:
        self.path = path
        self._setting = setting
        self._form = form
        self._watched = Watched(path)
        self._text = ""
        self.is_current = False
        """Whether `text` is what the file held at the last look; if not, the file held no secret then."""

    def __repr__(self) -> str:
        return f"SecretFile({str(self.path)!r})"

    @property
    def text(self) -> str:
        """The secret, as of the last look."""
        return self._text

    def look(self, now: float) -> bool:
        """Read the file if it was replaced. Returns whether the secret is another one than before.

        Raises `SettingsError` once, and keeps the secret that it had, if the file holds none.
        """
        if not self._watched.changed(now):
            return False
        self.is_current = False
        try:
            before, self._text = self._text, self._read()
        except SettingsError as error:
            if self._watched.failed(str(error)):
                raise
            return False
        self.is_current = True
        return self._text != before

    def _read(self) -> str:
        try:
            with self.path.open("rb") as file:
                text = file.read(LARGEST + 1).decode("utf-8-sig").rstrip("\r\n")  # editors of Windows mark a text at its begin
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
