"""The parts of the session, one by one; how they work together is in test_watch.py."""

import asyncio
import json
import socket
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_status.cluster.connection import CONNECTIONS, DEAD_AFTER, open_session, patient_socket
from registry_status.cluster.lines import Known, Queued, WatchFault
from registry_status.cluster.streams import SHORT_LIVED, SLOWEST_PACE, IncompleteListError, Pace, PodStreams
from registry_status.cluster.watch import Login
from tests.unit.cluster.fake_api import FakeApi, Listening, access_to, end_of_list, line, pod, serving
from tests.unit.cluster.feeding import FedLines


def test_the_first_start_waits_for_nothing() -> None:
    assert Pace().due(0.0) == 0.0


def test_starts_keep_half_a_second_apart() -> None:
    pace = Pace()
    pace.started(10.0)
    assert pace.due(10.1) == pytest.approx(0.4)
    assert pace.due(11.0) == 0.0


def test_short_lives_make_it_slower_and_a_long_one_makes_it_quick_again() -> None:
    pace, now, gaps = Pace(), 0.0, []
    for _ in range(7):
        pace.started(now)
        pace.ended(now + 0.1)
        gaps.append(pace.due(now))
        now += gaps[-1]
    assert gaps == [1, 2, 4, 8, SLOWEST_PACE, SLOWEST_PACE, SLOWEST_PACE]
    pace.started(now)
    pace.ended(now + SHORT_LIVED)
    assert pace.due(now) == 0.5


def test_sockets_notice_a_dead_peer() -> None:
    address = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 1))
    with patient_socket(address) as made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == DEAD_AFTER
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == DEAD_AFTER * 1000


def pod_streams() -> PodStreams:
    return PodStreams(prefix="registry-status.io/", listener=Listening(), tracked=())


def listening(streams: PodStreams) -> Listening:
    assert isinstance(streams.listener, Listening)
    return streams.listener


async def test_a_watch_without_a_complete_list_before_it_is_impossible() -> None:
    """It would miss what the list did not get to; kopf then has to start from nothing."""
    async with serving(FakeApi()) as api, open_session(access_to(api), pod_streams()) as session:
        with pytest.raises(IncompleteListError):
            await session.get(f"{api.url}/api/v1/pods?watch=true&resourceVersion=7")


async def test_a_server_below_a_path_is_one_too() -> None:
    """As a cluster behind Rancher."""
    streams = pod_streams()
    async with serving(FakeApi()) as api, open_session(access_to(api), streams) as session:
        await session.get(f"{api.url}/k8s/clusters/c-1/api/v1/namespaces/apps/pods?watch=true&sendInitialEvents=true")
    assert listening(streams).started == ["apps"]


async def test_another_login_opens_a_session_only_when_the_last_one_was_closed() -> None:
    async with serving(FakeApi()) as api:
        login = Login(access_to(api), pod_streams())
        first = (await login.log_in()).aiohttp_session
        assert (await login.log_in()).aiohttp_session is first
        await first.close()
        second = (await login.log_in()).aiohttp_session
        assert not second.closed
        await login.close()
        assert second.closed


@pytest.mark.timeout(30)
async def test_however_many_namespaces_are_watched_each_has_its_connection() -> None:
    """Each watch holds one for good: the first beyond a limit would wait for ever, and nobody would be told."""
    async with serving(FakeApi()) as api:
        login = Login(access_to(api), pod_streams())
        paths = [f"{api.url}/api/v1/namespaces/n{number}/pods" for number in range(CONNECTIONS + 36)]
        asked = [login.session().get(f"{path}?watch=true&sendInitialEvents=true") for path in paths]
        async with asyncio.timeout(10):
            answers = await asyncio.gather(*asked)
        assert [answer.status for answer in answers] == [200] * 100
        await login.close()


async def test_requests_go_nowhere_else() -> None:
    async with serving(FakeApi()) as api, serving(FakeApi()) as elsewhere, open_session(access_to(api)) as session:
        with pytest.raises(aiohttp.ClientConnectionError, match="redirects are not followed"):
            await session.get(f"{elsewhere.url}/version")
        assert not elsewhere.seen


# --- the order of what is taken, whichever way it comes --------------------------------------------

STEPS = st.lists(st.tuples(st.sampled_from(["change", "delete", "list", "come out"]), st.sampled_from("abc")), max_size=40)


class Kopf:
    """Lists and changes of pods, and kopf's queues: what comes out of them comes in its pod's order, but at any time."""

    def __init__(self, *, filtering: bool) -> None:
        self.taken: list[tuple[str | None, str, int]] = []
        self.read: list[tuple[str | None, str, int]] = []
        self.streams = PodStreams(prefix="registry-status.io/", listener=self, tracked=(), filtering=filtering)
        self.known = Known()
        self.queues: dict[str, deque[tuple[str | None, Mapping[str, Any]]]] = defaultdict(deque)
        self.alive: dict[str, int] = {}
        self.version = 0
        self.lines = self.open(listing=False)

    def open(self, *, listing: bool) -> FedLines:
        return FedLines(
            self.known, listing=listing, filtering=self.streams.filtering, queued=self.streams.queued,
            hand_over=self.streams.hand_over if self.streams.filtering else None,
        )  # fmt: skip

    def take(self, kind: str | None, body: Mapping[str, Any]) -> None:
        self.taken.append((kind, body["metadata"]["name"], int(body["metadata"]["resourceVersion"])))

    def feed(self, kind: str, name: str, version: int) -> None:
        in_list = self.lines.in_list
        self.read.append((None if in_list else kind, name, version))
        for event in map(json.loads, self.lines.feed(line(kind, pod(name, version))).splitlines()):
            self.queues[name].append((None if in_list else event["type"], event["object"]))

    def step(self, what: str, name: str) -> None:
        self.version += 1
        if what == "come out":
            if self.queues[name]:
                self.streams.come_through(*self.queues[name].popleft())
        elif what == "list":
            self.lines = self.open(listing=True)
            for one, version in self.alive.items():
                self.feed("ADDED", one, version)
            self.lines.feed(end_of_list(self.version))
        elif what == "change" or name in self.alive:
            kind = "DELETED" if what == "delete" else "MODIFIED" if name in self.alive else "ADDED"
            self.feed(kind, name, self.version)
            self.alive[name] = self.version
            if what == "delete":
                del self.alive[name]

    # What a listener is told besides.

    def listing_started(self, namespace: str) -> None: ...
    def listing_finished(self, namespace: str, uids: frozenset[str]) -> None: ...
    def progressed(self, namespace: str) -> None: ...
    def suffered(self, namespace: str, fault: WatchFault, detail: str) -> None: ...


@pytest.mark.parametrize("filtering", [True, False])
@given(steps=STEPS)
def test_events_of_a_pod_come_in_their_order_and_none_is_left_out(steps: list[tuple[str, str]], filtering: bool) -> None:
    kopf = Kopf(filtering=filtering)
    for step in [*steps, *(("come out", name) for name in "abc" for _ in range(2 * len(steps)))]:
        kopf.step(*step)
    for name in "abc":
        assert [event for event in kopf.taken if event[1] == name] == [event for event in kopf.read if event[1] == name]
    assert not any(f"uid-{name}" in kopf.streams.queued for name in "abc")


def test_when_kopf_ends_its_queues_are_gone() -> None:
    queued = Queued()
    queued.given("uid-a")
    queued.lost()
    queued.brought("uid-a")
    assert "uid-a" not in queued
