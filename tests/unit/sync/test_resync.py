"""Drift: what the registry says is compared with what was written, and put back."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from registry_status.model import OutcomeKind, Tenant
from registry_status.registry.base import Instance, PermanentError, TransientError
from registry_status.registry.devserver import NewService
from registry_status.sync.resync import FIGHT_REPAIRS, FIGHT_WINDOW, Cause
from tests.pods import running, terminated
from tests.world import SERVICE, StateRegistry, World, on_virtual_time

ROUND = 34.0
"""Seconds that a resync round takes at most: 30 with their jitter."""


async def unready(world: World, **more: Any) -> str:
    """A pod that has lost readiness, settled as OUTOFSERVICE."""
    instance = world.register(instance_id="one", **more)
    world.see(ready="False", ready_since=9)
    await world.pass_time()
    assert world.status(instance) == "OUTOFSERVICE"
    return instance


@on_virtual_time
async def test_in_step_each_service_is_listed_once_an_interval_and_nothing_is_written() -> None:
    world = World()
    await unready(world)
    world.registry.calls.clear()
    await world.pass_time(600)
    assert 17 <= world.registry.calls.count("list-instances") <= 23
    assert 17 <= world.registry.calls.count("list-services") <= 23
    assert world.written() == ["OUTOFSERVICE"]
    assert world.drifts == []


def ten_services() -> World:
    """Each with a pod."""
    world = World()
    for number in range(10):
        world.state.create_service(NewService(name=f"s{number}", service_id=f"s{number}"))
        world.register(service_id=f"s{number}", ip=f"10.244.2.{number}", host=f"p{number}")
        world.see({"service-id": f"s{number}"}, uid=f"u{number}", name=f"p{number}", ip=f"10.244.2.{number}")
    return world


@on_virtual_time
async def test_the_lists_of_many_services_are_spread_over_the_interval() -> None:
    world = ten_services()
    await world.pass_time(40)
    world.registry.calls.clear()
    await world.pass_time(6)
    assert 1 <= world.registry.calls.count("list-instances") <= 3


@on_virtual_time
async def test_slow_answers_do_not_make_a_round_longer() -> None:
    world = ten_services()
    await world.pass_time(40)
    world.registry.delay = 2.0
    world.registry.calls.clear()
    await world.pass_time(300)
    assert 90 <= world.registry.calls.count("list-instances") <= 110


@on_virtual_time
async def test_turns_that_an_outage_took_are_not_caught_up() -> None:
    world = ten_services()
    await world.pass_time(40)
    world.registry.delay = 20.0
    await world.pass_time(10)
    world.registry.delay = 0.005
    for _ in range(10):
        world.registry.calls.clear()
        await world.pass_time(6)
        assert world.registry.calls.count("list-instances") <= 4


@on_virtual_time
async def test_a_status_changed_by_someone_else_is_put_back_and_told() -> None:
    world = World()
    instance = await unready(world)
    world.state.put_status(SERVICE, instance, "UP")
    await world.pass_time(ROUND)
    assert world.status(instance) == "OUTOFSERVICE"
    assert world.drifts == [Cause.CHANGED]
    assert OutcomeKind.DRIFTED in world.kinds()


async def registered_anew(world: World) -> str:
    """The instance of a pod that is not ready expires, and its SDK registers it again."""
    instance = await unready(world)
    world.state.delete_instance(SERVICE, instance)
    await world.pass_time(2)
    world.register(instance_id=instance)
    return instance


@on_virtual_time
async def test_an_instance_that_expired_and_came_back_is_put_right() -> None:
    world = World()
    instance = await registered_anew(world)
    await world.pass_time(ROUND)
    assert world.status(instance) == "OUTOFSERVICE"
    assert world.drifts == [Cause.REGISTERED_ANEW]
    assert OutcomeKind.DRIFTED not in world.kinds()


@on_virtual_time
async def test_an_instance_that_came_back_as_it_should_be_has_not_drifted() -> None:
    world = World()
    instance = await registered_anew(world)
    world.state.put_status(SERVICE, instance, "OUTOFSERVICE")
    await world.pass_time(ROUND)
    assert (world.drifts, world.redundant()) == ([], [])


@dataclass
class LateLists(StateRegistry):
    """A registry whose lists are on their way for so many seconds."""

    late: float = 0.0

    async def list_instances(self, tenant: Tenant, service_id: str) -> Sequence[Instance]:
        listed = await super().list_instances(tenant, service_id)
        await asyncio.sleep(self.late)
        return listed


@on_virtual_time
async def test_a_list_that_was_on_its_way_while_a_status_was_written_says_nothing_about_it() -> None:
    world = World(registry=LateLists)
    instance = world.register()
    world.see()
    await world.pass_time(5)
    assert isinstance(world.registry, LateLists)
    world.registry.late = 3.0
    world.registry.calls.clear()
    while "list-instances" not in world.registry.calls:
        await world.pass_time(0.1)
    world.see(ready="False", ready_since=9)
    await world.pass_time(ROUND)
    assert world.status(instance) == "OUTOFSERVICE"
    assert (world.drifts, world.redundant(), world.written()) == ([], [], ["OUTOFSERVICE"])


@on_virtual_time
async def test_an_instance_that_vanished_is_looked_for_until_it_is_back() -> None:
    world = World()
    instance = await unready(world)
    await world.pass_time(130)
    world.state.delete_instance(SERVICE, instance)
    await world.pass_time(ROUND)
    assert world.drifts == [Cause.VANISHED]
    world.register(instance_id="one")
    await world.pass_time(ROUND)
    assert world.status(instance) == "OUTOFSERVICE"


@on_virtual_time
async def test_an_sdk_that_registers_a_second_instance_without_a_restart_is_noticed() -> None:
    world = World()
    old = await unready(world)
    await world.pass_time(150)
    new = world.register()
    await world.pass_time(ROUND)
    assert world.status(new) == world.status(old) == "OUTOFSERVICE"
    world.see(ready_since=300)
    await world.pass_time()
    assert (world.status(new), world.status(old)) == ("UP", "DOWN")


@on_virtual_time
async def test_three_repairs_in_five_minutes_are_a_fight_that_is_told_and_left() -> None:
    world = World()
    instance = await unready(world)
    for _ in range(8):
        world.state.put_status(SERVICE, instance, "UP")
        await world.pass_time(ROUND)
    assert world.drifts.count(Cause.CHANGED) == 3
    told = [outcome.message for outcome in world.outcomes if outcome.kind is OutcomeKind.DRIFTED]
    assert len(told) == 3
    assert "left to them" in told[-1]
    assert world.status(instance) == "UP"
    await world.pass_time(340)
    assert world.status(instance) == "OUTOFSERVICE"


@on_virtual_time
async def test_a_pods_own_change_is_written_during_a_fight_too() -> None:
    world = World()
    instance = await unready(world)
    for _ in range(5):
        world.state.put_status(SERVICE, instance, "UP")
        await world.pass_time(ROUND)
    world.see(deleting=True)
    await world.pass_time()
    assert world.status(instance) == "DOWN"


@on_virtual_time
async def test_a_late_write_of_an_earlier_status_is_repaired() -> None:
    """A request that timed out may land after the one that followed it."""
    world = World()
    instance = world.register()
    world.see()
    await world.pass_time()
    world.see(ready="False", ready_since=9)
    await world.pass_time()
    world.state.put_status(SERVICE, instance, "UP")
    await world.pass_time(ROUND)
    assert world.status(instance) == "OUTOFSERVICE"


@on_virtual_time
async def test_an_unreachable_registry_does_not_end_the_resync() -> None:
    world = World()
    instance = await unready(world)
    world.registry.failure = TransientError("connect", "refused")
    await world.pass_time(100)
    world.registry.failure = None
    world.state.put_status(SERVICE, instance, "UP")
    await world.pass_time(ROUND)
    assert world.status(instance) == "OUTOFSERVICE"


@pytest.mark.parametrize("others", [0, 200])
@on_virtual_time
async def test_foreign_instances_of_a_service_are_left_alone(others: int) -> None:
    world = World()
    instance = await unready(world)
    for number in range(others):
        world.register(host=f"vm-{number}", ip=f"192.0.2.{number}")
    await world.pass_time(3 * ROUND)
    assert world.written() == ["OUTOFSERVICE"]
    assert world.status(instance) == "OUTOFSERVICE"
    world.see(ready_since=9, statuses=[running(2)])
    await world.pass_time()
    assert world.written() == ["OUTOFSERVICE", "UP"]


@on_virtual_time
async def test_a_write_of_unclear_outcome_is_no_drift() -> None:
    """Its owner is about to look what became of it."""
    world = World()
    world.register()
    world.see()
    await world.pass_time()
    lost = TransientError("timeout", "no answer in time", maybe_applied=True)
    world.registry.fails = lambda what: lost if what == "write-status" else None
    world.see(ready="False", ready_since=9)
    await world.pass_time(300)
    assert world.drifts == []


@on_virtual_time
async def test_during_a_fight_a_pods_own_change_to_what_the_others_wrote_is_no_write() -> None:
    world = World()
    instance = world.register()
    world.see()
    await world.pass_time(1)
    for _ in range(5):
        world.state.put_status(SERVICE, instance, "DOWN")
        await world.pass_time(ROUND)
    world.registry.writes.clear()
    world.see(deleting=True)
    await world.pass_time(1)
    assert (world.status(instance), world.registry.writes) == ("DOWN", [])


@on_virtual_time
async def test_a_fight_is_left_alone_for_as_long_as_was_told() -> None:
    world = World()
    instance = await unready(world)
    for _ in range(FIGHT_REPAIRS):
        world.state.put_status(SERVICE, instance, "UP")
        await world.pass_time(ROUND + 50)
    world.state.put_status(SERVICE, instance, "UP")
    await world.pass_time(FIGHT_WINDOW - 2 * (ROUND + 50))
    assert world.status(instance) == "UP"
    await world.pass_time(2 * (ROUND + 50))
    assert world.status(instance) == "OUTOFSERVICE"


@on_virtual_time
async def test_a_change_by_others_to_what_the_pod_calls_for_is_not_told_to_be_put_back() -> None:
    world = World()
    instance = world.register()
    world.see()
    await world.pass_time(5)
    world.registry.refuses[instance] = PermanentError("403001", "not for you")
    world.see(ready="False", ready_since=9)
    await world.pass_time(5)
    world.state.put_status(SERVICE, instance, "OUTOFSERVICE")
    await world.pass_time(2 * ROUND)
    assert OutcomeKind.DRIFTED not in world.kinds()
    assert world.outcomes[-1].kind is OutcomeKind.DELIVERED


@on_virtual_time
async def test_in_an_ambiguity_which_is_told_once_the_instance_held_before_is_written_alone() -> None:
    world = World()
    first = world.register()
    world.see()
    await world.pass_time(200)
    second = world.register(endpoints=("rest://10.244.0.7:9999",))
    await world.pass_time(ROUND)
    told = len(world.outcomes)
    world.registry.writes.clear()
    world.see(ready="False", ready_since=230)
    await world.pass_time(1)
    assert (world.status(first), world.status(second)) == ("OUTOFSERVICE", "UP")
    world.see(ready_since=240)
    await world.pass_time(600)
    assert (world.status(first), world.written()) == ("UP", ["OUTOFSERVICE", "UP"])
    assert (world.kinds()[told - 1 :], len(world.drifts)) == ([OutcomeKind.CONFLICT], 1)
    world.see(deleting=True)
    await world.pass_time(1)
    assert (world.status(first), world.status(second)) == ("DOWN", "UP")


@pytest.mark.parametrize("statuses", [[running()], []], ids=["a pod", "a virtual kubelet's"])
@on_virtual_time
async def test_an_ambiguity_is_told_of_every_pod_that_runs(statuses: list[dict[str, Any]]) -> None:
    world = World()
    world.register()
    world.see(statuses=statuses)
    await world.pass_time(200)
    world.register(endpoints=("rest://10.244.0.7:9999",))
    await world.pass_time(600)
    assert (world.kinds()[-1], len(world.drifts)) == (OutcomeKind.CONFLICT, 1)


@on_virtual_time
async def test_in_an_ambiguity_after_a_restart_an_earlier_lifes_instance_is_not_put_up() -> None:
    world = World()
    first = world.register()
    world.see()
    await world.pass_time(200)
    world.see(statuses=[running(200, restarts=1)], ready="False", ready_since=199)
    await world.pass_time(5)
    for port in (8080, 9999):
        world.register(endpoints=(f"rest://10.244.0.7:{port}",), status="STARTING")
    await world.pass_time(2)
    world.see(statuses=[running(200, restarts=1)], ready_since=210)
    await world.pass_time(60)
    assert world.status(first) != "UP"
    assert world.kinds()[-1] is OutcomeKind.CONFLICT


@on_virtual_time
async def test_an_instance_of_weaker_evidence_beside_the_pods_own_is_no_news_at_each_round() -> None:
    world = World()
    world.register(properties={"podUid": "uid-1"})
    world.see()
    await world.pass_time(200)
    world.register()
    await world.pass_time(600)
    assert world.drifts == []


@on_virtual_time
async def test_a_pod_in_a_crash_loop_beside_two_instances_that_may_be_its_own_is_no_news_at_each_round() -> None:
    world = World()
    world.register()
    world.see()
    await world.pass_time(200)
    world.see(statuses=[terminated(200, restarts=1)], ready="False", ready_since=200)
    await world.pass_time(5)
    for port in (8080, 9999):
        world.register(endpoints=(f"rest://10.244.0.7:{port}",))
    await world.pass_time(600)
    assert len(world.drifts) <= 1
