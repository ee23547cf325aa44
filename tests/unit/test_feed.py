"""The feed: when a list of pods is complete, who has vanished, and what a DELETED under a label selector means."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from registry_status.cluster.api import ApiError
from registry_status.cluster.lines import WatchFault
from registry_status.feed import CONFIRM_AGAIN
from registry_status.model import OutcomeKind
from tests.fed import Fed, now, raw, uids
from tests.pods import pod
from tests.world import ASKED, on_virtual_time

# --- complete lists -----------------------------------------------------------------------------


@on_virtual_time
async def test_a_list_is_complete_when_its_end_has_come_and_all_its_pods_have() -> None:
    fed = Fed()
    fed.feed.listing_started("")
    fed.feed.take(None, raw("a"))
    assert fed.lists == 0
    fed.feed.listing_finished("", uids("a", "b"))
    assert (fed.lists, fed.ready()) == (0, False)
    fed.feed.take(None, raw("b"))
    assert (fed.lists, fed.ready()) == (1, True)


@on_virtual_time
async def test_a_list_whose_pods_came_before_its_end_is_complete_with_it() -> None:
    fed = Fed()
    await fed.listed("a", "b")
    assert (fed.lists, fed.ready()) == (1, True)


@on_virtual_time
async def test_an_empty_list_is_complete_at_once() -> None:
    fed = Fed()
    await fed.listed()
    assert (fed.lists, fed.ready()) == (1, True)


@on_virtual_time
async def test_a_pod_that_is_deleted_on_the_way_is_not_waited_for() -> None:
    fed = Fed()
    fed.feed.listing_started("")
    fed.feed.listing_finished("", uids("a"))
    fed.feed.take("DELETED", raw("a", deleting=True))
    assert fed.lists == 1


@on_virtual_time
async def test_pods_that_come_by_watch_do_not_complete_a_list() -> None:
    fed = Fed()
    fed.feed.listing_started("")
    fed.feed.listing_finished("", uids("a", "b"))
    for name in ("a", "c", "a"):
        fed.feed.take("MODIFIED", raw(name))
    assert fed.lists == 0


@on_virtual_time
async def test_a_list_that_begins_anew_forgets_what_the_broken_one_was_waiting_for() -> None:
    fed = Fed()
    fed.feed.listing_started("")
    fed.feed.listing_finished("", uids("a", "lost"))
    fed.feed.take(None, raw("a"))
    await fed.listed("a")
    assert (fed.lists, fed.tracked) == (1, ["a"])


@on_virtual_time
async def test_writing_begins_once_however_often_the_pods_are_listed() -> None:
    fed = Fed()
    for _ in range(3):
        await fed.listed("a")
    assert fed.lists == 1


@on_virtual_time
async def test_writing_begins_when_every_namespace_is_listed() -> None:
    fed = Fed(namespaces=("shop", "web"))
    await fed.listed("a", namespace="shop")
    await fed.listed("a", namespace="shop")
    assert (fed.lists, fed.ready()) == (0, False)
    await fed.listed("b", namespace="web", of="web")
    assert (fed.lists, fed.ready()) == (1, True)


@on_virtual_time
async def test_a_pod_of_one_namespace_does_not_count_for_anothers_list() -> None:
    fed = Fed(namespaces=("shop", "web"))
    for namespace in ("shop", "web"):
        fed.feed.listing_started(namespace)
        fed.feed.listing_finished(namespace, uids(namespace))
    fed.feed.take(None, raw("web", "web"))
    assert fed.lists == 0
    fed.feed.take(None, raw("shop"))
    assert fed.lists == 1


# --- vanished pods ------------------------------------------------------------------------------


@on_virtual_time
async def test_a_tracked_pod_that_a_complete_list_lacks_is_gone_and_put_down() -> None:
    fed = Fed()
    instance = await fed.with_instance()
    await fed.listed("b")
    assert (fed.world.status(instance), fed.tracked) == ("DOWN", ["b"])


@on_virtual_time
async def test_an_unfinished_list_lets_nobody_vanish() -> None:
    fed = Fed()
    instance = await fed.with_instance()
    fed.feed.listing_started("")
    fed.feed.take(None, raw("b"))
    fed.feed.listing_finished("", uids("b", "c"))
    await fed.world.pass_time(100)
    assert (fed.world.status(instance), fed.tracked) == ("UP", ["a", "b"])


@on_virtual_time
async def test_a_namespaces_list_lets_only_its_own_pods_vanish() -> None:
    fed = Fed(namespaces=("shop", "web"))
    await fed.listed("a", "b", namespace="shop")
    await fed.listed("c", namespace="web", of="web")
    await fed.listed("b", namespace="shop")
    assert fed.tracked == ["b", "c"]


@on_virtual_time
async def test_a_pod_that_comes_by_watch_while_a_list_is_under_way_has_not_vanished() -> None:
    fed = Fed()
    await fed.listed("a")
    fed.feed.listing_started("")
    fed.feed.take("ADDED", raw("new"))
    fed.feed.listing_finished("", uids("a"))
    fed.feed.take(None, raw("a"))
    assert fed.tracked == ["a", "new"]


@on_virtual_time
async def test_a_namesake_with_another_uid_does_not_keep_a_vanished_pod() -> None:
    fed = Fed()
    instance = await fed.with_instance()
    fed.feed.listing_started("")
    fed.feed.take(None, pod(ASKED, name="a", uid="uid-2", ip="10.244.0.8", ready="False", ready_since=1))
    fed.feed.listing_finished("", frozenset({"uid-2"}))
    await fed.world.pass_time()
    assert fed.world.status(instance) == "DOWN"
    assert [found.uid for found in fed.world.engine.pods()] == ["uid-2"]


# --- deletions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("deleting", [False, True], ids=["at once", "after its grace period"])
@on_virtual_time
async def test_without_a_label_selector_deleted_means_gone(deleting: bool) -> None:
    fed = Fed()
    instance = await fed.with_instance()
    fed.feed.take("DELETED", raw("a", deleting=deleting))
    await fed.world.pass_time()
    assert (fed.world.status(instance), fed.read) == ("DOWN", [])


class TestWithALabelSelector:
    """Kubernetes tells DELETED of a pod that leaves the selection, too."""

    @on_virtual_time
    async def test_a_pod_that_was_being_deleted_is_gone(self) -> None:
        fed = Fed(label_selector="app=cart")
        instance = await fed.with_instance()
        fed.feed.take("DELETED", raw("a", deleting=True))
        await fed.world.pass_time()
        assert (fed.world.status(instance), fed.read) == ("DOWN", [])

    @on_virtual_time
    async def test_a_pod_that_is_still_there_is_released_as_it_is(self) -> None:
        fed = Fed(label_selector="app=cart")
        instance = await fed.with_instance()
        fed.there["a"] = raw("a", ready="False")
        fed.feed.take("DELETED", raw("a"))
        await fed.world.pass_time()
        assert fed.read == ["shop/a"]
        assert (fed.world.status(instance), fed.tracked, fed.world.kinds()) == ("UP", [], [OutcomeKind.RELEASED])

    @on_virtual_time
    async def test_a_pod_that_is_not_there_is_gone(self) -> None:
        fed = Fed(label_selector="app=cart")
        instance = await fed.with_instance()
        fed.feed.take("DELETED", raw("a"))
        await fed.world.pass_time()
        assert (fed.world.status(instance), fed.read) == ("DOWN", ["shop/a"])

    @on_virtual_time
    async def test_a_pod_whose_name_another_has_is_gone(self) -> None:
        fed = Fed(label_selector="app=cart")
        instance = await fed.with_instance()
        fed.there["a"] = pod(ASKED, name="a", uid="uid-2", ip="10.244.0.8")
        fed.feed.take("DELETED", raw("a"))
        await fed.world.pass_time()
        assert fed.world.status(instance) == "DOWN"

    @pytest.mark.parametrize("status", [0, 403, 429, 500])
    @on_virtual_time
    async def test_as_long_as_the_api_server_does_not_say_it_is_asked_again_and_nothing_is_written(self, status: int) -> None:
        fed = Fed(label_selector="app=cart")
        instance = await fed.with_instance()
        fed.refusals = [ApiError(status, "Away", "away") for _ in range(3)]
        fed.feed.take("DELETED", raw("a"))
        await asyncio.sleep(3 * CONFIRM_AGAIN - 1)
        assert (fed.world.status(instance), fed.tracked, len(fed.read)) == ("UP", ["a"], 3)
        await asyncio.sleep(2)
        assert (fed.world.status(instance), len(fed.read)) == ("DOWN", 4)

    @on_virtual_time
    async def test_a_pod_that_leaves_again_while_it_is_asked_about_is_asked_about_once(self) -> None:
        fed = Fed(label_selector="app=cart")
        await fed.with_instance()
        for _ in range(3):
            fed.feed.take("DELETED", raw("a"))
        await fed.world.pass_time()
        assert len(fed.read) == 1

    @on_virtual_time
    async def test_a_pod_that_is_not_tracked_is_not_asked_about(self) -> None:
        fed = Fed(label_selector="app=cart")
        await fed.listed()
        fed.feed.take("DELETED", raw("a"))
        fed.feed.take("DELETED", pod({}, name="b", uid="uid-b"))
        await fed.world.pass_time()
        assert fed.read == []

    @on_virtual_time
    async def test_a_pod_that_lost_its_annotations_with_its_label_is_forgotten(self) -> None:
        fed = Fed(label_selector="app=cart")
        instance = await fed.with_instance()
        fed.feed.take("DELETED", pod({}, name="a", uid="uid-a"))
        await fed.world.pass_time()
        assert (fed.world.status(instance), fed.tracked) == ("UP", [])

    @on_virtual_time
    async def test_closing_ends_what_is_being_asked(self) -> None:
        fed = Fed(label_selector="app=cart")
        instance = await fed.with_instance()
        fed.read_takes = 1000
        fed.feed.take("DELETED", raw("a"))
        await asyncio.sleep(1)
        began = now()
        await fed.feed.aclose()
        assert now() == began
        await asyncio.sleep(2000)
        assert fed.world.status(instance) == "UP"


# --- the watch's health -------------------------------------------------------------------------


@on_virtual_time
async def test_a_watch_that_is_heard_keeps_the_operator_ready() -> None:
    fed = Fed()
    await fed.listed()
    for _ in range(10):
        await asyncio.sleep(60)
        fed.feed.progressed("")
    assert fed.ready()
    await asyncio.sleep(101)
    assert not fed.ready()
    fed.feed.progressed("")
    assert fed.ready()


@on_virtual_time
async def test_each_namespaces_watch_counts_for_itself() -> None:
    fed = Fed(namespaces=("shop", "web"))
    await fed.listed(namespace="shop")
    await fed.listed(namespace="web")
    await asyncio.sleep(101)
    fed.feed.progressed("shop")
    assert not fed.ready()
    fed.feed.progressed("web")
    assert fed.ready()


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What the feed logs."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("registry_status.feed")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@on_virtual_time
async def test_every_fault_is_counted_and_a_flood_of_them_is_one_line_a_minute(lines: list[str]) -> None:
    fed = Fed(namespaces=("shop",))
    for _ in range(100):
        fed.feed.suffered("shop", WatchFault.DISCONNECTED, "reset by peer")
        fed.feed.suffered("shop", WatchFault.EXPIRED, "too old")
        await asyncio.sleep(1)
    assert (fed.faults.count(WatchFault.DISCONNECTED), fed.faults.count(WatchFault.EXPIRED)) == (100, 100)
    assert len(lines) == 4
    assert "namespace shop" in lines[0]
    assert "disconnected" in lines[0]
    assert "reset by peer" in lines[0]


@on_virtual_time
async def test_a_watch_that_fails_again_and_again_is_alive() -> None:
    fed = Fed()
    for _ in range(100):
        fed.feed.suffered("", WatchFault.DISCONNECTED, "refused")
        await asyncio.sleep(60)
    assert fed.health.live(now()).checks[1].passed


@on_virtual_time
async def test_a_fault_outside_the_namespaces_watches_does_not_make_one_more_of_them() -> None:
    """Such as a restart of kopf."""
    fed = Fed(namespaces=("shop", "web"))
    fed.feed.suffered("", WatchFault.RESTARTED, "kopf ended: it just ended")
    await fed.listed(namespace="shop")
    await fed.listed(namespace="web", of="web")
    assert fed.ready()
    assert [check.name for check in fed.health.live(now()).checks[1:]] == ["watch shop", "watch web"]
    assert fed.faults == ["restarted"]


@pytest.mark.parametrize("namespaces", [(), ("shop",), ("shop", "web")])
@on_virtual_time
async def test_an_api_server_that_is_away_from_the_start_on_is_no_reason_to_be_killed(namespaces: tuple[str, ...]) -> None:
    """What fails is /version then, which belongs to no namespace's watch."""
    fed = Fed(namespaces=namespaces)
    for _ in range(100):
        fed.feed.suffered("", WatchFault.DISCONNECTED, "refused")
        await asyncio.sleep(60)
        fed.health.beat(now())
        assert fed.health.live(now()).passed
    assert not fed.ready()


@on_virtual_time
async def test_a_namespaces_fault_is_no_sign_of_life_of_anothers_watch() -> None:
    fed = Fed(namespaces=("shop", "web"))
    for _ in range(10):
        fed.feed.suffered("shop", WatchFault.DISCONNECTED, "refused")
        await asyncio.sleep(60)
    fed.health.beat(now())
    assert [check.passed for check in fed.health.live(now()).checks] == [True, True, False]


# --- odd objects --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, "ADDED", "MODIFIED", "DELETED"])
@pytest.mark.parametrize("odd", [{}, {"metadata": None}, {"metadata": {"uid": 7}}, {"metadata": [], "spec": 1, "status": ""}])
@on_virtual_time
async def test_an_object_that_is_no_pod_is_passed_over(odd: dict[str, Any], kind: str | None) -> None:
    for selector in ("", "app=cart"):
        fed = Fed(label_selector=selector)
        fed.feed.listing_started("")
        fed.feed.take(kind, odd)
        fed.feed.listing_finished("", frozenset())
        assert (fed.lists, fed.tracked) == (1, [])
