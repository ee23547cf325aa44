"""What is told of a pod is so in the registry, and what is over is told as over."""

from registry_status.model import OutcomeKind
from registry_status.registry.base import TransientError
from tests.pods import running
from tests.world import SERVICE, World, on_virtual_time

ANNOTATED = {"service-id": SERVICE, "instance-id": "db-0"}


@on_virtual_time
async def test_an_earlier_lifes_instance_is_not_told_to_be_up() -> None:
    world = World()
    old = world.register()
    world.see(statuses=[running(0)], ready="True", ready_since=0.0)
    await world.pass_time(10)
    world.see(statuses=[running(10, restarts=1)], ready="False", ready_since=10.0)
    await world.pass_time(5)
    new = world.register()
    await world.pass_time(5)
    world.see(statuses=[running(10, restarts=1)], ready="True", ready_since=20.0)
    await world.pass_time()
    told = world.outcomes[-1]
    assert (world.status(old), world.status(new)) == ("DOWN", "UP")
    assert (told.message, told.instances) == (f"{new}: UP (the pod is Ready)", (new,))


@on_virtual_time
async def test_a_gone_pods_instance_that_is_its_successors_is_not_told_to_be_down() -> None:
    world = World()
    instance = world.register(instance_id="db-0")
    world.see(ANNOTATED, uid="uid-1", statuses=[running(0)], ready_since=0.0)
    await world.pass_time(10)
    world.see(ANNOTATED, uid="uid-2", statuses=[running(5)], ready_since=10.0)
    await world.pass_time(10)
    world.see(ANNOTATED, uid="uid-1", statuses=[running(0)], ready_since=0.0, deleted=True)
    await world.pass_time()
    assert world.status(instance) == "UP"
    assert world.engine.acknowledged_counts() == {"UP": 1}
    assert [outcome.message for outcome in world.outcomes[1:]] == ["nothing is left to write (the pod has been deleted)"]


@on_virtual_time
async def test_a_registry_that_never_failed_is_not_told_to_answer_again() -> None:
    world = World()
    wrong = ANNOTATED | {"terminating-status": "down"}
    world.see(wrong, statuses=[running(0)], ready_since=0.0)
    await world.pass_time()
    world.see(ANNOTATED, statuses=[running(0)], ready_since=0.0)
    await world.pass_time()
    told = world.outcomes[-1]
    assert (told.kind, told.message) == (OutcomeKind.DELIVERED, "the registry has no instance of the pod")


@on_virtual_time
async def test_a_pod_without_an_instance_does_not_recover_from_that_by_the_end_of_a_hiccup() -> None:
    world = World()
    world.see(statuses=[running(0)], ready_since=0.0)
    await world.pass_time(170)
    world.registry.failure = TransientError("http-503", "unwilling")
    await world.pass_time(32)
    world.registry.failure = None
    await world.pass_time(40)
    assert world.kinds() == [OutcomeKind.NOT_FOUND, OutcomeKind.FAILING, OutcomeKind.NOT_FOUND]


@on_virtual_time
async def test_a_failure_is_over_once_a_gone_pods_instance_cannot_be_told_from_others() -> None:
    """Else a Warning that is held back would be posted after all."""
    world = World()
    for port in (8080, 8081):
        world.register(endpoints=(f"rest://10.244.0.7:{port}",))
    world.registry.failure = TransientError("http-503", "unwilling")
    world.see(statuses=[running(0)], ready_since=0.0)
    await world.pass_time(1)
    world.see(statuses=[running(0)], ready_since=0.0, deleted=True)
    world.registry.failure = None
    await world.pass_time(4)
    assert world.kinds() == [OutcomeKind.FAILING, OutcomeKind.DELIVERED]


@on_virtual_time
async def test_a_write_whose_answer_was_lost_is_told_and_timed_once_it_is_seen_to_be_there() -> None:
    world = World()
    instance = world.register()
    world.see(statuses=[running(0)], ready="True", ready_since=0.0)
    await world.pass_time(10)
    world.registry.after_write = TransientError("timeout", "no answer in time", maybe_applied=True)
    world.see(statuses=[running(0)], ready="False", ready_since=10.0)
    await world.pass_time()
    world.registry.after_write = None
    await world.pass_time(3)
    failing, delivered = world.outcomes
    assert (failing.kind, delivered.kind) == (OutcomeKind.FAILING, OutcomeKind.DELIVERED)
    assert delivered.message == f"{instance}: OUTOFSERVICE (the pod was ready and is not any more)"
    assert delivered.latency is not None
    assert world.written() == ["OUTOFSERVICE"]
