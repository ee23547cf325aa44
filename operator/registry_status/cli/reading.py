"""What commands read, each thing once and nothing written: the pods that `run` would watch, and the registry as it is now."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from registry_status.cluster.access import AccessError, load_access
from registry_status.cluster.api import ApiError, ApiServer
from registry_status.cluster.read import GONE, list_pods
from registry_status.config import Settings
from registry_status.model import InstanceStatus, ServiceName, Target, Tenant
from registry_status.registry.base import Instance, NotFoundError, PermanentError, Registry, Service, TransientError
from registry_status.sync.directory import Directory

LISTS = 3
"""So often a list of pods is begun anew that took longer than the API server remembers."""
RawPod = dict[str, object]
Answer = TypeVar("Answer")
Digest = TypeVar("Digest")


class CannotTellError(Exception):
    """Registry or cluster could not be asked, so nothing can be said; the message says which, and why."""


class NoClusterError(CannotTellError):
    """It is the cluster that could not be asked."""


def keep_quiet() -> None:
    """Leave the telling to the command: what the rooms below would log is in its answer."""
    logging.getLogger("registry_status").addHandler(logging.NullHandler())


@asynccontextmanager
async def cluster(settings: Settings, environment: Mapping[str, str]) -> AsyncIterator[ApiServer]:
    """Open the API server that the settings name. Raises `NoClusterError`, also for what the body asks of it."""
    try:
        access = await load_access(settings.kubeconfig, settings.context, environment)
        async with ApiServer(access) as api:
            yield api
    except AccessError as error:
        raise NoClusterError(str(error)) from error
    except ApiError as error:  # one without an answer names the server itself
        where = f"the API server {access.server}: " if error.status else ""
        raise NoClusterError(f"{where}{error}") from error


async def read_pods(
    api: ApiServer, settings: Settings, digest: Callable[[RawPod], Digest], counted: Callable[[int], None]
) -> Sequence[Digest]:
    """List the pods that `run` would watch, and keep of each what `digest` makes of it: a large cluster's pods are large.

    `counted` is told how many of a namespace there are so far. Raises `ApiError`.
    """
    found: list[Digest] = []
    for namespace in dict.fromkeys(settings.namespaces) or ("",):  # one may be named twice, by -n and --namespace
        found += await _read_namespace(api, namespace, settings, digest, counted)
    return found


async def _read_namespace(
    api: ApiServer, namespace: str, settings: Settings, digest: Callable[[RawPod], Digest], counted: Callable[[int], None]
) -> Sequence[Digest]:
    for _ in range(LISTS - 1):
        try:
            return await _list(api, namespace, settings, digest, counted)
        except ApiError as error:
            if error.status != GONE:
                raise
    return await _list(api, namespace, settings, digest, counted)


async def _list(
    api: ApiServer, namespace: str, settings: Settings, digest: Callable[[RawPod], Digest], counted: Callable[[int], None]
) -> Sequence[Digest]:
    found = []
    async for pod in list_pods(api, namespace, selection=settings.selection):
        found.append(digest(pod))
        counted(len(found))
    return found


class Snapshot:
    """`Registry` that asks each question once, and the next address where one does not answer. It never writes."""

    def __init__(self, registry: Registry, *, attempts: int = 1) -> None:
        self._registry = registry
        self._attempts = attempts
        self._asked: dict[Hashable, asyncio.Task[Any]] = {}

    async def list_services(self, tenant: Tenant) -> Sequence[Service]:
        """All services of the tenant, as they were at the first call."""
        return await self._once(("services", tenant), lambda: self._registry.list_services(tenant))

    async def find_service(self, tenant: Tenant, service: ServiceName, version: str) -> str | None:
        """The id of one version of a service."""
        key = ("service", tenant, service, version)
        return await self._once(key, lambda: self._registry.find_service(tenant, service, version))

    async def list_instances(self, tenant: Tenant, service_id: str) -> Sequence[Instance]:
        """All instances of the service, as they were at the first call."""
        return await self._once(("instances", tenant, service_id), lambda: self._registry.list_instances(tenant, service_id))

    async def write_status(self, tenant: Tenant, service_id: str, instance_id: str, status: InstanceStatus) -> None:
        """Refuse: who holds a snapshot only looks."""
        raise AssertionError("a snapshot is never written")

    def on_available(self, wake: Callable[[], None]) -> None:
        """Nothing waits here."""

    async def aclose(self) -> None:
        """End what is under way."""
        for task in self._asked.values():
            task.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)

    async def _once(self, key: Hashable, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        if key not in self._asked:
            self._asked[key] = asyncio.create_task(self._asking(ask))
        answer: Answer = await asyncio.shield(self._asked[key])  # a key has one kind of answer
        return answer

    async def _asking(self, ask: Callable[[], Awaitable[object]]) -> object:
        for _ in range(self._attempts - 1):
            try:
                return await ask()
            except TransientError:
                continue
        return await ask()


@dataclass(frozen=True, slots=True)
class Place:
    """Where the instances of some pods are: what their annotations name, apart from the instance."""

    tenant: Tenant
    service_id: str | None
    service: ServiceName | None

    @classmethod
    def of(cls, target: Target) -> "Place":
        """The place of a target."""
        return cls(target.tenant, target.service_id, target.service)

    def __str__(self) -> str:
        return self.service_id or str(self.service)


class Register:
    """What the registry says of the places that pods name."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.directory = Directory(snapshot)

    async def services(self, tenant: Tenant) -> Sequence[Service] | None:
        """All services of a tenant; none where the registry does not know the tenant, and None where it refuses to tell."""
        try:
            return await self.snapshot.list_services(tenant)
        except NotFoundError:
            return ()
        except PermanentError:
            return None

    async def instances(self, place: Place) -> Sequence[Instance]:
        """The instances at a place."""
        target = Target(place.tenant, service_id=place.service_id, service=place.service)
        return (await self.directory.listing(target, float("-inf"))).instances

    async def knows(self, place: Place) -> bool:
        """Whether the place's service is registered; taken for granted where the registry refuses to list services."""
        if place.service_id is not None:
            services = await self.services(place.tenant)
            return services is None or any(found.service_id == place.service_id for found in services)
        target = Target(place.tenant, service=place.service)
        return bool((await self.directory.service_ids(target)).value)

    async def aclose(self) -> None:
        """End what is under way."""
        await self.directory.aclose()
        await self.snapshot.aclose()
