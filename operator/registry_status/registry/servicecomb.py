"""The client of Apache ServiceComb Service Center, API version 4."""

import asyncio
import json
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import TracebackType
from typing import Self, TypeVar, cast
from urllib.parse import quote, unquote, urlencode

import httpx

from registry_status import __version__
from registry_status.model import InstanceStatus, ServiceName, Tenant
from registry_status.registry import answers
from registry_status.registry.addresses import AddressPool
from registry_status.registry.answers import Answer
from registry_status.registry.auth import Auth, Door, NoAuth
from registry_status.registry.base import (
    AuthError,
    Fence,
    FencedError,
    Instance,
    NotFoundError,
    Operation,
    PermanentError,
    RegistryError,
    RequestObserver,
    Service,
    TransientError,
    seconds_left,
)
from registry_status.registry.transport import AiohttpTransport, BodyTooLarge, FenceClosed, Form, TlsFailed

WITHOUT_BODY = (
    ("accept", "application/json, text/plain"),
    ("accept-encoding", "identity"),
    ("user-agent", f"registry-status/{__version__}"),
)
WITH_BODY = (*WITHOUT_BODY, ("content-type", "application/json"))
LONGEST_TARGET = 64 * 1024
"""Bytes; servers take less."""
FORMS = 64
"""So many sets of headers are kept: one for each address, domain and credential."""
Pairs = tuple[tuple[str, str], ...]
LOGIN = "/v4/token"
HEALTH = "/v4/default/registry/health"
"""What every Service Center answers to everybody."""

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class _Request:
    """What is sent, whichever address it goes to."""

    operation: Operation
    method: str
    path: str
    target: bytes
    """Path and query as they are sent."""
    domain: str
    body: bytes = field(default=b"", repr=False)

    @property
    def key(self) -> str:
        """What is asked for, and in which project."""
        return self.target.decode("ascii")

    @property
    def probe(self) -> "_Request":
        """The list around what is written, and of a login only whether anybody answers."""
        if self.path == LOGIN:
            return _request(Operation.PROBE, "GET", HEALTH, "default")
        listing = self.path.rpartition("/instances/")[0]
        if listing:
            return _request(Operation.PROBE, "GET", f"{listing}/instances", self.domain)
        return replace(self, operation=Operation.PROBE)

    @property
    def neighbour(self) -> "_Request":
        """The services of the same project."""
        if not self.is_looked_up:
            return self.probe
        return _request(Operation.PROBE, "GET", f"/v4/{self.project}/registry/microservices", self.domain)

    @property
    def is_looked_up(self) -> bool:
        """All but the login, and the question whether anybody answers."""
        return self.path not in (LOGIN, HEALTH)

    @property
    def project(self) -> str:
        """The project as it stands in the path."""
        return self.path.split("/")[2]

    @property
    def writes(self) -> bool:
        """Whether it may change something."""
        return self.method != "GET"


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
        fence: Fence | None = None,
        auth: Callable[[Door], Auth] | None = None,
        tls: Callable[[], ssl.SSLContext] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._observer = observer
        self._clock = clock
        self._fence = fence
        self._timeouts = {"read": request_timeout, "connect": connect_timeout}
        self._slots = asyncio.Semaphore(concurrency)
        self._urls = {address: httpx.URL(address) for address in addresses}
        self._addresses = AddressPool(addresses, self._probe, observer, clock)
        self._transport = transport or AiohttpTransport(tls, fence=fence)
        self._auth: Auth = auth(self) if auth is not None else NoAuth()
        self._form = lru_cache(FORMS)(self._make_form)

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._auth.aclose()
        await self._addresses.aclose()
        await self._transport.aclose()

    def on_available(self, wake: Callable[[], None]) -> None:
        """Call `wake` each time that an address can be asked again after all could not, or that we are let in again."""
        self._addresses.on_available(wake)
        self._auth.on_available(wake)

    async def list_services(self, tenant: Tenant) -> Sequence[Service]:
        """All services of the tenant."""
        return await self._ask(_read(Operation.LIST_SERVICES, tenant, "microservices"), tenant, answers.services)

    async def find_service(self, tenant: Tenant, service: ServiceName, version: str) -> str | None:
        """The id of one version of a service; None if it is not registered."""
        query = {"type": "microservice", "appId": service.app, "serviceName": service.name, "version": version}
        query |= {"env": service.environment}
        try:
            return await self._ask(_read(Operation.FIND_SERVICE, tenant, "existence", query), tenant, answers.service_id)
        except NotFoundError:
            return None

    async def list_instances(self, tenant: Tenant, service_id: str) -> Sequence[Instance]:
        """All instances of the service. Raises `NotFoundError` for an unknown service."""
        path = f"microservices/{_segment(service_id)}/instances"

        def read(answer: Answer, address: str) -> Sequence[Instance]:
            return answers.instances(answer, service_id, address)

        return await self._ask(_read(Operation.LIST_INSTANCES, tenant, path), tenant, read)

    async def write_status(self, tenant: Tenant, service_id: str, instance_id: str, status: InstanceStatus) -> None:
        """Set an instance's status."""
        await self._ask(_write(tenant, service_id, instance_id, status), tenant, answers.check_done)

    async def knock(self) -> None:
        """Find out whether the registry answers anything. Raises `TransientError` if it does not."""
        if self._left() <= 0:
            raise FencedError("fenced", "this replica does not lead any more")
        try:
            await self._exchange(_request(Operation.PROBE, "GET", HEALTH, "default"), {}, answers.check_read)
        except TransientError:
            raise
        except RegistryError:
            return

    async def log_in(self, name: str, password: str) -> str:
        """Ask for a token, once.

        There is one login at a time and others wait for it, so it takes no slot: those who hold all of them may be the others.
        """
        body = json.dumps({"name": name, "password": password}).encode()
        return await self._exchange(_request(Operation.LOG_IN, "POST", LOGIN, "default", body=body), {}, answers.token)

    async def _ask(self, request: _Request, tenant: Tenant, read: Callable[[Answer, str], Found]) -> Found:
        """Send one request and read its answer; once more, if credentials were refused and there are others."""
        headers = await self._auth.headers(tenant.project)
        try:
            return await self._in_turn(request, headers, read)
        except AuthError as error:
            if not self._auth.refused(headers, error):
                raise self._hinted(error) from None
        headers = await self._auth.headers(tenant.project)
        try:
            return await self._in_turn(request, headers, read)
        except AuthError as error:
            raise self._hinted(error) from None

    def _hinted(self, error: AuthError) -> AuthError:
        return type(error)(error.code, f"{error.message}; {self._auth.hint}", address=error.address)

    async def _in_turn(self, request: _Request, headers: Mapping[str, str], read: Callable[[Answer, str], Found]) -> Found:
        async with self._slots:
            return await self._exchange(request, headers, read)

    async def _exchange(self, request: _Request, headers: Mapping[str, str], read: Callable[[Answer, str], Found]) -> Found:
        """Ask the best address; its circuit learns how it went."""
        address = self._addresses.pick()
        try:
            answer = await self._measured(address.url, request, headers, read)
        except FencedError:
            raise
        except TransientError as error:
            self._addresses.failed(address, request, error)
            raise
        except RegistryError:
            address.succeeded(request)
            raise
        address.succeeded(request)
        return answer

    async def _probe(self, url: str, request: _Request) -> None:
        """Find out whether an address answers; what it answers does not matter."""
        if self._left() <= 0:
            raise FencedError("fenced", "not probed, as this replica does not lead", address=url)
        await self._measured(url, request, self._auth.known_headers(unquote(request.project)), answers.check_read)

    async def _measured(
        self, url: str, request: _Request, headers: Mapping[str, str], read: Callable[[Answer, str], Found]
    ) -> Found:
        """Tell the observer how long a request took and how it ended."""
        began, code = self._clock(), "cancelled"
        try:
            answer = read(await self._send(url, request, headers), url)
        except RegistryError as error:
            code = error.code
            raise
        else:
            code = "ok"
            return answer
        finally:
            if self._observer is not None:
                self._observer.request_finished(request.operation, code, self._clock() - began)

    async def _send(self, url: str, request: _Request, headers: Mapping[str, str]) -> Answer:
        usual = WITH_BODY if request.body else WITHOUT_BODY
        try:
            form = self._form(url, request.method, request.domain, (*usual, *headers.items()))
            answer = await self._transport.handle_async_request(form.fill(request.target, request.body))
            # Not httpx's `aread`: for the few bytes of an answer its decoders take longer than all else here.
            content = b"".join([piece async for piece in cast("httpx.AsyncByteStream", answer.stream)])
        except FenceClosed:
            raise _fenced_off(url) from None
        except httpx.TransportError as error:
            if request.writes and self._left() <= 0:
                raise _fenced_off(url, maybe_applied=True) from None
            raise _trouble(error, self._auth.hide(str(error)), url, writes=request.writes) from None
        whole = Answer(request.method, answer.status_code, answer.headers, content)
        return whole if whole.status == 200 else self._without_secrets(whole)

    def _without_secrets(self, answer: Answer) -> Answer:
        """An error's text goes into Events and logs, and may repeat what was sent."""
        headers = httpx.Headers([(name, self._hidden(value)) for name, value in answer.headers.raw])
        return replace(answer, headers=headers, content=self._hidden(answers.as_meant(answer.content)))

    def _hidden(self, sent: bytes) -> bytes:
        """Without what is secret, and otherwise as the server sent it, whatever bytes these are."""
        return self._auth.hide(sent.decode(errors="surrogateescape")).encode(errors="surrogateescape")

    def _make_form(self, url: str, method: str, domain: str, headers: Pairs) -> Form:
        """What requests to one address have in common."""
        like = httpx.Request(
            method,
            self._urls[url],
            headers=(*headers, ("x-domain-name", domain)),
            stream=httpx.ByteStream(b""),  # not `content`: it adds headers that the transport adds anyway
            extensions={"timeout": self._timeouts},
        )
        like.url = self._urls[url]  # not a copy: the transport sees at once that it leads to where the last one went
        return Form(like)

    def _left(self) -> float:
        """Seconds for which this replica may write."""
        return seconds_left(self._fence)


def _request(operation: Operation, method: str, path: str, domain: str, query: str = "", body: bytes = b"") -> _Request:
    """A request; path and query are quoted. Raises `PermanentError` for what no server would read."""
    target = f"{path}?{query}noCache=1".encode("ascii")
    if len(target) > LONGEST_TARGET:
        raise PermanentError("bad-path", f"a path of more than {LONGEST_TARGET} bytes")
    return _Request(operation, method, path, target, domain, body)


def _read(operation: Operation, tenant: Tenant, path: str, query: Mapping[str, str] | None = None) -> _Request:
    path = f"/v4/{_segment(tenant.project)}/registry/{path}"
    return _request(operation, "GET", path, tenant.domain, f"{urlencode(query)}&" if query else "")


def _write(tenant: Tenant, service_id: str, instance_id: str, status: InstanceStatus) -> _Request:
    instance = f"microservices/{_segment(service_id)}/instances/{_segment(instance_id)}"
    path = f"/v4/{_segment(tenant.project)}/registry/{instance}/status"
    return _request(Operation.WRITE_STATUS, "PUT", path, tenant.domain, f"value={status}&")


def _fenced_off(url: str, *, maybe_applied: bool = False) -> FencedError:
    return FencedError("fenced", "this replica does not lead any more", address=url, maybe_applied=maybe_applied)


def _segment(text: str) -> str:
    """One path segment: nothing in it can end the segment or climb out of it."""
    if text.isascii() and text.isalnum():  # nearly all: there is nothing to quote
        return text
    try:
        if text in ("", ".", ".."):
            raise PermanentError("bad-path", f"{text!r} cannot be an id")
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise PermanentError("bad-path", f"{answers.shortened(ascii(text))} cannot be an id") from None


def _trouble(error: httpx.TransportError, text: str, address: str, *, writes: bool) -> RegistryError:
    """`text` is the error's, without secrets: it may quote an answer that repeats what was sent."""
    match error:
        case TlsFailed():
            return TransientError("tls", text, address=address)
        case httpx.ConnectTimeout():
            return TransientError("connect-timeout", "no connection in time", address=address)
        case httpx.ConnectError():
            return TransientError("connect", f"cannot connect: {text}", address=address)
        case httpx.TimeoutException():
            return TransientError("timeout", "no answer in time", address=address, maybe_applied=writes)
        case httpx.UnsupportedProtocol() | httpx.LocalProtocolError():
            return PermanentError("protocol", text, address=address)
        case BodyTooLarge():
            return TransientError("body-too-large", text, address=address, maybe_applied=writes)
        case _:
            message = f"the connection broke: {answers.shortened(text)}"
            return TransientError("broken", message, address=address, maybe_applied=writes)
