"""What is remembered of each pod between its events: the newest desired status and how far its delivery has come."""

import random
from collections.abc import Iterator, KeysView
from dataclasses import dataclass, replace

from registry_status.model import Desired, InstanceStatus, Life, OutcomeKind
from registry_status.sync.instances import InstanceKey

BACKOFF_FIRST = 0.2
"""Seconds of the first backoff at most, and by which a wait that the registry asked for varies."""


@dataclass(slots=True)
class PodRecord:
    """One pod. All times are loop times."""

    desired: Desired
    life_since: float
    """When the main container's present life was first seen."""
    stopped_since: float = float("-inf")
    """When the main container was last seen to run no more."""
    ready_since: float | None = None
    gone_since: float | None = None
    current: InstanceKey | None = None
    """The instance of the present life."""
    older: tuple[InstanceKey, ...] = ()
    """Instances that earlier lives left behind."""
    certain: bool = True
    """Whether `current` is surely the present life's; if not, another may still be registered."""
    earlier: frozenset[str] = frozenset()
    """Ids of instances that were matched before the container's last restart."""
    matched_life: Life | None = None
    """The life for which instances were last matched."""
    wanted_at: float = 0.0
    """How old a listing may be that is matched against."""
    reread_at: float = float("inf")
    """From when on the instances are to be looked at again although they are known."""
    judged_at: float = float("-inf")
    """The age of the listing that was matched against last."""
    complete_at: float = float("-inf")
    """By when something must have been registered to be seen by that look for certain."""
    attempts: int = 0
    """Failures in a row since the desired status last changed."""
    has_turn: bool = False
    """A retry waits for its turn, which the shared budget has given it."""
    hurried: bool = False
    """It is tried before its turn, since others that had waited were served."""
    told: OutcomeKind | None = None
    """The outcome that was reported last."""
    told_text: str = ""
    measured: bool = True
    """Whether the latency of the last transition was told, or is none of ours: seen late, or before there was an instance."""
    unsure: bool = False
    """The present status was sent, and it is not known whether that write was applied."""
    warned_of: str = ""
    """The service whose consumers the present status harms, once that was told."""
    admitted: bool = False
    """Its readiness gate was asked to be opened."""
    acknowledged: InstanceStatus | None = None
    """What the registry is known to say of every instance of the pod."""

    @property
    def uid(self) -> str:
        """The pod's uid."""
        return self.desired.pod.uid

    @property
    def instances(self) -> tuple[InstanceKey, ...]:
        """Every instance matched to the pod."""
        return (self.current, *self.older) if self.current is not None else self.older

    @property
    def instance_ids(self) -> tuple[str, ...]:
        """Their ids."""
        return tuple(key.instance_id for key in self.instances)

    @property
    def rematch_due(self) -> bool:
        """Whether the instances must be looked for: none found yet, or the container was restarted since."""
        evidence = self.desired.evidence
        return not self._is_sure or (evidence is not None and evidence.running and self.matched_life != evidence.life)

    @property
    def unseen(self) -> bool:
        """Whether what the container registered before it ended may not have been listed yet."""
        sure = self._is_sure and self.matched_life == _life(self.desired)
        return not self.instances or (not sure and self.outdated)

    @property
    def outdated(self) -> bool:
        """Whether the container may have registered something since what was seen last; none that has ended still does."""
        return self.complete_at < max(self.life_since, self.stopped_since)

    @property
    def _is_sure(self) -> bool:
        return self.current is not None and self.certain

    def take(self, desired: Desired, now: float) -> bool:
        """Store a newer observation. Returns whether there may be something to do."""
        before, self.desired = self.desired, desired
        changed = (before.status, before.auto, before.ended, before.gone) != (
            desired.status, desired.auto, desired.ended, desired.gone
        )  # fmt: skip
        if _life(before) != _life(desired):
            self.life_since, self.ready_since = now, None
            self.earlier = self.earlier.union(self.instance_ids) if desired.restarted else frozenset()
            changed = True
        if _runs(before) and not _runs(desired):
            self.stopped_since = now
        if changed:
            self.attempts, self.has_turn, self.warned_of, self.unsure = 0, False, "", False
            self.measured = not self.instances
        self.ready_since = _since(self.ready_since, now, holds=desired.status is InstanceStatus.UP)
        self.gone_since = _since(self.gone_since, now, holds=desired.gone)
        if changed or (self.rematch_due and not desired.calls_for_the_same(before)):
            self.demand(now)
        if not desired.gated:
            self.admitted = False
        return changed or self.rematch_due or (desired.gated and not before.gated)

    def demand(self, now: float) -> None:
        """Only a listing asked for from now on will do."""
        self.wanted_at = now

    def doubt(self) -> None:
        """What was achieved and told counts no more: the next one to write begins anew."""
        self.acknowledged, self.told, self.told_text, self.warned_of = None, None, "", ""
        self.attempts, self.has_turn, self.measured, self.admitted, self.unsure = 0, False, True, False, False

    def backoff(self, least: float | None, longest: float, chance: random.Random) -> float:
        """Seconds until the next attempt: as the registry asked for, else doubling with full jitter."""
        self.attempts += 1
        if least is not None:
            return least + chance.uniform(0, BACKOFF_FIRST)
        return chance.uniform(0, min(longest, BACKOFF_FIRST * 2.0 ** min(self.attempts - 1, 16)))


def _remembering(before: Desired, desired: Desired) -> Desired:
    """Keep what an instance is found by: an evicted pod has no IP any more, and nobody may have written its DOWN yet."""
    if not desired.ended or before.evidence is None or desired.evidence is None or desired.evidence.ips:
        return desired
    target = desired.target
    if target is not None and target.pending and target.same_place(before.target):
        target = before.target
    return replace(desired, target=target, evidence=replace(desired.evidence, ips=before.evidence.ips))


def _since(before: float | None, now: float, *, holds: bool) -> float | None:
    """Since when something holds that holds now, or does not."""
    if not holds:
        return None
    return now if before is None else before


def _runs(desired: Desired) -> bool:
    return desired.evidence is not None and desired.evidence.running and not desired.ended


def _life(desired: Desired) -> Life | None:
    return desired.evidence.life if desired.evidence is not None else None


class PodRecords:
    """All pods that are tracked, by uid, and by what two of them may share: a name, an annotated instance."""

    def __init__(self) -> None:
        self._records: dict[str, PodRecord] = {}
        self._shared: dict[object, set[str]] = {}

    @property
    def uids(self) -> KeysView[str]:
        """The uids of all of them: a view."""
        return self._records.keys()

    def __contains__(self, uid: object) -> bool:
        return uid in self._records

    def __iter__(self) -> Iterator[PodRecord]:
        return iter(list(self._records.values()))

    def __len__(self) -> int:
        return len(self._records)

    def get(self, uid: str) -> PodRecord | None:
        """The pod's record if it is tracked."""
        return self._records.get(uid)

    def add(self, desired: Desired, now: float) -> PodRecord:
        """Begin to track a pod."""
        record = PodRecord(desired=desired, life_since=now, wanted_at=now)
        record.ready_since = now if desired.status is InstanceStatus.UP else None
        record.gone_since = now if desired.gone else None
        self._records[record.uid] = record
        self._index(desired)
        return record

    def update(self, record: PodRecord, desired: Desired, now: float) -> bool:
        """Store a newer observation. Returns whether there may be something to do."""
        desired = _remembering(record.desired, desired)
        if desired.target is not record.desired.target:  # the name goes with the uid
            self._unindex(record.desired)
            self._index(desired)
        return record.take(desired, now)

    def remove(self, uid: str) -> None:
        """Track the pod no more."""
        record = self._records.pop(uid, None)
        if record is not None:
            self._unindex(record.desired)

    def namesakes(self, record: PodRecord) -> list[PodRecord]:
        """Other pods with this one's name that may have registered."""
        return self._live(record, _name_key(record.desired))

    def fellow_claimants(self, record: PodRecord) -> list[PodRecord]:
        """Other pods that may have registered the instance which their annotations name, as this one's do."""
        target = record.desired.target
        return self._live(record, target) if target is not None and target.instance_id is not None else []

    def _live(self, record: PodRecord, key: object) -> list[PodRecord]:
        others = [self._records[uid] for uid in self._shared.get(key, ()) if uid != record.uid]
        return [other for other in others if other.desired.may_be_registered]

    def _index(self, desired: Desired) -> None:
        for key in _shared_keys(desired):
            self._shared.setdefault(key, set()).add(desired.pod.uid)

    def _unindex(self, desired: Desired) -> None:
        for key in _shared_keys(desired):
            uids = self._shared.get(key, set())
            uids.discard(desired.pod.uid)
            if not uids:
                self._shared.pop(key, None)


def _shared_keys(desired: Desired) -> Iterator[object]:
    yield _name_key(desired)
    target = desired.target
    if target is not None and target.instance_id is not None:
        yield target


def _name_key(desired: Desired) -> tuple[str, str]:
    return desired.pod.namespace, desired.pod.name
