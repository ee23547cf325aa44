"""What the demo expects of the operator, what came, and the verdict. It does no I/O, and its times are given."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from statistics import median

from registry_status.model import InstanceStatus
from registry_status.registry.devserver import StatusWrite


class Cause(Enum):
    """What a change of status in the registry was due to."""

    POD = "the pod changed"
    REGISTRATION = "an SDK registered"
    START = "the operator started"
    RETURN = "the registry came back"


@dataclass(slots=True)
class Life:
    """One instance in the registry, from one start of a pod's container to the next; it begins as the SDK says, UP."""

    pod: str
    service_id: str
    instance_id: str
    expected: list[InstanceStatus] = field(default_factory=lambda: [InstanceStatus.UP])
    until: float | None = None
    """When the next life began; after that the operator may do with the leftover what it likes, but never call it UP."""

    def expect(self, status: InstanceStatus) -> None:
        """Note the status that is due next."""
        if self.expected[-1] is not status:
            self.expected.append(status)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A status that came as expected. `seconds` from the cause to the registry; None where nothing had to be written."""

    pod: str
    status: InstanceStatus
    cause: Cause
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the operator did."""

    faults: Sequence[str]
    redundant: int
    arrivals: Sequence[Arrival]
    events: int

    @property
    def passed(self) -> bool:
        """Everything that was due arrived, in order, and nothing else."""
        return not self.faults and not self.redundant

    def latencies(self, cause: Cause) -> Sequence[float]:
        """How long the changes of one cause took, shortest first."""
        return sorted(one.seconds for one in self.arrivals if one.cause is cause and one.seconds is not None)


class Ledger:
    """Collects lives, arrivals and faults while the story is told."""

    def __init__(self) -> None:
        self.lives: list[Life] = []
        self.arrivals: list[Arrival] = []
        self.faults: list[str] = []

    def last_arrival(self, pod: str) -> Arrival | None:
        """The newest status that came for a pod by a write."""
        return next((one for one in reversed(self.arrivals) if one.pod == pod and one.seconds is not None), None)

    def verdict(self, writes: Sequence[StatusWrite], *, pod_writes: int, events: int) -> Verdict:
        """Judge, given the registry's journal and how often somebody tried to change a pod over the API."""
        faults = [*self.faults, *_out_of_order(self.lives, writes), *_of_strangers(self.lives, writes)]
        if pod_writes:
            faults.append(f"{pod_writes} requests tried to change pods, which the operator must never do")
        return Verdict(faults, sum(write.redundant for write in writes), tuple(self.arrivals), events)


def _out_of_order(lives: Iterable[Life], writes: Sequence[StatusWrite]) -> Iterable[str]:
    for life in lives:
        own = [write for write in writes if write.instance_id == life.instance_id]
        seen = ["UP", *(write.after for write in own if life.until is None or write.time < life.until)]
        if _without_repetitions(seen) != life.expected:
            wanted = " -> ".join(life.expected)
            yield f"{life.pod}: the registry should have said {wanted}, and said {' -> '.join(seen)}"
        if any(write.after == "UP" for write in own if life.until is not None and write.time >= life.until):
            yield f"{life.pod}: an instance of an earlier life of its container was set UP"


def _of_strangers(lives: Iterable[Life], writes: Iterable[StatusWrite]) -> Iterable[str]:
    known = {life.instance_id for life in lives}
    yield from sorted(
        {f"instance {write.instance_id} is no pod's, but was written" for write in writes if write.instance_id not in known}
    )


def _without_repetitions(seen: Sequence[str]) -> Sequence[str]:
    return [*seen[:1], *(after for before, after in pairwise(seen) if after != before)]


def summary(verdict: Verdict) -> Sequence[str]:
    """Say it in a few lines for people."""
    count = len([one for one in verdict.arrivals if one.seconds is not None])
    lines = [f"{count} status changes arrived in the registry, {verdict.redundant} redundant writes, {verdict.events} Events"]
    lines += [_timing(cause, found) for cause in Cause if (found := verdict.latencies(cause))]
    lines += [f"  missing or wrong: {fault}" for fault in verdict.faults]
    lines.append("passed" if verdict.passed else "FAILED")
    return lines


def _timing(cause: Cause, seconds: Sequence[float]) -> str:
    changes = "1 change" if len(seconds) == 1 else f"{len(seconds)} changes"
    return f"  after {cause.value}: {changes}, p50 {median(seconds) * 1000:.0f} ms, max {seconds[-1] * 1000:.0f} ms"
