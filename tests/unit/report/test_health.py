"""What probes are told, by rules and over a real socket."""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from registry_status.report.health import (
    CONNECTIONS,
    LOOP_STALL,
    WATCH_SILENCE,
    WATCH_STALL,
    HealthState,
    ListenError,
    application,
    keep_beating,
    serving,
)
from registry_status.report.metrics import Metrics, Rendered
from tests.unit.report.fakes import FakeClock

Step = Callable[[HealthState], None]


def beating_at(now: float) -> Step:
    return lambda state: state.beat(now)


def tried_at(now: float, watch: str = "pods") -> Step:
    return lambda state: state.tried(watch, now)


def heard_at(now: float, watch: str = "pods") -> Step:
    return lambda state: state.heard(watch, now)


def listed_at(now: float, watch: str = "pods") -> Step:
    return lambda state: state.listed(watch, now)


@pytest.mark.parametrize(
    ("steps", "now", "ready"),
    [
        ([], 0, False),
        ([heard_at(1)], 1, False),
        ([listed_at(1)], 1, True),
        ([listed_at(1)], 1 + WATCH_SILENCE, True),
        ([listed_at(1)], 1.1 + WATCH_SILENCE, False),
        ([listed_at(1), heard_at(500)], 500, True),
        ([listed_at(1), tried_at(500)], 500, False),
        ([listed_at(1), listed_at(500)], 500, True),
    ],
)
def test_ready_means_listed_and_watching(steps: list[Step], now: float, ready: bool) -> None:
    state = HealthState(0.0)
    for step in steps:
        step(state)
    assert state.ready(now).passed is ready


@pytest.mark.parametrize(
    ("steps", "now", "live"),
    [
        ([], 0, True),
        ([], LOOP_STALL + 1, False),
        ([beating_at(LOOP_STALL)], LOOP_STALL + 1, True),
        ([beating_at(WATCH_STALL + 1)], WATCH_STALL + 1, False),
        ([beating_at(1000), tried_at(990)], 1000, True),
        ([beating_at(1000), heard_at(990)], 1000, True),
        ([beating_at(1000), listed_at(990)], 1000, True),
    ],
)
def test_live_means_that_a_restart_would_not_help(steps: list[Step], now: float, live: bool) -> None:
    state = HealthState(0.0)
    for step in steps:
        step(state)
    assert state.live(now).passed is live


@pytest.mark.parametrize(
    ("steps", "now", "ready"),
    [
        ([listed_at(1), listed_at(1, "shop")], 1, True),
        ([listed_at(1), heard_at(1, "shop")], 1, False),
        ([listed_at(1), listed_at(1, "shop"), heard_at(500)], 500, False),
    ],
)
def test_ready_means_that_all_of_several_are(steps: list[Step], now: float, ready: bool) -> None:
    state = HealthState(0.0, ["pods", "shop"])
    for step in steps:
        step(state)
    assert state.ready(now).passed is ready


@pytest.mark.parametrize(("tried_shop_at", "live"), [(990, True), (1, False)])
def test_live_means_that_all_of_several_are_tried(tried_shop_at: float, live: bool) -> None:
    state = HealthState(0.0, ["pods", "shop"])
    for step in (beating_at(1000), listed_at(990), tried_at(tried_shop_at, "shop")):
        step(state)
    assert state.live(1000).passed is live


@pytest.mark.parametrize("step", [tried_at(1), heard_at(1), listed_at(1)])
def test_what_is_said_of_a_watch_that_nobody_expects_counts_for_nothing(step: Step) -> None:
    """It would never be listed, and so keep the operator unready for good and end it after five minutes."""
    state = HealthState(0.0, ["shop"])
    state.listed("shop", 1.0)
    step(state)
    assert state.ready(1.0).passed
    state.beat(1000.0)
    state.heard("shop", 1000.0)
    assert (state.live(1000.0).passed, state.watch_age(1000.0)) == (True, 0.0)


def test_an_api_server_that_is_away_for_hours_makes_it_unready_but_never_kills_it() -> None:
    state = HealthState(0.0)
    state.listed("pods", 0.0)
    for now in range(0, 7200, 60):
        state.beat(now)
        state.tried("pods", now)
        assert state.live(now).passed
    assert not state.ready(7200).passed


def test_each_namespace_has_to_be_listed() -> None:
    state = HealthState(0.0, ["shop", "bank"])
    state.listed("shop", 1.0)
    assert str(state.ready(1.0)) == (
        "[+] watch shop: listed; the API server was heard 0 s ago, at most 100 s allowed\n"
        "[-] watch bank: the list is not complete yet\n"
        "failed\n"
    )


def test_the_watch_is_as_old_as_its_oldest_part() -> None:
    state = HealthState(0.0, ["shop", "bank"])
    state.heard("shop", 10.0)
    assert state.watch_age(12.0) == 12.0
    state.heard("bank", 11.0)
    assert state.watch_age(12.0) == 2.0
    assert HealthState(0.0, []).watch_age(1.0) is None


async def test_the_loop_gives_a_sign_of_life_each_second_and_tells_how_late() -> None:
    clock, state, lags = FakeClock(0.0), HealthState(0.0), list[float]()
    task = asyncio.create_task(keep_beating(state, lags.append, clock=clock, sleep=clock.sleep))
    await clock.advance(40)
    assert state.live(clock.now).passed
    assert len(lags) == 40
    assert lags[0] == 0.0
    clock.now += 1.3  # the loop was busy
    await clock.advance(0)
    assert lags[-1] == pytest.approx(0.3)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


class Site:
    """A served application, its parts, and a way to ask."""

    def __init__(self, address: tuple[str, int], clock: FakeClock, state: HealthState, metrics: Metrics) -> None:
        self.host, self.port = address
        self.clock, self.state, self.metrics = clock, state, metrics

    async def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, aiohttp.ClientResponse]:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"http://{self.host}:{self.port}{path}", headers=headers) as response,
        ):
            return response.status, await response.text(), response


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    clock, metrics = FakeClock(0.0), Metrics()
    state = HealthState(0.0)
    async with serving(("127.0.0.1", 0), application(state, metrics, clock)) as address:
        yield Site(address, clock, state, metrics)


class TestServer:
    async def test_says_why_it_is_not_ready(self, site: Site) -> None:
        status, text, _ = await site.ask("/readyz")
        assert (status, text) == (503, "[-] watch pods: the list is not complete yet\nfailed\n")
        site.state.listed("pods", 0.0)
        status, text, response = await site.ask("/readyz?verbose")
        assert status == 200
        assert text.endswith("\nok\n")
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-store"

    async def test_says_why_it_is_not_live(self, site: Site) -> None:
        assert (await site.ask("/healthz"))[0] == 200
        site.clock.now = 31.0
        status, text, _ = await site.ask("/healthz")
        assert status == 503
        assert "[-] event loop: turned 31 s ago, at most 30 s allowed\n" in text

    async def test_shows_the_metrics(self, site: Site) -> None:
        site.metrics.retried()
        status, text, response = await site.ask("/metrics")
        assert status == 200
        assert "\nregistry_status_retries_total 1.0\n" in text
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        _, text, response = await site.ask("/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert text.endswith("# EOF\n")
        assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")

    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
    async def test_answers_head_without_a_body(self, site: Site, path: str) -> None:
        status, text, _ = await site.ask(path, "HEAD")
        assert status in (200, 503)
        assert text == ""

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
    async def test_takes_no_other_methods(self, site: Site, method: str, path: str) -> None:
        status, _, response = await site.ask(path, method)
        assert status == 405
        assert response.headers["Allow"] == "GET,HEAD"

    @pytest.mark.parametrize(("path", "status"), [("/", 404), ("/healthz/x", 404), ("/healthz", 200), ("/readyz", 503)])
    async def test_does_not_tell_what_serves(self, site: Site, path: str, status: int) -> None:
        answered, _, response = await site.ask(path)
        assert answered == status
        assert "Server" not in response.headers

    async def test_stands_strangers_who_speak_no_http_and_logs_nothing(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO):
            for garbage in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"G" * 9000):
                reader, writer = await asyncio.open_connection(site.host, site.port)
                writer.write(garbage)
                writer.write_eof()
                await asyncio.wait_for(reader.read(), 5)
                writer.close()
            assert (await site.ask("/healthz"))[0] == 200
        assert caplog.records == []


class TestCrowd:
    @pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\nX: ", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 300])
    async def test_of_connections_keeps_no_probe_out_and_takes_few_sockets(self, live: Site, sent: bytes) -> None:
        """Not even one who asks again and again and reads no answer, which no time limit of the server's ends."""
        before = open_files()
        crowd = [await held(live, sent) for _ in range(CONNECTIONS + 20)]
        async with asyncio.timeout(10):
            assert (await live.ask("/healthz"))[0] == 200
            while open_files() - before - len(crowd) > CONNECTIONS:  # noqa: ASYNC110 - their ends make no event
                await asyncio.sleep(0.01)
        for one in crowd:
            one.close()

    async def test_that_asks_for_metrics_all_the_time_leaves_the_loop_its_time(self) -> None:
        now, rendered = [0.0], []

        class Slow(Metrics):
            def render(self, accept: str = "") -> Rendered:
                rendered.append(accept)
                now[0] += 0.004
                return super().render(accept)

        async with serving(("127.0.0.1", 0), application(HealthState(0.0), Slow(), lambda: now[0])) as address:
            site = Site(address, FakeClock(0.0), HealthState(0.0), Metrics())
            for _ in range(10):
                await site.ask("/metrics")
                await site.ask("/metrics", Accept="application/openmetrics-text")
            assert len(rendered) == 2, "one of each form"
            now[0] += 0.08
            text, typed = (await site.ask("/metrics"))[1:]
        assert len(rendered) == 3
        assert text.startswith("# HELP")
        assert typed.headers["Content-Type"].startswith("text/plain; version=0.0.4")


@pytest.fixture
async def live() -> AsyncIterator[Site]:
    """One on the real clock."""
    state, metrics = HealthState(time.monotonic()), Metrics()
    async with serving(("127.0.0.1", 0), application(state, metrics)) as address:
        yield Site(address, FakeClock(0.0), state, metrics)


async def held(site: Site, sent: bytes) -> socket.socket:
    """A connection of one who sends this, and never reads."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    one.setblocking(False)
    await asyncio.get_running_loop().sock_connect(one, (site.host, site.port))
    await asyncio.get_running_loop().sock_sendall(one, sent)
    return one


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class TestListening:
    async def test_on_a_taken_port_is_a_clear_error(self, site: Site) -> None:
        app = application(site.state, site.metrics)
        with pytest.raises(ListenError) as caught:
            async with serving((site.host, site.port), app):
                pass
        assert str(caught.value).startswith(f"cannot listen on 127.0.0.1:{site.port} for probes and metrics: ")
        assert "address already in use" in str(caught.value)

    @pytest.mark.parametrize(("host", "shown"), [("192.0.2.1", "192.0.2.1:1"), ("2001:db8::1", "[2001:db8::1]:1")])
    async def test_on_a_foreign_address_is_one_too(self, host: str, shown: str) -> None:
        with pytest.raises(ListenError) as caught:
            async with serving((host, 1), application(HealthState(0.0), Metrics())):
                pass
        assert f"cannot listen on {shown} for" in str(caught.value)

    async def test_ends_with_the_block(self) -> None:
        async with serving(("127.0.0.1", 0), application(HealthState(0.0), Metrics())) as (host, port):
            pass
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, port)
