"""Accounts, passwords and tokens, as far as a client can tell the real server's RBAC from this one.

Who fails to log in three times in a row is blocked: the fourth attempt is a 403201 whatever its password, for an hour. (The
real server counts by account and address, and lets a failure be forgotten after an hour.)
"""

import hmac
import secrets
from collections.abc import Callable, Mapping

from registry_status.registry.devserver.refusals import Code, Refusal

TOKEN_LIFE = 12 * 3600.0
BLOCKED_FOR = 3600.0
FAILURES_ALLOWED = 3


class Accounts:
    """Gives out tokens for passwords and checks them."""

    def __init__(self, passwords: Mapping[str, str], clock: Callable[[], float]) -> None:
        self._passwords = dict(passwords)
        self._clock = clock
        self._failures: dict[str, int] = {}
        self._blocked_until: dict[str, float] = {}
        self._tokens: dict[str, float] = {}

    def login(self, name: str, password: str) -> str:
        """Give out a token, or refuse; failures count towards the block."""
        if not name or not password:
            raise Refusal(Code.INVALID_PARAMS, "The fields 'name' and 'password' are required.")
        if self._blocked_until.get(name, 0.0) > self._clock():
            raise Refusal(Code.ACCOUNT_BLOCKED)
        known = self._passwords.get(name)
        if known is None or not hmac.compare_digest(known.encode(), password.encode(errors="surrogatepass")):
            self._count_failure(name)
            raise Refusal(Code.WRONG_PASSWORD)
        self._failures.pop(name, None)
        return self._new_token()

    def check(self, authorization: str | None) -> None:
        """Refuse a request that has no valid `Authorization: Bearer TOKEN`."""
        if not authorization:
            raise Refusal(Code.NO_AUTH_HEADER)
        scheme, _, token = authorization.partition(" ")
        expires_at = self._tokens.get(token)
        if scheme != "Bearer" or expires_at is None:
            raise Refusal(Code.UNAUTHORIZED, "invalid token")
        if expires_at <= self._clock():
            raise Refusal(Code.TOKEN_EXPIRED)

    def set_password(self, name: str, password: str) -> None:
        """Add an account or change its password, as a rotation would."""
        self._passwords[name] = password

    def expire_tokens(self) -> None:
        """Let all tokens given out so far expire at once."""
        self._tokens = dict.fromkeys(self._tokens, self._clock())

    def revoke_tokens(self) -> None:
        """Make all tokens given out so far unknown, as a server with a new signing key would."""
        self._tokens.clear()

    def unblock(self) -> None:
        """Forget all failed logins."""
        self._failures.clear()
        self._blocked_until.clear()

    def _count_failure(self, name: str) -> None:
        self._failures[name] = self._failures.get(name, 0) + 1
        if self._failures[name] >= FAILURES_ALLOWED:
            self._failures[name] = 0
            self._blocked_until[name] = self._clock() + BLOCKED_FOR

    def _new_token(self) -> str:
        now = self._clock()
        token = secrets.token_urlsafe(32)
        self._tokens = {old: expires_at for old, expires_at in self._tokens.items() if expires_at > now}
        self._tokens[token] = now + TOKEN_LIFE
        return token
