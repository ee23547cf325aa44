"""A stand-in for a microservice's SDK: what it says to the registry, as Java Chassis or Spring Cloud Huawei would.

It knows nothing of probes: it registers as UP when its process starts and sends heartbeats until it ends. That gap is what the
operator closes.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from registry_status.demo.clock import StoryClock
from registry_status.demo.kinds import KubeObject

HEARTBEAT_SECONDS: Final = 3.0
RETRY_SECONDS: Final = 1.0
REGISTRY_PATH: Final = "/v4/default/registry/microservices"


class RegistryRefusedError(Exception):
    """The registry did not do what the SDK asked."""


AWAY: Final = (aiohttp.ClientError, TimeoutError, RegistryRefusedError)
"""A registry that is away or unwell: no reason for a process to end."""


@dataclass(frozen=True, slots=True)
class ServiceInfo:
    """A microservice as its build file describes it."""

    name: str
    app: str
    version: str = "1.0.0"


@dataclass(frozen=True, slots=True)
class InstanceInfo:
    """An instance as its process sees itself."""

    host_name: str
    endpoint: str
    properties: Mapping[str, str] = field(default_factory=dict)


class Sdk:
    """The SDK of one process after the other."""

    def __init__(self, http: aiohttp.ClientSession, base_url: str, clock: StoryClock) -> None:
        self._http = http
        self._base = base_url + REGISTRY_PATH
        self._clock = clock

    async def create_service(self, service: ServiceInfo) -> str:
        """Announce the microservice. Returns its id; the same one if it was there."""
        described = {
            "serviceName": service.name,
            "appId": service.app,
            "version": service.version,
            "framework": {"name": "SDK stand-in", "version": "1.0.0"},
        }
        answer = await self._ask("POST", self._base, {"service": described})
        return str(answer["serviceId"])

    async def register(self, service_id: str, instance: InstanceInfo) -> str:
        """Register, again and again until the registry takes it. Returns the instance's id."""
        described = {
            "hostName": instance.host_name,
            "endpoints": [instance.endpoint],
            "properties": dict(instance.properties),
            "healthCheck": {"mode": "push", "interval": 30, "times": 3},
        }
        while True:
            try:
                answer = await self._ask("POST", f"{self._base}/{service_id}/instances", {"instance": described})
                return str(answer["instanceId"])
            except AWAY:
                await self._clock.sleep(RETRY_SECONDS)

    async def beat(self, service_id: str, instance_id: str) -> None:
        """Send heartbeats until cancelled. A registry that is away is no reason to stop."""
        while True:
            await self._clock.sleep(HEARTBEAT_SECONDS)
            with suppress(*AWAY):
                await self._ask("PUT", f"{self._base}/{service_id}/instances/{instance_id}/heartbeat")

    async def leave(self, service_id: str, instance_id: str) -> None:
        """Unregister, as a well-behaved process does at its end; a registry that is away will find out by itself."""
        with suppress(*AWAY):
            await self._ask("DELETE", f"{self._base}/{service_id}/instances/{instance_id}")

    async def _ask(self, method: str, url: str, body: KubeObject | None = None) -> KubeObject:
        async with self._http.request(method, url, json=body) as answer:
            if answer.status != 200:
                raise RegistryRefusedError(f"{method} {url}: {answer.status}")
            if not await answer.read():
                return {}
            content: KubeObject = await answer.json()
            return content
