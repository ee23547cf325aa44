"""The client of Apache ServiceComb Service Center, API version 4."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from enum import StrEnum
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import httpx

from registry_status import __version__
from registry_status.model import InstanceStatus, ServiceName, Tenant
from registry_status.registry import answers
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


class ServiceComb(AbstractAsyncContextManager["ServiceComb"]):
    """Speaks to a Service Center and sorts every answer and every failure into the errors of `registry.base`.

    Reads and writes carry `noCache=1`: without it reads lag, and a status can be lost to a concurrent change of properties.
    Never an X-ConsumerId, which would write dependency rules, and never the batch status endpoint, which changes a whole
    project when its filter matches nothing.
    """

    def __init__(
        self,
        address: str,
        *,
        request_timeout: float = 5.0,
        connect_timeout: float = 2.0,
        concurrency: int = 32,
        observer: RequestObserver | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._observer = observer
        self._clock = clock
        self._slots = asyncio.Semaphore(concurrency)
        self._client = httpx.AsyncClient(
            base_url=address,
            headers=HEADERS,
            timeout=httpx.Timeout(request_timeout, connect=connect_timeout),
            transport=transport or AiohttpTransport(),
            trust_env=False,
            follow_redirects=False,
        )
        self._closing = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._closing.enter_async_context(self._client)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._closing.aclose()

    async def list_services(self, tenant: Tenant) -> Sequence[Service]:
        """All services of the tenant."""
        return await self._ask(
            Operation.LIST_SERVICES, "GET", tenant, "microservices", {}, lambda got: answers.services(got, self._address)
        )

    async def find_service(self, tenant: Tenant, service: ServiceName, version: str) -> str | None:
        """The id of one version of a service; None if it is not registered."""
        query = {"type": "microservice", "appId": service.app, "serviceName": service.name, "version": version}
        query |= {"env": service.environment}
        try:
            return await self._ask(
                Operation.FIND_SERVICE, "GET", tenant, "existence", query, lambda got: answers.service_id(got, self._address)
            )
        except NotFoundError:
            return None

    async def list_instances(self, tenant: Tenant, service_id: str) -> Sequence[Instance]:
        """All instances of the service. Raises `NotFoundError` for an unknown service."""
        path = f"microservices/{_segment(service_id)}/instances"
        return await self._ask(
            Operation.LIST_INSTANCES, "GET", tenant, path, {}, lambda got: answers.instances(got, service_id, self._address)
        )

    async def write_status(self, tenant: Tenant, service_id: str, instance_id: str, status: InstanceStatus) -> None:
        """Set an instance's status."""
        path = f"microservices/{_segment(service_id)}/instances/{_segment(instance_id)}/status"
        await self._ask(
            Operation.WRITE_STATUS,
            "PUT",
            tenant,
            path,
            {"value": status.value},
            lambda got: answers.check_done(got, self._address),
        )

    async def _ask(
        self,
        operation: Operation,
        method: str,
        tenant: Tenant,
        path: str,
        query: Mapping[str, str],
        read: Callable[[httpx.Response], Answer],
    ) -> Answer:
        """Send one request, read its answer, and tell the observer how it went."""
        async with self._slots:
            began, code = self._clock(), "ok"
            try:
                return read(await self._send(method, tenant, path, query))
            except RegistryError as error:
                code = error.code
                raise
            finally:
                if self._observer is not None:
                    self._observer.request_finished(operation, code, self._clock() - began)

    async def _send(self, method: str, tenant: Tenant, path: str, query: Mapping[str, str]) -> httpx.Response:
        url = f"/v4/{_segment(tenant.project)}/registry/{path}"
        try:
            return await self._client.request(
                method, url, params={**query, "noCache": "1"}, headers={"x-domain-name": tenant.domain}
            )
        except httpx.TransportError as error:
            raise _trouble(error, self._address, writes=method != "GET") from error


def _segment(text: str) -> str:
    """One path segment: nothing in it can end the segment or climb out of it."""
    if text in ("", ".", ".."):
        raise PermanentError("bad-path", f"{text!r} cannot be an id")
    return quote(text, safe="")


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
