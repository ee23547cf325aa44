"""The registry over HTTP: what it answers where, and its life as a server."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from ssl import SSLContext

from aiohttp import web

from registry_status.registry.devserver.access_keys import AccessKeys
from registry_status.registry.devserver.accounts import Accounts
from registry_status.registry.devserver.admin import ADMIN_PREFIX, Admin
from registry_status.registry.devserver.answers import dropped, instead, not_routed, refused, truncated
from registry_status.registry.devserver.api import NEEDS_NO_TOKEN, RegistryApi
from registry_status.registry.devserver.faults import Answer, Delay, Drop, Fault, Faults, Hang, Truncate, When
from registry_status.registry.devserver.journal import Journal, RequestRecord, StatusWrite
from registry_status.registry.devserver.refusals import Refusal
from registry_status.registry.devserver.state import RegistryState

DEFAULT_JOURNAL_SIZE = 100_000
SHUTDOWN_TIMEOUT = 0.1
"""How long a stop waits for requests in progress: only hanging ones take longer, and nobody wants to wait for those."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class DevServer:
    """An in-memory Service Center, with a journal of what it was asked and faults to be put in force.

    Its state outlives `stop`, so a registry can be restarted in a test without its clients' instances being gone.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        journal_size: int = DEFAULT_JOURNAL_SIZE,
        accounts: Mapping[str, str] | None = None,
        access_keys: Mapping[str, str] | None = None,
        on_request: Callable[[RequestRecord], None] | None = None,
    ) -> None:
        self.registry = RegistryState(clock)
        self.faults = Faults()
        self.journal = Journal(journal_size)
        self.accounts = None if accounts is None else Accounts(accounts, clock)
        self.access_keys = None if access_keys is None else AccessKeys(access_keys)
        self._clock = clock
        self._sleep = sleep
        self._on_request = on_request
        self._runner: web.AppRunner | None = None

    # --- what tests look at -------------------------------------------------------------------

    @property
    def requests(self) -> list[RequestRecord]:
        """Every request to the registry (not to the admin surface), in order of arrival."""
        return self.journal.requests

    @property
    def writes(self) -> list[StatusWrite]:
        """Every status PUT that was applied, in that order."""
        return self.journal.writes

    def reset(self) -> None:
        """Forget everything: registry, journal, faults."""
        self.registry.clear()
        self.journal.clear()
        self.faults.clear()

    # --- its life -----------------------------------------------------------------------------

    async def start(self, host: str = "127.0.0.1", port: int = 0, *, ssl_context: SSLContext | None = None) -> str:
        """Listen, and give back the base URL. Port 0 picks a free one. Raises `OSError` if it cannot listen."""
        if self._runner is not None:
            raise RuntimeError("the server listens already")
        runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port, ssl_context=ssl_context, backlog=1024)
            await site.start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        return site.name

    async def stop(self) -> None:
        """Stop listening and break all connections, those of hanging requests too."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    @asynccontextmanager
    async def listening(
        self, host: str = "127.0.0.1", port: int = 0, *, ssl_context: SSLContext | None = None
    ) -> AsyncIterator[str]:
        """Listen while the block runs; the value is the base URL."""
        base_url = await self.start(host, port, ssl_context=ssl_context)
        try:
            yield base_url
        finally:
            await self.stop()

    # --- how a request goes -------------------------------------------------------------------

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._serve])
        application.add_routes(RegistryApi(self.registry, self.journal, self.accounts, self._clock).routes())
        application.add_routes(Admin(self.registry, self.journal, self.faults).routes())
        return application

    @web.middleware
    async def _serve(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(ADMIN_PREFIX):
            return await self._answer(request, handler)
        pending = self.journal.arrived(_record(request, self._clock()))
        status: int | None = None
        try:
            response = await self._answer_or_misbehave(request, handler)
            status = None if response is None else response.status
        finally:
            record = self.journal.finished(pending, status)
            if self._on_request is not None:
                self._on_request(record)
        return dropped(request) if response is None else response

    async def _answer_or_misbehave(self, request: web.Request, handler: Handler) -> web.StreamResponse | None:
        """Return None if the connection is to be dropped."""
        fault = self.faults.take(request.method, request.path)
        if fault is None:
            return await self._authorized_answer(request, handler)
        return await self._misbehave(fault, request, handler)

    async def _misbehave(self, fault: Fault, request: web.Request, handler: Handler) -> web.StreamResponse | None:
        truth = None
        if fault.when is When.AFTER:
            truth = await self._authorized_answer(request, handler)
        match fault.effect:
            case Answer() as answer:
                return instead(answer)
            case Drop():
                return None
            case Hang(seconds, then):
                await self._sleep(seconds)
                return instead(then)
            case Delay(seconds):
                await self._sleep(seconds)
                return await self._authorized_answer(request, handler) if truth is None else truth
            case Truncate(abrupt):
                whole = await self._authorized_answer(request, handler) if truth is None else truth
                return await truncated(request, whole, abrupt=abrupt)

    async def _authorized_answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._check_credentials(request)
        except Refusal as refusal:
            return refused(refusal)
        return await self._answer(request, handler)

    def _check_credentials(self, request: web.Request) -> None:
        if request.path.endswith(NEEDS_NO_TOKEN):
            return
        if self.accounts is not None:
            self.accounts.check(request.headers.get("Authorization"))
        if self.access_keys is not None:
            self.access_keys.check(request.headers)

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refusal as refusal:
            return refused(refusal)
        except web.HTTPException as error:
            return not_routed(error)


def _record(request: web.Request, now: float) -> RequestRecord:
    headers = request.headers
    return RequestRecord(
        time=now,
        method=request.method,
        path=request.path,
        query=dict(request.query),
        domain=headers.get("x-domain-name"),
        authorization="Authorization" in headers,
        consumer_id="X-ConsumerId" in headers,
    )
