"""httpx's API over aiohttp's connections.

httpx stays the interface that the rest of `registry/` and its tests speak; aiohttp underneath costs about a tenth of the
processor time of httpx's own pool (DESIGN section 5). A transport of our own rather than a ready-made one because four
things matter here that those do not give: whether a failed request can have reached the server, no write sent twice, one
time limit for the whole exchange, and a limit to the size of what comes back.
"""

import ssl
from collections.abc import Callable

import aiohttp
import httpx
import yarl

from registry_status.registry import tls
from registry_status.registry.base import Fence

REDIRECTED_TO = b"redirected-to"
"""Where `Location` is found."""
MAX_BODY = 32 * 1024 * 1024
"""Bytes. A list of 20,000 instances takes about 16 MiB."""
MAX_ERROR_BODY = 1024 * 1024
"""Bytes of an answer that is an error: what people are told of it is a line, and each is searched for secrets."""
DISCONNECTED = "the server closed the connection"
NO_HTTP = "the answer is no proper HTTP"
"""In place of aiohttp's words, which quote what the server sent: pieces of what it was sent by us, perhaps."""


class BodyTooLarge(httpx.ReadError):
    """The answer is larger than any that a registry gives."""


class TlsFailed(httpx.ConnectError):
    """There is no safe connection: the server is not to be trusted, or does not trust us."""


class FenceClosed(httpx.TransportError):
    """A write was not sent, since this replica's turn is over."""


class _FencedError(aiohttp.ClientError):
    """The same, on its way through aiohttp."""


class _BrokenError(aiohttp.ClientError):
    """The connection broke after something was sent, or may have been."""


async def _sent_once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from repeating a write whose connection broke: it may have taken effect. Reads it may repeat once."""
    if request.method == "GET":
        return await send(request)
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except aiohttp.ClientOSError as error:
        raise _BrokenError(str(error)) from error
    except aiohttp.ServerDisconnectedError as error:
        raise _BrokenError(DISCONNECTED) from error


def _fenced(fence: Fence) -> type[aiohttp.ClientRequest]:
    """Make requests that look at the fence in the last step before they are sent: a process may be frozen before any other."""

    class FencedRequest(aiohttp.ClientRequest):
        async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
            left = fence.remaining() if self.method == "PUT" else None
            if left is not None and left <= 0:
                raise _FencedError
            return await super().send(conn)

    return FencedRequest


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends httpx requests through one aiohttp session.

    Of httpx's timeouts it obeys `connect`, and takes `read` as the limit of the whole exchange. No redirects, no proxies from
    the environment, no cookies, no decompression. Raises httpx's own exceptions: `ConnectError` and `ConnectTimeout` only
    where nothing can have been looked at.

    `contexts` gives the TLS context of the next connection; the system's authorities are trusted without it.
    """

    def __init__(
        self, contexts: Callable[[], ssl.SSLContext] | None = None, *, max_body: int = MAX_BODY, fence: Fence | None = None
    ) -> None:
        self._contexts = contexts
        self._request_class = _fenced(fence) if fence is not None else aiohttp.ClientRequest
        self._max_body = max_body
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and read its whole answer."""
        limits = request.extensions.get("timeout", {})
        timeout = aiohttp.ClientTimeout(total=limits.get("read"), sock_connect=limits.get("connect"))
        try:
            async with self._open_session().request(
                request.method,
                _url(request),
                headers=[(name.decode(), value.decode()) for name, value in request.headers.raw],
                data=await request.aread() or None,
                allow_redirects=False,
                timeout=timeout,
                ssl=self._contexts() if self._contexts is not None else True,
            ) as answer:
                body = await self._read(answer, request)
                return httpx.Response(answer.status, headers=_headers(answer), content=body, request=request)
        except aiohttp.ClientError as error:
            raise _translated(error, request) from error
        except TimeoutError as error:
            raise httpx.ReadTimeout("no answer in time", request=request) from error

    async def _read(self, answer: aiohttp.ClientResponse, request: httpx.Request) -> bytes:
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise httpx.RemoteProtocolError("the answer is compressed, which was not asked for", request=request)
        if not answer.content_length and answer.content_length is not None:
            return b""
        body, announced = bytearray(), answer.content_length or 0
        most = self._max_body if answer.status == 200 else min(self._max_body, MAX_ERROR_BODY)
        async for chunk in answer.content.iter_any():
            body += chunk
            if max(len(body), announced) > most:
                raise BodyTooLarge(f"the answer is larger than {most} bytes", request=request)
        return bytes(body)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            # How many requests run at once is limited by the caller: a pool that queues costs far more (DESIGN section 5).
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                middlewares=(_sent_once,),
                request_class=self._request_class,
                trust_env=False,
                auto_decompress=False,
            )
        return self._session

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()


def _url(request: httpx.Request) -> yarl.URL:
    """Where a request goes, as it is: httpx's extension `target` replaces path and query."""
    target, url = request.extensions.get("target"), request.url
    where = str(url) if target is None else f"{url.scheme}://{url.netloc.decode()}{target.decode()}"
    return yarl.URL(where, encoded=True)


def _headers(answer: aiohttp.ClientResponse) -> list[tuple[bytes, bytes]]:
    """The answer's headers, with a redirect's place under another name.

    httpx parses `Location` even where it does not follow it, and quotes parts of it, passwords too, in the error it raises.
    """
    return [(REDIRECTED_TO if name.lower() == b"location" else name, value) for name, value in answer.raw_headers]


def _translated(error: aiohttp.ClientError, request: httpx.Request) -> httpx.TransportError:
    trouble = _tls_trouble(error)
    if trouble is not None and (isinstance(error, aiohttp.ClientConnectorError) or tls.refused_us(trouble)):
        return TlsFailed(tls.explain(trouble), request=request)
    match error:
        case _FencedError():
            return FenceClosed("this replica does not lead any more", request=request)
        case aiohttp.ConnectionTimeoutError():
            return httpx.ConnectTimeout("no connection in time", request=request)
        case aiohttp.ClientConnectorError():
            return httpx.ConnectError(str(error.os_error.strerror or error), request=request)
        case aiohttp.ServerTimeoutError():
            return httpx.ReadTimeout("no answer in time", request=request)
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return httpx.ReadError(DISCONNECTED, request=request)
        case _BrokenError() | aiohttp.ClientOSError():
            return httpx.ReadError(str(error), request=request)
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return httpx.UnsupportedProtocol(f"not an address: {request.url}", request=request)
        case _:
            return httpx.RemoteProtocolError(NO_HTTP, request=request)


def _tls_trouble(error: aiohttp.ClientError) -> ssl.SSLError | None:
    """Find what TLS complained of, if that is where an error comes from; some of aiohttp's pass for one themselves."""
    cause: BaseException | None = error
    while isinstance(cause, aiohttp.ClientError):
        cause = cause.os_error if isinstance(cause, aiohttp.ClientConnectorError) else cause.__cause__
    return cause if isinstance(cause, ssl.SSLError) else None
