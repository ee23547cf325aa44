"""However many pods wait for a registry that fails, wholly or in part, it is asked little, and all is right soon after."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import pytest

from registry_status.config import Settings
from registry_status.pods.status import desired
from registry_status.registry.servicecomb import ServiceComb
from registry_status.sync.consumers import PATIENCE
from registry_status.sync.engine import Engine
from tests.pods import START, pod
from tests.world import Deaf, on_virtual_time

PODS, SERVICES, OTHERS = 600, 20, 40
OUTAGE = 60
"""Seconds."""
MOST_A_SECOND = 45
"""The budget of retries, who tries at once when a circuit closes, and the lists for both; 600 pods would ask far more."""
RIGHT_WITHIN = 3.0
"""Seconds after the outage."""
ADDRESS = "http://registry"


@dataclass
class Registry(httpx.AsyncBaseTransport):
    """Lists every pod's instance as UP; asks `fails` whether a request for a service fails, and then answers with `code`."""

    fails: Callable[[str, int], bool]
    code: int
    away: bool = True
    asked: int = 0
    written: set[str] = field(default_factory=set)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.01)
        self.asked += 1
        _, _, path = request.extensions["target"].decode().partition("/registry/microservices/svc-")
        service, _, rest = path.partition("/instances")
        if self.away and path and self.fails(request.method, int(service)):
            return httpx.Response(self.code, json={"errorCode": "500003", "errorMessage": "broken"})
        if request.method == "PUT":
            self.written.add(rest.split("/")[1])
            return httpx.Response(200)
        return httpx.Response(200, json={"instances": self.listed(int(service))} if path else {"services": self.services()})

    def services(self) -> list[dict[str, object]]:
        return []

    def listed(self, service: int) -> list[dict[str, object]]:
        return [
            {
                "instanceId": f"i-{number}",
                "hostName": f"pod-{number}",
                "status": "UP",
                "endpoints": [f"rest://{ip(number)}:80"],
                "timestamp": str(int(START)),
                "properties": {"podUid": f"uid-{number}"},
            }
            for number in range(service, PODS, SERVICES)
        ]


@dataclass
class Unreadable(Registry):
    """It works, but has other services, on Java Chassis 3: without instances, but for those that it cannot read."""

    away: bool = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        _, _, other = request.extensions["target"].decode().partition("/registry/microservices/other-")
        if not other:
            return await super().handle_async_request(request)
        await asyncio.sleep(0.01)
        if self.fails(request.method, int(other.partition("/")[0])):
            return httpx.Response(self.code, json={"errorCode": "500003", "errorMessage": "broken"})
        return httpx.Response(200, json={"instances": []})

    def services(self) -> list[dict[str, object]]:
        chassis = {"name": "ServiceComb", "version": "3.4.0"}
        return [{"serviceId": f"other-{number}", "framework": chassis} for number in range(OTHERS)]


def ip(number: int) -> str:
    return f"10.1.{number // 250}.{number % 250 + 1}"


def unready(number: int, status: str = "DOWN") -> dict[str, object]:
    asked = {"service-id": f"svc-{number % SERVICES}", "not-ready-status": status}
    return pod(asked, uid=f"uid-{number}", name=f"pod-{number}", ip=ip(number), ready="False", ready_since=9)


@pytest.mark.parametrize("code", [500, 503])
@pytest.mark.parametrize(
    "fails",
    [
        lambda method, _: method == "PUT",
        lambda method, service: method == "PUT" and service % 2 == 0,
        lambda _, service: service % 2 == 0,
        lambda method, _: method == "GET",
        lambda *_: True,
    ],
    ids=["writes", "half of the writes", "half of the services", "lists", "all"],
)
@on_virtual_time
async def test_a_registry_that_fails_is_asked_little_and_all_is_right_soon_after(
    fails: Callable[[str, int], bool], code: int
) -> None:
    registry = Registry(fails, code)
    loop = asyncio.get_running_loop()
    async with ServiceComb([ADDRESS], transport=registry, clock=loop.time) as client:
        engine = Engine(client, Deaf(), chance=random.Random(1))
        for number in range(PODS):
            engine.take(desired(unready(number), Settings()))
        engine.start_writing()
        await asyncio.sleep(OUTAGE)
        served = len(registry.written)
        assert served < PODS
        assert (registry.asked - served) / OUTAGE < MOST_A_SECOND
        registry.away = False
        await asyncio.sleep(RIGHT_WITHIN)
        assert len(registry.written) == PODS
        await engine.drain(1)


@pytest.mark.parametrize("code", [500, 503])
@pytest.mark.parametrize("share", [1, 2, 20])
@on_virtual_time
async def test_others_services_that_cannot_be_read_do_not_stop_what_can_be_written(share: int, code: int) -> None:
    registry = Unreadable(lambda _, other: other % share == 0, code)
    loop = asyncio.get_running_loop()
    async with ServiceComb([ADDRESS], transport=registry, clock=loop.time) as client:
        engine = Engine(client, Deaf(), chance=random.Random(1))
        for number in range(PODS):
            engine.take(desired(unready(number, "auto"), Settings()))
        engine.start_writing()
        await asyncio.sleep(PATIENCE + RIGHT_WITHIN)
        assert len(registry.written) == PODS
        await engine.drain(1)
