"""Delivery of a pod's status: what is written, what is not, and what is told."""

from typing import Any

import pytest

from registry_status.model import InstanceStatus, OutcomeKind
from registry_status.registry.base import (
    AuthError,
    BlockedError,
    NotFoundError,
    PermanentError,
    RegistryError,
    TransientError,
    UnavailableError,
)
from registry_status.registry.devserver import NewService
from registry_status.sync.delivery import JITTER, POLL
from tests.pods import running, terminated, waiting
from tests.world import ASKED, SERVICE, World, on_virtual_time

BUSY = TransientError("http-503", "no server", address="http://registry")
THROTTLED = TransientError("http-429", "slow down", address="http://registry", retry_after=1.0)


@on_virtual_time
async def test_a_ready_pod_whose_instance_is_up_writes_nothing() -> None:
    world = World()
    world.register()
    world.see()
    await world.pass_time()
    assert world.registry.writes == []
    assert world.registry.calls == ["list-instances"]
    assert world.outcomes == []


@on_virtual_time
async def test_a_pod_that_loses_and_regains_readiness_is_followed_by_single_writes() -> None:
    world = World()
    instance = world.register()
    world.see()
    await world.pass_time()
    world.see(ready="False", ready_since=9)
    await world.pass_time()
    assert world.status(instance) == "OUTOFSERVICE"
    world.see(ready_since=12)
    await world.pass_time()
    assert world.written() == ["OUTOFSERVICE", "UP"]
    assert world.registry.calls == ["list-instances", "list-services", "write-status", "write-status"]
    assert world.kinds() == [OutcomeKind.DELIVERED, OutcomeKind.DELIVERED]
    assert world.redundant() == []


@on_virtual_time
async def test_repeated_observations_of_one_state_ask_nothing() -> None:
    world = World()
    world.register()
    for _ in range(5):
        world.see()
        await world.pass_time()
    assert world.registry.calls == ["list-instances"]


@on_virtual_time
async def test_nothing_is_asked_before_the_container_has_started() -> None:
    world = World()
    world.see(ready="False", ready_since=1, statuses=[waiting()], ip="")
    await world.pass_time(60)
    assert world.registry.calls == []


@on_virtual_time
async def test_an_sdk_that_registers_up_on_an_unready_pod_is_corrected_within_about_a_second() -> None:
    world = World()
    world.see(ready="False", ready_since=1)
    await world.pass_time(20)
    instance = world.register(status="UP")
    await world.pass_time(1.1)
    assert world.status(instance) == "STARTING"
    assert 18 <= world.registry.calls.count("list-instances") <= 24


NEW = "svc-2"
APPEARS: dict[str, tuple[dict[str, str], NewService | None]] = {
    "an instance, by service id": (ASKED, None),
    "an instance, by name": ({"service": "cart"}, None),
    "an instance, by name and version": ({"service": "cart", "version": "0.0.1"}, None),
    "a service, by service id": ({"service-id": NEW}, NewService(name="wagon", service_id=NEW)),
    "a service, by name": ({"service": "wagon"}, NewService(name="wagon", service_id=NEW)),
    "a version, by name": ({"service": "cart"}, NewService(name="cart", version="2.0", service_id=NEW)),
    "a version, by its number": (
        {"service": "cart", "version": "2.0"},
        NewService(name="cart", version="2.0", service_id=NEW),
    ),
}


@pytest.mark.parametrize("appears", APPEARS)
@on_virtual_time
async def test_a_registration_is_seen_within_about_a_second_whenever_others_have_asked(appears: str) -> None:
    """What another asked for just before the registration is shared, and must not be taken for news a second later."""
    annotations, service = APPEARS[appears]
    seen = {}
    for phase in range(0, 100, 4):
        world = World()
        world.see(ASKED, uid="uid-3", name="cart-3", ip="10.244.0.9")
        world.see(annotations, ready="False", ready_since=1)
        await world.pass_time(5 + phase / 100)
        world.see(annotations, uid="uid-2", name="cart-2", ip="10.244.0.8", ready="False", ready_since=1)
        world.see(ASKED, uid="uid-3", name="cart-3", ip="10.244.0.9", ready="False", ready_since=5)  # lists all services
        await world.pass_time(0.02)
        if service is not None:
            world.state.create_service(service)
        instance = world.register(service_id=SERVICE if service is None else NEW)
        await world.pass_time(POLL * (1 + JITTER) + 0.05)
        seen[phase] = world.status(instance, SERVICE if service is None else NEW)
    assert set(seen.values()) == {"STARTING"}, seen


@on_virtual_time
async def test_after_the_window_registration_is_looked_for_with_the_resync() -> None:
    world = World()
    world.see(ready="False", ready_since=1)
    await world.pass_time(125)
    before = len(world.registry.calls)
    await world.pass_time(300)
    assert 8 <= len(world.registry.calls) - before <= 12


@on_virtual_time
async def test_after_each_start_registration_is_looked_for_each_second_again() -> None:
    world = World()
    world.see(ready="False", ready_since=1)
    await world.pass_time(200)
    world.see(ready="False", ready_since=200, statuses=[running(202, restarts=1)])
    before = len(world.registry.calls)
    await world.pass_time(20)
    assert 18 <= len(world.registry.calls) - before <= 24


@on_virtual_time
async def test_a_pods_change_is_not_answered_by_a_list_that_another_asked_for_before_it() -> None:
    world = World()
    world.see(ready="False", ready_since=1)
    await world.pass_time(200)
    world.see(uid="uid-2", name="cart-2", ip="10.244.0.8")
    await world.pass_time(0.1)
    instance = world.register(status="STARTING")
    world.see(ready_since=200)
    await world.pass_time(0.1)
    assert world.status(instance) == "UP"


@on_virtual_time
async def test_what_was_registered_right_before_the_container_ended_again_is_put_down_at_once() -> None:
    world = World()
    await world.pass_time(5)
    world.register()
    world.see()
    await world.pass_time(20)
    life = {"containerID": "containerd://2"}
    world.see(ready="False", ready_since=20, statuses=[running(22, restarts=1) | life])
    await world.pass_time(5.5)
    last = world.register()
    world.see(ready="False", ready_since=20, statuses=[terminated(30, restarts=1) | life])
    await world.pass_time(0.1)
    assert world.status(last) == "DOWN"


@on_virtual_time
async def test_what_was_registered_right_before_the_end_in_a_service_that_was_new_is_put_down_a_second_later() -> None:
    world = World()
    world.register(host="cart-2", ip="10.244.0.8")
    world.see(uid="uid-2", name="cart-2", ip="10.244.0.8")
    world.see({"service": "wagon"}, ready="False", ready_since=1)
    await world.pass_time(5.9)
    world.see(uid="uid-2", name="cart-2", ip="10.244.0.8", ready="False", ready_since=5)  # lists all services
    await world.pass_time(0.02)
    world.state.create_service(NewService(name="wagon", service_id=NEW))
    instance = world.register(service_id=NEW)
    world.see({"service": "wagon"}, ready="False", ready_since=1, statuses=[terminated(6)])
    await world.pass_time(0.1)
    assert world.status(instance, NEW) == "UP", "which services there are was asked for just before"
    await world.pass_time(1.1)
    assert world.status(instance, NEW) == "DOWN"
    calls = len(world.registry.calls)
    await world.pass_time(20)
    assert len(world.registry.calls) == calls, "what has ended registers nothing any more"


@on_virtual_time
async def test_a_pod_whose_annotations_have_become_wrong_is_not_counted_as_acknowledged() -> None:
    world = World()
    world.register()
    world.see()
    await world.pass_time()
    assert world.engine.acknowledged_counts() == {InstanceStatus.UP: 1}
    world.see(ASKED | {"match": "nonsense"})
    await world.pass_time()
    assert world.engine.acknowledged_counts() == {}


@on_virtual_time
async def test_pods_of_one_service_share_their_looks() -> None:
    world = World()
    for number in range(50):
        world.see(ready="False", ready_since=1, uid=f"uid-{number}", name=f"cart-{number}", ip=f"10.244.1.{number}")
        await world.pass_time(0.013)
    await world.pass_time(1)
    world.registry.calls.clear()
    await world.pass_time(20)
    assert world.registry.calls.count("list-instances") <= 25


@on_virtual_time
async def test_a_pod_ready_for_a_minute_without_an_instance_is_told_once_and_recovers() -> None:
    world = World()
    world.see()
    await world.pass_time(59)
    assert world.kinds() == []
    await world.pass_time(30)
    assert world.kinds() == [OutcomeKind.NOT_FOUND]
    assert SERVICE in world.outcomes[0].message
    world.register(status="STARTING")
    await world.pass_time(1.5)
    assert world.kinds() == [OutcomeKind.NOT_FOUND, OutcomeKind.DELIVERED]
    assert world.written() == ["UP"]


@on_virtual_time
async def test_the_minute_without_an_instance_begins_with_the_containers_present_life() -> None:
    world = World()
    world.see()
    await world.pass_time(50)
    world.see(ready_since=50, statuses=[running(48, restarts=1)])
    await world.pass_time(59)
    assert world.kinds() == []
    await world.pass_time(30)
    assert world.kinds() == [OutcomeKind.NOT_FOUND]


@on_virtual_time
async def test_a_deleted_pods_instance_goes_down_by_what_is_remembered() -> None:
    world = World()
    instance = world.register()
    world.see()
    await world.pass_time()
    world.see(deleting=True)
    await world.pass_time()
    assert world.status(instance) == "DOWN"
    world.see(deleted=True, deleting=True, ip="")
    await world.pass_time()
    assert world.written() == ["DOWN"]
    await world.pass_time(200)
    assert len(world.engine) == 0
    assert [str(pod) for pod in world.forgotten] == ["shop/cart-1"]


@on_virtual_time
async def test_an_instance_that_left_by_itself_is_no_failure() -> None:
    world = World()
    instance = world.register()
    world.see()
    await world.pass_time()
    world.state.delete_instance(SERVICE, instance)
    world.see(deleting=True)
    await world.pass_time()
    world.see(deleted=True, deleting=True)
    await world.pass_time(1)
    assert OutcomeKind.FAILING not in world.kinds()
    assert OutcomeKind.REJECTED not in world.kinds()


@on_virtual_time
async def test_an_instance_that_is_listed_and_yet_not_there_to_be_written_is_tried_again_later() -> None:
    world = World()
    instance = world.register()
    world.see()
    await world.pass_time()
    world.registry.refuses[instance] = NotFoundError("400017", "no such instance")
    world.see(ready="False", ready_since=9)
    await world.pass_time()
    assert world.kinds() == [OutcomeKind.FAILING]
    world.registry.refuses.clear()
    await world.pass_time(3)
    assert world.written() == ["OUTOFSERVICE"]


@on_virtual_time
async def test_an_sdk_that_registers_after_its_pod_went_is_put_down() -> None:
    world = World()
    world.see(ready="False", ready_since=1)
    await world.pass_time()
    world.see(deleted=True, deleting=True)
    await world.pass_time(10)
    instance = world.register()
    await world.pass_time(31)
    assert world.status(instance) == "DOWN"


@on_virtual_time
async def test_a_finished_pod_is_put_down_and_forgotten_only_when_it_is_deleted() -> None:
    world = World()
    instance = world.register()
    world.see()
    await world.pass_time()
    world.see(phase="Succeeded", ready="False", statuses=[terminated(reason="Completed")])
    await world.pass_time(1000)
    assert world.status(instance) == "DOWN"
    assert len(world.engine) == 1
    world.see(phase="Succeeded", ready="False", statuses=[terminated(reason="Completed")], deleted=True)
    await world.pass_time(200)
    assert len(world.engine) == 0


@on_virtual_time
async def test_after_a_restart_in_place_up_goes_to_the_new_instance_and_the_old_one_is_put_down() -> None:
    world = World()
    await world.pass_time(5)
    old = world.register()
    world.see()
    await world.pass_time(20)
    world.see(ready="False", ready_since=20, statuses=[terminated(20)])
    await world.pass_time()
    assert world.status(old) == "DOWN"
    world.see(ready="False", ready_since=20, statuses=[running(22, restarts=1)])
    await world.pass_time(1.1)
    assert world.status(old) == "STARTING"
    new = world.register()
    await world.pass_time(1.1)
    assert world.status(new) == "STARTING"
    world.see(ready_since=30, statuses=[running(22, restarts=1)])
    await world.pass_time()
    assert (world.status(new), world.status(old)) == ("UP", "DOWN")
    assert world.redundant() == []


@on_virtual_time
async def test_an_instance_that_keeps_its_old_timestamp_over_a_restart_is_not_put_down_by_a_fresh_operator() -> None:
    world = World()
    await world.pass_time(5)
    instance = world.register(interval=30, times=3)
    await world.pass_time(20)
    world.see(ready_since=30, statuses=[running(22, restarts=1)])
    for _ in range(30):
        await world.pass_time(10)
        world.state.heartbeat(SERVICE, instance)
    assert world.registry.writes == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BUSY, OutcomeKind.FAILING),
        (AuthError("401201", "no"), OutcomeKind.AUTH_FAILED),
        (BlockedError("403201", "blocked"), OutcomeKind.AUTH_FAILED),
        (PermanentError("400001", "bad"), OutcomeKind.REJECTED),
    ],
)
@on_virtual_time
async def test_a_failure_is_told_once_and_its_end_too(error: RegistryError, kind: OutcomeKind) -> None:
    world = World()
    instance = world.register()
    world.see()
    await world.pass_time()
    world.registry.failure = error
    world.see(ready="False", ready_since=9)
    await world.pass_time(60)
    assert world.kinds() == [kind]
    assert error.message in world.outcomes[0].message
    assert instance in world.outcomes[0].message
    world.registry.failure = None
    await world.pass_time(301)
    assert world.kinds() == [kind, OutcomeKind.DELIVERED]
    assert world.status(instance) == "OUTOFSERVICE"


@on_virtual_time
async def test_a_pod_that_fails_alone_is_tried_about_once_a_second() -> None:
    world = World()
    world.register()
    world.see()
    await world.pass_time()
    world.registry.fails = lambda what: BUSY if what == "write-status" else None
    world.see(ready="False", ready_since=30)
    await world.pass_time(600)
    assert 400 < world.registry.calls.count("write-status") < 900


class Crowd:
    """So many pods in step, whose every status write then fails."""

    def __init__(self, world: World, pods: int) -> None:
        self._world = world
        self._places: list[dict[str, Any]] = [
            {"name": f"cart-{number}", "ip": f"10.244.{number // 250}.{number % 250}"} for number in range(pods)
        ]

    async def settle_then_fail(self, error: TransientError) -> None:
        for place in self._places:
            self._world.register(host=place["name"], ip=place["ip"])
        self.see(ready_since=5)
        await self._world.pass_time()
        self._world.registry.fails = lambda what: error if what == "write-status" else None

    def see(self, most: int | None = None, **changes: Any) -> None:
        """All of them, or the first ones, become so."""
        for number, place in enumerate(self._places[:most]):
            self._world.see(uid=f"uid-{number}", **place, **changes)


@pytest.mark.parametrize("pods", [10, 100, 1000])
@on_virtual_time
async def test_retries_of_all_failing_pods_together_stay_few(pods: int) -> None:
    world = World()
    crowd = Crowd(world, pods)
    await crowd.settle_then_fail(BUSY)
    crowd.see(ready="False", ready_since=30)
    await world.pass_time(120)
    before = world.registry.calls.count("write-status")
    await world.pass_time(120)
    assert world.registry.calls.count("write-status") - before <= 20 * 120 + 1


@on_virtual_time
async def test_what_failed_is_tried_at_once_when_the_registry_is_known_to_work_again() -> None:
    world = World()
    instance = world.register()
    world.see()
    await world.pass_time()
    world.registry.fails = lambda what: BUSY if what == "write-status" else None
    world.see(ready="False", ready_since=30)
    await world.pass_time(60)
    world.registry.fails = None
    world.registry.available()
    await world.pass_time()
    assert world.status(instance) == "OUTOFSERVICE"


@on_virtual_time
async def test_retry_after_is_honoured() -> None:
    world = World()
    world.register()
    world.see()
    await world.pass_time()
    world.registry.failure = TransientError("http-429", "too many", retry_after=40)
    world.see(deleting=True)
    await world.pass_time(39)
    assert world.registry.calls.count("write-status") == 1


@on_virtual_time
async def test_a_newer_status_does_not_wait_for_the_older_ones_retry() -> None:
    world = World()
    instance = world.register()
    world.see()
    await world.pass_time()
    world.registry.failure = TransientError("http-429", "too many", retry_after=100)
    world.see(ready="False", ready_since=9)
    await world.pass_time(1)
    world.registry.failure = None
    world.see(deleting=True)
    await world.pass_time()
    assert world.status(instance) == "DOWN"
    assert world.written() == ["DOWN"]


@on_virtual_time
async def test_of_many_changes_during_an_outage_only_the_newest_is_written() -> None:
    world = World()
    instance = world.register()
    world.see()
    await world.pass_time()
    world.registry.failure = BUSY
    for second in range(10, 30):
        world.see(ready=("True", "False")[second % 2], ready_since=second)
        await world.pass_time(0.5)
    world.registry.failure = None
    await world.pass_time(40)
    assert world.status(instance) == "OUTOFSERVICE"
    assert world.written() == ["OUTOFSERVICE"]


@on_virtual_time
async def test_after_a_write_of_unclear_outcome_the_registry_is_read_before_another() -> None:
    world = World()
    instance = world.register()
    world.see()
    await world.pass_time()
    world.registry.after_write = TransientError("timeout", "no answer", maybe_applied=True)
    world.see(ready="False", ready_since=9)
    await world.pass_time(5)
    assert world.status(instance) == "OUTOFSERVICE"
    assert world.written() == ["OUTOFSERVICE"]
    assert world.kinds() == [OutcomeKind.FAILING, OutcomeKind.DELIVERED]


@on_virtual_time
async def test_a_change_during_a_write_follows_it() -> None:
    world, asked = World(), ASKED | {"not-ready-status": "OUTOFSERVICE"}
    instance = world.register()
    world.see(asked)
    await world.pass_time()
    world.registry.delay = 2
    world.see(asked, ready="False", ready_since=9)
    await world.pass_time(1)
    world.see(asked, ready_since=10)
    await world.pass_time(10)
    assert world.written() == ["OUTOFSERVICE", "UP"]
    assert world.status(instance) == "UP"


@on_virtual_time
async def test_a_gone_pods_down_is_given_up_after_ten_minutes() -> None:
    world = World()
    world.register()
    world.see()
    await world.pass_time()
    world.registry.failure = BUSY
    world.see(deleted=True, deleting=True)
    await world.pass_time(700)
    assert world.kinds()[-1] is OutcomeKind.ABANDONED
    assert len(world.engine) == 0


@on_virtual_time
async def test_a_pod_handed_back_is_left_alone_and_taken_up_again() -> None:
    world = World()
    instance = world.register()
    world.see()
    await world.pass_time()
    world.see(ASKED | {"paused": "true"}, ready="False", ready_since=9)
    await world.pass_time(100)
    assert world.registry.writes == []
    assert world.kinds() == [OutcomeKind.RELEASED]
    assert len(world.engine) == 0
    world.see(ready="False", ready_since=9)
    await world.pass_time()
    assert world.status(instance) == "OUTOFSERVICE"


@on_virtual_time
async def test_a_changed_target_releases_the_old_instance_and_adopts_the_new() -> None:
    world = World()
    world.state.create_service(NewService(name="other", service_id="svc-2"))
    old, new = world.register(), world.register(service_id="svc-2")
    world.see()
    await world.pass_time()
    world.see({"service-id": "svc-2"}, ready="False", ready_since=9)
    await world.pass_time()
    assert world.status(old) == "UP"
    assert world.status(new, "svc-2") == "OUTOFSERVICE"


@on_virtual_time
async def test_an_invalid_annotation_is_told_once_and_asks_nothing() -> None:
    world = World()
    world.register()
    for _ in range(3):
        world.see(ASKED | {"match": "luck"})
        await world.pass_time()
    assert world.kinds() == [OutcomeKind.INVALID]
    assert "luck" in world.outcomes[0].message
    assert world.registry.calls == []
    world.see(ASKED | {"match": "fate"})
    await world.pass_time()
    assert world.kinds() == [OutcomeKind.INVALID] * 2
    world.see(ASKED | {"match": "fate"}, deleted=True)
    assert len(world.engine) == 0


@on_virtual_time
async def test_nothing_is_asked_until_all_pods_are_listed() -> None:
    world = World(held=True)
    instance = world.register()
    world.see(ready="False", ready_since=9)
    await world.pass_time(10)
    assert world.registry.calls == []
    world.engine.start_writing()
    await world.pass_time()
    assert world.status(instance) == "OUTOFSERVICE"


@on_virtual_time
async def test_a_start_with_many_pods_lists_each_service_once_and_writes_only_differences() -> None:
    world = World(held=True)
    for number in range(100):
        world.register(host=f"cart-{number}", ip=f"10.244.1.{number}")
        ready = {"ready": "True"} if number % 2 else {"ready": "False", "ready_since": 9}
        world.see(uid=f"uid-{number}", name=f"cart-{number}", ip=f"10.244.1.{number}", **ready)
    world.engine.start_writing()
    await world.pass_time(1)
    assert world.registry.calls.count("list-instances") == 1
    assert world.written() == ["OUTOFSERVICE"] * 50
    assert world.redundant() == []


@on_virtual_time
async def test_a_pod_missing_from_a_complete_list_is_gone() -> None:
    world = World()
    instance = world.register()
    world.see()
    await world.pass_time()
    world.engine.vanish("uid-1")
    await world.pass_time()
    assert world.status(instance) == "DOWN"
    assert world.engine.pods() == []


@on_virtual_time
async def test_a_service_by_name_is_found_in_all_its_versions() -> None:
    world = World()
    world.state.create_service(NewService(name="cart", version="2.0.0", service_id="svc-2"))
    instance = world.register(service_id="svc-2")
    world.see({"service": "cart"}, ready="False", ready_since=9)
    await world.pass_time()
    assert world.status(instance, "svc-2") == "OUTOFSERVICE"


@on_virtual_time
async def test_a_service_that_is_registered_later_is_found_within_about_a_second() -> None:
    world = World()
    world.see({"service": "late", "version": "1.0.0"}, ready="False", ready_since=1)
    world.see({"service": "late"}, uid="uid-2", name="late-2", ip="10.244.0.8", ready="False", ready_since=1)
    await world.pass_time(10)
    world.state.create_service(NewService(name="late", version="1.0.0", service_id="svc-late"))
    first = world.register(service_id="svc-late")
    second = world.register(service_id="svc-late", host="late-2", ip="10.244.0.8")
    await world.pass_time(2)
    assert world.status(first, "svc-late") == world.status(second, "svc-late") == "STARTING"


@on_virtual_time
async def test_draining_finishes_what_runs_and_starts_nothing() -> None:
    world = World()
    instance = world.register()
    world.see()
    await world.pass_time()
    world.registry.delay = 1
    world.see(ready="False", ready_since=9)
    await world.pass_time(0.01)
    assert await world.engine.drain(5)
    assert world.status(instance) == "OUTOFSERVICE"
    world.see(ready_since=12)
    await world.pass_time(10)
    assert world.status(instance) == "OUTOFSERVICE"


@on_virtual_time
async def test_draining_gives_up_after_its_time() -> None:
    world = World()
    world.register()
    world.see(ready="False", ready_since=9)
    world.registry.delay = 100
    await world.pass_time(0.01)
    assert not await world.engine.drain(5)


@on_virtual_time
async def test_counts_tell_desired_and_acknowledged_statuses() -> None:
    world = World()
    world.register()
    world.see()
    world.see(uid="uid-2", name="cart-2", ip="10.244.0.8", ready="False", ready_since=1)
    await world.pass_time()
    assert world.engine.desired_counts() == {InstanceStatus.UP: 1, InstanceStatus.STARTING: 1}
    assert world.engine.acknowledged_counts() == {InstanceStatus.UP: 1}


@on_virtual_time
async def test_the_latency_from_the_pods_transition_is_told_with_a_write() -> None:
    world = World()
    world.register()
    world.see()
    await world.pass_time(10)
    world.see(ready="False", ready_since=10)
    await world.pass_time()
    latency = world.outcomes[-1].latency
    assert latency is not None
    assert 0 < latency < 1


@on_virtual_time
async def test_an_instance_of_a_life_that_lasted_seconds_is_not_taken_for_the_next_lifes() -> None:
    world = World()
    await world.pass_time(3)
    old = world.register()
    world.see(ready_since=3)
    await world.pass_time(1)
    world.see(ready="False", ready_since=4, statuses=[terminated(4)])
    await world.pass_time()
    world.see(ready="False", ready_since=4, statuses=[running(5, restarts=1)])
    await world.pass_time(1.1)
    new = world.register()
    await world.pass_time(1.1)
    assert world.status(new) == "STARTING"
    world.see(ready_since=8, statuses=[running(5, restarts=1)])
    await world.pass_time()
    assert (world.status(new), world.status(old)) == ("UP", "DOWN")


@on_virtual_time
async def test_after_a_restart_a_second_instance_with_the_pods_uid_is_found_within_about_a_second() -> None:
    world = World()
    uid: dict[str, Any] = {"properties": {"podUid": "uid-1"}}
    await world.pass_time(3)
    old = world.register(**uid)
    world.see(ready_since=3)
    await world.pass_time(20)
    world.see(ready="False", ready_since=23, statuses=[terminated(23)])
    await world.pass_time()
    world.see(ready="False", ready_since=23, statuses=[running(25, restarts=1)])
    await world.pass_time(5)
    new = world.register(**uid)
    await world.pass_time(1.1)
    assert world.status(new) == "STARTING"
    world.see(ready_since=40, statuses=[running(25, restarts=1)])
    await world.pass_time()
    assert (world.status(new), world.status(old)) == ("UP", "DOWN")


@on_virtual_time
async def test_an_sdk_that_keeps_its_id_and_names_the_pods_uid_is_up_again_at_once_after_a_restart() -> None:
    world = World()
    await world.pass_time(3)
    instance = world.register(properties={"podUid": "uid-1"})
    world.see(ready_since=3)
    await world.pass_time(20)
    world.see(ready="False", ready_since=23, statuses=[running(25, restarts=1)])
    await world.pass_time(5)
    world.see(ready_since=40, statuses=[running(25, restarts=1)])
    await world.pass_time()
    assert world.status(instance) == "UP"


@pytest.mark.parametrize(("second", "asked"), [("containerd://1", 1), ("containerd://2", 2)], ids=["the same", "another"])
@on_virtual_time
async def test_another_container_is_another_life_whatever_time_is_told_of_its_start(second: str, asked: int) -> None:
    world = World()
    world.register()
    world.see(statuses=[running(2) | {"containerID": "containerd://1"}])
    await world.pass_time()
    world.see(ready="False", ready_since=9, statuses=[running(3) | {"containerID": second}])
    await world.pass_time()
    assert world.registry.calls.count("list-instances") == asked


@on_virtual_time
async def test_a_registry_that_was_too_busy_is_brought_up_to_date_faster_than_the_budget_of_retries_once_it_serves() -> None:
    world, pods = World(), 300
    crowd = Crowd(world, pods)
    await crowd.settle_then_fail(THROTTLED)
    crowd.see(ready="False", ready_since=30)
    await world.pass_time(30)
    world.registry.fails = None
    await world.pass_time(3)
    assert len(world.written()) == pods, "the budget alone would take 15 s"
    assert world.redundant() == []


@on_virtual_time
async def test_an_instance_that_the_registry_stumbles_over_is_not_tried_more_often_because_others_are_served() -> None:
    world = World()
    poison = world.register()
    world.register(host="cart-2", ip="10.244.0.8")
    other: dict[str, Any] = {"uid": "uid-2", "name": "cart-2", "ip": "10.244.0.8"}
    world.see()
    world.see(**other)
    await world.pass_time()
    world.registry.refuses = {poison: BUSY}
    world.see(ready="False", ready_since=30)
    await world.pass_time(60)
    before = world.registry.calls.count("write-status")
    for number in range(60):
        world.see(ready="False" if number % 2 else "True", ready_since=31 + number, **other)
        await world.pass_time(1)
    assert world.registry.calls.count("write-status") - before < 60 + 120


@on_virtual_time
async def test_what_needs_no_write_any_more_is_no_sign_that_the_registry_serves_again() -> None:
    world = World()
    crowd = Crowd(world, 200)
    await crowd.settle_then_fail(THROTTLED)
    crowd.see(ready="False", ready_since=30)
    await world.pass_time(10)
    before = world.registry.calls.count("write-status")
    crowd.see(100, ready_since=40)
    await world.pass_time(10)
    assert world.registry.calls.count("write-status") - before <= 20 * 10 + 40


@pytest.mark.parametrize("every", [0.3, 0.5, 1.0])
@on_virtual_time
async def test_a_pod_whose_events_come_faster_than_a_listing_takes_is_written_all_the_same(every: float) -> None:
    world = World()
    world.registry.delay = 0.6
    instance = world.register()
    for _ in range(20):
        world.see(ready="False", ready_since=9)
        await world.pass_time(every)
    assert world.status(instance) == "OUTOFSERVICE"


@on_virtual_time
async def test_what_was_left_alone_counts_as_nothing_acknowledged() -> None:
    world = World()
    instance = world.register()
    world.see()
    await world.pass_time(50)
    world.see(statuses=[running(100, restarts=1)], ready="False", ready_since=99)
    await world.pass_time(5)
    world.see(statuses=[running(100, restarts=1)], ready_since=110)
    await world.pass_time(5)
    assert (world.status(instance), world.engine.acknowledged_counts()) == ("STARTING", {})


@on_virtual_time
async def test_every_pod_that_waits_for_the_registry_is_in_the_queue() -> None:
    world = World()
    pods: list[dict[str, Any]] = [{"uid": f"u{n}", "name": f"cart-{n}", "ip": f"10.0.0.{n}"} for n in range(20)]
    for one in pods:
        world.register(host=one["name"], ip=one["ip"])
        world.see(**one)
    await world.pass_time(1)
    assert world.engine.queued == 0
    world.registry.failure = UnavailableError("unavailable", "no address works")
    for one in pods:
        world.see(**one, ready="False", ready_since=40)
    await world.pass_time(60)
    assert world.engine.queued == len(pods)
    world.registry.failure = None
    world.registry.available()
    await world.pass_time(60)
    assert world.engine.queued == 0


@on_virtual_time
async def test_the_repair_of_drift_has_no_latency_of_a_transition_long_ago() -> None:
    world = World()
    instance = world.register()
    world.see()
    await world.pass_time(60)
    world.see(deleting=True)
    await world.pass_time(5)
    world.see(deleting=True, deleted=True)
    await world.pass_time(60)
    world.state.put_status(SERVICE, instance, "UP")
    await world.pass_time(60)
    assert world.status(instance) == "DOWN"
    assert world.outcomes[-1].latency is None


@on_virtual_time
async def test_a_flap_that_an_outage_has_swallowed_is_delivered_without_a_write_and_without_a_latency_later() -> None:
    world = World()
    instance = world.register()
    world.see()
    await world.pass_time(1)
    world.registry.failure = TransientError("connect", "cannot connect")
    world.see(ready="False", ready_since=1)
    await world.pass_time(2)
    world.see(ready_since=3)
    await world.pass_time(2)
    world.registry.failure = None
    await world.pass_time(600)
    world.state.put_status(SERVICE, instance, "DOWN")
    await world.pass_time(90)
    assert world.status(instance) == "UP"
    assert [one.latency for one in world.outcomes if one.written] == [None]


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
@on_virtual_time
async def test_a_finished_pod_whose_instance_is_another_pods_by_now_is_no_conflict(phase: str) -> None:
    world, asks = World(), ASKED | {"instance-id": "one"}
    world.register(instance_id="one")
    world.see(asks)
    world.see(asks, uid="uid-2", name="cart-2", phase=phase, ready="False", hostname="cart-1")
    await world.pass_time(120)
    assert OutcomeKind.CONFLICT not in world.kinds()
    assert world.status("one") == "UP"
