"""How a request shows the registry who we are: not at all, by an access key, or by a token (`registry.login`).

Secrets live in here, in `registry.login` and in the headers of a request. Whoever reports something foreign, which may repeat
what was sent, lets `Auth.hide` look at it first.
"""

import hashlib
import hmac
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from registry_status.config import SettingsError
from registry_status.registry.base import AuthError
from registry_status.registry.files import SecretFile

HIDDEN = "[redacted]"
ACCESS_KEY_FORM = re.compile(r"[!-~]{1,1024}")
"""What a header can hold."""

logger = logging.getLogger(__name__)


class Auth(Protocol):
    """One way of showing who we are."""

    @property
    def hint(self) -> str:
        """What to do when the registry does not accept us."""
        ...

    async def headers(self, project: str) -> Mapping[str, str]:
        """What to add to a request. May raise any `RegistryError`; `LoggedOutError` if there is no way in for now."""
        ...

    def known_headers(self, project: str) -> Mapping[str, str]:
        """The same as far as it is at hand, for a request that must not cause others: a probe."""
        ...

    def refused(self, headers: Mapping[str, str], error: AuthError) -> bool:
        """Hear that the registry refused these headers. Returns whether others may help, so that one repetition is worth it."""
        ...

    def hide(self, text: str) -> str:
        """Take out what is secret."""
        ...

    def on_available(self, wake: Callable[[], None]) -> None:
        """Call `wake` each time that there is a way in after a `LoggedOutError`."""
        ...

    async def aclose(self) -> None:
        """End what runs in the background."""
        ...


class Door(Protocol):
    """How a login reaches the registry: through the same addresses and circuits as everything else."""

    async def knock(self) -> None:
        """Find out whether the registry answers at all. Raises `TransientError` if it does not."""
        ...

    async def log_in(self, name: str, password: str) -> str:
        """Send one login, never repeated. Returns the token, and raises what the answer, or its absence, stands for."""
        ...


class NoAuth:
    """The registry asks for nothing."""

    hint = "no credentials are set: see --registry-username and --registry-access-key-file"

    async def headers(self, project: str) -> Mapping[str, str]:
        """Nothing."""
        return {}

    def known_headers(self, project: str) -> Mapping[str, str]:
        """Nothing."""
        return {}

    def refused(self, headers: Mapping[str, str], error: AuthError) -> bool:
        """There is nothing else to show."""
        return False

    def hide(self, text: str) -> str:
        """Nothing is secret."""
        return text

    def on_available(self, wake: Callable[[], None]) -> None:
        """It always is."""

    async def aclose(self) -> None:
        """Nothing runs."""


class AccessKeyAuth:
    """An access key (AK) and a digest of it with its secret key (SK), as Huawei's CSE wants it."""

    def __init__(self, access_key: Path, secret_key: Path, project: str, *, clock: Callable[[], float]) -> None:
        """`project` goes into X-Service-Project; empty: the project of each request. Raise `SettingsError` for a bad file."""
        self._access_key = SecretFile(access_key, "registry_access_key_file", ACCESS_KEY_FORM)
        self._secret_key = SecretFile(secret_key, "registry_secret_key_file")
        self._project = project
        self._clock = clock
        self._look()
        self._signed = self._pair()
        self._digest = self._sign()
        self._used: tuple[str, ...] = ()
        """Key and digest before, which may still be in somebody's error text."""

    def __repr__(self) -> str:
        return f"AccessKeyAuth({self._access_key!r})"

    @property
    def hint(self) -> str:
        """Only the key can be wrong."""
        return f"check the access key in {self._access_key.path} and its rights"

    async def headers(self, project: str) -> Mapping[str, str]:
        """Key, digest and project; the files are looked at now and then."""
        return self.known_headers(project)

    def known_headers(self, project: str) -> Mapping[str, str]:
        """The same: nothing has to be asked for."""
        self._refresh()
        return {
            "x-service-ak": self._signed[0],
            "x-service-shaaksk": self._digest,
            "x-service-project": quote(self._project or project, safe=""),
        }

    def refused(self, headers: Mapping[str, str], error: AuthError) -> bool:
        """Only a key that has changed meanwhile may help."""
        self._refresh()
        return headers.get("x-service-shaaksk") != self._digest

    def hide(self, text: str) -> str:
        """Take out key and digest; the secret key itself is never sent."""
        return hidden(text, (self._signed[0], self._digest, *self._used))

    def on_available(self, wake: Callable[[], None]) -> None:
        """There is no login to wait for."""

    async def aclose(self) -> None:
        """Nothing runs."""

    def _refresh(self) -> None:
        try:
            self._look()
        except SettingsError as error:
            what = "; ".join(error.problems)
            logger.warning("the access key has changed and cannot be used, so the one before stays: %s", what)
            return
        if self._pair() != self._signed and self._access_key.is_current and self._secret_key.is_current:
            self._used = self._signed[0], self._digest
            self._signed = self._pair()
            self._digest = self._sign()
            logger.info("the access key has changed")

    def _look(self) -> None:
        """Look at both files at one moment, whatever is wrong with one: they are replaced together."""
        now = self._clock()
        problems: list[str] = []
        for file in (self._access_key, self._secret_key):
            try:
                file.look(now)
            except SettingsError as error:
                problems += error.problems
        if problems:
            raise SettingsError(problems)

    def _pair(self) -> tuple[str, str]:
        """Both keys, as of the last look; one of them may be newer than the other."""
        return self._access_key.text, self._secret_key.text

    def _sign(self) -> str:
        access_key, secret_key = self._signed
        return hmac.new(secret_key.encode(), access_key.encode(), hashlib.sha256).hexdigest()


def hidden(text: str, secrets: Iterable[str]) -> str:
    """Take secrets out of a text, also where they are written as in JSON or in a URL."""
    forms = {form for secret in secrets for form in _forms(secret)}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, HIDDEN)
    return text


def _forms(secret: str) -> Iterable[str]:
    if secret:
        quoted = json.dumps(secret)[1:-1]
        yield from (secret, quoted, quoted.replace("/", "\\/"), quote(secret, safe=""))
