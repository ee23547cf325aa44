"""How the API server is reached: its address, its TLS, and credentials that stay fresh.

Importing `kubernetes` costs more CPU time than everything else of a start together, so service accounts and ordinary
kubeconfigs are read here with `yaml` and `ssl` alone. Only credentials of a provider (kubeconfig `auth-provider`) go through
`kubernetes.aio.config`.

No token, password or key ever appears in a `repr` or in an error.
"""

import asyncio
import logging
import os
import re
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from registry_status.cluster.connection import session_arguments
from registry_status.trust import trusting
from registry_status.watched import Watched

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_READ_EVERY = 60.0
"""Seconds. Kubernetes rotates a service account's token long before it expires, so an older copy is good for minutes."""

logger = logging.getLogger(__name__)

BEARER = re.compile(r"[!-~]+")
"""What a header can carry: neither line breaks nor any other character that only a damaged token has."""
FETCH_AGAIN = 10.0
"""Seconds until credentials that are still good are fetched again, where that has failed."""


class AccessError(Exception):
    """There is no way to the API server; the message says what is wrong, where, and what is allowed."""


class Credentials(Protocol):
    """What a request carries to say who sends it."""

    async def authorization(self) -> str | None:
        """The `Authorization` header of a request sent now. Raises `AccessError`."""

    def refused(self) -> None:
        """Note that the server said 401: what was cached is worth nothing."""

    async def aclose(self) -> None:
        """End what is being fetched."""


def bearer(token: str, where: str) -> str:
    """Make the header of a token. Raises `AccessError` for one that no header can carry; it does not show it."""
    if not BEARER.fullmatch(token):
        raise AccessError(
            f"{where}: is no bearer token; it must be one line of ASCII letters, digits and signs, without spaces"
        )
    return f"Bearer {token}"


class Fixed:
    """Credentials that never change: a token or password written in the kubeconfig, or none (a client certificate)."""

    def __init__(self, header: str | None = None) -> None:
        self._header = header

    async def authorization(self) -> str | None:
        """The header to send now."""
        return self._header

    def refused(self) -> None:
        """Nothing can be read anew."""

    async def aclose(self) -> None:
        """Nothing is being fetched."""


class TokenFile:
    """A bearer token in a file that somebody rotates; the kubelet writes a service account's anew each hour."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._header: str | None = None
        self._stale_at = clock()
        self._read()

    async def authorization(self) -> str | None:
        """The header to send now."""
        if self._clock() >= self._stale_at:
            self._read()
        return self._header

    def refused(self) -> None:
        """Read it anew next time."""
        self._stale_at = self._clock()

    async def aclose(self) -> None:
        """Nothing is being fetched."""

    def _read(self) -> None:
        """Read it, unless it cannot be read just now: the kubelet may be in the midst of replacing it."""
        try:
            self._header = self._bearer()
        except AccessError:
            if self._header is None:
                raise
        else:
            self._stale_at = self._clock() + TOKEN_READ_EVERY

    def _bearer(self) -> str:
        where = f"token file {self._path}"
        try:
            token = self._path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise AccessError(f"{where}: {reason(error)}") from None
        if not token:
            raise AccessError(f"{where}: is empty; it must hold a bearer token")
        return bearer(token, where)


@dataclass(frozen=True, slots=True)
class Grant:
    """Credentials that were handed out; times are epoch seconds."""

    header: str | None = field(repr=False)
    renew_at: float
    """From then on others are to be fetched."""
    ends_at: float
    """From then on they are worth nothing."""


Fetch = Callable[[], Awaitable[Grant]]


class Fetched:
    """Credentials that a program or a provider hands out, good until it says or the server refuses them.

    To fetch them may take longer than a request may wait. So it is one task for all who need them, which goes on when one of
    them gives up; and as long as the last ones are good, nobody waits at all.
    """

    def __init__(self, fetch: Fetch, clock: Callable[[], float] = time.time) -> None:
        """`fetch` raises `AccessError`."""
        self._fetch = fetch
        self._clock = clock
        self._grant: Grant | None = None
        self._renew_at = 0.0
        self._fetching: asyncio.Task[Grant] | None = None

    async def authorization(self) -> str | None:
        """The header to send now."""
        now, grant = self._clock(), self._grant
        if grant is None or now >= grant.ends_at:
            grant = await asyncio.shield(self._begin())
        elif now >= self._renew_at:
            self._begin()
        return grant.header

    def refused(self) -> None:
        """Fetch others, or wait for those that are on their way."""
        self._grant = None

    async def aclose(self) -> None:
        """End what is being fetched."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    def _begin(self) -> "asyncio.Task[Grant]":
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._renew(), name="fetch credentials")
            self._fetching.add_done_callback(_told)
        return self._fetching

    async def _renew(self) -> Grant:
        try:
            grant = await self._fetch()
        except AccessError as error:
            if self._grant is not None:
                logger.warning("credentials cannot be renewed, so those before stay while they last: %s", error)
            raise
        finally:
            self._fetching = None
            self._renew_at = self._clock() + FETCH_AGAIN  # whatever went wrong
        self._grant, self._renew_at = grant, grant.renew_at
        return grant


def _told(fetching: "asyncio.Task[Grant]") -> None:
    """Take note of an error that nobody may have waited for; whoever has waited gets it, too."""
    error = None if fetching.cancelled() else fetching.exception()
    if error is not None and not isinstance(error, AccessError):
        logger.error("internal error while fetching credentials", exc_info=error)


class Tls:
    """Gives the TLS context of the next connection, made anew when one of its files has changed: certificates are rotated."""

    def __init__(
        self, load: Callable[[], ssl.SSLContext], *paths: Path | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`load` reads the `paths`, and raises `AccessError` for what cannot be used."""
        self._load = load
        self._clock = clock
        self._watched = Watched(*(path for path in paths if path is not None))
        self._watched.changed(clock())
        self._adapt: Callable[[ssl.SSLContext], None] = lambda _: None
        self._context = load()

    def __call__(self) -> ssl.SSLContext:
        """The context; files that cannot be used leave it as it was."""
        if not self._watched.changed(self._clock()):
            return self._context
        try:
            context = self._load()
            self._adapt(context)
        except AccessError as error:
            if self._watched.failed(str(error)):
                logger.warning("TLS files have changed and cannot be used, so the ones before stay: %s", error)
        else:
            self._context = context
            logger.info("TLS files have changed: new connections to the API server use them")
        return self._context

    def adapt(self, adapt: Callable[[ssl.SSLContext], None]) -> None:
        """Do this to a new context and to those that follow, as with a certificate that a plugin handed out.

        Not to the present one: connections are kept by context, and those that it has made show another certificate.
        """
        context = self._load()
        adapt(context)
        self._context, self._adapt = context, adapt


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Everything needed to talk to one API server."""

    server: str
    """Its URL, without a slash at the end."""
    source: str
    """Where this was read, for messages: `service account`, or the kubeconfig and its context."""
    namespace: str = "default"
    """The namespace that the kubeconfig's context names, or the operator's own."""
    tls: Callable[[], ssl.SSLContext] | None = field(default=None, repr=False)
    """Gives the context of the next connection; None: the system's authorities are trusted."""
    credentials: Credentials = field(default_factory=Fixed, repr=False)
    server_name: str | None = None
    """The name to expect in the server's certificate, if it is not the URL's."""
    proxy: str | None = field(default=None, repr=False)

    async def aclose(self) -> None:
        """End what still fetches credentials. Nothing may be sent any more."""
        await self.credentials.aclose()


async def load_access(
    kubeconfig: Path | None,
    context: str | None,
    environment: Mapping[str, str],
    *,
    service_account: Path = SERVICE_ACCOUNT,
) -> Access:
    """Find the API server: the kubeconfig given, else the pod's service account, else $KUBECONFIG, else ~/.kube/config.

    A context that is named asks for a kubeconfig, so it passes over the service account. Raises `AccessError`.
    """
    if kubeconfig is None and context is None and environment.get("KUBERNETES_SERVICE_HOST"):
        return in_cluster(environment, service_account)
    from registry_status.cluster.kubeconfig import load  # noqa: PLC0415 - a pod needs no YAML

    return await load((kubeconfig,) if kubeconfig is not None else _default_kubeconfigs(environment), context)


def _default_kubeconfigs(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the files of $KUBECONFIG that exist (kubectl skips the others), else the one in the home folder."""
    named = [_expanded(text) for text in environment.get("KUBECONFIG", "").split(os.pathsep) if text]
    existing = tuple(path for path in named if _there(path))
    if existing:
        return existing
    if named:
        raise AccessError(f"$KUBECONFIG names no existing file: {', '.join(map(str, named))}")
    home = _expanded(environment.get("HOME") or "~") / ".kube" / "config"
    if not _there(home):
        raise AccessError(
            "no way to an API server: this is no pod with a service account, $KUBECONFIG is not set, "
            f"and {home} does not exist; name a file with --kubeconfig"
        )
    return (home,)


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # no such user, or no home folder at all, as in a container of any uid
        raise AccessError(f"the home folder in {text} is not known; name a file with --kubeconfig") from None


def _there(path: Path) -> bool:
    """Whether there is such a file; of one that cannot be looked at, reading it will say why."""
    try:
        return path.exists()
    except OSError:
        return True


def in_cluster(environment: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> Access:
    """Read the service account that Kubernetes mounts into every pod (unless told not to)."""
    host, port = environment["KUBERNETES_SERVICE_HOST"], environment.get("KUBERNETES_SERVICE_PORT") or "443"
    try:
        namespace = (folder / "namespace").read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        namespace = ""
    authority = folder / "ca.crt"
    return Access(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        source="service account",
        namespace=namespace or "default",
        tls=Tls(lambda: tls_context(ca_file=authority, where="service account"), authority),
        credentials=TokenFile(folder / "token"),
    )


def unverified_context() -> ssl.SSLContext:
    """Make a TLS context that trusts anybody (`insecure-skip-tls-verify`)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def tls_context(*, ca_file: Path | None = None, ca_text: str | None = None, where: str) -> ssl.SSLContext:
    """Make a TLS context that trusts this authority, or the system's where none is given."""
    try:
        return trusting(cafile=ca_file, cadata=ca_text)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        named = f"certificate authority {ca_file}" if ca_file else "certificate-authority-data"
        raise AccessError(f"{where}: {named}: {reason(error)}; it must be a PEM file of certificates") from None


def reason(error: Exception) -> str:
    """Say why a file could not be used, without what stands in it."""
    if isinstance(error, UnicodeDecodeError):
        return "is not a text file"
    if isinstance(error, ssl.SSLError) or not isinstance(error, OSError):
        return "is not PEM"
    return error.strerror or type(error).__name__


def api_client(access: Access) -> "ApiClient":
    """Make a `kubernetes.aio` client that shares this access: the same TLS and the same, always fresh credentials.

    Must be called where an event loop runs, and closed by `await client.close()`.
    """
    from kubernetes.aio.client import ApiClient, Configuration  # noqa: PLC0415 - 0.4 CPU-seconds

    configuration = Configuration(host=access.server)
    configuration.retries = False
    configuration.tls_server_name = access.server_name
    configuration.client_session_kwargs = dict(session_arguments(access))
    return ApiClient(configuration=configuration)
