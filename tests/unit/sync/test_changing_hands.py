"""Instances that pass from one life, version or pod to the next: each gets its own pod's word, and no stranger's."""

from typing import Any

import pytest

from registry_status.registry.base import PermanentError, TransientError
from registry_status.registry.devserver import NewService
from registry_status.sync.instances import IPS_KEPT
from tests.pods import running, terminated, waiting
from tests.world import ASKED, SERVICE, World, on_virtual_time

ID = ASKED | {"instance-id": "{pod.name}"}
WEB: dict[str, Any] = {"name": "web-0", "ip": "10.244.0.7"}
STRANGER: dict[str, Any] = {"host": "web-0", "ip": "10.99.0.1", "properties": {"podUid": "uid-of-another"}}
SUCCESSOR: dict[str, Any] = {"uid": "uid-2", "name": "web-0", "ip": "", "ready": "False", "ready_since": 200}


def two_versions(world: World) -> None:
    for version in ("1", "2"):
        world.state.create_service(NewService(name="ledger", service_id=f"v{version}", version=f"{version}.0.0"))


# --- two versions of a service ------------------------------------------------------------------


@on_virtual_time
async def test_a_new_version_that_takes_over_an_id_is_up_and_the_old_versions_instance_stays_down() -> None:
    world, asks = World(), {"service": "ledger", "instance-id": "{pod.name}"}
    two_versions(world)
    world.register(service_id="v1", instance_id="web-0", host="web-0")
    world.see(asks, **WEB)
    await world.pass_time(50)
    world.see(asks, **WEB, deleting=True)
    await world.pass_time(5)
    world.see(asks, **WEB, deleting=True, deleted=True)
    world.see(asks, uid="uid-2", name="web-0", ip="10.244.0.8", ready="False", ready_since=1)
    await world.pass_time(1)
    world.register(service_id="v2", instance_id="web-0", host="web-0", ip="10.244.0.8", status="STARTING")
    await world.pass_time(3)
    world.see(asks, uid="uid-2", name="web-0", ip="10.244.0.8", ready_since=58)
    await world.pass_time(2)
    assert (world.status("web-0", "v1"), world.status("web-0", "v2")) == ("DOWN", "UP")
    world.registry.writes.clear()
    await world.pass_time(100)
    assert world.registry.writes == []


@on_virtual_time
async def test_a_container_restarted_as_a_new_version_under_its_own_id_is_up_there() -> None:
    world, asks, mine = World(), {"service": "ledger"}, {"podUid": "uid-1"}
    two_versions(world)
    world.register(service_id="v1", instance_id="same", properties=mine)
    world.see(asks)
    await world.pass_time(50)
    world.see(asks, statuses=[terminated(50)], ready="False", ready_since=49)
    await world.pass_time(1)
    world.see(asks, statuses=[running(51, restarts=1)], ready="False", ready_since=49)
    await world.pass_time(1)
    world.register(service_id="v2", instance_id="same", properties=mine, status="STARTING")
    await world.pass_time(3)
    world.see(asks, statuses=[running(51, restarts=1)], ready_since=57)
    await world.pass_time(60)
    assert (world.status("same", "v1"), world.status("same", "v2")) == ("DOWN", "UP")


# --- an id that somebody else registers ---------------------------------------------------------


@pytest.mark.parametrize("status", ["UP", "DOWN"], ids=["as UP", "as what the pod called for"])
@pytest.mark.parametrize("asks", [ID, ASKED], ids=["annotated", "not annotated"])
@on_virtual_time
async def test_an_id_that_another_pod_registers_after_its_lease_is_not_written_any_more(
    asks: dict[str, str], status: str
) -> None:
    world = World()
    world.register(instance_id="web-0", host="web-0", properties={"podUid": "uid-1"})
    world.see(asks | {"not-ready-status": "DOWN"}, **WEB)
    await world.pass_time(200)
    world.see(asks | {"not-ready-status": "DOWN"}, **WEB, ready="Unknown", ready_since=200)
    await world.pass_time(60)
    world.state.expire_now(SERVICE, "web-0")
    world.register(instance_id="web-0", **STRANGER, status=status)
    world.registry.writes.clear()
    await world.pass_time(120)
    world.see(asks | {"not-ready-status": "DOWN"}, **WEB, ready_since=390)
    await world.pass_time(120)
    assert world.registry.writes == []


@pytest.mark.parametrize(
    ("registered", "seen"),
    [
        ({"ip": "10.99.0.1"}, {}),
        ({"host": "web-1"}, {}),
        ({"properties": {"podUid": "uid-of-another"}}, {}),
        ({"properties": {"podName": "web-1"}}, {}),
        ({}, {"ip": "10.244.0.9"}),
    ],
    ids=["its IP", "its host name", "its uid", "its pod's name", "the pod's IP"],
)
@on_virtual_time
async def test_an_id_that_is_registered_anew_as_it_should_be_is_judged_by_all_that_is_another(
    registered: dict[str, Any], seen: dict[str, Any]
) -> None:
    world = World()
    world.register(instance_id="one", host="web-0")
    world.see(**WEB)
    await world.pass_time(200)
    world.see(**{**WEB, **seen})
    await world.pass_time(60)
    world.state.expire_now(SERVICE, "one")
    world.register(**{"instance_id": "one", "host": "web-0", "status": "UP", **registered})
    await world.pass_time(60)
    world.see(**{**WEB, **seen}, ready="False", ready_since=319)
    await world.pass_time(60)
    assert world.status("one") == "UP"


@pytest.mark.parametrize("after", [5, 100])
@on_virtual_time
async def test_an_id_that_another_pod_registers_after_ours_is_gone_is_not_put_down(after: float) -> None:
    world = World()
    world.register(instance_id="web-0", host="web-0", properties={"podUid": "uid-1"})
    world.see(ID, **WEB)
    await world.pass_time(200)
    world.see(ID, **WEB, deleting=True)
    await world.pass_time(1)
    world.see(ID, **WEB, deleting=True, deleted=True)
    await world.pass_time(after)
    world.state.delete_instance(SERVICE, "web-0")
    world.register(instance_id="web-0", **STRANGER)
    await world.pass_time(200)
    assert world.status("web-0") == "UP"


@on_virtual_time
async def test_what_our_own_sdk_registers_anew_is_put_right_within_a_resync() -> None:
    world = World()
    world.register(instance_id="one")
    world.see(ready="False", ready_since=9)
    await world.pass_time(1)
    for _ in range(5):
        world.state.delete_instance(SERVICE, "one")
        await world.pass_time(2)
        world.register(instance_id="one")
        await world.pass_time(34)
        assert world.status("one") == "OUTOFSERVICE"
    assert "drifted" not in world.kinds(), "nobody else writes it"


@on_virtual_time
async def test_a_pod_that_waits_after_a_refusal_is_tried_anew_when_its_instance_was_registered_anew() -> None:
    world = World()
    world.register(instance_id="one")
    world.see()
    await world.pass_time(200)
    world.registry.refuses["one"] = PermanentError("403001", "not for you")
    world.see(ready="False", ready_since=200)
    await world.pass_time(5)
    world.registry.refuses.clear()
    world.state.expire_now(SERVICE, "one")
    world.register(instance_id="one", status="UP")
    await world.pass_time(60)
    assert world.status("one") == "OUTOFSERVICE"


@pytest.mark.parametrize("after", range(0, 30, 5))
@on_virtual_time
async def test_what_is_registered_anew_while_another_instance_fits_equally_well_is_left_alone(after: float) -> None:
    world = World()
    world.register(instance_id="one")
    world.see()
    await world.pass_time(200)
    world.register(instance_id="two", endpoints=("rest://10.244.0.7:9999",))
    await world.pass_time(60 + after)
    world.state.expire_now(SERVICE, "one")
    world.register(instance_id="one", status="UP")
    await world.pass_time(60)
    world.registry.writes.clear()
    world.see(ready="False", ready_since=319)
    await world.pass_time(60)
    assert world.registry.writes == []


@pytest.mark.parametrize("statuses", [[running()], []], ids=["a pod", "a virtual kubelet's"])
@pytest.mark.parametrize("after", range(0, 30, 5))
@on_virtual_time
async def test_what_is_registered_anew_together_with_another_instance_that_fits_is_left_alone(
    after: float, statuses: list[dict[str, Any]]
) -> None:
    """One listing may tell of both, and then nothing was told yet of the other one."""
    world = World()
    world.register(instance_id="one")
    world.see(statuses=statuses)
    await world.pass_time(200 + after)
    world.register(instance_id="two", endpoints=("rest://10.244.0.7:9999",))
    world.state.expire_now(SERVICE, "one")
    world.register(instance_id="one", status="UP")
    await world.pass_time(60)
    world.see(statuses=statuses, ready="False", ready_since=319)
    await world.pass_time(60)
    assert world.registry.writes == []
    assert "conflict" in world.kinds()


# --- a gone pod and its successor ---------------------------------------------------------------


@pytest.mark.parametrize("asks", [ID, ASKED], ids=["annotated", "not annotated"])
@pytest.mark.parametrize("order", ["successor first", "end first", "end in an outage"])
@on_virtual_time
async def test_a_gone_pod_is_down_while_its_successor_has_not_started(order: str, asks: dict[str, str]) -> None:
    world = World()
    world.register(instance_id="web-0", host="web-0")
    world.see(asks, **WEB)
    await world.pass_time(200)
    if order == "end in an outage":
        world.registry.failure = TransientError("timeout", "no answer in time")
    if order == "successor first":
        world.see(asks, **SUCCESSOR, statuses=[waiting()])
        world.engine.vanish("uid-1")
    else:
        world.see(asks, **WEB, deleted=True, deleting=True)
        world.see(asks, **SUCCESSOR, statuses=[waiting()])
    await world.pass_time(3)
    world.registry.failure = None
    await world.pass_time(60)
    assert world.status("web-0") == "DOWN"


@on_virtual_time
async def test_a_replica_that_takes_over_puts_a_gone_pod_down_though_its_successor_waits() -> None:
    first = World()
    instance = first.register(host="web-0", properties={"podUid": "uid-1"})
    second = World(beside=first)
    for world in (first, second):
        world.see(**WEB)
    await first.pass_time(200)
    first.engine.stand_by()
    second.see(**WEB, deleted=True, deleting=True)
    second.see(**SUCCESSOR, statuses=[waiting()])
    await first.pass_time(10)
    second.engine.start_writing()
    await first.pass_time(60)
    assert first.status(instance) == "DOWN"


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
@on_virtual_time
async def test_a_finished_pod_that_names_the_same_instance_does_not_keep_a_gone_one_from_its_down(phase: str) -> None:
    world, asks = World(trust_ids=True), ASKED | {"instance-id": "batch"}
    world.see(asks, uid="uid-b", name="batch-b", ip="10.244.0.3", phase=phase, statuses=[terminated()], ready="False")
    await world.pass_time(5)
    world.register(instance_id="batch", host="batch-a")
    world.see(asks, uid="uid-a", name="batch-a")
    await world.pass_time(200)
    world.see(asks, uid="uid-a", name="batch-a", deleted=True)
    await world.pass_time(60)
    assert world.status("batch") == "DOWN"


@on_virtual_time
async def test_a_gone_pod_leaves_the_instance_to_a_ready_successor_though_no_kubelet_tells_of_its_containers() -> None:
    world, asks = World(trust_ids=True), ASKED | {"instance-id": "one"}
    world.register(instance_id="one", host="a")
    world.see(asks, uid="uid-a", name="a", statuses=[])
    await world.pass_time(50)
    world.registry.writes.clear()
    world.see(asks, uid="uid-b", name="b", ip="10.244.0.8", statuses=[])
    world.see(asks, uid="uid-a", name="a", statuses=[], deleted=True)
    await world.pass_time(60)
    assert (world.status("one"), world.registry.writes) == ("UP", [])


@on_virtual_time
async def test_a_pod_that_was_taken_for_gone_and_is_there_is_looked_after_as_before() -> None:
    world = World()
    instance = world.register()
    world.see()
    await world.pass_time(200)
    world.engine.vanish("uid-1")
    await world.pass_time(1)
    world.see()
    await world.pass_time(200)
    world.state.put_status(SERVICE, instance, "DOWN")
    await world.pass_time(60)
    assert world.status(instance) == "UP"


# --- lives of one pod ---------------------------------------------------------------------------


@pytest.mark.parametrize("registers", [True, False], ids=["and registers anew", "and does not register"])
@on_virtual_time
async def test_a_restart_under_another_ip_takes_the_instance_of_the_life_before_down(*, registers: bool) -> None:
    world = World()
    before = world.register()
    world.see()
    await world.pass_time(200)
    again: dict[str, Any] = {"ip": "10.244.0.99", "statuses": [running(200, restarts=1)]}
    world.see(**again, ready="False", ready_since=199)
    await world.pass_time(5)
    assert world.status(before) == "STARTING"
    if registers:
        now = world.register(ip="10.244.0.99")
        await world.pass_time(3)
    world.see(**again, ready_since=210)
    await world.pass_time(60)
    if registers:
        assert (world.status(before), world.status(now)) == ("DOWN", "UP")
    else:
        assert world.status(before) != "UP"


@on_virtual_time
async def test_an_instance_left_under_another_ip_that_a_stranger_registers_anew_is_let_go() -> None:
    world = World()
    world.register(instance_id="one")
    world.see()
    await world.pass_time(200)
    world.see(ip="10.244.0.99", statuses=[running(200, restarts=1)], ready="False", ready_since=199)
    await world.pass_time(40)
    world.state.delete_instance(SERVICE, "one")
    world.register(instance_id="one", host="another", ip="10.244.0.7")
    await world.pass_time(100)
    assert world.status("one") == "UP"


# --- what is kept of them -----------------------------------------------------------------------


@on_virtual_time
async def test_a_rival_waits_for_a_write_that_is_under_way_for_one_that_has_let_go() -> None:
    world = World(trust_ids=True)
    world.state.create_service(NewService(name="order", service_id="svc-2"))
    world.register(instance_id="cart-0")
    asks, moved = ASKED | {"instance-id": "cart-0"}, {"service-id": "svc-2", "instance-id": "cart-0"}
    world.see(asks, uid="uid-1", name="a")
    await world.pass_time(5)
    world.registry.delay = 3.0
    world.see(asks, uid="uid-1", name="a", deleting=True)
    await world.pass_time(0.5)
    world.registry.delay = 0.005
    world.see(moved, uid="uid-1", name="a", deleting=True)
    world.see(asks, uid="uid-2", name="b", ip="10.244.0.8")
    await world.pass_time(20)
    assert world.status("cart-0") == "UP"


@on_virtual_time
async def test_of_the_pods_that_follow_each_other_only_the_last_addresses_are_kept() -> None:
    world = World()
    world.register(instance_id="web-0", host="web-0", ip="10.244.0.0")
    for number in range(IPS_KEPT + 5):
        pod: dict[str, Any] = {"uid": f"uid-{number}", "name": "web-0", "ip": f"10.244.0.{number}"}
        world.see(ID, **pod)
        await world.pass_time(20)
        world.see(ID, **pod, deleting=True)
        await world.pass_time(1)
        world.see(ID, **pod, deleting=True, deleted=True)
        await world.pass_time(1)
    (held,) = world.engine._delivery.instances
    assert len(held.ips) <= IPS_KEPT
