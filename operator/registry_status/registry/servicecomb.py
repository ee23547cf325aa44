"""The client of Apache ServiceComb Service Center, API version 4."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import httpx

from registry_status import __version__
from registry_status.model import InstanceStatus, ServiceName, Tenant
from registry_status.registry import answers
from registry_status.registry.addresses import AddressPool
from registry_status.registry.base import (
    Instance,
    NotFoundError,
    PermanentError,
    RegistryError,
    RequestObserver,
    Service,
    TransientError,
)
from registry_status.registry.transport import AiohttpTransport, BodyTooLarge

HEADERS = {
    "accept": "application/json, text/plain",
    "accept-encoding": "identity",
    "user-agent": f"registry-status/{__version__}",
}


Answer = TypeVar("Answer")


class Operation(StrEnum):
    """What is asked of the registry, for metrics."""

    LIST_SERVICES = "list-services"
    FIND_SERVICE = "find-service"
    LIST_INSTANCES = "list-instances"
    WRITE_STATUS = "write-status"
    PROBE = "probe"


@dataclass(frozen=True, slots=True)
class _Request:
    """What is sent, whichever address it goes to."""

    operation: Operation
    method: str
    path: str
    query: Mapping[str, str]
    domain: str


class ServiceComb(AbstractAsyncContextManager["ServiceComb"]):
    """Speaks to a Service Center and sorts every answer and every failure into the errors of `registry.base`.

    Reads and writes carry `noCache=1`: without it reads lag, and a status can be lost to a concurrent change of properties.
    Never an X-ConsumerId, which would write dependency rules, and never the batch status endpoint, which changes a whole
    project when its filter matches nothing.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        request_timeout: float = 5.0,
        connect_timeout: float = 2.0,
        concurrency: int = 32,
        observer: RequestObserver | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._observer = observer
        self._clock = clock
        self._slots = asyncio.Semaphore(concurrency)
        self._addresses = AddressPool(addresses, self._probe, observer, clock)
        self._client = httpx.AsyncClient(
            headers=HEADERS,
            timeout=httpx.Timeout(request_timeout, connect=connect_timeout),
            transport=transport or AiohttpTransport(),
            trust_env=False,
            follow_redirects=False,
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._addresses.aclose()
        await self._client.aclose()

    def on_available(self, wake: Callable[[], None]) -> None:
        """Call `wake` each time that an address can be asked again after all could not."""
        self._addresses.on_available(wake)

    async def list_services(self, tenant: Tenant) -> Sequence[Service]:
        """All services of the tenant."""
        return await self._ask(Operation.LIST_SERVICES, "GET", tenant, "microservices", {}, answers.services)

    async def find_service(self, tenant: Tenant, service: ServiceName, version: str) -> str | None:
        """The id of one version of a service; None if it is not registered."""
        query = {"type": "microservice", "appId": service.app, "serviceName": service.name, "version": version}
        query |= {"env": service.environment}
        try:
            return await self._ask(Operation.FIND_SERVICE, "GET", tenant, "existence", query, answers.service_id)
        except NotFoundError:
            return None

    async def list_instances(self, tenant: Tenant, service_id: str) -> Sequence[Instance]:
        """All instances of the service. Raises `NotFoundError` for an unknown service."""
        path = f"microservices/{_segment(service_id)}/instances"

        def read(answer: httpx.Response, address: str) -> Sequence[Instance]:
            return answers.instances(answer, service_id, address)

        return await self._ask(Operation.LIST_INSTANCES, "GET", tenant, path, {}, read)

    async def write_status(self, tenant: Tenant, service_id: str, instance_id: str, status: InstanceStatus) -> None:
        """Set an instance's status."""
        path = f"microservices/{_segment(service_id)}/instances/{_segment(instance_id)}/status"
        await self._ask(Operation.WRITE_STATUS, "PUT", tenant, path, {"value": status.value}, answers.check_done)

    async def _ask(
        self,
        operation: Operation,
        method: str,
        tenant: Tenant,
        path: str,
        query: Mapping[str, str],
        read: Callable[[httpx.Response, str], Answer],
    ) -> Answer:
        """Send one request to the best address and read its answer; the address's circuit learns how it went."""
        request = _Request(operation, method, f"/v4/{_segment(tenant.project)}/registry/{path}", query, tenant.domain)
        async with self._slots:
            address = self._addresses.pick()
            try:
                answer = await self._measured(address.url, request, read)
            except TransientError as error:
                self._addresses.failed(address, request.path, error)
                raise
            except RegistryError:
                address.succeeded()
                raise
            address.succeeded()
            return answer

    async def _probe(self, url: str, path: str) -> None:
        """Read what failed last, or the list around it; the answer matters only for whether there is one."""
        listing = path.rpartition("/instances/")[0]
        request = _Request(Operation.PROBE, "GET", f"{listing}/instances" if listing else path, {}, "default")
        await self._measured(url, request, answers.check_read)

    async def _measured(self, url: str, request: "_Request", read: Callable[[httpx.Response, str], Answer]) -> Answer:
        """Tell the observer how long a request took and how it ended."""
        began, code = self._clock(), "cancelled"
        try:
            answer = read(await self._send(url, request), url)
        except RegistryError as error:
            code = error.code
            raise
        else:
            code = "ok"
            return answer
        finally:
            if self._observer is not None:
                self._observer.request_finished(request.operation, code, self._clock() - began)

    async def _send(self, url: str, request: "_Request") -> httpx.Response:
        try:
            return await self._client.request(
                request.method,
                url + request.path,
                params={**request.query, "noCache": "1"},
                headers={"x-domain-name": request.domain},
            )
        except httpx.TransportError as error:
            raise _trouble(error, url, writes=request.method != "GET") from error
        except httpx.InvalidURL as error:
            raise PermanentError("bad-path", answers.shortened(str(error)), address=url) from error


def _segment(text: str) -> str:
    """One path segment: nothing in it can end the segment or climb out of it."""
    try:
        if text in ("", ".", ".."):
            raise PermanentError("bad-path", f"{text!r} cannot be an id")
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise PermanentError("bad-path", f"{answers.shortened(ascii(text))} cannot be an id") from None


def _trouble(error: httpx.TransportError, address: str, *, writes: bool) -> RegistryError:
    match error:
        case httpx.ConnectTimeout():
            return TransientError("connect-timeout", "no connection in time", address=address)
        case httpx.ConnectError():
            return TransientError("connect", f"cannot connect: {error}", address=address)
        case httpx.TimeoutException():
            return TransientError("timeout", "no answer in time", address=address, maybe_applied=writes)
        case httpx.UnsupportedProtocol() | httpx.LocalProtocolError():
            return PermanentError("protocol", str(error), address=address)
        case BodyTooLarge():
            return TransientError("body-too-large", str(error), address=address, maybe_applied=writes)
        case _:
            message = f"the connection broke: {answers.shortened(str(error))}"
            return TransientError("broken", message, address=address, maybe_applied=writes)
