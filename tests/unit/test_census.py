"""The hourly count of pods: the safety net under a watch that loses the end of one."""

import asyncio
import random

import pytest

from registry_status.census import EVERY, count, keep_counting
from registry_status.cluster.api import ApiError
from tests.fed import Fed, raw, uids
from tests.world import on_virtual_time


class Cluster:
    """What the API server holds."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.asked: list[str] = []
        self.refusal: ApiError | None = None

    async def list_uids(self, namespace: str) -> frozenset[str]:
        self.asked.append(namespace)
        await asyncio.sleep(1)
        if self.refusal is not None:
            raise self.refusal
        return uids(*self.names)


@on_virtual_time
async def test_a_pod_whose_end_was_lost_is_found_and_its_instance_taken_down() -> None:
    fed = Fed()
    instance = await fed.with_instance()
    await count(fed.feed, Cluster("b").list_uids, "")
    await fed.world.pass_time()
    assert (fed.tracked, fed.world.status(instance), fed.faults) == ([], "DOWN", ["missed"])


@on_virtual_time
async def test_pods_that_are_there_are_left_alone() -> None:
    fed = Fed()
    instance = await fed.with_instance()
    await count(fed.feed, Cluster("a", "b").list_uids, "")
    assert (fed.tracked, fed.world.status(instance), fed.faults) == (["a"], "UP", [])


@on_virtual_time
async def test_a_pod_that_comes_while_the_count_runs_is_not_missed() -> None:
    fed = Fed()
    await fed.listed("a")
    counting = asyncio.create_task(count(fed.feed, Cluster("a").list_uids, ""))
    await fed.world.pass_time(0.5)
    fed.feed.take("ADDED", raw("b"))
    await counting
    assert (fed.tracked, fed.faults) == (["a", "b"], [])


@on_virtual_time
async def test_a_pod_whose_end_is_told_while_the_count_runs_was_not_missed() -> None:
    fed = Fed()
    await fed.listed("a")
    counting = asyncio.create_task(count(fed.feed, Cluster().list_uids, ""))
    await fed.world.pass_time(0.5)
    fed.feed.take("DELETED", raw("a", deleting=True))
    await counting
    assert fed.faults == []


@on_virtual_time
async def test_the_count_of_one_namespace_says_nothing_of_another() -> None:
    fed = Fed(namespaces=("shop", "web"))
    await fed.listed("a", namespace="shop")
    await fed.listed("b", namespace="web", of="web")
    await count(fed.feed, Cluster().list_uids, "web")
    assert fed.tracked == ["a"]


@on_virtual_time
async def test_a_list_that_fails_says_nothing() -> None:
    fed, cluster = Fed(), Cluster()
    await fed.listed("a")
    cluster.refusal = ApiError(500, "InternalError", "etcd is away")
    await count(fed.feed, cluster.list_uids, "")
    assert (fed.tracked, fed.faults) == (["a"], [])


@on_virtual_time
async def test_under_a_label_selector_a_missing_pod_is_asked_for_first() -> None:
    fed = Fed(label_selector="app=shop")
    await fed.listed("a")
    fed.there["a"] = raw("a")
    await count(fed.feed, Cluster().list_uids, "")
    await fed.world.pass_time()
    assert (fed.tracked, fed.read) == ([], ["shop/a"])
    assert fed.world.written() == [], "it has left the selection, and lives"


@pytest.mark.parametrize("namespaces", [("",), ("shop", "web")])
@on_virtual_time
async def test_each_watch_is_counted_once_an_hour(namespaces: tuple[str, ...]) -> None:
    fed, cluster = Fed(), Cluster()
    counting = asyncio.create_task(keep_counting(fed.feed, cluster.list_uids, namespaces, random.Random(1)))
    await fed.world.pass_time(0.8 * EVERY)
    assert cluster.asked == []
    await fed.world.pass_time(3 * EVERY)
    counting.cancel()
    assert cluster.asked == [*namespaces] * 3
