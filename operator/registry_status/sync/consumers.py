"""Whether OUTOFSERVICE can be written: `auto` for lost readiness (DESIGN section 3).

Consumers on Java Chassis 3 do not know OUTOFSERVICE: one such instance makes them fail to read the whole list of that service,
and they never see a new instance of it again. Where such a service lives in a project, DOWN is written instead.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from typing import Protocol

from registry_status.model import Desired, InstanceStatus, Tenant
from registry_status.registry.base import Instance, RegistryError, Service, TransientError, UnavailableError
from registry_status.sync.clock import loop_time
from registry_status.sync.fresh import Reading

FRAMEWORK = "ServiceComb"
VERSION = re.compile(r"3(\D|$)")
QUIET = 3
"""So many readings in a row without a live Java Chassis 3 service, before OUTOFSERVICE is written again."""
PATIENCE = 5.0
"""Seconds for which the first reading is waited for, tries that fail among them. It may be one service alone that can never be
read, or never answers, and pods that are not ready must not stay UP for that."""
GLANCE = 1.0
"""Seconds for which a later try is waited for: a registry that is well answers sooner."""

logger = logging.getLogger(__name__)


class Reader(Protocol):
    """Reads the registry, with answers shared among all who ask."""

    async def services(self, tenant: Tenant, not_before: float) -> Reading[Sequence[Service]]:
        """All services of a tenant."""
        ...

    async def instances(self, tenant: Tenant, service_id: str, not_before: float) -> Reading[Sequence[Instance]]:
        """One service's instances."""
        ...


class Consumers:
    """Remembers for each tenant whether consumers live there that OUTOFSERVICE would harm."""

    def __init__(self, reader: Reader, changed: Callable[[Tenant], None]) -> None:
        """`changed` is called when a tenant's answer has become another, and when the first one is that there is harm."""
        self._reader = reader
        self._changed = changed
        self._quiet: dict[Tenant, int] = {}
        """Readings without harm since the last harm; a tenant that never had any starts at QUIET."""
        self._harmed: dict[Tenant, str] = {}
        """The service that the last harm was seen for."""
        self._guessed: set[Tenant] = set()
        """Tenants whose services could not be read when `auto` had to be decided: pods may have got DOWN for that alone."""
        self._awaited_since: dict[Tenant, float] = {}
        """Loop time of the first try to read a tenant's services, none of which has succeeded yet."""

    def resolved(self, desired: Desired) -> InstanceStatus | None:
        """The status to write: the desired one, but DOWN for `auto` where OUTOFSERVICE would harm or that is not known."""
        if not desired.auto or desired.target is None or desired.status is not InstanceStatus.OUTOFSERVICE:
            return desired.status
        return self.lost_readiness(desired.target.tenant)

    def lost_readiness(self, tenant: Tenant) -> InstanceStatus:
        """What `auto` is for a tenant."""
        return InstanceStatus.OUTOFSERVICE if self._is_safe(tenant) else InstanceStatus.DOWN

    def harmed_by(self, desired: Desired) -> str | None:
        """The service whose consumers this status harms: OUTOFSERVICE, asked for by name beside Java Chassis 3."""
        if desired.auto or desired.target is None or desired.status is not InstanceStatus.OUTOFSERVICE:
            return None
        return None if self._is_safe(desired.target.tenant) else self._harmed.get(desired.target.tenant)

    async def learn(self, desired: Desired, now: float) -> None:
        """See to it that the tenant's services were read once before `auto` is decided. Raises `TransientError`.

        Where they may not be read, or cannot be for long, it stays unknown, and DOWN is right for every consumer.
        """
        if not desired.auto or desired.target is None or desired.target.tenant in self._quiet:
            return
        tenant = desired.target.tenant
        patience = self._awaited_since.setdefault(tenant, loop_time()) + PATIENCE
        try:
            async with asyncio.timeout_at(max(patience, loop_time() + GLANCE)):
                await self.read(tenant, now, thoroughly=False)
        except TimeoutError:
            self._guess(tenant, "they were not read in time")
        except UnavailableError:
            raise  # while no address is fit to be asked, nothing can be written either
        except RegistryError as error:
            if isinstance(error, TransientError) and loop_time() < patience:
                raise
            self._guess(tenant, str(error))

    def _guess(self, tenant: Tenant, why: str) -> None:
        if tenant not in self._guessed:
            logger.warning("cannot read the services of project %s: %s", tenant.project, why)
        self._guessed.add(tenant)

    def doubt(self) -> None:
        """Others decide from now on: what was seen counts no more when it is our turn again."""
        self._quiet.clear()
        self._harmed.clear()
        self._guessed.clear()
        self._awaited_since.clear()

    async def read(self, tenant: Tenant, now: float, *, thoroughly: bool = True) -> None:
        """Read a tenant's services, and the instances of those in question. Raises `RegistryError`.

        One that cannot be read hides no other from a thorough look. Where each pod looks, it ends there: DOWN is right then
        either way, and after some failures the client would stop asking the registry for anything.
        """
        before = self._quiet.get(tenant)
        harmed = await self._find(tenant, now, thoroughly)
        self._awaited_since.pop(tenant, None)
        if harmed is not None:
            self._quiet[tenant], self._harmed[tenant] = 0, harmed
        else:
            self._quiet[tenant] = QUIET if before is None else min(QUIET, before + 1)
        safe = self._is_safe(tenant)
        if before is not None and safe != (before >= QUIET):
            what = (
                "OUTOFSERVICE again"
                if safe
                else f"DOWN: service {harmed} runs on Java Chassis 3, whose consumers fail on OUTOFSERVICE"
            )
            logger.warning("lost readiness in project %s of domain %s is now %s", tenant.project, tenant.domain, what)
            self._changed(tenant)
        elif before is None and not safe:
            logger.info("lost readiness is DOWN in project %s: service %s runs on Java Chassis 3", tenant.project, harmed)
            self._changed(tenant)
        elif tenant in self._guessed:
            self._changed(tenant)
        self._guessed.discard(tenant)

    def _is_safe(self, tenant: Tenant) -> bool:
        return self._quiet.get(tenant, 0) >= QUIET

    async def _find(self, tenant: Tenant, now: float, thoroughly: bool) -> str | None:
        """The name of a service on Java Chassis 3 with instances, if there is one."""
        trouble: RegistryError | None = None
        for service in filter(_is_in_question, (await self._reader.services(tenant, now)).value):
            try:
                if (await self._reader.instances(tenant, service.service_id, now)).value:
                    return service.name
            except RegistryError as error:
                if not thoroughly:
                    raise
                trouble = error
        if trouble is not None:
            raise trouble
        return None


def _is_in_question(service: Service) -> bool:
    return service.framework_name == FRAMEWORK and VERSION.match(service.framework_version) is not None
