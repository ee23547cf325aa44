"""What the registry stores: services and instances, as asked for (`New...`) and as kept (`...Record`).

All are immutable, so a test may hold on to one and compare it later. The JSON forms leave out what is empty, as the real
server does: a client has to live with a service without `environment` and an instance without `properties`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from registry_status.model import InstanceStatus, Tenant

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"
JsonObject: TypeAlias = Mapping[str, Json]

STATUSES = frozenset({status.value for status in InstanceStatus} | {"TESTING"})
DEFAULT_TENANT = Tenant()
DEFAULT_APP, DEFAULT_VERSION = "default", "0.0.1"

MIN_INTERVAL, MIN_TIMES = 5, 3
DEFAULT_INTERVAL, DEFAULT_TIMES = 30, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class NewService:
    """A service to be created. `extra` is whatever else the client sent; it is given back as it came."""

    name: str
    app: str = DEFAULT_APP
    version: str = DEFAULT_VERSION
    environment: str = ""
    service_id: str = ""
    alias: str = ""
    framework_name: str = ""
    framework_version: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)
    extra: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInstance:
    """An instance to be registered. An empty id asks for a generated one, an empty status means UP."""

    host_name: str
    endpoints: tuple[str, ...] = ()
    status: str = ""
    instance_id: str = ""
    mode: str = "push"
    interval: int = DEFAULT_INTERVAL
    times: int = DEFAULT_TIMES
    properties: Mapping[str, str] = field(default_factory=dict)
    extra: JsonObject = field(default_factory=dict)

    @property
    def health_check(self) -> tuple[int, int]:
        """Interval and times as the server takes them: raised to its minimum, or its own for `pull`."""
        if self.mode == "pull":
            return DEFAULT_INTERVAL, DEFAULT_TIMES
        return max(self.interval, MIN_INTERVAL), max(self.times, MIN_TIMES)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRecord:
    """A service as stored."""

    tenant: Tenant
    service_id: str
    name: str
    app: str
    version: str
    environment: str
    alias: str
    framework_name: str
    framework_version: str
    properties: Mapping[str, str]
    extra: JsonObject
    created_at: int

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What is unique within a tenant."""
        return self.environment, self.app, self.name, self.version

    def to_json(self) -> JsonObject:
        """The service as the registry lists it."""
        return {"level": "BACK", "status": "UP"} | self._filled()

    def _filled(self) -> dict[str, Json]:
        framework = _without_empty({"name": self.framework_name, "version": self.framework_version})
        return _without_empty(
            {
                **self.extra,
                "serviceId": self.service_id,
                "appId": self.app,
                "serviceName": self.name,
                "version": self.version,
                "environment": self.environment,
                "alias": self.alias,
                "framework": framework,
                "properties": self.properties,
                "timestamp": str(self.created_at),
                "modTimestamp": str(self.created_at),
            }
        )


@dataclass(frozen=True, kw_only=True)
class InstanceRecord:
    """An instance as stored. Its lease runs elsewhere: a heartbeat changes nothing that a reader sees."""

    tenant: Tenant
    service_id: str
    instance_id: str
    status: str
    host_name: str
    endpoints: tuple[str, ...]
    properties: Mapping[str, str]
    mode: str
    interval: int
    times: int
    version: str
    extra: JsonObject
    registered_at: int
    modified_at: int

    @property
    def lease(self) -> float:
        """Seconds that it lives without a heartbeat."""
        return float(self.interval * (self.times + 1))

    def to_json(self) -> JsonObject:
        """The instance as the registry lists it."""
        return _without_empty(
            {
                **self.extra,
                "instanceId": self.instance_id,
                "serviceId": self.service_id,
                "endpoints": self.endpoints,
                "hostName": self.host_name,
                "status": self.status,
                "properties": self.properties,
                "healthCheck": {"mode": self.mode, "interval": self.interval, "times": self.times},
                "timestamp": str(self.registered_at),
                "modTimestamp": str(self.modified_at),
                "version": self.version,
            }
        )

    @cached_property
    def encoded(self) -> str:
        """The JSON text, made once: lists of many instances are what a resync asks for all the time."""
        return json.dumps(self.to_json())


def _without_empty(members: Mapping[str, Json]) -> dict[str, Json]:
    return {key: value for key, value in members.items() if value not in ("", None) and value not in ((), [], {})}
