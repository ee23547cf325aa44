"""A small world for tests of `sync`: the engine, an in-memory Service Center behind it, and the outcomes it reports.

Runs on virtual time (`tests.virtual_time`): the registry's wall clock is START plus the loop's time.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from registry_status.config import Settings
from registry_status.model import InstanceStatus, Outcome, OutcomeKind, PodRef, ServiceName, Tenant
from registry_status.pods.status import desired
from registry_status.registry.base import Instance, NotFoundError, RegistryError, Service
from registry_status.registry.devserver import NewInstance, NewService, Refusal, RegistryState
from registry_status.sync.delivery import Timing
from registry_status.sync.engine import Engine
from registry_status.sync.resync import Cause
from tests.pods import START, pod
from tests.virtual_time import run_virtual

SERVICE = "svc-1"
ASKED = {"service-id": SERVICE}


def on_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make an async test a plain one that runs on virtual time."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        run_virtual(test(*args, **kwargs))

    return run


class Deaf:
    """Takes what the engine reports, and keeps nothing of it."""

    def outcome(self, outcome: Outcome) -> None:
        pass

    def retried(self) -> None:
        pass

    def forget(self, pod: PodRef) -> None:
        pass

    def drifted(self, cause: Cause) -> None:
        pass

    def not_ready_changed(self, status: InstanceStatus) -> None:
        pass


@dataclass(frozen=True)
class Write:
    """A status write that was applied."""

    at: float
    instance_id: str
    before: str
    after: str


@dataclass
class StateRegistry:
    """The `Registry` protocol over the development server's state, with delays and failures."""

    state: RegistryState
    delay: float = 0.005
    calls: list[str] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    failure: RegistryError | None = None
    fails: Callable[[str], RegistryError | None] | None = None
    after_write: RegistryError | None = None
    """Raised once a write was applied: its outcome is unclear to the caller."""

    refuses: dict[str, RegistryError] = field(default_factory=dict)
    """What is said to every write to these instances."""
    wakes: list[Callable[[], None]] = field(default_factory=list)

    def on_available(self, wake: Callable[[], None]) -> None:
        self.wakes.append(wake)

    def available(self) -> None:
        """An address works again."""
        for wake in self.wakes:
            wake()

    async def list_services(self, tenant: Tenant) -> Sequence[Service]:
        await self._call("list-services")
        return [
            Service(one.service_id, one.name, one.app, one.version, one.environment, one.framework_name, one.framework_version)
            for one in self.state.services(tenant)
        ]

    async def find_service(self, tenant: Tenant, service: ServiceName, version: str) -> str | None:
        await self._call("find-service")
        try:
            return self.state.find_service(
                service.name, version, app=service.app, environment=service.environment, tenant=tenant
            )
        except Refusal:
            return None

    async def list_instances(self, tenant: Tenant, service_id: str) -> Sequence[Instance]:
        await self._call("list-instances")
        try:
            listed = self.state.instances(service_id, tenant)
        except Refusal as error:
            raise NotFoundError(str(error.code.number), str(error)) from error
        return [
            Instance(
                instance_id=one.instance_id,
                service_id=service_id,
                status=one.status,
                host_name=one.host_name,
                endpoints=one.endpoints,
                properties=one.properties,
                registered_at=one.registered_at,
                lease=one.lease,
            )
            for one in listed
        ]

    async def write_status(self, tenant: Tenant, service_id: str, instance_id: str, status: InstanceStatus) -> None:
        await self._call("write-status")
        if instance_id in self.refuses:
            raise self.refuses[instance_id]
        try:
            before = self.state.put_status(service_id, instance_id, status, tenant)
        except Refusal as error:
            raise NotFoundError(str(error.code.number), str(error)) from error
        self.writes.append(Write(_now(), instance_id, before, status.value))
        await asyncio.sleep(self.delay)
        if self.after_write is not None:
            raise self.after_write

    async def _call(self, what: str) -> None:
        self.calls.append(what)
        await asyncio.sleep(self.delay)
        error = self.fails(what) if self.fails is not None else self.failure
        if error is not None:
            raise error


class World:
    """Pods, engine and registry. The engine writes from the start unless `held`, or standing by beside another world's."""

    def __init__(
        self,
        *,
        held: bool = False,
        beside: "World | None" = None,
        trust_ids: bool = False,
        settings: Settings | None = None,
        registry: Callable[[RegistryState], StateRegistry] | None = None,
        **timing: float,
    ) -> None:
        self.settings = settings or Settings()
        self.state: RegistryState = beside.state if beside is not None else RegistryState(clock=lambda: START + _now())
        if beside is None:
            self.state.create_service(NewService(name="cart", service_id=SERVICE))
        self.registry = (registry or StateRegistry)(self.state)
        self.outcomes: list[Outcome] = []
        self.forgotten: list[PodRef] = []
        self.admitted: list[PodRef] = []
        """The pods whose readiness gate was to be opened."""
        self.retries = 0
        self.drifts: list[Cause] = []
        self.not_ready: list[InstanceStatus] = []
        self._timing, self._trust_ids = Timing(**timing), trust_ids
        self.engine = self._new_engine()
        if beside is not None:
            self.engine.stand_by()
        elif not held:
            self.engine.start_writing()

    def restart(self) -> None:
        """Another process begins, with an engine that knows nothing and is held; drain the one before first."""
        self.registry.wakes.clear()
        self.engine = self._new_engine()

    def _new_engine(self) -> Engine:
        return Engine(
            self.registry,
            self,
            timing=self._timing,
            trust_ids=self._trust_ids,
            admit=self.admitted.append,
            chance=random.Random(1),
            wall_clock=lambda: START + _now(),
        )

    # The engine's reporter.

    def outcome(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def retried(self) -> None:
        self.retries += 1

    def drifted(self, cause: Cause) -> None:
        self.drifts.append(cause)

    def not_ready_changed(self, status: InstanceStatus) -> None:
        self.not_ready.append(status)

    def forget(self, pod: PodRef) -> None:
        self.forgotten.append(pod)

    # What happens in the world.

    def see(self, annotations: dict[str, str] | None = None, *, deleted: bool = False, **changes: Any) -> None:
        """The API server shows a pod."""
        raw = pod(ASKED if annotations is None else annotations, **changes)
        self.engine.take(desired(raw, self.settings, deleted=deleted), deleted=deleted)

    def register(
        self, *, service_id: str = SERVICE, status: str = "UP", host: str = "cart-1", ip: str = "10.244.0.7", **more: Any
    ) -> str:
        """A pod's SDK registers its instance; heartbeats are not simulated, so leases are long."""
        endpoints = more.pop("endpoints", (f"rest://{ip}:8080",))
        new = NewInstance(host_name=host, endpoints=endpoints, status=status, **{"interval": 3600, "times": 100, **more})
        return self.state.register(service_id, new)

    def status(self, instance_id: str, service_id: str = SERVICE) -> str:
        """What the registry says."""
        return self.state.instance(service_id, instance_id).status

    async def pass_time(self, seconds: float = 0.1) -> None:
        """Let time pass: a tenth of a second is enough for requests."""
        await asyncio.sleep(seconds)

    def kinds(self) -> list[OutcomeKind]:
        """The outcomes' kinds in their order."""
        return [outcome.kind for outcome in self.outcomes]

    def written(self) -> list[str]:
        """The statuses written, in their order."""
        return [write.after for write in self.registry.writes]

    def redundant(self) -> list[Write]:
        """Writes of what was there already."""
        return [write for write in self.registry.writes if write.before == write.after]


def _now() -> float:
    return asyncio.get_running_loop().time() - 1000.0
