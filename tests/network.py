"""The registry's real client on virtual time: in place of sockets there are requests that get lost, come late, or meet a server
that fails in part."""

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

import httpx

from registry_status.model import InstanceStatus, ServiceName, Tenant
from registry_status.registry.base import Instance, Service
from registry_status.registry.devserver import Refusal, RegistryState
from registry_status.registry.servicecomb import ServiceComb
from tests.story import WatchedRegistry
from tests.virtual_time import outside

TIMEOUT = 5.0
LATE = (4.0, 9.0)
"""Seconds that a late request is on its way: some arrive after the client has given up."""
ANSWERS = {
    "fails": httpx.Response(500, content=b"oops"),
    "unwilling": httpx.Response(503, content=b"oops"),
    "busy": httpx.Response(429, headers={"retry-after": "3"}),
    "foreign": httpx.Response(200, content=b"<html>", headers={"content-type": "text/html"}),
    "away": httpx.Response(500, json={"errorCode": "500011", "errorMessage": "no backend"}),
}
TROUBLES = ("refused", "hangs", "late", "lost", "answer-lost", *ANSWERS)


@dataclass(frozen=True)
class Trouble:
    """What goes wrong, with which requests, and with how many of them."""

    kind: str
    method: str = ""
    piece: str = ""
    """Of the path."""
    share: float = 1.0

    def hits(self, method: str, path: str, chance: random.Random) -> bool:
        return self.method in ("", method) and self.piece in path and chance.random() < self.share


def trouble_met(troubles: Sequence[Trouble], method: str, path: str, chance: random.Random) -> str:
    """What goes wrong with one request: the kind of the first that hits it, or nothing."""
    kinds = [one.kind for one in troubles if one.hits(method, path, chance)]
    return kinds[0] if kinds else ""


@dataclass
class Network(httpx.AsyncBaseTransport):
    """Between the client and a registry. What was sent arrives, whether the client still waits for it or not."""

    state: RegistryState
    chance: random.Random
    delay: float = 0.005
    troubles: list[Trouble] = field(default_factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        target = urlsplit(request.extensions["target"].decode())
        kind = trouble_met(self.troubles, request.method, target.path, self.chance)
        if kind == "refused":
            raise httpx.ConnectError("refused", request=request)
        try:
            async with asyncio.timeout(TIMEOUT):  # `wait_for` may swallow a cancellation in Python 3.11
                return await outside(self._exchange(request, kind, target.path, target.query))
        except TimeoutError:
            raise httpx.ReadTimeout("no answer in time", request=request) from None

    async def _exchange(self, request: httpx.Request, kind: str, path: str, query: str) -> httpx.Response:
        await asyncio.sleep(self.chance.uniform(*LATE) if kind == "late" else self._way())
        match kind:
            case "hangs":
                await asyncio.sleep(30)
                return ANSWERS["away"]
            case "lost":
                raise httpx.ReadError("the connection broke", request=request)
            case _ if kind in ANSWERS:
                return ANSWERS[kind]
        answer = self._answer(request, path, query)
        if kind == "answer-lost":
            raise httpx.ReadError("the connection broke", request=request)
        await asyncio.sleep(self._way())
        return answer

    def _way(self) -> float:
        return self.delay * self.chance.uniform(0.5, 2.0)

    def _answer(self, request: httpx.Request, path: str, query: str) -> httpx.Response:
        _, _, project, _, *rest = map(unquote, path.split("/"))
        tenant = Tenant(request.headers["x-domain-name"], project)
        try:
            match rest:
                case ["microservices"]:
                    return _listed("services", [one.to_json() for one in self.state.services(tenant)])
                case ["microservices", service, "instances"]:
                    return _listed("instances", [one.to_json() for one in self.state.instances(service, tenant)])
                case ["microservices", service, "instances", instance, "status"]:
                    self.state.put_status(service, instance, parse_qs(query)["value"][0], tenant)
        except Refusal as refusal:
            return httpx.Response(refusal.code.http_status, content=refusal.code.body(refusal.detail))
        return httpx.Response(200)


def _listed(name: str, entries: Sequence[object]) -> httpx.Response:
    return httpx.Response(200, content=json.dumps({name: entries}).encode())


class NetworkedRegistry(WatchedRegistry):
    """The real client, whose writes are watched."""

    def connect(self, addresses: Sequence[str], chance: random.Random) -> Network:
        """Give it its network; to be called before anything is asked."""
        network = Network(self.state, chance, self.delay)
        clock = asyncio.get_running_loop().time
        self._client = ServiceComb(addresses, transport=network, clock=clock)
        self._client.on_available(self.available)
        return network

    async def aclose(self) -> None:
        await self._client.__aexit__(None, None, None)

    async def list_services(self, tenant: Tenant) -> Sequence[Service]:
        services = await self._client.list_services(tenant)
        self.services_known = True
        return services

    async def find_service(self, tenant: Tenant, service: ServiceName, version: str) -> str | None:
        return await self._client.find_service(tenant, service, version)

    async def list_instances(self, tenant: Tenant, service_id: str) -> Sequence[Instance]:
        return await self._client.list_instances(tenant, service_id)

    async def write_status(self, tenant: Tenant, service_id: str, instance_id: str, status: InstanceStatus) -> None:
        self.check(service_id, instance_id, status)
        await self._client.write_status(tenant, service_id, instance_id, status)
