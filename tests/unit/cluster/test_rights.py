"""What the operator has to be allowed, and what it says where it is not. Against the emulated API server."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from registry_status.cluster.access import Access
from registry_status.cluster.api import ApiServer
from registry_status.cluster.lease import LeaseRef
from registry_status.cluster.rights import MissingRightsError, check_rights, check_rights_later, needed_rights
from registry_status.config import Settings
from registry_status.demo.emulator import Emulator
from tests.unit.cluster.fake_api import closed_port

LEASE = LeaseRef("system", "status")
EVERYWHERE = needed_rights(Settings(), LEASE)


@pytest.fixture
def emulator() -> Emulator:
    return Emulator()


@pytest.fixture
async def api(emulator: Emulator) -> AsyncIterator[ApiServer]:
    async with emulator.listening() as url, ApiServer(Access(server=url, source="test")) as api:
        yield api


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage()) for record in caplog.records if record.name.startswith("registry_status")]


class TestNeeds:
    def test_in_the_whole_cluster(self) -> None:
        assert [str(each) for need in needed_rights(Settings(), None) for each in need.permissions] == [
            "get pods in all namespaces",
            "list pods in all namespaces",
            "watch pods in all namespaces",
            "create events in all namespaces",
            "get events in all namespaces",
            "patch events in all namespaces",
        ]

    def test_a_dry_run_only_looks(self) -> None:
        assert {need.resource for need in needed_rights(Settings(dry_run=True, readiness_gate=True), None)} == {"pods"}

    def test_the_readiness_gate_takes_one_more_which_is_not_vital(self) -> None:
        gate = needed_rights(Settings(readiness_gate=True), None)[-1]
        assert [str(each) for each in gate.permissions] == ["patch pods/status in all namespaces"]
        assert gate.rule == 'a ClusterRole: apiGroups: [""], resources: [pods/status], verbs: [patch]'
        assert not gate.vital

    def test_in_some_namespaces_and_with_a_lease(self) -> None:
        needs = needed_rights(Settings(namespaces=("shop", "stock")), LEASE)
        asked = [str(each) for need in needs for each in need.permissions]
        assert len(asked) == 15
        assert not [each for each in asked if "all namespaces" in each]
        assert asked[-3:] == [
            "get leases.coordination.k8s.io/status in namespace system",
            "create leases.coordination.k8s.io in namespace system",
            "update leases.coordination.k8s.io/status in namespace system",
        ]


async def test_with_all_rights_nothing_is_said(api: ApiServer, caplog: pytest.LogCaptureFixture) -> None:
    assert await check_rights(api, EVERYWHERE)
    assert said(caplog) == []


async def test_without_the_right_to_watch_pods_it_cannot_begin(
    emulator: Emulator, api: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.deny("watch", "pods")
    emulator.deny("list", "pods")
    with pytest.raises(MissingRightsError) as caught:
        await check_rights(api, EVERYWHERE)
    expected = (
        "cannot watch pods: the operator may not list pods in all namespaces, watch pods in all namespaces; "
        'it needs a ClusterRole: apiGroups: [""], resources: [pods], verbs: [get, list, watch]'
    )
    assert str(caught.value) == expected
    assert said(caplog) == [(logging.ERROR, expected)]


async def test_a_namespace_without_its_role_is_named(emulator: Emulator, api: ApiServer) -> None:
    emulator.deny("list", "pods", "stock")
    with pytest.raises(
        MissingRightsError, match=r"list pods in namespace stock; it needs a Role in namespace stock: apiGroups"
    ):
        await check_rights(api, needed_rights(Settings(namespaces=("shop", "stock")), None))


@pytest.mark.parametrize("verb", ["create", "get", "patch"])
async def test_without_events_it_works_and_says_so(
    emulator: Emulator, api: ApiServer, caplog: pytest.LogCaptureFixture, verb: str
) -> None:
    emulator.deny(verb, "events")
    assert await check_rights(api, EVERYWHERE)
    ((level, text),) = said(caplog)
    assert level == logging.WARNING
    assert text.startswith(f"cannot post Events: the operator may not {verb} events in all namespaces; it needs a ClusterRole")


async def test_single_pods_are_a_need_of_few(emulator: Emulator, api: ApiServer, caplog: pytest.LogCaptureFixture) -> None:
    emulator.deny("get", "pods")
    assert await check_rights(api, EVERYWHERE)
    assert [level for level, _ in said(caplog)] == [logging.WARNING]


async def test_without_its_lease_it_could_never_lead(emulator: Emulator, api: ApiServer) -> None:
    emulator.deny("update", "leases", "system")
    with pytest.raises(MissingRightsError) as caught:
        await check_rights(api, EVERYWHERE)
    assert str(caught.value) == (
        "cannot elect a leader: the operator may not update leases.coordination.k8s.io/status in namespace system; "
        'it needs a Role in namespace system: apiGroups: ["coordination.k8s.io"], resources: [leases], '
        "verbs: [get, create, update]"
    )


async def test_a_lease_that_somebody_else_makes_need_not_be_made(emulator: Emulator, api: ApiServer) -> None:
    emulator.deny("create", "leases", "system")
    assert await check_rights(api, EVERYWHERE)


async def test_an_api_server_that_is_away_is_asked_later(caplog: pytest.LogCaptureFixture) -> None:
    url = f"http://127.0.0.1:{await closed_port()}"
    async with ApiServer(Access(server=url, source="test")) as api:
        assert not await check_rights(api, EVERYWHERE)
    ((level, text),) = said(caplog)
    assert level == logging.WARNING
    assert url in text


@pytest.mark.parametrize(("code", "answered"), [(500, False), (429, False), (401, False), (403, True), (404, True)])
async def test_one_that_cannot_tell_is_asked_later_where_that_may_help(
    emulator: Emulator, api: ApiServer, code: int, answered: bool
) -> None:
    emulator.fail(99, code)
    assert await check_rights(api, EVERYWHERE) is answered


async def test_later_what_is_missing_is_said_and_ends_nothing(
    emulator: Emulator, api: ApiServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry_status.cluster.rights.AGAIN", 0.01)
    emulator.deny("list", "pods")
    emulator.fail(2, 503)
    await asyncio.wait_for(check_rights_later(api, EVERYWHERE), 10)
    assert [level for level, _ in said(caplog)] == [logging.WARNING, logging.WARNING, logging.ERROR]
