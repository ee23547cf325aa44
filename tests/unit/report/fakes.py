"""A clock that only tests move, an API server's Events in a dict, and outcomes to report."""

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from registry_status.model import InstanceStatus, Outcome, OutcomeKind, PodRef
from registry_status.report.event_policy import DropCause, EventReason
from registry_status.report.events import EventApiError, EventExistsError, EventGoneError, Json

if TYPE_CHECKING:
    from collections.abc import Callable


class FakeClock:
    """Time stands still until `advance`, which wakes whoever sleeps, in order."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.slept: list[float] = []
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, woken))
        await woken

    async def advance(self, seconds: float) -> None:
        end = self.now + seconds
        await settle()
        while due := sorted((at, n) for n, (at, woken) in enumerate(self._sleepers) if at <= end and not woken.done()):
            at, number = due[0]
            self.now = max(self.now, at)
            self._sleepers.pop(number)[1].set_result(None)
            await settle()
        self.now = end
        await settle()


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(50):
        await asyncio.sleep(0)


class FakeEventApi:
    """Keeps Events as the API server would; `trouble` may raise before each request."""

    def __init__(self) -> None:
        self.events: dict[tuple[str, str], Json] = {}
        self.requests: list[str] = []
        self.trouble: Callable[[str], EventApiError | None] = lambda _: None

    async def create_event(self, namespace: str, body: Json) -> None:
        self._request("create")
        metadata = body["metadata"]
        assert isinstance(metadata, dict)
        key = (namespace, metadata["name"])
        if key in self.events:
            raise EventExistsError("already exists")
        self.events[key] = dict(body)

    async def read_event(self, namespace: str, name: str) -> Json:
        self._request("read")
        if (namespace, name) not in self.events:
            raise EventGoneError("not found")
        return self.events[(namespace, name)]

    async def patch_event(self, namespace: str, name: str, body: Json) -> None:
        self._request("patch")
        if (namespace, name) not in self.events:
            raise EventGoneError("not found")
        self.events[(namespace, name)] |= body

    def _request(self, verb: str) -> None:
        self.requests.append(verb)
        error = self.trouble(verb)
        if error is not None:
            raise error

    @property
    def reasons(self) -> list[tuple[object, object]]:
        return [(event["reason"], event["count"]) for event in self.events.values()]


class FakeObserver:
    def __init__(self) -> None:
        self.posted: Counter[EventReason] = Counter()
        self.dropped: Counter[DropCause] = Counter()

    def event_posted(self, reason: EventReason) -> None:
        self.posted[reason] += 1

    def event_dropped(self, cause: DropCause) -> None:
        self.dropped[cause] += 1


def pod(number: int = 1) -> PodRef:
    return PodRef(uid=f"uid-{number}", namespace="shop", name=f"web-{number}")


def outcome(
    kind: OutcomeKind, number: int = 1, message: str = "", *, code: str = "", status: InstanceStatus | None = InstanceStatus.UP,
    written: int = 0, latency: float | None = None, instances: tuple[str, ...] = (),
) -> Outcome:  # fmt: skip
    return Outcome(
        pod(number),
        kind,
        status,
        message or f"{status}: {kind}",
        instances=instances,
        code=code,
        latency=latency,
        written=written,
    )
