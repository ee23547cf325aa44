"""Shared reads: one at a time for each key, as young as each caller wants, and failures are shared too."""

import asyncio
from dataclasses import dataclass, field

import pytest

from registry_status.sync.fresh import KEPT, Fresh, Reading
from tests.world import on_virtual_time


@dataclass
class Source:
    """Counts up: each read gives the next number, a second after it was asked for."""

    seconds: float = 1.0
    failures: list[Exception] = field(default_factory=list)
    reads: list[tuple[str, float]] = field(default_factory=list)
    ended: int = 0

    async def __call__(self, key: str) -> int:
        self.reads.append((key, _now()))
        number = len(self.reads)
        await asyncio.sleep(self.seconds)
        self.ended += 1
        if self.failures:
            raise self.failures.pop(0)
        return number


def _now() -> float:
    return asyncio.get_running_loop().time()


@on_virtual_time
async def test_a_reading_tells_when_it_was_asked_for_not_when_it_came() -> None:
    asked_at = _now()
    assert await Fresh(Source()).get("a", asked_at) == Reading(1, asked_at)
    assert _now() == asked_at + 1


@on_virtual_time
async def test_an_answer_that_is_young_enough_is_not_asked_for_again() -> None:
    source = Source()
    fresh = Fresh(source)
    first = await fresh.get("a", _now())
    await asyncio.sleep(10)
    assert await fresh.get("a", first.asked_at) is first
    assert await fresh.get("a", float("-inf")) is first
    assert len(source.reads) == 1


@on_virtual_time
async def test_an_answer_that_is_too_old_is_asked_for_again() -> None:
    source = Source()
    fresh = Fresh(source)
    first = await fresh.get("a", _now())
    assert (await fresh.get("a", first.asked_at + 0.001)).value == 2


@on_virtual_time
async def test_all_who_ask_at_once_share_one_read() -> None:
    source = Source()
    fresh = Fresh(source)
    readings = await asyncio.gather(*(fresh.get("a", _now()) for _ in range(50)))
    assert len(source.reads) == 1
    assert len(set(map(id, readings))) == 1


@on_virtual_time
async def test_a_read_under_way_is_shared_by_those_for_whom_it_is_young_enough() -> None:
    source = Source()
    fresh = Fresh(source)
    asked_at = _now()
    first = asyncio.create_task(fresh.get("a", asked_at))
    await asyncio.sleep(0.5)
    assert (await fresh.get("a", asked_at)).value == 1
    assert await first == Reading(1, asked_at)
    assert len(source.reads) == 1


@on_virtual_time
async def test_those_for_whom_the_read_under_way_is_too_old_share_the_next_one_after_it() -> None:
    source = Source()
    fresh = Fresh(source)
    began = _now()
    first = asyncio.create_task(fresh.get("a", began))
    await asyncio.sleep(0.5)
    later = await asyncio.gather(*(fresh.get("a", _now()) for _ in range(50)))
    assert (await first).value == 1
    assert {reading.value for reading in later} == {2}
    assert [at - began for _, at in source.reads] == pytest.approx([0, 1])


@on_virtual_time
async def test_different_keys_are_read_in_parallel() -> None:
    began = _now()
    fresh = Fresh(Source())
    await asyncio.gather(*(fresh.get(str(number), began) for number in range(10)))
    assert _now() == began + 1


@pytest.mark.parametrize("seconds", [0.0, 0.01])
@on_virtual_time
async def test_who_asks_for_an_answer_of_the_future_gets_one_read_not_a_storm(seconds: float) -> None:
    source = Source(seconds=seconds)
    reading = await Fresh(source).get("a", _now() + 3)
    assert reading.value == 1
    assert len(source.reads) == 1


@on_virtual_time
async def test_a_failure_is_raised_to_all_who_share_the_read_and_remembered_by_none() -> None:
    source = Source(failures=[OSError("away")])
    fresh = Fresh(source)
    began = _now()
    answers = await asyncio.gather(*(fresh.get("a", began) for _ in range(5)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["away"] * 5
    assert len(source.reads) == 1
    assert (await fresh.get("a", began)).value == 2


@on_virtual_time
async def test_a_failure_leaves_the_answer_before_it_in_place() -> None:
    source = Source()
    fresh = Fresh(source)
    first = await fresh.get("a", _now())
    source.failures.append(OSError("away"))
    with pytest.raises(OSError, match="away"):
        await fresh.get("a", _now())
    assert await fresh.get("a", first.asked_at) is first


@on_virtual_time
async def test_a_failure_of_a_read_too_old_is_none_of_the_waiters() -> None:
    source = Source(failures=[OSError("away")])
    fresh = Fresh(source)
    first = asyncio.create_task(fresh.get("a", _now()))
    await asyncio.sleep(0.5)
    assert (await fresh.get("a", _now())).value == 2
    with pytest.raises(OSError, match="away"):
        await first


@on_virtual_time
async def test_a_waiter_that_is_cancelled_does_not_cancel_the_read() -> None:
    source = Source()
    fresh = Fresh(source)
    began = _now()
    first, second = (asyncio.create_task(fresh.get("a", began)) for _ in range(2))
    await asyncio.sleep(0.5)
    first.cancel()
    assert (await second).value == 1
    assert first.cancelled()
    assert len(source.reads) == 1


@on_virtual_time
async def test_a_read_whose_waiters_are_all_cancelled_is_there_for_the_next() -> None:
    source = Source()
    fresh = Fresh(source)
    began = _now()
    only = asyncio.create_task(fresh.get("a", began))
    await asyncio.sleep(0.5)
    only.cancel()
    await asyncio.sleep(10)
    assert (await fresh.get("a", began)).value == 1
    assert len(source.reads) == 1


@on_virtual_time
async def test_a_failure_that_nobody_waits_for_any_more_makes_no_noise() -> None:
    fresh = Fresh(Source(failures=[OSError("away")]))
    only = asyncio.create_task(fresh.get("a", _now()))
    await asyncio.sleep(0.5)
    only.cancel()
    await asyncio.sleep(10)


@on_virtual_time
async def test_closing_ends_the_reads_under_way() -> None:
    source = Source(seconds=100)
    fresh = Fresh(source)
    waiter = asyncio.create_task(fresh.get("a", _now()))
    await asyncio.sleep(0.5)
    began = _now()
    await fresh.aclose()
    assert _now() == began
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert source.ended == 0


@on_virtual_time
async def test_answers_that_nobody_asks_for_any_more_are_forgotten() -> None:
    source = Source(seconds=0.1)
    fresh = Fresh(source)
    old = [await fresh.get(f"old-{number}", _now()) for number in range(10)]
    await asyncio.sleep(KEPT / 2)
    used = await fresh.get("used", _now())
    await asyncio.sleep(KEPT / 2)
    await fresh.get("new", _now())
    source.reads.clear()
    assert await fresh.get("used", used.asked_at) is used
    assert source.reads == []
    await fresh.get("old-0", old[0].asked_at)
    assert len(source.reads) == 1


@pytest.mark.parametrize(
    ("error", "read"), [(TimeoutError("too slow"), 2), (None, 1)], ids=["a failure is not shared", "a success is"]
)
@on_virtual_time
async def test_who_asks_at_a_reads_end_before_anybody_has_heard_of_it_shares_a_success_alone(
    error: TimeoutError | None, read: int
) -> None:
    """Between the end of one that failed and its waiters' next step the registry may have begun to work again."""
    asked: list[int] = []
    later: list[asyncio.Task[Reading[int]]] = []

    async def ends(_: str) -> int:
        asked.append(1)
        await asyncio.sleep(1)
        if len(asked) == 1:
            later.append(asyncio.create_task(fresh.get("a", 0.0)))
            if error is not None:
                raise error
        return len(asked)

    fresh = Fresh(ends)
    (first,) = await asyncio.gather(fresh.get("a", 0.0), return_exceptions=True)
    assert first is error if error is not None else isinstance(first, Reading)
    assert (await later[0]).value == read
    assert len(asked) == read


@on_virtual_time
async def test_who_asks_after_reads_were_dropped_gets_one_of_its_own_and_the_next_shares_it() -> None:
    source = Source()
    fresh = Fresh(source)
    before = asyncio.create_task(fresh.get("a", 0.0))
    await asyncio.sleep(0.5)
    before.cancel()
    fresh.drop()
    asked_at = _now()
    first = asyncio.create_task(fresh.get("a", 0.0))
    await asyncio.sleep(0.1)
    assert await fresh.get("a", asked_at) == await first == Reading(2, asked_at)
    assert (len(source.reads), source.ended) == (2, 1)
