"""The HTTP connections to the API server: sockets that notice a dead peer, and requests signed anew each time."""

import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import aiohttp
from yarl import URL

if TYPE_CHECKING:
    from registry_status.cluster.access import Access

Handler = Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]
Middleware = Callable[[aiohttp.ClientRequest, Handler], Awaitable[aiohttp.ClientResponse]]

USER_AGENT = "registry-status-operator"
UNAUTHORIZED = 401
CONNECTIONS = 64
"""At once to one API server: a watch a namespace, and a few short requests."""
DEAD_AFTER = 10
"""Seconds in which a peer must acknowledge what was sent, or a probe of a silent connection."""


class SessionArguments(TypedDict):
    """What every `aiohttp.ClientSession` for an API server is made with, whoever makes it."""

    request_class: type[aiohttp.ClientRequest]
    middlewares: Sequence[Middleware]
    cookie_jar: aiohttp.abc.AbstractCookieJar
    headers: dict[str, str]
    proxy: URL | None
    proxy_auth: aiohttp.BasicAuth | None
    trust_env: bool


def session_arguments(access: "Access", *middlewares: Middleware) -> SessionArguments:
    """Return the arguments of a session for this API server; further middlewares come first. Needs a running loop."""
    proxy = URL(access.proxy) if access.proxy is not None else None
    return SessionArguments(
        request_class=_requests(access.tls) if access.tls is not None else aiohttp.ClientRequest,
        middlewares=(*middlewares, signer(access)),
        cookie_jar=aiohttp.DummyCookieJar(),
        # The API server would compress lists: slower for both sides than the network between them.
        headers={"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "identity"},
        # Apart, since aiohttp's errors show the proxy's URL.
        proxy=proxy.with_user(None) if proxy is not None else None,
        proxy_auth=aiohttp.BasicAuth(proxy.user, proxy.password or "") if proxy is not None and proxy.user else None,
        trust_env=False,
    )


def open_session(access: "Access", *middlewares: Middleware) -> aiohttp.ClientSession:
    """Open a session for this API server. Needs a running loop."""
    connector = aiohttp.TCPConnector(limit=CONNECTIONS, socket_factory=patient_socket)
    return aiohttp.ClientSession(connector=connector, **session_arguments(access, *middlewares))


def _requests(tls: Callable[[], ssl.SSLContext]) -> type[aiohttp.ClientRequest]:
    """Make requests that ask for the TLS context each: sessions outlive certificates, and connections are kept by context."""

    class Request(aiohttp.ClientRequest):
        def __init__(self, method: str, url: URL, **arguments: Any) -> None:  # noqa: ANN401 - as aiohttp passes them
            super().__init__(method, url, **(arguments | {"ssl": tls()}))

    return Request


def patient_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Make a socket that notices within seconds that its peer is gone.

    A watch only listens: without probes a connection cut without a word (a node that died, a firewall that forgot) looks like
    a quiet cluster for a quarter of an hour.
    """
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Not every system knows every option.
    options = {"TCP_KEEPIDLE": DEAD_AFTER, "TCP_KEEPINTVL": 3, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": DEAD_AFTER * 1000}
    for name, value in options.items():
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made


def signer(access: "Access") -> Middleware:
    """Return a middleware that puts the credentials of the moment on each request.

    Tokens are rotated while sessions live on. After a 401 it fetches them anew, once: a second 401 is the caller's to handle.
    """
    home = _origin(URL(access.server))

    async def sign(request: aiohttp.ClientRequest) -> str | None:
        header = await access.credentials.authorization()
        if header is not None:
            request.headers["Authorization"] = header
        return header

    async def middleware(request: aiohttp.ClientRequest, handler: Handler) -> aiohttp.ClientResponse:
        if _origin(request.url) != home:
            raise aiohttp.ClientConnectionError(f"{access.server} sent us elsewhere; redirects are not followed")
        request.server_hostname = access.server_name
        header = await sign(request)
        response = await handler(request)
        if response.status == UNAUTHORIZED:
            access.credentials.refused()
            if await sign(request) != header:
                response.close()
                response = await handler(request)
        return response

    return middleware


def _origin(url: URL) -> tuple[str, str | None, int | None]:
    return url.scheme, url.host, url.port
