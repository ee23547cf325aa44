"""The parts of the session, one by one; how they work together is in test_watch.py."""

import socket

import aiohttp
import pytest

from registry_status.cluster.connection import DEAD_AFTER, open_session, patient_socket
from registry_status.cluster.streams import SHORT_LIVED, SLOWEST_PACE, IncompleteListError, Pace, PodStreams
from registry_status.cluster.watch import Login
from tests.unit.cluster.fake_api import FakeApi, Listening, access_to, serving


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
    assert isinstance(streams.listener, Listening)
    assert streams.listener.started == ["apps"]


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


async def test_requests_go_nowhere_else() -> None:
    async with serving(FakeApi()) as api, serving(FakeApi()) as elsewhere, open_session(access_to(api)) as session:
        with pytest.raises(aiohttp.ClientConnectionError, match="redirects are not followed"):
            await session.get(f"{elsewhere.url}/version")
        assert not elsewhere.seen
