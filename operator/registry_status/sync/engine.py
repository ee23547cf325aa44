"""The middle of the operator: takes what pods say, keeps what is wanted, and sets workers on what is to be done."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from registry_status.model import Desired, InstanceStatus, PodRef, Reason
from registry_status.registry.base import Registry
from registry_status.sync.clock import loop_time
from registry_status.sync.delivery import Delivery, Timing
from registry_status.sync.desired import PodRecord, PodRecords
from registry_status.sync.resync import DriftReporter, Resync
from registry_status.sync.telling import Reporter
from registry_status.sync.worker import KeyedWorkers


class EngineReporter(Reporter, DriftReporter, Protocol):
    """What the engine reports to."""


class Engine:
    """Turns observations into deliveries.

    It begins held: until `start_writing` nothing is asked of the registry, so that a partial list of pods writes nothing.
    Where several replicas take turns, all but one `stand_by`: these keep what pods say and ask the registry nothing.
    `take` and `vanish` do no I/O and return at once.
    """

    def __init__(
        self,
        registry: Registry,
        reporter: EngineReporter,
        *,
        timing: Timing | None = None,
        trust_ids: bool = False,
        admit: Callable[[PodRef], None] | None = None,
        chance: random.Random | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`admit` opens the readiness gate of a pod that has one, once the registry says UP of its instance."""
        self._records = PodRecords()
        self._workers = KeyedWorkers(self._deliver)
        self._workers.hold()
        self._writing = False
        timing, chance = timing or Timing(), chance or random.Random()  # noqa: S311 - jitter, not secrets
        self._delivery = Delivery(
            registry,
            self._records,
            reporter,
            self._workers.wake,
            timing=timing,
            trust_ids=trust_ids,
            admit=admit,
            chance=chance,
            wall_clock=wall_clock,
        )
        self._resync = Resync(self._records, self._delivery, reporter, interval=timing.resync_interval, chance=chance)
        self._resyncing: asyncio.Task[None] | None = None

    def __contains__(self, uid: object) -> bool:
        return uid in self._records

    def __len__(self) -> int:
        return len(self._records)

    @property
    def tracked(self) -> Container[str]:
        """The uids of all pods that are tracked: a view, quick to ask."""
        return self._records.uids

    def pods(self) -> Sequence[PodRef]:
        """All pods that are tracked and not gone."""
        return [record.desired.pod for record in self._records if not record.desired.gone]

    @property
    def queued(self) -> int:
        """How many pods wait for a delivery, or are being worked on now."""
        return len(self._delivery.waiting | self._workers.running)

    def desired_counts(self) -> Mapping[InstanceStatus, int]:
        """How many pods call for each status."""
        called_for = map(self._called_for, self._records)
        return Counter(status for status in called_for if status is not None)

    def _called_for(self, record: PodRecord) -> InstanceStatus | None:
        """With `auto` as it is resolved now; a standby does not know."""
        return self._delivery.consumers.resolved(record.desired) if self._writing else record.desired.status

    def acknowledged_counts(self) -> Mapping[InstanceStatus, int]:
        """For how many pods the registry is known to say each status."""
        return Counter(record.acknowledged for record in self._records if record.acknowledged is not None)

    def take(self, desired: Desired, *, deleted: bool = False) -> None:
        """Take an observation of a pod: the newest, since events of one pod come in order."""
        record = self._records.get(desired.pod.uid)
        if record is None:
            self._begin(desired, deleted=deleted)
        elif not desired.managed and deleted:
            self._end(record)
        else:
            self._continue(record, desired)

    def vanish(self, uid: str) -> None:
        """A tracked pod is missing from a complete list: it went while nobody watched."""
        record = self._records.get(uid)
        if record is None or record.desired.gone:
            return
        if not record.desired.managed:
            self._end(record)
            return
        message = "the pod is not listed any more"
        self.take(replace(record.desired, status=InstanceStatus.DOWN, reason=Reason.POD_GONE, message=message, auto=False))

    def start_writing(self) -> None:
        """All pods have been listed, and we lead: compare with the registry and write the differences."""
        self._writing = True
        now = loop_time()
        for record in self._records:
            record.demand(now)
        self._workers.restart([record.uid for record in self._records])
        self._resyncing = self._resyncing or asyncio.create_task(self._resync.run(), name="resync")

    def stand_by(self) -> None:
        """Another replica writes, or soon will: drop at once what is under way, and take nothing for known any more.

        Pods are tracked as ever, those that are gone for as long as a writing replica tracks them, so that `start_writing`
        needs nothing but the registry's lists.
        """
        self._writing = False
        self._stop_resync()
        self._delivery.doubt()
        self._delivery.directory.drop()
        self._workers.restart([record.uid for record in self._records])

    def stop_writing(self) -> None:
        """Start nothing new."""
        self._workers.hold()
        self._stop_resync()

    async def drain(self, timeout: float) -> bool:
        """Finish what runs, at most `timeout` seconds. Returns whether all of it was finished."""
        self.stop_writing()
        finished = await self._workers.drain(timeout)
        await self._delivery.directory.aclose()
        return finished

    async def _deliver(self, uid: str) -> float | None:
        return await self._delivery.deliver(uid) if self._writing else self._delivery.attend(uid)

    def _stop_resync(self) -> None:
        if self._resyncing is not None:
            self._resyncing.cancel()
            self._resyncing = None

    def _begin(self, desired: Desired, *, deleted: bool) -> None:
        """A pod that is not tracked yet. One that is gone already, or not ours, is not worth it."""
        if deleted or not (desired.managed or desired.reason is Reason.INVALID):
            return
        self._records.add(desired, loop_time())
        self._workers.wake(desired.pod.uid)

    def _continue(self, record: PodRecord, desired: Desired) -> None:
        moved = desired.target is not None and not desired.target.same_place(record.desired.target)
        if moved:
            self._delivery.unclaim_all(record)
        released = not desired.managed and (record.desired.managed or record.desired.message != desired.message)
        if self._records.update(record, desired, loop_time()) or moved or released:
            self._delivery.wake_rivals(record)
            self._workers.wake(record.uid)

    def _end(self, record: PodRecord) -> None:
        self._delivery.retire(record)
