"""Keyed workers: one run at a time for each key, wakes that are never lost, waits that any wake ends."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from registry_status.sync.worker import AFTER_ERROR, KeyedWorkers
from tests.world import on_virtual_time


@pytest.fixture(autouse=True)
def no_internal_errors() -> None:
    """Here they are made on purpose."""


@dataclass
class Work:
    """Work that takes a while; notes what ran when, and never runs twice at once for a key."""

    seconds: float = 1.0
    answers: list[float | None] = field(default_factory=list)
    """What the next runs return; None afterwards."""
    during: Callable[[str], None] | None = None
    """What happens in the middle of each run."""
    runs: list[tuple[str, float]] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    most: int = 0
    ended: list[str] = field(default_factory=list)

    async def __call__(self, key: str) -> float | None:
        assert key not in self.running
        self.running.add(key)
        self.most = max(self.most, len(self.running))
        self.runs.append((key, _now()))
        try:
            await asyncio.sleep(self.seconds / 2)
            if self.during is not None:
                self.during(key)
            await asyncio.sleep(self.seconds / 2)
            self.ended.append(key)
            return self.answers.pop(0) if self.answers else None
        finally:
            self.running.discard(key)

    @property
    def times(self) -> list[float]:
        """When runs began."""
        return [at for _, at in self.runs]


def _now() -> float:
    return asyncio.get_running_loop().time() - 1000


@on_virtual_time
async def test_a_wake_runs_the_keys_work_once() -> None:
    work = Work()
    workers = KeyedWorkers(work)
    workers.wake("a")
    await asyncio.sleep(100)
    assert work.runs == [("a", 0)]
    assert (workers.busy, workers.waiting) == (0, 0)


@on_virtual_time
async def test_many_wakes_at_once_are_one_run() -> None:
    work = Work()
    workers = KeyedWorkers(work)
    for _ in range(10):
        workers.wake("a")
    await asyncio.sleep(100)
    assert work.runs == [("a", 0)]


@on_virtual_time
async def test_many_wakes_during_a_run_are_one_more_run_after_it() -> None:
    work = Work()
    workers = KeyedWorkers(work)
    workers.wake("a")
    for _ in range(9):
        await asyncio.sleep(0.1)
        workers.wake("a")
    await asyncio.sleep(100)
    assert work.times == [0, 1]


@on_virtual_time
async def test_each_wake_in_a_row_of_runs_is_heard() -> None:
    work = Work()
    workers = KeyedWorkers(work)
    for _ in range(5):
        workers.wake("a")
        await asyncio.sleep(0.8)
    await asyncio.sleep(100)
    assert work.times == pytest.approx([0, 1, 2, 3, 4])


@on_virtual_time
async def test_different_keys_run_in_parallel() -> None:
    work = Work()
    workers = KeyedWorkers(work)
    for number in range(100):
        workers.wake(str(number))
    await asyncio.sleep(0.1)
    assert workers.busy == 100
    await asyncio.sleep(100)
    assert (work.most, len(work.runs), workers.busy) == (100, 100, 0)


@on_virtual_time
async def test_work_that_asks_for_it_runs_again_later() -> None:
    work = Work(answers=[5.0, 7.0, None])
    workers = KeyedWorkers(work)
    workers.wake("a")
    await asyncio.sleep(3)
    assert (workers.busy, workers.waiting) == (0, 1)
    await asyncio.sleep(100)
    assert work.times == [0, 6, 14]
    assert workers.waiting == 0


@on_virtual_time
async def test_work_that_asks_for_no_wait_runs_again_at_once() -> None:
    work = Work(answers=[0.0])
    workers = KeyedWorkers(work)
    workers.wake("a")
    await asyncio.sleep(100)
    assert work.times == [0, 1]


@on_virtual_time
async def test_a_wake_ends_a_wait_and_takes_its_place() -> None:
    work = Work(answers=[50.0])
    workers = KeyedWorkers(work)
    workers.wake("a")
    await asyncio.sleep(10)
    workers.wake("a")
    await asyncio.sleep(200)
    assert work.times == [0, 10]


@on_virtual_time
async def test_a_wait_asked_for_before_a_wake_during_the_run_is_forgotten() -> None:
    work = Work(answers=[50.0, None])
    workers = KeyedWorkers(work)
    workers.wake("a")
    await asyncio.sleep(0.5)
    workers.wake("a")
    await asyncio.sleep(200)
    assert work.times == [0, 1]


# --- holding ------------------------------------------------------------------------------------


@on_virtual_time
async def test_what_is_woken_while_held_does_not_run() -> None:
    work = Work()
    workers = KeyedWorkers(work)
    workers.hold()
    workers.wake("a")
    await asyncio.sleep(10)
    assert (work.runs, workers.busy, workers.waiting) == ([], 0, 0)


@on_virtual_time
async def test_what_waits_when_the_hold_begins_waits_no_more() -> None:
    work = Work(answers=[5.0])
    workers = KeyedWorkers(work)
    workers.wake("a")
    await asyncio.sleep(2)
    workers.hold()
    assert workers.waiting == 0
    await asyncio.sleep(100)
    assert work.times == [0]


@pytest.mark.parametrize("answer", [None, 5.0])
@on_virtual_time
async def test_what_runs_when_the_hold_begins_ends_and_does_not_run_again(answer: float | None) -> None:
    work = Work(answers=[answer])
    workers = KeyedWorkers(work)
    workers.wake("a")
    await asyncio.sleep(0.5)
    workers.hold()
    workers.wake("a")
    await asyncio.sleep(100)
    assert (work.ended, work.times) == (["a"], [0])
    assert (workers.busy, workers.waiting) == (0, 0)


# --- draining -----------------------------------------------------------------------------------


@on_virtual_time
async def test_draining_waits_for_what_runs() -> None:
    work = Work()
    workers = KeyedWorkers(work)
    for key in ("a", "b"):
        workers.wake(key)
    await asyncio.sleep(0.1)
    workers.hold()
    assert await workers.drain(5)
    assert (sorted(work.ended), _now(), workers.busy) == (["a", "b"], 1, 0)


@on_virtual_time
async def test_draining_delivers_what_was_woken_during_a_run_before() -> None:
    work = Work()
    workers = KeyedWorkers(work)
    workers.wake("a")
    await asyncio.sleep(0.5)
    workers.wake("a")
    workers.hold()
    assert await workers.drain(5)
    assert work.times == [0, 1]


@on_virtual_time
async def test_draining_where_nothing_runs_takes_no_time() -> None:
    work = Work(answers=[50.0])
    workers = KeyedWorkers(work)
    workers.wake("a")
    await asyncio.sleep(2)
    workers.hold()
    assert await workers.drain(5)
    assert _now() == 2


@on_virtual_time
async def test_draining_cancels_what_takes_too_long_and_says_so() -> None:
    work = Work(seconds=60)
    workers = KeyedWorkers(work)
    workers.wake("a")
    await asyncio.sleep(0.1)
    workers.hold()
    assert not await workers.drain(5)
    assert (work.running, work.ended, workers.busy) == (set(), [], 0)
    assert _now() == pytest.approx(5.1)


@on_virtual_time
async def test_what_a_drain_cancelled_does_not_begin_again() -> None:
    work = Work(seconds=60)
    workers = KeyedWorkers(work)
    workers.wake("a")
    await asyncio.sleep(0.1)
    workers.wake("a")
    workers.hold()
    await workers.drain(5)
    await asyncio.sleep(100)
    assert (work.times, workers.busy) == ([0], 0)


# --- restarting ---------------------------------------------------------------------------------


@on_virtual_time
async def test_a_restart_ends_what_runs_and_what_waits_and_runs_only_the_keys_it_is_given() -> None:
    work = Work(seconds=10, answers=[50.0])
    workers = KeyedWorkers(work)
    workers.wake("waits")
    await asyncio.sleep(11)
    for key in ("runs", "runs and is not wanted"):
        workers.wake(key)
    await asyncio.sleep(1)
    work.runs.clear()
    workers.restart(["runs", "new"])
    await asyncio.sleep(200)
    assert sorted(work.runs) == [("new", 12), ("runs", 12)]
    assert work.ended == ["waits", "new", "runs"]
    assert (workers.busy, workers.waiting) == (0, 0)


@on_virtual_time
async def test_a_restart_ends_a_hold() -> None:
    work = Work()
    workers = KeyedWorkers(work)
    workers.hold()
    workers.wake("woken while held")
    workers.restart(["a"])
    await asyncio.sleep(10)
    assert work.runs == [("a", 0)]


@on_virtual_time
async def test_a_restart_hits_a_run_that_has_not_begun_yet_and_is_followed_by_one() -> None:
    work = Work()
    workers = KeyedWorkers(work)
    workers.wake("a")
    workers.restart(["a"])
    workers.wake("a")
    await asyncio.sleep(10)
    assert work.runs == [("a", 0)]


@on_virtual_time
async def test_what_was_woken_during_a_run_before_a_restart_runs_once_after_it() -> None:
    work = Work()
    workers = KeyedWorkers(work)
    workers.wake("a")
    workers.wake("b")
    await asyncio.sleep(0.75)
    workers.wake("a")
    workers.restart(["a"])
    await asyncio.sleep(100)
    assert work.runs == [("a", 0), ("b", 0), ("a", 0.75)]
    assert work.ended == ["a"]


# --- faults of ours -----------------------------------------------------------------------------


@on_virtual_time
async def test_an_unexpected_error_is_logged_with_its_place_and_the_key_runs_again_after_a_while() -> None:
    failures = [RuntimeError("a bug")]
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign, assignment]
    logger = logging.getLogger("registry_status.sync.worker")
    logger.addHandler(handler)

    def fail(_: str) -> None:
        if failures:
            raise failures.pop()

    work = Work(during=fail)
    workers = KeyedWorkers(work)
    try:
        workers.wake("a")
        await asyncio.sleep(100)
    finally:
        logger.removeHandler(handler)
    assert work.times == [0, 0.5 + AFTER_ERROR]
    assert [record.levelname for record in records] == ["ERROR"]
    assert "a; trying again in 30 s" in records[0].getMessage()
    assert records[0].exc_info is not None
    assert str(records[0].exc_info[1]) == "a bug"


def failing(times: int) -> Work:
    left = times

    def fail(_: str) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise RuntimeError("a bug")

    return Work(during=fail)


@on_virtual_time
async def test_a_wake_ends_the_wait_after_an_error() -> None:
    work = failing(1)
    workers = KeyedWorkers(work)
    workers.wake("a")
    await asyncio.sleep(10)
    workers.wake("a")
    await asyncio.sleep(100)
    assert work.times == [0, 10]


@on_virtual_time
async def test_a_wake_during_a_run_that_fails_is_answered_by_one_run_after_the_wait() -> None:
    work = failing(1)
    workers = KeyedWorkers(work)
    workers.wake("a")
    await asyncio.sleep(0.1)
    workers.wake("a")
    await asyncio.sleep(100)
    assert work.times == [0, 0.5 + AFTER_ERROR]


@on_virtual_time
async def test_an_error_of_one_key_leaves_the_others_alone() -> None:
    def fail(key: str) -> None:
        if key == "a":
            raise RuntimeError("a bug")

    work = Work(during=fail)
    workers = KeyedWorkers(work)
    for key in ("a", "b"):
        workers.wake(key)
    await asyncio.sleep(10)
    assert work.ended == ["b"]
    assert (workers.busy, workers.waiting) == (0, 1)


@on_virtual_time
async def test_after_an_error_while_held_it_does_not_run_again() -> None:
    work = failing(1)
    workers = KeyedWorkers(work)
    workers.wake("a")
    await asyncio.sleep(0.1)
    workers.hold()
    await asyncio.sleep(2 * AFTER_ERROR)
    assert (work.times, workers.waiting) == ([0], 0)
