"""The registry itself, without any HTTP: tenants, their services, and instances that live as long as their leases.

It follows the order in which the real server checks a request, since that decides which code a client sees: form first
(400001), then existence. It knows no time but its clock's, so a test moves a lease by hand. Tenants need no creating: an
unknown domain or project is an empty one.
"""

import hashlib
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from registry_status.model import Tenant
from registry_status.registry.devserver.records import (
    DEFAULT_APP,
    DEFAULT_TENANT,
    STATUSES,
    InstanceRecord,
    NewInstance,
    NewService,
    ServiceRecord,
)
from registry_status.registry.devserver.refusals import Code, Refusal

SWEEP_INTERVAL = 10.0
MAX_INT32 = 2**31 - 1
MAX_VERSION_PART = 32767

INSTANCE_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
SERVICE_ID = re.compile(r"\S{1,64}")
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?")
NAME_OR_ALIAS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?")
VERSION = re.compile(r"\d+(\.\d+){0,3}", re.ASCII)
# Newer servers let an administrator add environments; this one takes any word.
ENVIRONMENT = re.compile(r"[A-Za-z0-9_.-]{0,128}")


@dataclass(slots=True)
class _Held:
    """An instance and the end of its lease: all that a heartbeat changes is the latter."""

    record: InstanceRecord
    expires_at: float


@dataclass(slots=True)
class _TenantData:
    services: dict[str, ServiceRecord] = field(default_factory=dict)
    ids_by_key: dict[tuple[str, str, str, str], str] = field(default_factory=dict)
    instances: dict[str, dict[str, _Held]] = field(default_factory=dict)


class RegistryState:
    """Services and instances of all tenants. Every method that cannot do what is asked raises `Refusal`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tenants: dict[Tenant, _TenantData] = {}
        self._swept_at = clock()
        self._expired = 0

    # --- services -----------------------------------------------------------------------------

    def create_service(self, new: NewService, tenant: Tenant = DEFAULT_TENANT) -> str:
        """Create a service, or answer the id of the one that has its key already."""
        _check_service(new)
        data = self._tenants.setdefault(tenant, _TenantData())
        key = (new.environment, new.app, new.name, new.version)
        existing = data.ids_by_key.get(key)
        if existing is not None and new.service_id in ("", existing):
            return existing
        if existing is not None or new.service_id in data.services:
            detail = "ServiceID conflict or found the same service with different id."
            raise Refusal(Code.SERVICE_ALREADY_EXISTS, detail)
        record = _service_record(new, tenant, int(self._clock()))
        data.services[record.service_id] = record
        data.ids_by_key[key] = record.service_id
        return record.service_id

    def services(self, tenant: Tenant = DEFAULT_TENANT) -> list[ServiceRecord]:
        """All services of a tenant."""
        return list(self._data(tenant).services.values())

    def service(self, service_id: str, tenant: Tenant = DEFAULT_TENANT) -> ServiceRecord:
        """One service."""
        _check("serviceId", service_id, SERVICE_ID)
        return self._service(service_id, tenant)

    def find_service(
        self, name: str, version: str, *, app: str = DEFAULT_APP, environment: str = "", tenant: Tenant = DEFAULT_TENANT
    ) -> str:
        """The id of the service with this name or alias, and exactly this version."""
        _check("serviceName", name, NAME_OR_ALIAS, longest=160 + 1 + 128)
        _check("appId", app, NAME, longest=160)
        _check_version(version)
        _check("environment", environment, ENVIRONMENT)
        candidates = [s for s in self.services(tenant) if (s.environment, s.app) == (environment, app)]
        named = [s for s in candidates if s.name == name] or [s for s in candidates if s.alias == name]
        wanted = f"{environment}/{app}/{name}/{version}"
        if not named:
            raise Refusal(Code.SERVICE_NOT_EXISTS, f"{wanted} does not exist.")
        for service in named:
            if service.version == version:
                return service.service_id
        raise Refusal(Code.VERSION_NOT_EXISTS, f"{wanted} version mismatch.")

    def delete_service(self, service_id: str, tenant: Tenant = DEFAULT_TENANT, *, force: bool = False) -> None:
        """Remove a service; only by force if it still has instances, which then go with it."""
        record = self.service(service_id, tenant)
        if not force and self.instances(service_id, tenant):
            raise Refusal(Code.DEPLOYED_INSTANCE, "Can not delete the service deployed instance(s).")
        data = self._data(tenant)
        del data.services[service_id]
        del data.ids_by_key[record.key]
        data.instances.pop(service_id, None)

    # --- instances ----------------------------------------------------------------------------

    def register(self, service_id: str, new: NewInstance, tenant: Tenant = DEFAULT_TENANT) -> str:
        """Register an instance and start its lease. For an id that is alive this is only a heartbeat: all else stays."""
        self._sweep_now_and_then()
        _check_instance(new)
        service = self.service(service_id, tenant)
        held = self._data(tenant).instances.setdefault(service_id, {})
        if new.instance_id and (alive := self._alive(held, new.instance_id)) is not None:
            self._renew(alive)
            return new.instance_id
        record = _instance_record(new, service, int(self._clock()))
        held[record.instance_id] = _Held(record, self._clock() + record.lease)
        return record.instance_id

    def instances(self, service_id: str, tenant: Tenant = DEFAULT_TENANT) -> list[InstanceRecord]:
        """The live instances of a service."""
        self.service(service_id, tenant)
        held = self._data(tenant).instances.get(service_id, {})
        self._expire(held)
        return [one.record for one in held.values()]

    def instance(self, service_id: str, instance_id: str, tenant: Tenant = DEFAULT_TENANT) -> InstanceRecord:
        """One instance. Unlike for writes, it makes a difference whether the service is missing or the instance."""
        _check_ids(service_id, instance_id)
        self._service(service_id, tenant)
        return self._held(service_id, instance_id, tenant).record

    def put_status(self, service_id: str, instance_id: str, status: str, tenant: Tenant = DEFAULT_TENANT) -> str:
        """Set an instance's status and give back the one before. The lease is not touched."""
        _check_ids(service_id, instance_id)
        if status not in STATUSES:
            raise Refusal(Code.INVALID_PARAMS, f"The field 'status' with value({status!r}) must be one of its words.")
        held = self._held(service_id, instance_id, tenant)
        before = held.record.status
        held.record = replace(held.record, status=status, modified_at=int(self._clock()))
        return before

    def put_properties(
        self, service_id: str, instance_id: str, properties: Mapping[str, str], tenant: Tenant = DEFAULT_TENANT
    ) -> None:
        """Replace an instance's properties as a whole."""
        _check_ids(service_id, instance_id)
        held = self._held(service_id, instance_id, tenant)
        held.record = replace(held.record, properties=dict(properties), modified_at=int(self._clock()))

    def heartbeat(self, service_id: str, instance_id: str, tenant: Tenant = DEFAULT_TENANT) -> None:
        """Start an instance's lease anew."""
        _check_ids(service_id, instance_id)
        self._renew(self._held(service_id, instance_id, tenant))

    def delete_instance(self, service_id: str, instance_id: str, tenant: Tenant = DEFAULT_TENANT) -> None:
        """Remove an instance."""
        _check_ids(service_id, instance_id)
        self._held(service_id, instance_id, tenant)
        del self._data(tenant).instances[service_id][instance_id]

    # --- for tests and the admin surface --------------------------------------------------------

    @property
    def expired(self) -> int:
        """How many instances have been lost for want of heartbeats."""
        self.sweep()
        return self._expired

    def all_services(self) -> list[ServiceRecord]:
        """The services of all tenants."""
        return [service for data in self._tenants.values() for service in data.services.values()]

    def all_instances(self) -> list[InstanceRecord]:
        """The live instances of all tenants."""
        self.sweep()
        return [one.record for one in self._everything()]

    def expire_now(self, service_id: str, instance_id: str, tenant: Tenant = DEFAULT_TENANT) -> None:
        """Let an instance's lease end at once, as if its process had died long ago."""
        self._held(service_id, instance_id, tenant).expires_at = self._clock()

    def sweep(self) -> None:
        """Drop what has expired everywhere. Readers drop what they come across, so only memory needs this."""
        for data in self._tenants.values():
            for held in data.instances.values():
                self._expire(held)

    def clear(self) -> None:
        """Forget everything."""
        self._tenants.clear()
        self._expired = 0

    # --- inside -------------------------------------------------------------------------------

    def _data(self, tenant: Tenant) -> _TenantData:
        return self._tenants.get(tenant) or _TenantData()

    def _service(self, service_id: str, tenant: Tenant) -> ServiceRecord:
        record = self._data(tenant).services.get(service_id)
        if record is None:
            raise Refusal(Code.SERVICE_NOT_EXISTS, "Service does not exist.")
        return record

    def _held(self, service_id: str, instance_id: str, tenant: Tenant) -> _Held:
        held = self._alive(self._data(tenant).instances.get(service_id, {}), instance_id)
        if held is None:
            raise Refusal(Code.INSTANCE_NOT_EXISTS, "Service instance does not exist.")
        return held

    def _alive(self, held: dict[str, _Held], instance_id: str) -> _Held | None:
        one = held.get(instance_id)
        if one is not None and one.expires_at <= self._clock():
            del held[instance_id]
            self._expired += 1
            return None
        return one

    def _expire(self, held: dict[str, _Held]) -> None:
        now = self._clock()
        dead = [instance_id for instance_id, one in held.items() if one.expires_at <= now]
        for instance_id in dead:
            del held[instance_id]
        self._expired += len(dead)

    def _renew(self, held: _Held) -> None:
        held.expires_at = self._clock() + held.record.lease

    def _sweep_now_and_then(self) -> None:
        now = self._clock()
        if now >= self._swept_at + SWEEP_INTERVAL:
            self._swept_at = now
            self.sweep()

    def _everything(self) -> Iterator[_Held]:
        for data in self._tenants.values():
            for held in data.instances.values():
                yield from held.values()


def _service_record(new: NewService, tenant: Tenant, now: int) -> ServiceRecord:
    return ServiceRecord(
        tenant=tenant,
        service_id=new.service_id or _service_id(new, tenant),
        name=new.name,
        app=new.app,
        version=new.version,
        environment=new.environment,
        alias=new.alias,
        framework_name=new.framework_name,
        framework_version=new.framework_version,
        properties=dict(new.properties),
        extra=new.extra,
        created_at=now,
    )


def _service_id(new: NewService, tenant: Tenant) -> str:
    """Make an id from the names, as the real server does: a service created anew has the id that it had before."""
    names = (tenant.domain, tenant.project, new.environment, new.app, new.name, new.alias, new.version)
    return hashlib.sha1("/".join(names).encode(errors="surrogatepass"), usedforsecurity=False).hexdigest()


def _instance_record(new: NewInstance, service: ServiceRecord, now: int) -> InstanceRecord:
    interval, times = new.health_check
    return InstanceRecord(
        tenant=service.tenant,
        service_id=service.service_id,
        instance_id=new.instance_id or uuid.uuid4().hex,
        status=new.status or "UP",
        host_name=new.host_name,
        endpoints=tuple(new.endpoints),
        properties=dict(new.properties),
        mode=new.mode,
        interval=interval,
        times=times,
        version=service.version,
        extra=new.extra,
        registered_at=now,
        modified_at=now,
    )


def _check_service(new: NewService) -> None:
    _check("serviceName", new.name, NAME, longest=128)
    _check("appId", new.app, NAME, longest=160)
    _check("environment", new.environment, ENVIRONMENT)
    _check_version(new.version)
    if new.service_id:
        _check("serviceId", new.service_id, SERVICE_ID)


def _check_instance(new: NewInstance) -> None:
    if new.instance_id:
        _check("instanceId", new.instance_id, INSTANCE_ID)
    if not (new.host_name.strip() and len(new.host_name) <= 64):
        raise Refusal(Code.INVALID_PARAMS, "The field 'hostName' must have 1 to 64 characters.")
    if new.status and new.status not in STATUSES:
        raise Refusal(Code.INVALID_PARAMS, f"The field 'status' with value({new.status!r}) must be one of its words.")
    if new.mode not in ("push", "pull"):
        raise Refusal(Code.INVALID_PARAMS, "The field 'healthCheck.mode' must be push or pull.")
    if not (1 <= new.interval <= MAX_INT32 and 0 <= new.times <= MAX_INT32):
        raise Refusal(Code.INVALID_PARAMS, "The fields of 'healthCheck' are out of range.")


def _check_ids(service_id: str, instance_id: str) -> None:
    _check("serviceId", service_id, SERVICE_ID)
    _check("instanceId", instance_id, INSTANCE_ID)


def _check_version(version: str) -> None:
    _check("version", version, VERSION, longest=64)
    if any(int(part) > MAX_VERSION_PART for part in version.split(".")):
        raise Refusal(Code.INVALID_PARAMS, f"The parts of version {version!r} must be at most {MAX_VERSION_PART}.")


def _check(what: str, value: str, form: re.Pattern[str], longest: int | None = None) -> None:
    if form.fullmatch(value) is None or (longest is not None and len(value) > longest):
        detail = f"The field '{what}' with value({value!r}) does not match its rule ({form.pattern})."
        raise Refusal(Code.INVALID_PARAMS, detail)
