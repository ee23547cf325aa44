"""A registry that is read and never written: every write is logged, counted, and taken for done.

To the rest of the operator it must look as if its writes had worked, or it would repair its own work for ever. So a status that
would have been written is shown in place of the real one, for as long as the real one stays what it was.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from registry_status.model import InstanceStatus, ServiceName, Tenant
from registry_status.registry.base import Instance, NotFoundError, Registry, Service

logger = logging.getLogger(__name__)

Key = tuple[Tenant, str, str]


@dataclass(frozen=True, slots=True)
class _Pretended:
    """What an instance would say now, and what it really said when that was decided."""

    status: InstanceStatus
    real: str
    registered_at: int | None

    def still(self, found: Instance) -> bool:
        """Nobody else has changed the instance since."""
        return (found.status, found.registered_at) == (self.real, self.registered_at)


class DryRunRegistry:
    """`Registry` around another, whose writes it keeps to itself."""

    def __init__(self, registry: Registry, counted: Callable[[InstanceStatus], None]) -> None:
        """`counted` is called for each write that is not sent."""
        self._registry = registry
        self._counted = counted
        self._real: dict[Key, Instance] = {}
        self._pretended: dict[Key, _Pretended] = {}

    async def list_services(self, tenant: Tenant) -> Sequence[Service]:
        """All services of the tenant, really."""
        return await self._registry.list_services(tenant)

    async def find_service(self, tenant: Tenant, service: ServiceName, version: str) -> str | None:
        """The id of one version of a service, really."""
        return await self._registry.find_service(tenant, service, version)

    async def list_instances(self, tenant: Tenant, service_id: str) -> Sequence[Instance]:
        """All instances of the service, with the statuses that they would have."""
        listed = await self._registry.list_instances(tenant, service_id)
        self._forget(tenant, service_id, {found.instance_id for found in listed})
        return tuple(self._shown((tenant, service_id, found.instance_id), found) for found in listed)

    async def write_status(self, tenant: Tenant, service_id: str, instance_id: str, status: InstanceStatus) -> None:
        """Say what would be written. Raises `NotFoundError` for an instance that is not there."""
        key = (tenant, service_id, instance_id)
        real = self._real.get(key)
        if real is None:  # nobody writes what was never listed
            raise NotFoundError("dry-run", f"instance {instance_id} of service {service_id} is not listed")
        before = self._pretended[key].status if key in self._pretended else real.status
        logger.info("would set %s of service %s from %s to %s", instance_id, service_id, before, status)
        self._counted(status)
        self._pretended[key] = _Pretended(status, real.status, real.registered_at)

    def on_available(self, wake: Callable[[], None]) -> None:
        """Call `wake` each time that the registry can be asked again."""
        self._registry.on_available(wake)

    def _shown(self, key: Key, found: Instance) -> Instance:
        self._real[key] = found
        pretended = self._pretended.get(key)
        if pretended is None:
            return found
        if pretended.still(found):
            return replace(found, status=pretended.status.value)
        del self._pretended[key]
        return found

    def _forget(self, tenant: Tenant, service_id: str, present: set[str]) -> None:
        """Instances that are not there any more must not pile up."""
        for known in (self._real, self._pretended):
            for key in [key for key in known if key[:2] == (tenant, service_id) and key[2] not in present]:
                del known[key]
