"""The stage of the demo: a cluster, a registry, and pods that act in both, each with its kubelet and its SDK."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from registry_status.demo import kubelet
from registry_status.demo.clock import StoryClock
from registry_status.demo.emulator import Emulator
from registry_status.demo.kinds import ApiError, KubeObject
from registry_status.demo.kubelet import PodPlan
from registry_status.demo.ledger import Arrival, Cause, Ledger, Life
from registry_status.demo.sdk import InstanceInfo, Sdk
from registry_status.model import InstanceStatus
from registry_status.registry.devserver import DevServer, Drop, Fault, Refusal

PATIENCE: Final = 12.0
"""Seconds of the wall's clock within which everything that is due has to come."""


BOOT_SECONDS: Final = 0.7
"""Seconds of the story from a container's start to its SDK's registration; a real JVM takes longer still."""


class MissedError(Exception):
    """Something that was due did not come; the message says what."""


class Stage:
    """What all pods of the demo share."""

    def __init__(self, clock: StoryClock, *, patience: float = PATIENCE, faults: Sequence[Fault] = ()) -> None:
        self.clock = clock
        self.emulator = Emulator(clock=clock)
        self._changed = asyncio.Event()
        self.emulator.store.subscribe(self._changed.set)
        self.registry = DevServer(clock=clock, on_request=lambda _: self._changed.set())
        self.registry.faults.set(*faults)
        self.ledger = Ledger()
        self.actors: list[Actor] = []
        self.cause, self.caused_at = Cause.START, 0.0
        self._patience = patience

    def has_cause(self, cause: Cause) -> None:
        """Something happened that concerns all pods: what is due because of older causes counts from now."""
        self.cause, self.caused_at = cause, self.clock()

    async def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until cluster and registry fulfil it. Raises `MissedError` after the patience that the demo has."""
        try:
            async with asyncio.timeout(self._patience):
                while not self._holds(condition):
                    await self._changed.wait()
        except TimeoutError:
            raise MissedError(f"{what} did not come within {self._patience:g} s") from None

    def _holds(self, condition: Callable[[], bool]) -> bool:
        self._changed.clear()
        return condition()

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """Let the registry be out of reach while the context lasts: connections break before they are answered."""
        before = [fault for fault, _ in self.registry.faults.active]
        self.registry.faults.set(*before, Fault(Drop()))
        try:
            yield
        finally:
            self.has_cause(Cause.RETURN)
            self.registry.faults.set(*before)

    def has_event(self, pod: str, reason: str) -> bool:
        """Whether an Event of that reason has been posted about the pod."""
        return any(event["reason"] == reason and event["involvedObject"]["name"] == pod for event in self.emulator.events)


class Actor:
    """One pod on the stage: every method is something that happens to it, written as its kubelet and its SDK would."""

    def __init__(self, stage: Stage, plan: PodPlan, service_id: str, sdk: Sdk) -> None:
        self.plan = plan
        self._stage = stage
        self._service_id = service_id
        self._sdk = sdk
        self._heartbeats: asyncio.Task[None] | None = None
        self._cause = Cause.POD
        self._caused_at = 0.0
        self.life: Life | None = None
        stage.actors.append(self)

    # --- what happens

    def appears(self) -> None:
        """It is created, scheduled, and its node gets to know it."""
        self._stage.emulator.create_pod(kubelet.manifest(self.plan))
        self._stage.emulator.bind_pod(self.plan.namespace, self.plan.name, kubelet.NODE)
        self._report(kubelet.accepted)
        self._report(kubelet.sandboxed)

    async def starts(self, *, ready: bool = False) -> None:
        """Its container starts (again), and its SDK registers. Without a readiness probe it is ready at once."""
        if self.life is not None:
            self.life.until = self._stage.clock()
        self._report(lambda status, now: kubelet.started(status, now, self.plan.ip))
        if ready:
            self.becomes_ready()
        me = InstanceInfo(self.plan.name, f"rest://{self.plan.ip}:8080?sslEnabled=false", {"podName": self.plan.name})
        await self._stage.clock.sleep(BOOT_SECONDS)
        self._is_caused_by(Cause.REGISTRATION)
        instance_id = await self._sdk.register(self._service_id, me)
        self.life = Life(self.plan.name, self._service_id, instance_id)
        self._stage.ledger.lives.append(self.life)
        self._heartbeats = asyncio.create_task(self._sdk.beat(self._service_id, instance_id))

    def becomes_ready(self) -> None:
        """Its readiness probe succeeds."""
        self._report(kubelet.ready)

    def loses_readiness(self) -> None:
        """Its readiness probe fails."""
        self._report(kubelet.unready)

    async def crashes(self) -> None:
        """Its process dies; nobody unregisters."""
        await self._stops_beating()
        self._report(lambda status, now: kubelet.exited(status, now, 1))

    def backs_off(self, seconds: int) -> None:
        """Its kubelet waits before the next start."""
        self._report(lambda status, _: kubelet.backing_off(status, seconds))

    async def completes(self) -> None:
        """Its work is done."""
        await self._stops_beating()
        self._report(kubelet.completed)
        self._report(lambda status, now: kubelet.finished(status, now, "Succeeded"))

    def is_deleted(self) -> None:
        """Somebody deletes it; it has its grace period to end."""
        self._stage.emulator.delete_pod(self.plan.namespace, self.plan.name)
        self._is_caused_by(Cause.POD)

    async def ends(self) -> None:
        """Its process ends within the grace period, unregisters, and its kubelet lets it go."""
        await self._stops_beating()
        if self.life is not None:
            await self._sdk.leave(self.life.service_id, self.life.instance_id)
        self._report(kubelet.completed)
        self._report(lambda status, now: kubelet.finished(status, now, "Succeeded"))
        self._stage.emulator.remove_pod(self.plan.namespace, self.plan.name)

    async def leaves_the_stage(self) -> None:
        """The demo is over."""
        await self._stops_beating()

    # --- what is due

    async def shows(self, status: InstanceStatus) -> None:
        """Wait until the registry says this of the pod. Raises `MissedError`."""
        life = self.life
        if life is None:
            raise RuntimeError(f"{self.plan.name} has not registered yet, so no status can be expected of it")
        life.expect(status)
        await self._stage.wait_for(lambda: self.registry_status == status, f"{self.plan.name}: status {status}")
        times = [write.time for write in self._stage.registry.writes if write.instance_id == life.instance_id]
        wrote = times[-1] if times and times[-1] >= self._caused_at else None
        since, cause = self._caused_at, self._cause
        if self._stage.caused_at > since:
            since, cause = self._stage.caused_at, self._stage.cause
        seconds = None if wrote is None else self._stage.clock.wall_seconds(max(0.0, wrote - since))
        self._stage.ledger.arrivals.append(Arrival(self.plan.name, status, cause, seconds))

    async def is_reported(self, reason: str) -> None:
        """Wait until an Event of the pod tells of it. Raises `MissedError`."""
        await self._stage.wait_for(lambda: self._stage.has_event(self.plan.name, reason), f"{self.plan.name}: Event {reason}")

    # --- what is there

    @property
    def pod(self) -> KubeObject | None:
        """The pod as the API server shows it; None once it is gone, or before it appears."""
        try:
            return self._stage.emulator.pod(self.plan.namespace, self.plan.name)
        except ApiError:
            return None

    @property
    def registry_status(self) -> str | None:
        """What the registry says of the pod's present life; None if it has no such instance."""
        if self.life is None:
            return None
        try:
            return self._stage.registry.registry.instance(self.life.service_id, self.life.instance_id).status
        except Refusal:
            return None

    # --- inside

    def _report(self, step: Callable[[KubeObject, float], KubeObject]) -> None:
        emulator, plan = self._stage.emulator, self.plan
        status = step(emulator.pod(plan.namespace, plan.name)["status"], self._stage.clock())
        self._is_caused_by(Cause.POD)
        emulator.update_pod_status(plan.namespace, plan.name, status)

    def _is_caused_by(self, cause: Cause) -> None:
        self._cause, self._caused_at = cause, self._stage.clock()

    async def _stops_beating(self) -> None:
        if self._heartbeats is not None:
            self._heartbeats.cancel()
            await asyncio.wait([self._heartbeats])
            self._heartbeats = None
