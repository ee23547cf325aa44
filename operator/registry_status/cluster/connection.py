"""The HTTP connections to the API server: sockets that notice a dead peer, and requests signed anew each time."""

import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict

import aiohttp
from aiohttp.client_reqrep import ConnectionKey
from yarl import URL

from registry_status.cluster.words import concealed
from registry_status.tlstransport import DirectSocket

if TYPE_CHECKING:
    from registry_status.cluster.access import Access

Handler = Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]
Middleware = Callable[[aiohttp.ClientRequest, Handler], Awaitable[aiohttp.ClientResponse]]

Signature = tuple[str | None, ssl.SSLContext | bool | aiohttp.Fingerprint]
"""What a request shows of who sends it: its header, and the context by whose certificate its connection was made."""

USER_AGENT = "registry-status-operator"
UNAUTHORIZED = 401
NO_HTTP = "the answer is no proper HTTP"
CONNECTIONS = 64
"""At once to one API server for short requests."""
WITHOUT_LIMIT = 0
"""For watches: each holds a connection for good, and one that waits for another's would never begin."""
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
        middlewares=(*middlewares, Signer(access)),
        cookie_jar=aiohttp.DummyCookieJar(),
        # The API server would compress lists: slower for both sides than the network between them.
        headers={"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "identity"},
        # Apart, since aiohttp's errors show the proxy's URL.
        proxy=proxy.with_user(None) if proxy is not None else None,
        proxy_auth=aiohttp.BasicAuth(proxy.user, proxy.password or "") if proxy is not None and proxy.user else None,
        trust_env=False,
    )


def open_session(access: "Access", *middlewares: Middleware, connections: int = CONNECTIONS) -> aiohttp.ClientSession:
    """Open a session for this API server. Needs a running loop."""
    # aiohttp goes over to TLS anew behind a proxy, which asyncio can do with transports of its own only.
    kind = DirectSocket if access.proxy is None else socket.socket
    connector = aiohttp.TCPConnector(limit=connections, socket_factory=partial(patient_socket, kind=kind))
    return aiohttp.ClientSession(connector=connector, **session_arguments(access, *middlewares))


class SecureRequest(aiohttp.ClientRequest):
    """A request that asks for the TLS context itself: sessions outlive certificates, and connections are kept by context."""

    tls: Callable[[], ssl.SSLContext]
    """Gives the context of the next connection; set by `_requests`."""

    def __init__(self, method: str, url: URL, **arguments: Any) -> None:  # noqa: ANN401 - as aiohttp passes them
        super().__init__(method, url, **arguments)
        self._context = type(self).tls()

    def renew(self) -> None:
        """Take the context of this moment: credentials that were fetched meanwhile may have brought another certificate."""
        self._context = type(self).tls()

    @property
    def ssl(self) -> ssl.SSLContext:
        """The context for a new connection."""
        return self._context

    @property
    def connection_key(self) -> ConnectionKey:
        """What a connection that was kept must be like."""
        return super().connection_key._replace(ssl=self._context)


def _requests(tls: Callable[[], ssl.SSLContext]) -> type[aiohttp.ClientRequest]:
    """Make the class of the requests that take their contexts here: aiohttp makes them by itself."""
    return type("Request", (SecureRequest,), {"tls": staticmethod(tls)})


def patient_socket(address: aiohttp.AddrInfoType, kind: type[socket.socket] = socket.socket) -> socket.socket:
    """Make a socket that notices within seconds that its peer is gone.

    A watch only listens: without probes a connection cut without a word (a node that died, a firewall that forgot) looks like
    a quiet cluster for a quarter of an hour.
    """
    family, transport, protocol, *_ = address
    made = kind(family, transport, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Not every system knows every option.
    options = {"TCP_KEEPIDLE": DEAD_AFTER, "TCP_KEEPINTVL": 3, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": DEAD_AFTER * 1000}
    for name, value in options.items():
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made


class Signer:
    """A middleware that puts the credentials of the moment on each request.

    Tokens and certificates are rotated while sessions live on. After a 401 it fetches them anew, once: a second 401 is the
    caller's to handle.
    """

    def __init__(self, access: "Access") -> None:
        self._access = access
        self._home = _origin(URL(access.server))

    async def __call__(self, request: aiohttp.ClientRequest, handler: Handler) -> aiohttp.ClientResponse:
        """Send a request of the session's. Raises `AccessError` where there are no credentials."""
        if _origin(request.url) != self._home:
            raise aiohttp.ClientConnectionError(f"{self._access.server} sent us elsewhere; redirects are not followed")
        request.server_hostname = self._access.server_name
        signature = await self._sign(request)
        response = await _answer(request, handler)
        if response.status == UNAUTHORIZED and await self._has_others(request, signature, response):
            response.close()
            response = await _answer(request, handler)
        return response

    async def _sign(self, request: aiohttp.ClientRequest) -> Signature:
        header = await self._access.credentials.authorization()
        request.headers.pop("Authorization", None)
        if header is not None:
            request.headers["Authorization"] = header
        if isinstance(request, SecureRequest):
            request.renew()
        return header, request.ssl

    async def _has_others(self, request: aiohttp.ClientRequest, refused: Signature, response: aiohttp.ClientResponse) -> bool:
        """Sign it anew; returns whether anything about that is new. What others have fetched meanwhile is good enough."""
        try:
            if await self._sign(request) == refused:
                self._access.credentials.refused()
            return await self._sign(request) != refused
        except BaseException:
            response.close()
            raise


async def _answer(request: aiohttp.ClientRequest, handler: Handler) -> aiohttp.ClientResponse:
    """Send it; whatever comes of it shows nothing of what was sent, whoever logs it, kopf too.

    aiohttp's errors about an answer quote it, and carry the request's headers with its credentials.
    """
    try:
        response = await handler(request)
    except aiohttp.ClientHttpProxyError as error:
        raise aiohttp.ClientConnectionError(f"the proxy does not connect: it answered {error.status}") from None
    except aiohttp.ClientResponseError:
        raise aiohttp.ClientConnectionError(NO_HTTP) from None
    response.reason = concealed(response.reason or "", response.request_info.headers)
    return response


def _origin(url: URL) -> tuple[str, str | None, int | None]:
    return url.scheme, url.host, url.port
