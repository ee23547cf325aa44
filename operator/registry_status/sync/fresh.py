"""Reads that are shared: one at a time for each key, however many ask, and each caller says how old an answer may be."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from registry_status.sync.clock import loop_time

KEPT = 3600.0
"""Seconds for which an answer is remembered: longer than anybody takes one for new enough."""

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
Value_co = TypeVar("Value_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Reading(Generic[Value_co]):
    """What was read, and the loop time at which it was asked for: it is no older than that."""

    value: Value_co
    asked_at: float


class Fresh(Generic[Key, Value]):
    """Runs `read` for a key unless an answer at least as young as wanted is there or under way."""

    def __init__(self, read: Callable[[Key], Awaitable[Value]]) -> None:
        self._read = read
        self._last: dict[Key, Reading[Value]] = {}
        self._under_way: dict[Key, tuple[float, asyncio.Task[Reading[Value]]]] = {}

    async def get(self, key: Key, not_before: float) -> Reading[Value]:
        """The value as of `not_before` (loop time) or later. Raises what `read` raises.

        Nothing is younger than a read that begins now: who asks for later gets that, not one read after the other until then.
        """
        not_before = min(not_before, loop_time())
        while True:
            last = self._last.get(key)
            if last is not None and last.asked_at >= not_before:
                return last
            asked_at, task = self._under_way.get(key) or self._start(key)
            if asked_at >= not_before:
                return await asyncio.shield(task)
            await asyncio.wait([task])

    def last(self, key: Key) -> Reading[Value] | None:
        """The newest answer, however old it is."""
        return self._last.get(key)

    def drop(self) -> "list[asyncio.Task[Reading[Value]]]":
        """End the reads under way, and return them; those who wait for one are to be ended, too. Who asks next gets another."""
        tasks = [task for _, task in self._under_way.values()]
        self._under_way.clear()
        for task in tasks:
            task.cancel()
        return tasks

    async def aclose(self) -> None:
        """End the reads under way."""
        await asyncio.gather(*self.drop(), return_exceptions=True)

    def _start(self, key: Key) -> tuple[float, asyncio.Task[Reading[Value]]]:
        asked_at = loop_time()
        task = asyncio.create_task(self._fetch(key, asked_at))
        task.add_done_callback(lambda done: self._finish(key, done))
        self._under_way[key] = asked_at, task
        return asked_at, task

    async def _fetch(self, key: Key, asked_at: float) -> Reading[Value]:
        try:
            return Reading(await self._read(key), asked_at)
        except BaseException:
            self._end(key, asyncio.current_task())  # not when others hear of it: who asks in between would join a failure
            raise

    def _end(self, key: Key, task: asyncio.Task[Reading[Value]] | None) -> None:
        """It is not under way any more; another one may be by now."""
        _, under_way = self._under_way.get(key, (0.0, None))
        if under_way is not None and under_way is task:
            del self._under_way[key]

    def _finish(self, key: Key, task: asyncio.Task[Reading[Value]]) -> None:
        self._end(key, task)
        # Asking for the exception marks it as seen, also where every waiter has gone.
        if not task.cancelled() and task.exception() is None:
            self._last.pop(key, None)
            self._last[key] = task.result()
            self._forget_old(task.result().asked_at)

    def _forget_old(self, now: float) -> None:
        """Keys that nobody asks for any more must not pile up; the oldest comes first."""
        while self._last:
            key, oldest = next(iter(self._last.items()))
            if now - oldest.asked_at <= KEPT:
                return
            del self._last[key]
