"""httpx's API over aiohttp's connections.

httpx stays the interface that the rest of `registry/` and its tests speak; aiohttp underneath costs about a tenth of the
processor time of httpx's own pool (DESIGN section 5). Of aiohttp the connector is used (names, TLS) and the parser of answers,
not its pool and its client session: what these do for a request before the first byte leaves takes longer than all that the
registry's client does (docs/performance.md). A transport of our own rather than a ready-made one because four things matter
here that those do not give: whether a failed request can have reached the server, no write sent twice, one time limit for
the whole exchange, and a limit to the size of what comes back.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Literal

import aiohttp
import httpx
import yarl
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage

from registry_status.registry import tls
from registry_status.registry.base import Fence, seconds_left

Limit = Literal["connect", "read"]
"""Those of httpx's timeouts that are obeyed; `read` is that of the whole exchange here."""
REDIRECTED_TO = b"redirected-to"
"""Where `Location` is found."""
MAX_BODY = 32 * 1024 * 1024
"""Bytes. A list of 20,000 instances takes about 16 MiB."""
MAX_ERROR_BODY = 1024 * 1024
"""Bytes of an answer that is an error: what people are told of it is a line, and each is searched for secrets."""
SHORTEST = 0.001
"""Seconds. Of no time at all aiohttp makes no limit."""
KEPT_FOR = 15.0
"""Seconds after which a connection that was idle is not used again; servers and proxies close them after 60 or more."""
DISCONNECTED = "the server closed the connection"
NO_HTTP = "the answer is no proper HTTP"
"""In place of aiohttp's words, which quote what the server sent: pieces of what it was sent by us, perhaps."""


class Prepared(httpx.Request):
    """A request that was put together before. Made past httpx's own constructor, which takes longer than to send it."""

    def __init__(self, like: httpx.Request, target: bytes, body: bytes, message: bytes) -> None:
        self.method, self.url, self.headers = like.method, like.url, like.headers
        self.extensions = {**like.extensions, "target": target}
        self.stream = httpx.ByteStream(body)
        self.message = message
        """All of it, as it is sent."""


class Form:
    """Makes requests that differ in nothing but target and body."""

    def __init__(self, like: httpx.Request) -> None:
        """Raises `LocalProtocolError` where a header would end its line and add others."""
        self._like = like
        self._headers = _header_lines(like)

    def fill(self, target: bytes, body: bytes = b"") -> Prepared:
        """Make one; `target` is path and query. Hot: each change of a pod is a write to a target of its own."""
        return Prepared(self._like, target, body, _put_together(self._like, target, self._headers, body))


class BodyTooLarge(httpx.ReadError):
    """The answer is larger than any that a registry gives."""


class TlsFailed(httpx.ConnectError):
    """There is no safe connection: the server is not to be trusted, or does not trust us."""


class FenceClosed(httpx.TransportError):
    """A write was not sent, since this replica's turn is over."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A connection with its two ends at hand, and what it was made for."""

    connection: Connection
    protocol: ResponseHandler
    transport: asyncio.Transport
    url: httpx.URL
    origin: aiohttp.ClientRequest
    context: ssl.SSLContext | bool
    free_since: float = inf
    """Loop time from which on it has waited for the next request; infinite while it is in use."""

    @property
    def is_quiet(self) -> bool:
        """Whether it is open, and nothing has come since the last answer: some servers say 408 before they close."""
        return not self.transport.is_closing() and not self.protocol.should_close


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends httpx requests over aiohttp's connections.

    Of httpx's timeouts it obeys `connect`, and takes `read` as the limit of the whole exchange; what is no GET has to be over
    before the `fence` closes. No redirects, no proxies, no cookies, no decompression. Raises httpx's own exceptions:
    `ConnectError` and `ConnectTimeout` only where nothing can have been looked at.

    `contexts` gives the TLS context of the next connection; the system's authorities are trusted without it. A connection
    that was idle for more than `kept_for` seconds is not used again.

    A request leaves before anything is done that can wait until it has left. Connections are kept here and not in aiohttp's
    pool, which takes longer to find one than all else here takes together, and gives it back whatever has arrived on it since.
    """

    def __init__(
        self,
        contexts: Callable[[], ssl.SSLContext] | None = None,
        *,
        max_body: int = MAX_BODY,
        fence: Fence | None = None,
        kept_for: float = KEPT_FOR,
    ) -> None:
        self._contexts = contexts
        self._fence = fence
        self._max_body = max_body
        self._kept_for = kept_for
        self._connector: aiohttp.TCPConnector | None = None
        self._origins: dict[tuple[str, bytes], aiohttp.ClientRequest] = {}
        self._kept: list[_Held] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and read its whole answer. Raises `FenceClosed`, unless it is a GET."""
        message = request.message if isinstance(request, Prepared) else await _message(request)
        began = asyncio.get_running_loop().time()
        try:
            try:
                return await self._exchange(request, message, began)
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
                # The server may have closed the connection while it was idle. A write may have taken effect all the same.
                if request.method != "GET" or isinstance(error, aiohttp.ClientConnectorError):
                    raise
            return await self._exchange(request, message, began)
        except (aiohttp.ClientError, HttpProcessingError) as error:
            raise _translated(error, request) from error

    async def _exchange(self, request: httpx.Request, message: bytes, began: float) -> httpx.Response:
        held = self._take_kept(request.url, began) or await self._connect(request, began)
        try:
            answer = await self._ask(held, request, message, began)
        except BaseException:
            held.connection.close()
            raise
        self._keep(held)
        return answer

    async def _ask(self, held: _Held, request: httpx.Request, message: bytes, began: float) -> httpx.Response:
        left = self._left(request)  # the last step before it is sent: a process may be frozen before any other
        held.transport.write(message)
        until = self._until("read", request, began, left)
        try:
            async with asyncio.timeout_at(until if until < inf else None):
                return await self._answer(held.protocol, request)
        except TimeoutError as error:
            raise httpx.ReadTimeout("no answer in time", request=request) from error

    def _left(self, request: httpx.Request) -> float:
        """Seconds for which this may be under way. Raises `FenceClosed`."""
        left = seconds_left(self._fence) if request.method != "GET" else inf
        if left <= 0:
            raise FenceClosed("this replica does not lead any more", request=request)
        return left

    def _until(self, limit: Limit, request: httpx.Request, began: float, left: float) -> float:
        """When (loop time) a limit is reached, or there is nothing left; infinite where neither is set."""
        seconds = request.extensions.get("timeout", {}).get(limit)
        return min(began + (inf if seconds is None else seconds), asyncio.get_running_loop().time() + left)

    def _take_kept(self, url: httpx.URL, now: float) -> _Held | None:
        context = self._context()
        for index in range(len(self._kept) - 1, -1, -1):
            kept = self._kept[index]
            # Nearly always the URL is the same object: to read it takes as long as all else here.
            if context is not kept.context or (url is not kept.url and self._origin(url, context) is not kept.origin):
                continue
            del self._kept[index]
            if now - kept.free_since <= self._kept_for and kept.is_quiet:
                return kept
            kept.connection.close()
        return None

    def _keep(self, held: _Held) -> None:
        """Have the connection at hand for the next request, and close those that wait for too long."""
        if not held.is_quiet:
            held.connection.close()
            return
        now = asyncio.get_running_loop().time()
        self._kept.append(replace(held, free_since=now))
        while now - self._kept[0].free_since > self._kept_for:
            self._kept.pop(0).connection.close()

    async def _connect(self, request: httpx.Request, began: float) -> _Held:
        if self._connector is None:
            # How many requests run at once is limited by the caller: a pool that queues costs far more (DESIGN section 5).
            self._connector = aiohttp.TCPConnector(limit=0, force_close=True)
        left = self._left(request)
        until = min(self._until("read", request, began, left), self._until("connect", request, began, left))
        seconds = max(until - asyncio.get_running_loop().time(), SHORTEST) if until < inf else None
        limits = aiohttp.ClientTimeout(connect=seconds, ceil_threshold=inf)  # no rounding up to whole seconds
        try:
            context = self._context()
            origin = self._origin(request.url, context)
            connection = await self._connector.connect(origin, [], limits)
        except TimeoutError as error:
            raise httpx.ConnectTimeout("no connection in time", request=request) from error
        if connection.protocol is None or connection.transport is None:
            raise aiohttp.ServerDisconnectedError
        return _Held(connection, connection.protocol, connection.transport, request.url, origin, context)

    def _context(self) -> ssl.SSLContext | bool:
        """The TLS context in force; True stands for the system's authorities."""
        return self._contexts() if self._contexts is not None else True

    def _origin(self, url: httpx.URL, context: ssl.SSLContext | bool) -> aiohttp.ClientRequest:
        """What tells aiohttp's connector where to connect to."""
        key = (url.scheme, url.netloc)
        known = self._origins.get(key)
        if known is None or known.ssl is not context:
            where = yarl.URL(f"{url.scheme}://{url.netloc.decode()}")
            known = self._origins[key] = aiohttp.ClientRequest("GET", where, loop=asyncio.get_running_loop(), ssl=context)
        return known

    async def _answer(self, protocol: ResponseHandler, request: httpx.Request) -> httpx.Response:
        protocol.set_response_params(read_until_eof=True, auto_decompress=False)
        head, content = await _head(protocol)
        body = await self._read(head, content, request)
        return httpx.Response(head.code, headers=_headers(head), stream=httpx.ByteStream(body), request=request)

    async def _read(self, head: RawResponseMessage, content: aiohttp.StreamReader, request: httpx.Request) -> bytes:
        if head.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise httpx.RemoteProtocolError("the answer is compressed, which was not asked for", request=request)
        body, announced = bytearray(), int(head.headers.get("Content-Length", "0"))
        most = self._max_body if head.code == 200 else min(self._max_body, MAX_ERROR_BODY)
        while not content.at_eof():
            body += await content.readany()
            if max(len(body), announced) > most:
                raise BodyTooLarge(f"the answer is larger than {most} bytes", request=request)
        return bytes(body)

    async def aclose(self) -> None:
        """Close all connections."""
        for kept in self._kept:
            kept.connection.close()
        self._kept.clear()
        if self._connector is not None:
            await self._connector.close()


async def _message(request: httpx.Request) -> bytes:
    target = request.extensions.get("target", request.url.raw_path)
    return _put_together(request, target, _header_lines(request), await request.aread())


def _header_lines(request: httpx.Request) -> bytes:
    """The headers with the host's, without the body's length.

    Raises `LocalProtocolError` where one would end its line and add others.
    """
    if request.url.scheme not in ("http", "https") or not request.url.host:
        raise httpx.UnsupportedProtocol(f"not an address: {request.url}", request=request)
    headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"content-length"]
    if "host" not in request.headers:
        headers.append((b"Host", request.url.netloc))
    for name, value in headers:
        _check_line(name, request)
        _check_line(value, request)
    return b"".join(b"%b: %b\r\n" % header for header in headers)


def _put_together(like: httpx.Request, target: bytes, headers: bytes, body: bytes) -> bytes:
    """A request as it is sent. Raises `LocalProtocolError` for a target that would end its line."""
    _check_line(target, like)
    if body or like.method != "GET":
        headers += b"Content-Length: %d\r\n" % len(body)
    return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (like.method.encode(), target, headers, body)


def _check_line(text: bytes, request: httpx.Request) -> None:
    if b"\n" in text or b"\r" in text or b"\0" in text:
        raise httpx.LocalProtocolError("a header holds a character that ends it", request=request)


async def _head(protocol: ResponseHandler) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
    """The head of the answer, past those that only say that it will come."""
    head, content = await protocol.read()
    while 100 <= head.code < 200 and head.code != 101:
        head, content = await protocol.read()
    return head, content


def _headers(answer: RawResponseMessage) -> list[tuple[bytes, bytes]]:
    """The answer's headers, with a redirect's place under another name.

    httpx parses `Location` even where it does not follow it, and quotes parts of it, passwords too, in the error it raises.
    """
    return [(REDIRECTED_TO if name.lower() == b"location" else name, value) for name, value in answer.raw_headers]


def _translated(error: aiohttp.ClientError | HttpProcessingError, request: httpx.Request) -> httpx.TransportError:
    trouble = _tls_trouble(error)
    if trouble is not None and (isinstance(error, aiohttp.ClientConnectorError) or tls.refused_us(trouble)):
        return TlsFailed(tls.explain(trouble), request=request)
    match error:
        case aiohttp.ClientConnectorError():
            return httpx.ConnectError(str(error.os_error.strerror or error), request=request)
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return httpx.ReadError(DISCONNECTED, request=request)
        case aiohttp.ClientOSError():
            return httpx.ReadError(str(error), request=request)
        case _:
            return httpx.RemoteProtocolError(NO_HTTP, request=request)


def _tls_trouble(error: Exception) -> ssl.SSLError | None:
    """Find what TLS complained of, if that is where an error comes from; some of aiohttp's pass for one themselves."""
    cause: BaseException | None = error
    while isinstance(cause, aiohttp.ClientError):
        cause = cause.os_error if isinstance(cause, aiohttp.ClientConnectorError) else cause.__cause__
    return cause if isinstance(cause, ssl.SSLError) else None
