"""Keyed workers: at most one run at a time for each key, different keys in parallel, and none idle.

A key that waits costs a timer, not a task, so thousands of pods can wait out a failing registry.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

logger = logging.getLogger(__name__)
AFTER_ERROR = 30.0
"""Seconds to wait after an error that nobody expected."""

Work = Callable[[str], Awaitable[float | None]]
"""Does what is due for a key; returns None when there is nothing more to do, else the seconds until it wants to run again."""


@dataclass(slots=True)
class _Slot:
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    again: bool = False


class KeyedWorkers:
    """Runs `work` for keys that are woken. A wake during a run means one more run after it; a wake ends a wait."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._slots: dict[str, _Slot] = {}
        self._held = False

    @property
    def busy(self) -> int:
        """How many keys are being worked on now."""
        return len(self.running)

    @property
    def running(self) -> set[str]:
        """The keys that are being worked on now."""
        return {key for key, slot in self._slots.items() if slot.task is not None}

    @property
    def waiting(self) -> int:
        """How many keys wait to run again."""
        return len(self._slots) - self.busy

    def wake(self, key: str) -> None:
        """Run the key's work as soon as possible, unless held: its newest state, once, however often it is woken meanwhile."""
        if self._held:
            return
        slot = self._slots.setdefault(key, _Slot())
        if slot.task is not None:
            slot.again = True
            return
        if slot.timer is not None:
            slot.timer.cancel()
            slot.timer = None
        slot.task = asyncio.get_running_loop().create_task(self._run(key, slot))
        slot.task.add_done_callback(lambda task: self._ended(key, slot, task))

    def hold(self) -> None:
        """Start nothing any more until a `restart`, but for a run that was asked for while one was under way."""
        self._held = True
        for key, slot in list(self._slots.items()):
            if slot.timer is not None:
                slot.timer.cancel()
                del self._slots[key]

    def restart(self, keys: Iterable[str]) -> None:
        """End every run and every wait, and hold nothing any more; then run these keys, each after its own last run's end."""
        self._held = False
        for key, slot in list(self._slots.items()):
            if slot.timer is not None:
                slot.timer.cancel()
                del self._slots[key]
            elif slot.task is not None:
                slot.again = False
                slot.task.cancel()
        for key in keys:
            self.wake(key)

    async def drain(self, timeout: float) -> bool:
        """Wait until no work runs, at most `timeout` seconds; cancel what then still runs. True if there was none."""
        running = [slot.task for slot in self._slots.values() if slot.task is not None]
        if not running:
            return True
        _, late = await asyncio.wait(running, timeout=timeout)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        return not late

    async def _run(self, key: str, slot: _Slot) -> None:
        delay = None
        slot.again = True
        while slot.again:
            slot.again = False
            delay = await self._work(key)
        self._rest(key, slot, delay)

    def _rest(self, key: str, slot: _Slot, delay: float | None) -> None:
        slot.task, slot.again = None, False
        if delay is not None and not self._held:
            slot.timer = asyncio.get_running_loop().call_later(delay, self.wake, key)
        else:
            del self._slots[key]

    def _ended(self, key: str, slot: _Slot, task: asyncio.Task[None]) -> None:
        """A fault of ours must not lose the key: say so loudly, and try again."""
        if task.cancelled():
            self._slots.pop(key, None)
            if slot.again:  # by `restart`, which wants it to run once more
                self.wake(key)
        elif error := task.exception():
            logger.error("internal error while working on %s; trying again in %g s", key, AFTER_ERROR, exc_info=error)
            self._rest(key, slot, AFTER_ERROR)
