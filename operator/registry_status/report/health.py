"""`/healthz`, `/readyz` and `/metrics`.

Readiness means "listed and watching". It never depends on the registry: an operator that cannot write has to stay where it is
and go on trying. Liveness means that a restart would not help: the event loop turns, and the watch is served or at least tried
again and again. An API server that is away is no reason to be killed, so each *try* counts as progress there.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from registry_status.report.metrics import OPENMETRICS, Metrics, Rendered
from registry_status.report.text import age

BEAT = 1.0
"""Seconds between two signs of life of the event loop."""
LOOP_STALL = 30.0
"""Seconds. Silent for so long, the loop is stuck: nothing of ours blocks it for more than a second, and probes come each 10 s
or so."""
WATCH_STALL = 300.0
"""Seconds. Without a try for so long, the watch is stuck: a silent one is resumed after 70 s, and its next try may wait for a
minute to be answered; twice both together."""
WATCH_SILENCE = 100.0
"""Seconds. Unheard for so long, the watch is stale: the API server sends a bookmark each minute, and a watch that hears nothing
for 70 s is resumed, which is answered too."""
SHUTDOWN = 1.0
"""Seconds that a probe under way has at the stop."""
CONNECTIONS = 64
"""At once, about: beyond, the oldest gives way to the newest. Whoever can reach the port may open as many as he likes, and read
no answer for ever; that must neither keep a probe out nor use up the sockets by which the registry is reached."""
SHARE = 0.05
"""Of the time, at most, that goes into putting metrics together: who asks sooner gets those of a moment ago."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    passed: bool
    detail: str

    def __str__(self) -> str:
        return f"[{'+' if self.passed else '-'}] {self.name}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to a probe."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether everything is well."""
        return all(check.passed for check in self.checks)

    def __str__(self) -> str:
        return "".join(f"{line}\n" for line in (*self.checks, "ok" if self.passed else "failed"))


@dataclass(slots=True)
class _Watch:
    tried: float
    heard: float
    listed: bool = False


class HealthState:
    """What the operator's parts say of themselves. Pure: every time is passed in, on one monotonic clock."""

    def __init__(self, now: float, watches: Iterable[str] = ("pods",)) -> None:
        """`watches` names the streams to expect, such as one for each namespace; what is said of any other counts for nothing.

        One that nobody expects would never be listed, and keep the operator unready for good.
        """
        self._beat = now
        self._watches = {name: _Watch(tried=now, heard=now) for name in watches}

    def beat(self, now: float) -> None:
        """The event loop turns."""
        self._beat = now

    def tried(self, watch: str, now: float) -> None:
        """A watch request is sent, or a pause before the next one begins: somebody is at it."""
        if state := self._watches.get(watch):
            state.tried = now

    def heard(self, watch: str, now: float) -> None:
        """The API server answered a list or watch request well, or something came down the stream."""
        if state := self._watches.get(watch):
            state.tried = state.heard = now

    def listed(self, watch: str, now: float) -> None:
        """The list is complete, which stays so: while a later one is under way, what is known still counts."""
        self.heard(watch, now)
        if state := self._watches.get(watch):
            state.listed = True

    def watch_age(self, now: float) -> float | None:
        """Seconds since the least heard watch was heard; None without any."""
        return max((now - watch.heard for watch in self._watches.values()), default=None)

    def live(self, now: float) -> Verdict:
        """Whether a restart would not help."""
        silent = now - self._beat
        loop = Check("event loop", silent <= LOOP_STALL, f"turned {age(silent)} ago, at most {age(LOOP_STALL)} allowed")
        return Verdict((loop, *(self._at_it(name, watch, now) for name, watch in self._watches.items())))

    def ready(self, now: float) -> Verdict:
        """Whether the pods were listed and are being watched."""
        return Verdict(tuple(self._up_to_date(name, watch, now) for name, watch in self._watches.items()))

    @staticmethod
    def _at_it(name: str, watch: _Watch, now: float) -> Check:
        idle = now - watch.tried
        return Check(f"watch {name}", idle <= WATCH_STALL, f"made progress {age(idle)} ago, at most {age(WATCH_STALL)} allowed")

    @staticmethod
    def _up_to_date(name: str, watch: _Watch, now: float) -> Check:
        if not watch.listed:
            return Check(f"watch {name}", passed=False, detail="the list is not complete yet")
        silent = now - watch.heard
        detail = f"listed; the API server was heard {age(silent)} ago, at most {age(WATCH_SILENCE)} allowed"
        return Check(f"watch {name}", silent <= WATCH_SILENCE, detail)


async def keep_beating(
    state: HealthState,
    lag: Callable[[float], None],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Give a sign of life each second, and tell how late it was; ends by being cancelled."""
    while True:
        began = clock()
        state.beat(began)
        await sleep(BEAT)
        lag(clock() - began - BEAT)


class ListenError(Exception):
    """The address for probes and metrics cannot be listened on; the message names it and says why."""


class _OwnFaultsOnly(logging.Filter):
    """Drops aiohttp's tracebacks about requests that are no HTTP: whoever can reach the port could fill the log with them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is worth a line."""
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_server_logger = logging.getLogger(__name__)
_server_logger.addFilter(_OwnFaultsOnly())


def application(state: HealthState, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> web.Application:
    """The three pages, for GET and HEAD only."""

    async def healthz(_: web.Request) -> web.Response:
        return _answer(state.live(clock()))

    async def readyz(_: web.Request) -> web.Response:
        return _answer(state.ready(clock()))

    rendering = _Rendering(metrics, clock)

    async def scrape(request: web.Request) -> web.Response:
        rendered = rendering(request.headers.get("Accept", ""))
        return web.Response(body=rendered.body, headers={"Content-Type": rendered.content_type})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", scrape)
    app.on_response_prepare.append(_anonymous)
    return app


class _Rendering:
    """Renders metrics, and keeps each of the two forms for a while.

    It takes some milliseconds, and with that for each request of a flood statuses would wait.
    """

    def __init__(self, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._kept: dict[bool, tuple[float, Rendered]] = {}
        """By whether it is OpenMetrics: until when it is fresh, and what it is."""

    def __call__(self, accept: str) -> Rendered:
        began = self._clock()
        fresh_until, rendered = self._kept.get(OPENMETRICS in accept, (began, None))
        if rendered is None or began >= fresh_until:
            rendered = self._metrics.render(accept)
            ended = self._clock()
            self._kept[OPENMETRICS in accept] = (ended + (ended - began) / SHARE, rendered)
        return rendered


def _answer(verdict: Verdict) -> web.Response:
    return web.Response(text=str(verdict), status=200 if verdict.passed else 503, headers={"Cache-Control": "no-store"})


async def _anonymous(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.popall("Server", None)


@asynccontextmanager
async def serving(listen: tuple[str, int], app: web.Application) -> AsyncIterator[tuple[str, int]]:
    """Serve the pages while the block runs; gives the address bound, for port 0. Raises `ListenError`."""
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=SHUTDOWN,
        keepalive_timeout=30.0,
        lingering_time=1.0,
        logger=_server_logger,
    )
    await runner.setup()
    try:
        with closing(await _bind(cast("web.Server", runner.server), *listen)) as listening:
            host, port, *_ = listening.sockets[0].getsockname()
            yield str(host), int(port)
    finally:
        await runner.cleanup()


def _admitting(server: web.Server) -> asyncio.Protocol:
    """Take one connection more, in the place of the oldest where there are enough."""
    connections = server.connections
    for oldest in connections[: max(0, len(connections) + 1 - CONNECTIONS)]:
        if oldest.transport is not None:
            oldest.transport.abort()  # not closed: that would wait until all is read that was written
    return server()


async def _bind(server: web.Server, host: str, port: int) -> asyncio.Server:
    try:
        return await asyncio.get_running_loop().create_server(lambda: _admitting(server), host, port)
    except OSError as error:
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        why = error.strerror or str(error)
        raise ListenError(
            f"cannot listen on {shown} for probes and metrics: {why}; name a free address with --listen"
        ) from error
