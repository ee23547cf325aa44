"""How many pods wait for a delivery: each once, and none for which there is nothing to wait for."""

import pytest

from registry_status.model import OutcomeKind
from registry_status.registry.base import PermanentError, RegistryError, TransientError
from tests.pods import running
from tests.world import ASKED, World, on_virtual_time

UNWILLING = TransientError("http-503", "unwilling")


async def _fail(world: World, seconds: float = 3.0) -> None:
    """A pod's first attempts fail."""
    world.registry.failure = UNWILLING
    world.see(statuses=[running(0)], ready_since=0.0)
    await world.pass_time(seconds)
    assert world.engine.queued == 1
    world.registry.failure = None


@on_virtual_time
async def test_a_pod_that_is_tried_again_counts_once() -> None:
    world = World()
    world.registry.delay = 2.0
    world.registry.failure = UNWILLING
    world.see(statuses=[running(0)], ready_since=0.0)
    for _ in range(200):
        await world.pass_time()
        assert world.engine.queued <= 1


@pytest.mark.parametrize(
    ("error", "asked_again"),
    [(PermanentError("403001", "not for you"), 300.0), (TransientError("http-429", "slow down", retry_after=60.0), 60.0)],
    ids=["refused for good", "asked for patience"],
)
@on_virtual_time
async def test_what_the_registry_says_to_wait_for_waits_by_itself(error: RegistryError, asked_again: float) -> None:
    """However well the registry serves others: pods that wait are called by each one that is written."""
    world = World()
    instance = world.register(status="STARTING")
    await _fail(world)
    world.registry.refuses[instance] = error
    await world.pass_time(3)
    assert world.engine.queued == 0
    before = world.registry.calls.count("write-status")
    world.register(host="cart-2", ip="10.244.0.8", status="STARTING")
    world.registry.failure = UNWILLING
    world.see(statuses=[running(0)], ready_since=0.0, name="cart-2", uid="uid-2", ip="10.244.0.8")
    await world.pass_time(1)
    world.registry.failure = None
    await world.pass_time(asked_again / 2)
    assert world.written() == ["UP"]
    assert world.registry.calls.count("write-status") == before + 1


@on_virtual_time
async def test_a_pod_whose_annotations_became_invalid_waits_for_nothing() -> None:
    world = World()
    await _fail(world)
    world.see(ASKED | {"terminating-status": "down"}, statuses=[running(0)], ready_since=0.0)
    await world.pass_time(3)
    assert world.kinds() == [OutcomeKind.FAILING, OutcomeKind.INVALID]
    assert world.engine.queued == 0


@on_virtual_time
async def test_a_pod_in_conflict_has_been_answered() -> None:
    world = World()
    world.register(host="cart-1", endpoints=("rest://10.244.0.7:8080",))
    world.register(host="cart-1", endpoints=("rest://10.244.0.7:8081",))
    await _fail(world)
    await world.pass_time(3)
    assert world.kinds() == [OutcomeKind.FAILING, OutcomeKind.CONFLICT]
    await world.pass_time(0.5)
    assert world.engine.queued == 0
