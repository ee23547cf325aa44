"""httpx's API over aiohttp's connections.

httpx stays the interface that the rest of `registry/` and its tests speak; aiohttp underneath costs about a tenth of the
processor time of httpx's own pool (DESIGN section 5). A transport of our own rather than a ready-made one because four
things matter here that those do not give: whether a failed request can have reached the server, no request sent twice, one
time limit for the whole exchange, and a limit to the size of what comes back.
"""

import ssl

import aiohttp
import httpx
import yarl

MAX_BODY = 32 * 1024 * 1024
"""Bytes. A list of 20,000 instances takes about 16 MiB."""


class BodyTooLarge(httpx.ReadError):
    """The answer is larger than any that a registry gives."""


class _BrokenError(aiohttp.ClientError):
    """The connection broke after something was sent, or may have been."""


async def _sent_once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from repeating a request, PUTs too, whose connection broke: the first one may have taken effect."""
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _BrokenError(str(error)) from error


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends httpx requests through one aiohttp session.

    Of httpx's timeouts it obeys `connect`, and takes `read` as the limit of the whole exchange. No redirects, no proxies from
    the environment, no cookies, no decompression. Raises httpx's own exceptions: `ConnectError` and `ConnectTimeout` only
    where nothing can have been sent.
    """

    def __init__(self, verify: ssl.SSLContext | None = None, *, max_body: int = MAX_BODY) -> None:
        self._verify = verify
        self._max_body = max_body
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and read its whole answer."""
        limits = request.extensions.get("timeout", {})
        timeout = aiohttp.ClientTimeout(total=limits.get("read"), sock_connect=limits.get("connect"))
        try:
            async with self._open_session().request(
                request.method,
                yarl.URL(str(request.url), encoded=True),
                headers=request.headers.multi_items(),
                data=await request.aread() or None,
                allow_redirects=False,
                timeout=timeout,
            ) as answer:
                body = await self._read(answer, request)
                return httpx.Response(answer.status, headers=answer.raw_headers, content=body, request=request)
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
        async for chunk in answer.content.iter_any():
            body += chunk
            if max(len(body), announced) > self._max_body:
                raise BodyTooLarge(f"the answer is larger than {self._max_body} bytes", request=request)
        return bytes(body)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            # How many requests run at once is limited by the caller: a pool that queues costs far more (DESIGN section 5).
            connector = aiohttp.TCPConnector(limit=0, ssl=self._verify if self._verify is not None else True)
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                middlewares=(_sent_once,),
                trust_env=False,
                auto_decompress=False,
            )
        return self._session

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()


def _translated(error: aiohttp.ClientError, request: httpx.Request) -> httpx.TransportError:
    match error:
        case aiohttp.ConnectionTimeoutError():
            return httpx.ConnectTimeout("no connection in time", request=request)
        case aiohttp.ClientConnectorError():
            return httpx.ConnectError(str(error.os_error.strerror or error), request=request)
        case aiohttp.ServerTimeoutError():
            return httpx.ReadTimeout("no answer in time", request=request)
        case _BrokenError() | aiohttp.ClientOSError() | aiohttp.ClientPayloadError():
            return httpx.ReadError(str(error), request=request)
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return httpx.UnsupportedProtocol(f"not an address: {request.url}", request=request)
        case _:
            return httpx.RemoteProtocolError(str(error), request=request)
