"""Who tries again when: pods whose last attempt the registry failed (DESIGN 6)."""

import random
from collections.abc import Callable, KeysView
from itertools import islice

from registry_status.registry.base import AuthError, RegistryError, TransientError
from registry_status.sync.budget import Budget
from registry_status.sync.clock import loop_time
from registry_status.sync.desired import PodRecord

AFTER_REJECTION = 300.0
"""Seconds until something that the registry refused for good is tried again."""
BACKOFF_MOST = 30.0
"""The longest backoff in seconds..."""
BACKOFF_ALONE = 2.0
"""...of many failing pods; of one alone..."""
BACKOFF_SHARE = 0.2
"""...and what each further one adds: with full jitter about ten retries a second, however many pods fail."""
GAIN = 2
"""So many pods that wait are tried at once for each that was served after a failure."""
VANGUARD = 10
"""So many are tried at once when the registry works again: enough to tell whether it does, and twice a circuit's `TRIP`."""


class Retries:
    """Keeps those that wait in the order in which they failed. They begin anew as soon as the registry works again."""

    def __init__(self, wake: Callable[[str], None], chance: random.Random) -> None:
        self._wake = wake
        self._chance = chance
        self._budget = Budget()
        self._waiting: dict[str, PodRecord] = {}
        self.beginning = 0
        """How often the registry has begun to work again."""

    @property
    def waiting(self) -> KeysView[str]:
        """The uids of those that wait: a view."""
        return self._waiting.keys()

    def wait_for_turn(self, record: PodRecord) -> float:
        """Seconds until a retry is allowed to run; it has its place then, and does not ask again."""
        if record.attempts == 0 or record.has_turn:
            record.has_turn = False
            return 0.0
        wait = self._budget.take(loop_time())
        record.has_turn = wait > 0
        if record.has_turn:
            self._waiting[record.uid] = record
        return wait

    def failed(self, record: PodRecord, error: RegistryError) -> None:
        """Note that an attempt failed. What the registry says to wait for waits by itself, also where it stood in the row."""
        record.hurried = False
        if _least_wait(error) is None:
            self._waiting[record.uid] = record
        else:
            self.forget(record.uid)

    def delay(self, record: PodRecord, error: RegistryError) -> float:
        """Seconds until the next attempt. The fewer pods fail, the less a retry costs, and the sooner it comes."""
        longest = min(BACKOFF_MOST, max(BACKOFF_ALONE, len(self._waiting) * BACKOFF_SHARE))
        return record.backoff(_least_wait(error), longest, self._chance)

    def begin_anew(self) -> None:
        """The registry works again, or so it says: some that waited for it try at once, the rest stand in the row.

        If it does work, `was_served` calls them out of it in no time. If all that it answers is a probe, they are no storm.
        """
        self.beginning += 1
        waiting = list(self._waiting.values())
        for record in waiting[:VANGUARD]:
            self._retry_now(record)
        for record in waiting[VANGUARD:]:
            self._retry_in_turn(record)

    def was_served(self, record: PodRecord, written: int) -> None:
        """A pod that had waited was written: let two more try at once, and so on twice as many, as long as that goes well.

        Of those that were let try it is enough that nothing was to be written.
        """
        waited = self._waiting.pop(record.uid, None) is not None
        goes_well = record.hurried or (waited and written > 0)
        record.hurried = False
        if written and goes_well:
            self._budget.refill()
        for other in list(islice(self._waiting.values(), GAIN if goes_well else 0)):
            self._retry_now(other)

    def forget(self, uid: str) -> None:
        """The pod waits no more: it is not tracked, or not to be written."""
        self._waiting.pop(uid, None)

    def clear(self) -> None:
        """Nobody waits any more."""
        self._waiting.clear()

    def _retry_in_turn(self, record: PodRecord) -> None:
        record.demand(loop_time())
        if not record.has_turn:
            record.attempts = max(record.attempts, 1)
            self._wake(record.uid)

    def _retry_now(self, record: PodRecord) -> None:
        del self._waiting[record.uid]
        record.attempts, record.has_turn, record.hurried = 0, False, True
        record.demand(loop_time())
        self._wake(record.uid)


def _least_wait(error: RegistryError) -> float | None:
    """Seconds before which it is no use to try again; None: the backoff decides."""
    match error:
        case TransientError():
            return error.retry_after
        case AuthError():
            return None
        case _:
            return AFTER_REJECTION
