"""Tokens: logging in by name and password, and never so often that the server blocks the account.

A Service Center with RBAC blocks an account for an hour once three logins from one place have failed within an hour. So one
login is under way at a time, however many requests wait for it; a password that was refused is not tried again until its file
changes or a long time has passed; and a login that was not answered, which may be a failed one, is repeated only if the
registry answers something else by now.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from registry_status.config import SettingsError
from registry_status.registry.answers import TOKEN
from registry_status.registry.auth import Door, hidden
from registry_status.registry.base import (
    AuthError,
    BlockedError,
    FencedError,
    LoggedOutError,
    PermanentError,
    RegistryError,
    TransientError,
    UnavailableError,
)
from registry_status.registry.files import SecretFile
from registry_status.tokenbucket import TokenBucket
from registry_status.watched import LOOK_EVERY

TOKEN_LIFE = 12 * 3600.0
"""Seconds for which the server's tokens are good, unless it is set to less: then they are refused, and replaced."""
REFRESH = (0.7, 0.8)
"""After which share of its life a token is replaced, the old one being good all the while."""
REFRESH_AGAIN = 60.0
"""Seconds until a replacement is tried again that failed."""
WRONG_PAUSES = ((65 * 60.0, "an hour passes"), (12 * 3600.0, "12 hours pass"), (float("inf"), "the operator restarts"))
"""Seconds for which a password is left alone that was refused once, twice, and more often: longer than the server counts."""
WRONG_MOST, WRONG_WITHIN = 3, 65 * 60.0
"""So many logins may be refused within so many seconds, whichever passwords they had: the server counts by account, and a file
that changes often must not lock it."""
BLOCKED_PAUSE = 15 * 60.0
"""Seconds for which an account is left alone that the server has blocked."""
NO_DOOR_PAUSE = 60.0
"""Seconds until the next login where nothing takes logins: nobody counts there."""
UNANSWERED, UNANSWERED_PAUSE = 3, 60.0
"""So many logins without an answer, with a password that never was right, and it is one each so many seconds. Not fewer: what
cannot answer has most likely not come to look at the password, and then a long pause would outlast the outage."""
FAILURES, FAILURES_FORGOTTEN, FAILURE_PAUSE = 3, 10.0, 1.0
"""Logins may fail so often in a row, on one address after the other, and then there are seconds between them."""
FETCHES, FETCH_EVERY = 3, 30.0
"""Tokens may be refused and replaced so often at once, and then one each so many seconds: rights that are missing look the
same as a token that is bad."""
USED = 2 * FETCHES
"""So many tokens are hidden after they were replaced: more than are, while an answer to the first of them is waited for."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Token:
    text: str = field(repr=False)
    refresh_at: float
    expires_at: float


@dataclass(slots=True)
class Attempts:
    """What came of the logins with one password, and when another may be tried. Pure: times are passed in."""

    wrong: int = 0
    unanswered: int = 0
    proven: bool = False
    """It was right once, so that a login without an answer is the server's trouble."""
    not_before: float = float("-inf")
    code: str = ""
    address: str = ""
    why: str = ""
    """What keeps from logging in, and until when."""
    refused_at: tuple[float, ...] = ()
    """When logins were refused, those with the passwords before too."""

    @property
    def doubtful(self) -> bool:
        """The last login may have been a failed one."""
        return self.unanswered > 0 and not self.proven

    def allowed(self, now: float) -> bool:
        """Whether a login may be sent."""
        return now >= self.not_before

    def succeeded(self) -> None:
        """The password is right."""
        self.wrong, self.unanswered, self.proven = 0, 0, True

    def went_unanswered(self, error: RegistryError, now: float) -> None:
        """Nobody knows what the server made of it."""
        self.unanswered += 1
        if self.doubtful and self.unanswered >= UNANSWERED:
            why = f"{UNANSWERED} in a row got no answer, the last: {error.message}"
            self._pause(error, why, now, UNANSWERED_PAUSE, "a minute passes")

    def failed(self, error: RegistryError, now: float) -> None:
        """The server refused it."""
        if isinstance(error, BlockedError):
            self._pause(error, error.message, now, BLOCKED_PAUSE, "15 minutes pass")
        elif isinstance(error, PermanentError) and error.code.startswith("http-"):
            self._pause(error, f"nothing takes logins there: {error.message}", now, NO_DOOR_PAUSE, "a minute passes")
        else:
            self.wrong, self.proven = self.wrong + 1, False
            self.refused_at = (*self.refused_at[1 - WRONG_MOST :], now)
            self._pause(error, error.message, now, *WRONG_PAUSES[min(self.wrong, len(WRONG_PAUSES)) - 1])

    def with_another_password(self, now: float) -> "Attempts":
        """A clean slate, but for the server's count."""
        fresh = Attempts(refused_at=tuple(at for at in self.refused_at if now - at < WRONG_WITHIN))
        if len(fresh.refused_at) >= WRONG_MOST:
            fresh.code, fresh.address = self.code, self.address
            fresh.not_before = fresh.refused_at[0] + WRONG_WITHIN
            fresh.why = (
                f"{WRONG_MOST} were refused within an hour, and one more would block the account; wait for that hour to pass"
            )
        return fresh

    def refusal(self, name: str, path: Path) -> LoggedOutError:
        """What those are told who need a login. The same words each time, as it is the same trouble."""
        what = f"login as {name} with the password in {path} failed"
        return LoggedOutError(self.code, f"{what}: {self.why}", address=self.address)

    def _pause(self, error: RegistryError, why: str, now: float, seconds: float, until: str) -> None:
        self.code, self.address = error.code, error.address
        self.not_before = now + seconds
        self.why = f"{why}; no other login is sent until that file changes or {until}"


class TokenAuth:
    """Logs in by name and password, and shows the token."""

    def __init__(
        self, name: str, password_file: Path, door: Door, *, clock: Callable[[], float], chance: random.Random
    ) -> None:
        """Raise `SettingsError` for a bad file."""
        self._name = name
        self._file = SecretFile(password_file, "registry_password_file")
        self._file.look(clock())
        self._door = door
        self._clock = clock
        self._chance = chance
        self._attempts = Attempts()
        self._fetches = TokenBucket(FETCHES, 1 / FETCH_EVERY, clock())
        self._failures = TokenBucket(FAILURES, 1 / FAILURES_FORGOTTEN, clock())
        self._trouble: TransientError | None = None
        self._next_at = float("-inf")
        self._token: _Token | None = None
        self._used: deque[str] = deque(maxlen=USED)
        """The tokens before, which may still be in somebody's error text."""
        self._login: asyncio.Task[_Token] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._awaited = False
        self._wakes: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"TokenAuth({self._name!r}, {self._file!r})"

    @property
    def hint(self) -> str:
        """A good token of an account without rights is refused as well."""
        return f"check the rights of the account {self._name}"

    async def headers(self, project: str) -> Mapping[str, str]:
        """The token; it is fetched first if there is none, and replaced behind the scenes before it ends."""
        now = self._clock()
        token = self._token
        if token is None or now >= token.expires_at:
            token = await self._fetched()
        elif now >= token.refresh_at:
            self._refresh(now)
        return _bearer(token)

    def known_headers(self, project: str) -> Mapping[str, str]:
        """The token, if there is one."""
        return _bearer(self._token) if self._token is not None else {}

    def refused(self, headers: Mapping[str, str], error: AuthError) -> bool:
        """Drop a token that the server does not know any more, unless that has just been done in vain."""
        if error.code not in TOKEN:
            return False
        if self._token is None or headers != _bearer(self._token):
            return True
        if not self._fetches.take(self._clock()):
            return False
        self._drop()
        return True

    def hide(self, text: str) -> str:
        """Take out the tokens; the password is sent by logins only, whose answers are never shown."""
        return hidden(text, (self._token.text if self._token is not None else "", *self._used))

    def on_available(self, wake: Callable[[], None]) -> None:
        """Call `wake` each time that a login succeeds after a `LoggedOutError`."""
        self._wakes.append(wake)

    async def aclose(self) -> None:
        """End a login that is under way, and the wait for a better password."""
        tasks = [task for task in (self._login, self._keeper) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetched(self) -> _Token:
        """The token of the login that is under way, or of one that begins now."""
        try:
            return await asyncio.shield(self._login or self._begin())
        except LoggedOutError:
            self._await_login()
            raise

    def _refresh(self, now: float) -> None:
        """Begin to replace the token, which goes on being used.

        The file is not looked at while a login is under way: what comes of that is to count for the next password, too.
        """
        if self._login is not None:
            return
        self._look()
        if self._attempts.allowed(now) and now >= self._next_at:
            self._begin()

    def _begin(self) -> "asyncio.Task[_Token]":
        self._look()
        now = self._clock()
        if not self._attempts.allowed(now):
            raise self._attempts.refusal(self._name, self._file.path)
        if self._trouble is not None and now < self._next_at:
            raise _again(self._trouble, self._next_at - now)
        login = self._log_in(self._attempts, self._file.text)
        self._login = asyncio.create_task(login, name="log in to the registry")
        self._login.add_done_callback(self._ended)
        return self._login

    def _ended(self, task: "asyncio.Task[_Token]") -> None:
        """Asking for the exception marks it as seen, also where nobody waits."""
        self._login = None
        if not task.cancelled() and task.exception() is not None and self._token is not None:
            self._token = _put_off(self._token, self._clock() + REFRESH_AGAIN)

    async def _log_in(self, attempts: Attempts, password: str) -> _Token:
        try:
            if attempts.doubtful:
                await self._door.knock()
            began = self._clock()
            text = await self._door.log_in(self._name, password)
        except (TransientError, FencedError) as error:
            self._stumble(attempts, error)
            raise
        except RegistryError as error:
            attempts.failed(error, self._clock())
            refusal = attempts.refusal(self._name, self._file.path)
            logger.warning("%s", refusal)
            raise refusal from None
        attempts.succeeded()
        return self._accept(text, began)

    def _stumble(self, attempts: Attempts, error: TransientError | FencedError) -> None:
        """It was not this time: an error in the registry's own words is not about the password, silence may be."""
        now = self._clock()
        if error.maybe_applied and not error.code.isdigit():
            attempts.went_unanswered(error, now)
        if isinstance(error, UnavailableError | FencedError):
            return
        self._trouble, wait = error, 0.0 if self._failures.take(now) else FAILURE_PAUSE
        self._next_at = now + max(wait, error.retry_after or 0.0)

    def _accept(self, text: str, began: float) -> _Token:
        self._drop()
        refresh_at = began + TOKEN_LIFE * self._chance.uniform(*REFRESH)
        self._token = _Token(text, refresh_at=refresh_at, expires_at=began + TOKEN_LIFE)
        logger.info("logged in to the registry as %s", self._name)
        if self._awaited:
            self._awaited = False
            for wake in self._wakes:
                wake()
        return self._token

    def _drop(self) -> None:
        if self._token is not None:
            self._used.append(self._token.text)
        self._token = None

    def _look(self) -> None:
        """A new password begins with a clean slate, as far as the server lets it."""
        try:
            changed = self._file.look(self._clock())
        except SettingsError as error:
            logger.warning("the registry's password has changed and cannot be used, so the one before stays: %s", error)
            return
        if changed:
            self._attempts = self._attempts.with_another_password(self._clock())
            logger.info("the registry's password has changed")

    def _await_login(self) -> None:
        """Somebody waits to be told: try again as soon as it may help."""
        self._awaited = True
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._keep_trying(), name="wait for a better password")

    async def _keep_trying(self) -> None:
        while self._awaited:
            await asyncio.sleep(LOOK_EVERY)
            with suppress(RegistryError):
                await self._fetched()


def _bearer(token: _Token) -> Mapping[str, str]:
    return {"authorization": f"Bearer {token.text}"}


def _again(error: TransientError, wait: float) -> TransientError:
    """The same trouble, for those who ask too early."""
    return TransientError(error.code, error.message, address=error.address, retry_after=wait)


def _put_off(token: _Token, refresh_at: float) -> _Token:
    return _Token(token.text, refresh_at=max(token.refresh_at, refresh_at), expires_at=token.expires_at)
