"""The readiness gate: its condition tells a pod's kubelet that the registry has the pod's instance, and says UP.

A Deployment whose pods list the gate goes on with a rollout only when callers can find the new ones. The condition is set once
for each pod and never taken back: from then on readiness is the pod's own, and neither a registry that is away nor an operator
that is can take a ready pod out of its Services.

This is the one thing that the operator writes to pods, and to those alone that ask for it.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Protocol

from registry_status.cluster.api import CONFLICT, INVALID, ApiError, ApiServer, Json, mapping
from registry_status.cluster.read import pod_path, read_pod
from registry_status.model import PodRef
from registry_status.report.logs import LogLimiter
from registry_status.times import timestamp

AT_ONCE = 8
"""Pods that are patched at the same time, so that a start with thousands of them leaves the API server some air."""
BACKOFF_FIRST = 0.2
BACKOFF_MOST = 30.0
"""Seconds between two attempts at one pod, doubling, with full jitter."""
REASON = "Registered"
MESSAGE = "the registry has the pod's instance, and says UP"

logger = logging.getLogger(__name__)


class GateObserver(Protocol):
    """Is told of every attempt, for metrics."""

    def gate_patched(self, code: str) -> None:
        """`code` is `ok`, or the API server's word for what went wrong (`Forbidden`, `Unreachable`)."""
        ...


class GateKeeper:
    """Sets the condition of pods, and tries until it is set or the pod is gone. `open` returns at once and raises nothing."""

    def __init__(
        self,
        api: ApiServer,
        gate: str,
        observer: GateObserver,
        *,
        chance: random.Random,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`gate` is the condition's type; `clock` spaces what is logged."""
        self._api = api
        self._gate = gate
        self._observer = observer
        self._chance = chance
        self._wall_clock = wall_clock
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._limiter = LogLimiter(clock)

    def open(self, pod: PodRef) -> None:
        """The registry has said UP of the pod's instance."""
        if pod.uid not in self._opening:
            task = self._opening[pod.uid] = asyncio.create_task(self._open(pod), name=f"open the gate of {pod}")
            task.add_done_callback(lambda done: self._ended(pod.uid, done))

    def stand_by(self) -> None:
        """Another replica writes from now on: leave to it what is not done yet."""
        for task in self._opening.values():
            task.cancel()
        self._opening.clear()

    async def aclose(self) -> None:
        """Give up what is not done yet."""
        tasks = list(self._opening.values())
        self.stand_by()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, uid: str, task: asyncio.Task[None]) -> None:
        if self._opening.get(uid) is task:
            del self._opening[uid]

    async def _open(self, pod: PodRef) -> None:
        longest = BACKOFF_FIRST
        while not await self._is_done(pod):
            await asyncio.sleep(self._chance.uniform(0, longest))
            longest = min(BACKOFF_MOST, 2 * longest)

    async def _is_done(self, pod: PodRef) -> bool:
        """Try once. Returns whether there is nothing more to do."""
        try:
            async with self._slots:
                await self._api.patch(f"{pod_path(pod.namespace, pod.name)}/status", self._condition(pod))
        except ApiError as error:
            self._observer.gate_patched(error.reason)
            if await self._is_gone(pod, error):
                return True
            text = f"cannot set condition {self._gate} of pod {pod}, trying again: {error}"
            self._limiter.log(logger, logging.WARNING, error.reason, text)
            return False
        self._observer.gate_patched("ok")
        return True

    async def _is_gone(self, pod: PodRef, error: ApiError) -> bool:
        """Whether the pod is not there any more; another may bear its name, and has to earn its own condition."""
        if error.status not in (CONFLICT, INVALID) and not error.not_found:
            return False
        try:
            found = await read_pod(self._api, pod.namespace, pod.name)
        except ApiError:
            return False
        return found is None or mapping(found.get("metadata")).get("uid") != pod.uid

    def _condition(self, pod: PodRef) -> Json:
        """A patch of this pod alone: the API server refuses it where the uid is another's."""
        now = timestamp(self._wall_clock())
        condition = {"type": self._gate, "status": "True", "reason": REASON, "message": MESSAGE, "lastTransitionTime": now}
        return {"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}}
