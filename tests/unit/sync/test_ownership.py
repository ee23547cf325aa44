"""Pods that claim the same instance: one owns it, nobody else's late word counts."""

from typing import Any

import pytest

from registry_status.model import OutcomeKind
from registry_status.registry.base import TransientError
from tests.world import ASKED, World, on_virtual_time

ID = ASKED | {"instance-id": "cart-0"}
FIRST: dict[str, Any] = {"uid": "uid-1", "name": "cart-a", "ip": "10.244.0.7"}
SECOND: dict[str, Any] = {"uid": "uid-2", "name": "cart-b", "ip": "10.244.0.8"}


@on_virtual_time
async def test_the_ready_one_of_two_pods_owns_an_instance() -> None:
    world = World(trust_ids=True)
    world.register(instance_id="cart-0")
    world.see(ID, **FIRST)
    await world.pass_time()
    world.see(ID, **SECOND, ready="False", ready_since=1)
    await world.pass_time(5)
    assert world.status("cart-0") == "UP"
    assert [(one.pod.name, one.kind) for one in world.outcomes] == [("cart-b", OutcomeKind.CONFLICT)]
    assert "shop/cart-a" in world.outcomes[0].message


@on_virtual_time
async def test_a_successor_takes_over_when_it_is_ready_and_the_predecessor_is_not() -> None:
    world = World(trust_ids=True)
    world.register(instance_id="cart-0")
    world.see(ID, **FIRST)
    world.see(ID, **SECOND, ready="False", ready_since=1)
    await world.pass_time()
    world.see(ID, **FIRST, deleting=True)
    world.see(ID, **SECOND)
    await world.pass_time(2)
    assert world.status("cart-0") == "UP"
    world.see(ID, **FIRST, deleting=True, deleted=True)
    await world.pass_time(2)
    assert world.status("cart-0") == "UP"


@on_virtual_time
async def test_a_late_down_of_a_gone_pod_does_not_hit_the_successor() -> None:
    world = World(trust_ids=True)
    world.register(instance_id="cart-0")
    world.see(ID, **FIRST)
    await world.pass_time()
    world.registry.failure = TransientError("timeout", "no answer", maybe_applied=True)
    world.see(ID, **FIRST, deleted=True, deleting=True)
    await world.pass_time(3)
    world.see(ID, **SECOND)
    await world.pass_time(3)
    world.registry.failure = None
    await world.pass_time(60)
    assert world.status("cart-0") == "UP"
    assert "DOWN" not in world.written()


@on_virtual_time
async def test_a_waiting_claimant_is_served_as_soon_as_the_owner_is_gone() -> None:
    world = World(trust_ids=True)
    world.register(instance_id="cart-0")
    world.see(ID, **FIRST)
    world.see(ID, **SECOND, ready="False", ready_since=9)
    await world.pass_time()
    world.see(ID, **FIRST, deleted=True, deleting=True)
    await world.pass_time(0.5)
    assert world.status("cart-0") == "OUTOFSERVICE"


async def be_followed(world: World, *, ip: str) -> None:
    """The pod that holds web-0 goes, and its successor at this IP has the instance, now and later."""
    asked = ASKED | {"instance-id": "{pod.name}"}
    world.see(asked, uid="uid-1", name="web-0", ip="10.244.0.7")
    await world.pass_time()
    world.see(asked, uid="uid-1", name="web-0", ip="10.244.0.7", deleted=True, deleting=True)
    await world.pass_time()
    assert world.status("web-0") == "DOWN"
    world.see(asked, uid="uid-2", name="web-0", ip=ip)
    await world.pass_time(1.5)
    assert world.status("web-0") == "UP"
    await world.pass_time(200)
    assert world.status("web-0") == "UP"


@on_virtual_time
async def test_a_stateful_sets_successor_keeps_its_instance_though_its_ip_changed() -> None:
    """Registering a live id again is a heartbeat: the endpoints of the predecessor stay."""
    world = World()
    world.register(instance_id="web-0", host="web-0", ip="10.244.0.7")
    await be_followed(world, ip="10.244.0.9")


@pytest.mark.parametrize("ip", ["10.244.0.7", "10.244.0.9"], ids=["the same IP", "another IP"])
@on_virtual_time
async def test_a_stateful_sets_successor_has_its_instance_though_that_bears_the_uid_of_the_pod_before(ip: str) -> None:
    """Registering a live id again is a heartbeat: the properties of the predecessor stay, too."""
    world = World()
    world.register(instance_id="web-0", host="web-0", ip="10.244.0.7", properties={"podUid": "uid-1"})
    await be_followed(world, ip=ip)


@on_virtual_time
async def test_an_instance_that_bears_the_uid_of_a_pod_that_runs_is_no_others() -> None:
    world = World()
    world.register(instance_id="cart-0", host="cart-a", ip="10.244.0.7", properties={"podUid": "uid-1"})
    world.see(ID, **FIRST, ready="False", ready_since=9)
    await world.pass_time()
    world.see(ID, **SECOND | {"name": "cart-a"})
    await world.pass_time(60)
    assert world.status("cart-0") == "OUTOFSERVICE"


@on_virtual_time
async def test_an_annotated_id_that_nothing_ties_to_the_pod_is_left_alone() -> None:
    world = World()
    world.register(instance_id="cart-0", host="stranger", ip="192.0.2.1")
    world.see(ID, ready="False", ready_since=9)
    await world.pass_time(5)
    assert world.status("cart-0") == "UP"
    assert world.kinds() == [OutcomeKind.CONFLICT]
    assert "stranger" in world.outcomes[0].message


@on_virtual_time
async def test_several_fitting_instances_are_refused_and_listed() -> None:
    world = World()
    first, second = world.register(), world.register(endpoints=("rest://10.244.0.7:9090",))
    world.see(ready="False", ready_since=9)
    await world.pass_time(5)
    assert world.registry.writes == []
    assert world.kinds() == [OutcomeKind.CONFLICT]
    assert first in world.outcomes[0].message
    assert second in world.outcomes[0].message


@on_virtual_time
async def test_a_new_pod_that_took_a_gone_pods_ip_is_not_put_down_for_it() -> None:
    world = World()
    world.register(host="old", ip="10.244.0.7")
    world.see(uid="uid-1", name="old", ip="10.244.0.7")
    await world.pass_time()
    world.see(uid="uid-1", name="old", ip="10.244.0.7", deleted=True, deleting=True)
    await world.pass_time()
    new = world.register(host="new", ip="10.244.0.7")
    await world.pass_time(140)
    assert world.status(new) == "UP"
