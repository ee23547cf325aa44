"""What the registry had to say of a pod, moment by moment, and whether what was written fits: rules of the tests' own."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from registry_status.registry.devserver import StatusWrite


@dataclass
class History:
    """The statuses of one pod, one after the other, each from its moment on (epoch seconds)."""

    statuses: list[str] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)

    @property
    def current(self) -> str:
        return self.statuses[-1]

    def says(self, status: str, at: float) -> None:
        """Note a change; the status that it has already is none."""
        if not self.statuses or self.current != status:
            self.statuses.append(status)
            self.moments.append(at)

    def place(self, at: float) -> int:
        """Which status was the right one at that moment; the first one, before there was any."""
        return max((number for number, moment in enumerate(self.moments) if moment <= at), default=0)

    def next(self, status: str, start: int, at: float) -> int | None:
        """Find the first time, from a place on, that it was this status, begun by that moment; None if it never was."""
        places = range(start, len(self.statuses))
        return next((number for number in places if self.statuses[number] == status and self.moments[number] <= at), None)

    def __str__(self) -> str:
        return ", ".join(self.statuses[-6:])


def out_of_order(
    writes: Iterable[StatusWrite], histories: Mapping[str, History], leftovers: frozenset[str], since: float = -math.inf
) -> list[str]:
    """Tell the writes of what was not right any more, or not yet: each instance may skip statuses of its pod, never go back.

    All was in step at the moment `since`. The instance of a container's earlier life (`leftovers`) may also be taken DOWN.
    """
    reached: dict[str, int] = {}
    problems = []
    for write in writes:
        name = write.instance_id
        if name not in histories or (name in leftovers and write.after == "DOWN"):
            continue
        history = histories[name]
        start = reached.setdefault(name, history.place(since))
        found = history.next(write.after, start, write.time)
        if found is None:
            problems.append(f"{name}: {write.after} was written after {history.statuses[start]}; its pod was {history}")
        else:
            reached[name] = found
    return problems


def wrong(found: Mapping[str, str], instances: Iterable[str], history: History) -> list[str]:
    """Tell which of a pod's instances, oldest first, the registry has something wrong to say of.

    UP is for the present life's instance only; every other status is for all of them. Earlier ones may have expired.
    """
    *older, current = instances
    leftover = "DOWN" if history.current == "UP" else history.current
    expected = dict.fromkeys(older, leftover) | {current: history.current}
    problems = [
        f"{name} is {found[name]}, not {status} (its pod was {history})"
        for name, status in expected.items()
        if name in found and found[name] != status
    ]
    return problems if current in found else [*problems, f"{current} is not registered any more"]
