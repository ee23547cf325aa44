"""What would be written for each pod, and why: the operator's own rules applied once, without its memory.

An operator that has just begun knows what is known here: pods, and the registry's lists. How long it has watched a pod is taken
from the pod's own age, as if it had been there all the time.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from registry_status.model import Desired, Evidence, InstanceStatus, PodRef, Reason, Target
from registry_status.registry.base import Instance
from registry_status.sync.directory import Roster
from registry_status.sync.instances import InstanceKey, Instances
from registry_status.sync.matching import (
    Circumstances,
    Matched,
    NoneFound,
    Refused,
    match,
    names_of_pod,
)


class State(StrEnum):
    """How a pod stands with the registry."""

    IN_STEP = "in-step"
    """The registry says what it should."""
    CHANGE = "would-change"
    """The operator would write a status."""
    UNMATCHED = "unmatched"
    """The pod runs, and no instance is found for it."""
    CONFLICT = "conflict"
    """To take an instance would be a guess, or another pod has a better claim."""
    INVALID = "invalid"
    """An annotation is wrong."""
    PAUSED = "paused"
    """Handed back by the annotation `paused`."""
    WAITING = "waiting"
    """Nothing is due: it has not registered yet."""

    @property
    def out_of_step(self) -> bool:
        """Something is to be done, by the operator or by people."""
        return self in (State.CHANGE, State.UNMATCHED, State.CONFLICT, State.INVALID)


@dataclass(frozen=True, slots=True)
class Step:
    """One instance of a pod: what the registry says of it, and what it should say."""

    instance: Instance
    to: InstanceStatus
    leftover: bool = False
    """It belongs to an earlier life of the pod's container."""

    @property
    def changes(self) -> bool:
        """Whether something would be written."""
        return self.instance.status != self.to


@dataclass(frozen=True, slots=True)
class Judged:
    """One pod, judged."""

    desired: Desired
    state: State
    status: InstanceStatus | None
    """What `auto` has come to, where that was asked."""
    steps: tuple[Step, ...] = ()
    note: str = ""
    """What people should know beside the pod's own message."""
    unregistered: bool = False
    """The registry does not have the service that the pod names."""
    refused: bool = False
    """The registry refuses for good to tell what the service has."""

    @property
    def pod(self) -> PodRef:
        """Which pod."""
        return self.desired.pod


class Candidates:
    """A service's instances, from which each pod's are taken."""

    def __init__(self, instances: Sequence[Instance], refusal: str = "") -> None:
        """`refusal` is what the registry said that refuses for good to list them."""
        self.all = Roster(instances)
        self.refusal = refusal

    def of(self, target: Target, pod: Evidence) -> Sequence[Instance]:
        """Those that `match` could take, in their order."""
        return self.all.bearing(names_of_pod(target, pod))


def circumstances(desired: Desired, now: float, *, trust_ids: bool) -> Circumstances:
    """What an operator would know that has watched since the container started; `now` is epoch seconds."""
    started = desired.evidence.container_started_at if desired.evidence is not None else None
    age = max(0.0, now - started) if started is not None else 0.0
    return Circumstances(age=age, gone=desired.ended, trust_ids=trust_ids)


def judge(
    desired: Desired,
    candidates: Candidates | None,
    resolved: Callable[[Desired], InstanceStatus | None],
    now: float,
    *,
    trust_ids: bool = False,
    namesake: bool = False,
) -> Judged:
    """Judge one pod by itself. `candidates` is None where it names no place; `namesake`: another, live pod bears its name."""
    if desired.reason is Reason.INVALID:
        return Judged(desired, State.INVALID, None)
    target, evidence = desired.target, desired.evidence
    if target is None or evidence is None or desired.status is None:
        return Judged(desired, State.PAUSED, None)
    status = resolved(desired)
    if desired.reason is Reason.CONTAINER_NOT_STARTED and not evidence.has_started:
        return Judged(desired, State.WAITING, status)
    result: Matched | Refused | NoneFound = NoneFound()
    if candidates is not None and not (desired.ended and namesake):
        around = circumstances(desired, now, trust_ids=trust_ids)
        result = match(target, evidence, candidates.of(target, evidence), around)
    match result:
        case Refused(message):
            return Judged(desired, State.IN_STEP if desired.ended else State.CONFLICT, status, note=message)
        case NoneFound():
            return _unmatched(desired, status)
        case Matched():
            return _matched(desired, status, result)


def _unmatched(desired: Desired, status: InstanceStatus | None) -> Judged:
    if desired.ended or desired.reason is Reason.POD_TERMINATING:
        return Judged(desired, State.IN_STEP, status, note="the registry has no instance of it any more")
    running = desired.evidence is not None and desired.evidence.running
    if desired.reason is Reason.CONTAINER_STARTING or (not running and status is not InstanceStatus.UP):
        return Judged(desired, State.WAITING, status)
    return Judged(desired, State.UNMATCHED, status, note="no instance of the service is this pod's")


def _matched(desired: Desired, status: InstanceStatus | None, found: Matched) -> Judged:
    if status is None:
        return Judged(desired, State.PAUSED, None)
    if status is InstanceStatus.UP and found.current is None:
        older = ", ".join(one.instance_id for one in found.older)
        note = f"only instances of its container's earlier lives are there: {older}"
        return Judged(desired, State.UNMATCHED, status, note=note)
    to_older = InstanceStatus.DOWN if status is InstanceStatus.UP else status
    steps = [Step(found.current, status)] if found.current is not None else []
    steps += [Step(one, to_older, leftover=True) for one in found.older]
    return Judged(desired, _state(steps), status, tuple(steps))


def _state(steps: Iterable[Step]) -> State:
    return State.CHANGE if any(step.changes for step in steps) else State.IN_STEP


def settle(judged: Sequence[Judged]) -> Sequence[Judged]:
    """Let one pod own each instance that several claim, as the operator would: the others get a conflict."""
    claims: dict[InstanceKey, list[Desired]] = defaultdict(list)
    for one in judged:
        for key in _keys(one):
            claims[key].append(one.desired)
    owners = {key: _owner(key, pods) for key, pods in claims.items() if len(pods) > 1}
    return [_settled(one, owners) for one in judged]


def _owner(key: InstanceKey, pods: Sequence[Desired]) -> PodRef:
    first, *others = pods
    owner = Instances().claim(key, first, others).owner
    return next(pod.pod for pod in pods if pod.pod.uid == owner)


def _settled(one: Judged, owners: Mapping[InstanceKey, PodRef]) -> Judged:
    lost = [key for key in _keys(one) if key in owners and owners[key] != one.pod]
    if not lost:
        return one
    steps = tuple(step for step, key in zip(one.steps, _keys(one), strict=True) if key not in lost)
    if one.desired.ended:
        return replace(one, steps=steps, state=_state(steps))
    note = f"instance {lost[0].instance_id} is claimed by pod {owners[lost[0]]} too, which is Ready or newer, so it decides"
    return replace(one, steps=steps, state=State.CONFLICT, note=note)


def _keys(one: Judged) -> Iterator[InstanceKey]:
    target = one.desired.target
    if target is not None:
        yield from (InstanceKey(target.tenant, step.instance.service_id, step.instance.instance_id) for step in one.steps)
