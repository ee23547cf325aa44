"""Finding services and listing their instances, with reads shared among all pods that ask."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from registry_status.model import ServiceName, Target, Tenant
from registry_status.registry.base import Instance, NotFoundError, Registry, Service
from registry_status.sync.budget import Budget
from registry_status.sync.clock import loop_time
from registry_status.sync.fresh import Fresh, Reading
from registry_status.sync.matching import names_of_instance

VERSION_AGE = 10.0
"""Seconds for which the id that a version was found under is good."""
SERVICES_AGE = 0.9
"""Seconds for which a list of services, or "no such service", is good: an SDK may register one at any moment."""

AGAIN_RATE, AGAIN_BURST = 50.0, 100.0
"""How often services and versions that had nothing to show are asked for again: so many a second, and so many at once."""


class Roster(tuple[Instance, ...]):
    """A list of instances that is read once for many pods.

    Each pod looks at those alone that bear something of its own: all pods at all instances would be a million looks where a
    service has a thousand of each.
    """

    def bearing(self, names: Iterable[str]) -> Sequence[Instance]:
        """Those that bear one of these names at least, in their order."""
        places = {place for name in names for place in self._by_name.get(name, ())}
        return [self[place] for place in sorted(places)]

    @cached_property
    def _by_name(self) -> Mapping[str, Sequence[int]]:
        index: dict[str, list[int]] = {}
        for place, one in enumerate(self):
            for name in names_of_instance(one):
                index.setdefault(name, []).append(place)
        return index


@dataclass(frozen=True, slots=True)
class Listing:
    """A service's instances, of all its versions where no version was named. Times are loop times."""

    rosters: Sequence[Roster]
    asked_at: float
    """When the instances were asked for."""
    complete_at: float
    """Whatever was registered by then is listed, also what belongs to a service or version that was new."""

    @property
    def instances(self) -> Sequence[Instance]:
        """All of them."""
        return [found for roster in self.rosters for found in roster]

    def bearing(self, names: Iterable[str]) -> Sequence[Instance]:
        """Those that bear one of these names at least."""
        wanted = tuple(names)
        return [found for roster in self.rosters for found in roster.bearing(wanted)]


class Directory:
    """Answers which instances a target's service has."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._again = Budget(AGAIN_RATE, AGAIN_BURST)
        self._instances: Fresh[tuple[Tenant, str], Roster] = Fresh(self._list_instances)
        self._services: Fresh[Tenant, Sequence[Service]] = Fresh(registry.list_services)
        self._versions: Fresh[tuple[Tenant, ServiceName], str | None] = Fresh(self._find_version)

    async def listing(self, target: Target, not_before: float) -> Listing:
        """List the instances that the target's service has, no older than `not_before`. May raise any `RegistryError`."""
        ids = await self.service_ids(target)
        readings = await asyncio.gather(*(self._instances.get((target.tenant, found), not_before) for found in ids.value))
        asked_at = min((reading.asked_at for reading in readings), default=loop_time())
        return Listing([reading.value for reading in readings], asked_at, min(asked_at, ids.asked_at))

    async def instances(self, tenant: Tenant, service_id: str, not_before: float) -> Reading[Roster]:
        """One service's instances."""
        return await self._instances.get((tenant, service_id), not_before)

    async def services(self, tenant: Tenant, not_before: float) -> Reading[Sequence[Service]]:
        """All services of a tenant."""
        return await self._services.get(tenant, not_before)

    async def service_ids(self, target: Target) -> Reading[Sequence[str]]:
        """The ids that the target's service has; none while it is not registered. The one that was asked for never ages."""
        if target.service_id is not None:
            return Reading((target.service_id,), loop_time())
        if target.service is None:
            return Reading((), loop_time())
        if target.service.version is not None:
            return await self._version(target.tenant, target.service)
        listed = await self.services(target.tenant, loop_time() - SERVICES_AGE)
        return Reading(tuple(found.service_id for found in listed.value if _bears(found, target.service)), listed.asked_at)

    async def _version(self, tenant: Tenant, service: ServiceName) -> Reading[Sequence[str]]:
        key = (tenant, service)
        found = await self._versions.get(key, loop_time() - VERSION_AGE)
        if found.value is None:
            found = await self._versions.get(key, loop_time() - SERVICES_AGE)
        return Reading((found.value,), loop_time()) if found.value is not None else Reading((), found.asked_at)

    def drop(self) -> None:
        """End the reads under way, and those that wait for their turn: another replica asks from now on."""
        self._again = Budget(AGAIN_RATE, AGAIN_BURST)
        for reads in (self._instances, self._services, self._versions):
            reads.drop()

    async def aclose(self) -> None:
        """End the reads under way."""
        await asyncio.gather(self._instances.aclose(), self._services.aclose(), self._versions.aclose())

    async def _list_instances(self, key: tuple[Tenant, str]) -> Roster:
        """A service that is not there has no instances: its first one creates it."""
        await self._wait_for_turn(self._instances.last(key))
        try:
            return Roster(await self._registry.list_instances(*key))
        except NotFoundError:
            return Roster()

    async def _find_version(self, key: tuple[Tenant, ServiceName]) -> str | None:
        tenant, service = key
        await self._wait_for_turn(self._versions.last(key))
        return await self._registry.find_service(tenant, service, service.version or "")

    async def _wait_for_turn(self, last: Reading[Roster] | Reading[str | None] | None) -> None:
        """Asking again for what was not there has a budget: pods may name a thousand services that do not exist."""
        if last is not None and not last.value:
            await asyncio.sleep(self._again.take(loop_time()))


def _bears(found: Service, wanted: ServiceName) -> bool:
    return (found.app, found.name, found.environment) == (wanted.app, wanted.name, wanted.environment)
