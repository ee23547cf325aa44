"""When a pod's readiness gate is opened: once the registry is known to say UP of the pod's own instance."""

from typing import Any

import pytest

from registry_status.model import InstanceStatus, OutcomeKind
from registry_status.registry.base import TransientError
from tests.pods import GATE, GATED, condition
from tests.world import World, on_virtual_time

THEIRS = "example.org/gate"
OPEN: dict[str, Any] = {"readinessGates": [{"conditionType": GATE}], "conditions": [condition(GATE, "True", 6)]}


@on_virtual_time
async def test_it_opens_once_the_registry_has_acknowledged_up() -> None:
    world = World()
    world.register(status="STARTING")
    world.registry.delay = 1
    world.see(**GATED)
    await world.pass_time(2.5)
    assert (world.written(), world.admitted) == (["UP"], [])
    await world.pass_time(1)
    assert [pod.uid for pod in world.admitted] == ["uid-1"]


@on_virtual_time
async def test_it_opens_without_a_write_where_the_registry_says_up_already() -> None:
    world = World()
    world.register(status="UP")
    world.see(**GATED)
    await world.pass_time()
    assert (world.written(), len(world.admitted)) == ([], 1)


@on_virtual_time
async def test_it_opens_only_when_the_sdk_has_registered() -> None:
    world = World()
    world.see(**GATED)
    await world.pass_time(10)
    assert world.admitted == []
    world.register(status="STARTING")
    await world.pass_time(1.5)
    assert len(world.admitted) == 1


@on_virtual_time
async def test_it_stays_closed_while_the_registry_fails() -> None:
    world = World()
    instance = world.register(status="STARTING")
    world.registry.refuses[instance] = TransientError("http-503", "down")
    world.see(**GATED)
    await world.pass_time(10)
    assert world.admitted == []
    world.registry.refuses.clear()
    await world.pass_time(10)
    assert len(world.admitted) == 1


@pytest.mark.parametrize(("what", "pod"), [
    ("has no gate", {"ready": "True"}),
    ("has the gate of somebody else", GATED | {"readinessGates": [{"conditionType": THEIRS}]}),
    ("has its gate open", OPEN),
    ("waits for another gate too", GATED | {"readinessGates": [{"conditionType": GATE}, {"conditionType": THEIRS}]}),
    ("has a container that is not ready", GATED | {"containers_ready": "False", "ready_reason": "ContainersNotReady"}),
    ("terminates", GATED | {"deleting": True}),
])  # fmt: skip
def test_nothing_is_opened_for_a_pod_that(what: str, pod: dict[str, Any]) -> None:
    @on_virtual_time
    async def run() -> None:
        world = World()
        world.register(status="STARTING")
        world.see(**pod)
        await world.pass_time(10)
        assert world.admitted == [], what

    run()


@on_virtual_time
async def test_nothing_is_opened_for_a_pod_whose_instance_another_owns() -> None:
    world = World(trust_ids=True)
    instance = world.register(status="UP", host="other", ip="10.244.0.9")
    asked = {"service-id": "svc-1", "instance-id": instance}
    world.see(asked, name="other", uid="uid-9", ip="10.244.0.9")
    await world.pass_time()
    world.see(asked, **GATED, name="cart-0", uid="uid-0")
    await world.pass_time(5)
    assert (world.kinds()[-1], world.admitted) == (OutcomeKind.CONFLICT, [])


@on_virtual_time
async def test_it_is_opened_once_however_often_the_pod_is_seen_and_its_status_put_right() -> None:
    world = World()
    instance = world.register(status="STARTING")
    for _ in range(3):
        world.see(**GATED)
        await world.pass_time(1)
    world.state.put_status("svc-1", instance, "DOWN")
    await world.pass_time(100)
    assert world.written() == ["UP", "UP"]
    assert len(world.admitted) == 1


@on_virtual_time
async def test_a_condition_that_somebody_took_away_is_set_again() -> None:
    world = World()
    world.register(status="UP")
    for pod in (OPEN, GATED, OPEN, GATED):
        world.see(**pod)
        await world.pass_time()
    assert (len(world.admitted), world.written()) == (2, [])


@on_virtual_time
async def test_a_new_leader_opens_what_the_one_before_did_not() -> None:
    world = World()
    world.register(status="UP")
    world.see(**GATED)
    await world.pass_time()
    world.engine.stand_by()
    await world.pass_time()
    world.engine.start_writing()
    await world.pass_time()
    assert len(world.admitted) == 2


@on_virtual_time
async def test_a_standby_opens_nothing() -> None:
    leader = World()
    standby = World(beside=leader)
    leader.register(status="UP")
    standby.see(**GATED)
    await standby.pass_time(100)
    assert standby.admitted == []


@on_virtual_time
async def test_an_opened_gate_changes_nothing_in_the_registry() -> None:
    world = World()
    instance = world.register(status="STARTING")
    world.see(**GATED)
    await world.pass_time()
    world.see(**OPEN)
    await world.pass_time(100)
    assert (world.written(), world.status(instance)) == (["UP"], InstanceStatus.UP)
