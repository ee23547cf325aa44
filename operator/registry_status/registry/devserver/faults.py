"""How to make the server misbehave: the ways in which registries, proxies and networks fail.

A `Fault` says what happens (`effect`), to which requests (`method`, `path`), how often (`count`) and whether the request takes
effect all the same (`when`): a write that is applied but not acknowledged is what a client finds hardest to get right.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Self, TypeAlias

from registry_status.registry.devserver.refusals import Code

MEBIBYTE = 2**20


class When(Enum):
    """Whether the fault strikes before the request is applied, which then never happens, or after it."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Answer something else."""

    status: int = 500
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def refusal(cls, code: Code, detail: str = "", headers: Mapping[str, str] | None = None) -> Self:
        """An error in the registry's own form."""
        return cls(status=code.http_status, body=code.body(detail), headers=headers or {})

    @classmethod
    def too_many_requests(cls, retry_after: str = "1") -> Self:
        """A 429, in seconds or as an HTTP date."""
        return cls(status=429, body=b"slow down", content_type="text/plain", headers={"Retry-After": retry_after})

    @classmethod
    def html_page(cls, status: int = 200) -> Self:
        """What a proxy or a captive portal puts in the registry's place."""
        page = b"<!DOCTYPE html><html><body><h1>Sign in</h1></body></html>"
        return cls(status=status, body=page, content_type="text/html")

    @classmethod
    def redirect(cls, location: str, status: int = 301) -> Self:
        """A redirect, which the registry itself never sends."""
        return cls(status=status, content_type="text/plain", headers={"Location": location})

    @classmethod
    def mebibytes(cls, size: int, status: int = 200) -> Self:
        """A body far larger than anybody wants to read: white space, which is harmless until it is parsed."""
        return cls(status=status, body=b" " * (size * MEBIBYTE))


SERVER_ERROR = Answer.refusal(Code.INTERNAL, "etcdserver: request timed out")


@dataclass(frozen=True, slots=True)
class Hang:
    """Keep the client waiting, then answer an error: the real server does so while its backend is broken."""

    seconds: float = 30.0
    then: Answer = SERVER_ERROR


@dataclass(frozen=True, slots=True)
class Delay:
    """Answer the truth, late. With `When.BEFORE` the request also takes effect late: after a client's timeout, maybe."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Drop:
    """Break the connection instead of answering."""


@dataclass(frozen=True, slots=True)
class Truncate:
    """Answer the truth, but only half of the body.

    By default the answer is well-formed HTTP with broken JSON in it; if `abrupt`, the connection breaks in its middle.
    """

    abrupt: bool = False


Effect: TypeAlias = Answer | Hang | Delay | Drop | Truncate


@dataclass(frozen=True, slots=True)
class Fault:
    """One way of misbehaving. A truncated answer is always one to a request that was applied."""

    effect: Effect
    method: str | None = None
    """None is any."""
    path: str | None = None
    """A regular expression to be found in the path; None is any."""
    count: int | None = None
    """How many requests it hits before it is over; None is until it is cleared."""
    when: When = When.BEFORE

    def hits(self, method: str, path: str) -> bool:
        """Whether it is meant for such a request."""
        return self.method in (None, method) and (self.path is None or re.search(self.path, path) is not None)


@dataclass(slots=True)
class _Armed:
    fault: Fault
    left: int | None


class Faults:
    """The faults in force, in order: the first that is meant for a request hits it, and no other."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []

    @property
    def active(self) -> tuple[tuple[Fault, int | None], ...]:
        """The faults that are not over, each with how often it can still hit (None: no end)."""
        return tuple((armed.fault, armed.left) for armed in self._armed)

    def set(self, *faults: Fault) -> None:
        """Put these in force, in place of all others."""
        self._armed = [_Armed(fault, fault.count) for fault in faults if fault.count != 0]

    def add(self, fault: Fault) -> None:
        """Put another one in force, after the others."""
        self._armed.append(_Armed(fault, fault.count))

    def clear(self) -> None:
        """Behave again. Requests that hang already are not let go."""
        self._armed.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that is to hit this request, if any; it counts as one hit."""
        for armed in self._armed:
            if armed.fault.hits(method, path):
                if armed.left is not None:
                    armed.left -= 1
                    if armed.left <= 0:
                        self._armed.remove(armed)
                return armed.fault
        return None
