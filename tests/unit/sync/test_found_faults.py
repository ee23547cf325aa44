"""Faults that a review found between feed and delivery, each kept as a test."""

import asyncio
from typing import Any

import pytest

from registry_status.model import OutcomeKind
from registry_status.registry.base import AuthError, NotFoundError, PermanentError, RegistryError, TransientError
from registry_status.registry.devserver import NewService
from registry_status.sync.delivery import GONE_FOR
from tests.fed import Fed, raw
from tests.pods import running, waiting
from tests.world import ASKED, SERVICE, World, on_virtual_time


@on_virtual_time
async def test_a_pod_that_has_left_the_label_selector_by_the_time_of_a_relist_is_released_not_put_down() -> None:
    fed = Fed(label_selector="app=cart")
    instance = await fed.with_instance()
    fed.there["a"] = raw("a")
    await fed.listed("b")
    await fed.world.pass_time(1)
    assert (fed.world.status(instance), fed.tracked) == ("UP", ["b"])


@on_virtual_time
async def test_a_pod_that_comes_back_to_the_label_selector_while_it_is_asked_about_is_kept() -> None:
    fed = Fed(label_selector="app=cart")
    instance = await fed.with_instance()
    fed.there["a"] = raw("a", ready="False")
    fed.read_takes = 1
    fed.feed.take("DELETED", raw("a"))
    await asyncio.sleep(0.5)
    fed.feed.take("ADDED", raw("a", ready="False"))
    await asyncio.sleep(5)
    assert (fed.tracked, fed.world.status(instance)) == (["a"], "OUTOFSERVICE")


@on_virtual_time
async def test_a_gone_pod_with_several_candidates_is_forgotten_in_the_end() -> None:
    world = World()
    for port in (8080, 9090):
        world.register(endpoints=(f"rest://10.244.0.7:{port}",))
    world.see()
    await world.pass_time()
    assert world.kinds() == [OutcomeKind.CONFLICT]
    world.see(deleted=True, deleting=True)
    await world.pass_time(GONE_FOR * 10)
    assert len(world.engine) == 0


@on_virtual_time
async def test_a_pod_that_goes_without_ever_having_had_an_instance_has_not_recovered() -> None:
    world = World()
    world.see()
    await world.pass_time(70)
    assert world.kinds() == [OutcomeKind.NOT_FOUND]
    world.see(deleted=True, deleting=True)
    await world.pass_time(10)
    assert world.kinds() == [OutcomeKind.NOT_FOUND]


@pytest.mark.parametrize("seen", ["joined in a comparison", "with the restart before"])
@on_virtual_time
async def test_news_of_a_restart_that_come_after_its_instance_was_matched_do_not_make_that_a_leftover(seen: str) -> None:
    world = World()
    old = world.register()
    world.see()
    await world.pass_time(40)
    restarted: dict[str, Any] = {"statuses": [running(40, restarts=1)], "ready": "False", "ready_since": 39}
    await world.pass_time(60)
    new = world.register()  # the watch lags: the pod's restart is not known yet
    if seen == "joined in a comparison":
        await world.pass_time(40)
    world.see(**restarted)
    await world.pass_time(0.5)
    if seen == "with the restart before":
        restarted["statuses"] = [running(90, restarts=2)]
        world.see(**restarted)
        await world.pass_time(0.5)
    world.see(**restarted | {"ready": "True", "ready_since": 110})
    await world.pass_time(5)
    assert (world.status(new), world.status(old)) == ("UP", "DOWN")


@pytest.mark.parametrize("before", ["never", "expired"])
@on_virtual_time
async def test_an_instance_that_is_registered_while_its_pod_terminates_is_taken_down(before: str) -> None:
    world = World()
    if before == "expired":
        world.state.expire_now(SERVICE, world.register())
    world.see(ready="False", ready_since=1)
    await world.pass_time(1)
    world.see(ready="False", ready_since=1, deleting=True)
    await world.pass_time(200)
    instance = world.register()
    await world.pass_time(35)
    assert world.status(instance) == "DOWN"
    assert OutcomeKind.NOT_FOUND not in world.kinds()


@on_virtual_time
async def test_repairs_are_forgotten_when_no_pod_is_left() -> None:
    world = World()
    instance = world.register()
    world.see()
    await world.pass_time(1)
    world.state.put_status(SERVICE, instance, "DOWN")
    await world.pass_time(40)
    assert world.drifts == ["changed-by-others"]
    world.see(deleting=True, deleted=True)
    await world.pass_time(GONE_FOR + 400)
    assert world.engine._resync._repairs == {}


@pytest.mark.parametrize("gap", [0.005, 0.5, 3, 30])
@on_virtual_time
async def test_an_sdk_that_registers_as_starting_and_writes_up_itself_is_corrected_within_about_a_second(gap: float) -> None:
    world = World()
    world.see(ready="False", ready_since=1)
    await world.pass_time(5)
    instance = world.register(status="STARTING")
    await world.pass_time(gap)
    world.state.put_status(SERVICE, instance, "UP")
    await world.pass_time(1.5)
    assert world.status(instance) == "STARTING"
    assert OutcomeKind.DRIFTED not in world.kinds()
    assert world.redundant() == []


@on_virtual_time
async def test_a_starting_pod_costs_one_shared_list_a_second_and_a_ready_one_none() -> None:
    world = World()
    for number in range(20):
        place: dict[str, Any] = {"name": f"cart-{number}", "ip": f"10.244.0.{number}"}
        world.register(host=place["name"], ip=place["ip"])
        world.see(uid=f"uid-{number}", ready="False", ready_since=1, **place)
    await world.pass_time(10)
    before = world.registry.calls.count("list-instances")
    await world.pass_time(20)
    assert world.registry.calls.count("list-instances") - before <= 22
    for number in range(20):
        world.see(uid=f"uid-{number}", ready_since=30, name=f"cart-{number}", ip=f"10.244.0.{number}")
    await world.pass_time(1)
    before = world.registry.calls.count("list-instances")
    await world.pass_time(20)
    assert world.registry.calls.count("list-instances") - before <= 1


@pytest.mark.parametrize("late", [-0.3, 0.5, 20], ids=["unseen before the end", "just after it", "long after it"])
@on_virtual_time
async def test_what_a_gone_pod_registered_last_is_taken_down_beside_what_was_known_of_it(late: float) -> None:
    world = World()
    old = world.register()
    world.see()
    await world.pass_time(10)
    world.see(statuses=[running(10, restarts=1)], ready="False", ready_since=9)
    await world.pass_time(0.2)
    new = world.register() if late < 0 else ""
    world.see(statuses=[running(10, restarts=1)], ready="False", ready_since=9, deleting=True, deleted=True)
    await world.pass_time(max(late, 0))
    new = new or world.register()
    await world.pass_time(2 if late < 0 else 35)
    assert (world.status(old), world.status(new)) == ("DOWN", "DOWN")
    assert world.redundant() == []


@on_virtual_time
async def test_a_gone_pods_namesake_keeps_its_instance() -> None:
    world = World()
    old = world.register(properties={"podUid": "uid-1"})
    world.see()
    await world.pass_time(1)
    world.see(deleting=True, deleted=True)
    new = world.register()
    world.see(uid="uid-2")
    await world.pass_time(60)
    assert (world.status(old), world.status(new)) == ("DOWN", "UP")


WEB: dict[str, Any] = {"annotations": ASKED | {"instance-id": "{pod.name}"}, "name": "web-0"}


@pytest.mark.parametrize("after", [0.0, 1.0, 20.0], ids=lambda gap: f"{gap:g} s after the end")
@pytest.mark.parametrize("waits", [0.5, 5.0, 45.0], ids=lambda wait: f"starts in {wait:g} s")
@on_virtual_time
async def test_a_stateful_sets_successor_has_its_instance_however_long_it_takes_to_start(after: float, waits: float) -> None:
    """Its SDK registers the id that is alive still, so the endpoint stays its predecessor's: whose it was is remembered."""
    world = World()
    instance = world.register(instance_id="web-0", host="web-0", ip="10.244.0.7")
    world.see(**WEB, uid="uid-1")
    await world.pass_time(50)
    world.see(**WEB, uid="uid-1", deleting=True)
    await world.pass_time(5)
    world.see(**WEB, uid="uid-1", deleting=True, deleted=True)
    await world.pass_time(after)
    world.see(**WEB, uid="uid-2", ip="", statuses=[waiting()], ready="False", ready_since=60)
    await world.pass_time(waits)
    world.see(**WEB, uid="uid-2", ip="10.244.0.8", ready_since=70)
    await world.pass_time(400)
    assert world.status(instance) == "UP"


@on_virtual_time
async def test_a_target_that_moves_between_two_writes_leaves_no_claim_behind() -> None:
    world = World()
    world.registry.delay = 2.0
    world.state.create_service(NewService(name="order", service_id="svc-2"))
    world.register(properties={"podUid": "uid-1"})
    await world.pass_time(10)
    world.register(properties={"podUid": "uid-1"}, status="DOWN")
    world.see()
    await world.pass_time(5)
    world.see({"service-id": "svc-2"})
    await world.pass_time(50)
    assert list(world.engine._delivery.instances) == []


@pytest.mark.parametrize("last", [{"paused": "true"}, {"terminating-status": "down"}, {"class": "others"}])
@pytest.mark.parametrize("under_way", [1.0, 3.0], ids=["reading the services", "reading the instances"])
@on_virtual_time
async def test_nothing_is_written_for_a_pod_whose_end_tells_that_it_was_handed_back(
    last: dict[str, str], under_way: float
) -> None:
    world = World()
    world.registry.delay = 2.0
    world.register()
    world.see(ready="False", ready_since=9)
    await world.pass_time(under_way)
    world.see(ASKED | last, deleted=True, deleting=True)
    await world.pass_time(60)
    assert (world.written(), list(world.engine._delivery.instances)) == ([], [])


NO_CONTAINERS: dict[str, Any] = {"statuses": []}
"""Some virtual kubelets tell nothing of a pod's containers."""


@pytest.mark.parametrize("stays", [True, False], ids=["the first stays", "the first leaves"])
@on_virtual_time
async def test_a_ready_pod_without_told_containers_that_registers_anew_is_up_where_it_did(*, stays: bool) -> None:
    world = World()
    first = world.register(interval=30, times=3)
    world.see(**NO_CONTAINERS)
    await world.pass_time(60)
    if not stays:
        world.state.delete_instance(SERVICE, first)
    second = world.register()
    await world.pass_time(40)
    assert world.status(second) == "UP"
    assert not stays or world.status(first) == "DOWN"
    await world.pass_time(200)
    assert world.status(second) == "UP"


@on_virtual_time
async def test_a_pod_without_told_containers_that_is_not_ready_any_more_is_not_left_up() -> None:
    world = World()
    instance = world.register()
    world.see(**NO_CONTAINERS)
    await world.pass_time(60)
    world.see(**NO_CONTAINERS, ready="False", ready_since=60)
    await world.pass_time(1)
    assert world.status(instance) == "STARTING"
    world.see(**NO_CONTAINERS, ready_since=70)
    await world.pass_time(1)
    assert world.status(instance) == "UP"


@pytest.mark.parametrize("error", [None, TransientError("http-503", "unwilling"), PermanentError("403001", "not for you")])
@pytest.mark.parametrize("under_way", [1.0, 3.0, 5.0], ids=["reading the services", "reading the instances", "writing"])
@on_virtual_time
async def test_nothing_is_told_or_kept_of_a_pod_that_was_let_go_while_it_was_worked_on(
    under_way: float, error: RegistryError | None
) -> None:
    world = World()
    world.registry.delay = 2.0
    world.register()
    world.see(ready="False", ready_since=9)
    await world.pass_time(under_way)
    world.see(ASKED | {"paused": "true"}, deleted=True, deleting=True)
    world.registry.failure = world.registry.after_write = error
    told = list(world.outcomes)
    await world.pass_time(60)
    assert (world.outcomes, [pod.uid for pod in world.forgotten], world.engine.queued) == (told, ["uid-1"], 0)


@pytest.mark.parametrize(
    "error",
    [NotFoundError("400012", "no service"), AuthError("401201", "who are you"), PermanentError("403001", "not for you")],
)
@on_virtual_time
async def test_a_status_that_was_guessed_while_the_services_could_not_be_read_is_put_right(
    error: RegistryError, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    instance = world.register()
    world.registry.fails = lambda what: error if what == "list-services" else None
    for number in range(20):
        world.see(ready="False", ready_since=9 + number)
        await world.pass_time(0.1)
    assert world.status(instance) == "DOWN"
    world.registry.fails = None
    await world.pass_time(100)
    assert world.status(instance) == "OUTOFSERVICE"
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        f"cannot read the services of project default: {error}"
    ]
