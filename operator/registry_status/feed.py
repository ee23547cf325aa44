"""Where the watch of pods meets the engine: events become desired statuses, complete lists tell who has vanished."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from registry_status.cluster.api import ApiError
from registry_status.cluster.lines import WatchFault
from registry_status.config import Settings
from registry_status.model import Desired, PodRef, Reason
from registry_status.pods.observation import RawPod
from registry_status.pods.status import Judge
from registry_status.report.health import HealthState
from registry_status.report.logs import LogLimiter
from registry_status.sync.engine import Engine

logger = logging.getLogger(__name__)
CONFIRM_AGAIN = 5.0
"""Seconds between attempts to learn whether a pod that left the selection still lives."""


class FaultCounter(Protocol):
    """Counts what the watch suffers from."""

    def watch_fault(self, fault: WatchFault) -> None:
        """Something went wrong with a watch."""
        ...


@dataclass(slots=True)
class _List:
    """One list of one watch: what was handed over since it began, and what is still on its way through kopf."""

    seen: set[str] = field(default_factory=set)
    listed: frozenset[str] | None = None
    awaited: set[str] = field(default_factory=set)


class PodFeed:
    """Takes pods' events, whether through kopf or past it, and news of the watch. Nothing here waits or raises.

    A list counts as complete only when every pod of it has come out of kopf's queues: then `listed` is called once for all
    watches, and tracked pods that no list holds are told to be gone.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        health: HealthState,
        faults: FaultCounter,
        *,
        listed: Callable[[], None],
        read_pod: Callable[[str, str], Awaitable[RawPod | None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._judge = Judge(settings)
        self._engine = engine
        self._health = health
        self._faults = faults
        self._listed = listed
        self._read_pod = read_pod
        self._clock = clock
        self._lists: dict[str, _List] = {}
        self._watches = settings.namespaces or ("",)
        self._unlisted = set(self._watches)
        self._limiter = LogLimiter(clock)
        self._confirming: dict[str, asyncio.Task[None]] = {}

    def take(self, kind: str | None, pod: RawPod) -> None:
        """One event of one pod; `kind` None is an entry of a list."""
        deleted = kind == "DELETED"
        wanted = self._judge.desired(pod, deleted=deleted)
        self._forget_question(wanted.pod.uid)
        if deleted and self._settings.label_selector and not _was_deleted(pod):
            self._confirm(wanted.pod, lambda: self._engine.take(wanted, deleted=True))
        else:
            self._engine.take(wanted, deleted=deleted)
        self._saw(wanted.pod)

    def listing_started(self, namespace: str) -> None:
        """A list begins; what an earlier one left unfinished counts no more."""
        self._lists[namespace] = _List()
        self._health.tried(_name(namespace), self._clock())

    def listing_finished(self, namespace: str, uids: frozenset[str]) -> None:
        """The session has passed on a whole list; kopf's queues may still hold some of it."""
        under_way = self._lists.setdefault(namespace, _List())
        under_way.listed = uids
        under_way.awaited = set(uids - under_way.seen)
        if not under_way.awaited:
            self._complete(namespace, under_way)

    def progressed(self, namespace: str) -> None:
        """The watch is alive."""
        self._health.heard(_name(namespace), self._clock())

    def suffered(self, namespace: str, fault: WatchFault, detail: str) -> None:
        """The watch goes on after a fault: count it, and say it in a line, not in a flood of them.

        Without a namespace it is a fault of what all watches need before they can begin, and somebody is at it for all of them.
        """
        self._faults.watch_fault(fault)
        for watch in (namespace,) if namespace else self._watches:
            self._health.tried(_name(watch), self._clock())
        where = f"namespace {namespace}" if namespace else "pods"
        fields = {"fault": fault.value}
        self._limiter.log(logger, logging.WARNING, fault, f"watch of {where}: {fault}: {detail}; it goes on", fields)

    def tracked(self, namespace: str) -> Sequence[PodRef]:
        """The pods of a watch that are tracked and not known to be gone."""
        return [pod for pod in self._engine.pods() if namespace in ("", pod.namespace)]

    def missed(self, namespace: str, pods: Sequence[PodRef]) -> None:
        """These pods are gone, which the watch has not told; those that it has told of meanwhile are none of them."""
        lost = sorted(set(self.tracked(namespace)).intersection(pods), key=str)
        if lost:
            self.suffered(namespace, WatchFault.MISSED, f"it did not tell of the end of {len(lost)} pods, such as {lost[0]}")
        for pod in lost:
            self._vanished(pod)

    async def aclose(self) -> None:
        """End what still asks about pods."""
        tasks = list(self._confirming.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _saw(self, pod: PodRef) -> None:
        for namespace in ("", pod.namespace):
            under_way = self._lists.get(namespace)
            if under_way is None:
                continue
            under_way.seen.add(pod.uid)
            under_way.awaited.discard(pod.uid)
            if under_way.listed is not None and not under_way.awaited:
                self._complete(namespace, under_way)

    def _complete(self, namespace: str, under_way: _List) -> None:
        """Every pod of the list has been taken: whoever is tracked and was not among them is gone."""
        del self._lists[namespace]
        present = under_way.seen | (under_way.listed or frozenset())
        for pod in self.tracked(namespace):
            if pod.uid not in present:
                self._vanished(pod)
        self._health.listed(_name(namespace), self._clock())
        if namespace in self._unlisted:
            self._unlisted.discard(namespace)
            if not self._unlisted:
                self._listed()

    def _vanished(self, pod: PodRef) -> None:
        """A tracked pod is not in a complete list: it is gone, or it has left the label selector."""
        if self._settings.label_selector:
            self._confirm(pod, lambda: self._engine.vanish(pod.uid))
        else:
            self._engine.vanish(pod.uid)

    def _confirm(self, pod: PodRef, gone: Callable[[], None]) -> None:
        """A pod that leaves the label selector looks as if it were deleted: ask, and call `gone` if it is."""
        if pod.uid in self._engine and pod.uid not in self._confirming:
            self._confirming[pod.uid] = asyncio.create_task(self._ask(pod, gone), name=f"confirm {pod}")

    async def _ask(self, pod: PodRef, gone: Callable[[], None]) -> None:
        while True:
            try:
                found = await self._read_pod(pod.namespace, pod.name)
            except ApiError:
                await asyncio.sleep(CONFIRM_AGAIN)
                continue
            del self._confirming[pod.uid]
            if found is not None and self._judge.desired(found).pod.uid == pod.uid:
                self._engine.take(Desired(pod, None, Reason.NOT_MANAGED, "the pod has left the label selector"))
            else:
                gone()
            return

    def _forget_question(self, uid: str) -> None:
        """A newer event answers better than what was asked before it."""
        task = self._confirming.pop(uid, None)
        if task is not None:
            task.cancel()


def _was_deleted(pod: RawPod) -> bool:
    metadata = pod.get("metadata")
    return isinstance(metadata, Mapping) and bool(metadata.get("deletionTimestamp"))


def _name(namespace: str) -> str:
    return namespace or "pods"
