"""Whether each address of the registry can be reached, step by step: name, connection, TLS, a Service Center behind it."""

import asyncio
import json
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import aiohttp

from registry_status.cli.checks.clocks import check_clock
from registry_status.cli.checks.finding import Area, Finding, Findings
from registry_status.config import Settings
from registry_status.registry import tls
from registry_status.registry.answers import TLS_WANTED
from registry_status.registry.tls import TlsFiles

SOON = 30 * 24 * 3600.0
"""Seconds before a certificate's end from which on it is worth a warning."""
LINGER = 0.3
"""Seconds in which a server says that it does not accept our certificate: it needs no thought for that."""
LONGEST_ANSWER = 65536
"""Bytes that are read of an answer."""
NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME: an expired certificate is told apart from a wrong one, and its end is read."""
EXPIRED, OTHER_NAMES = 10, (62, 64)
"""OpenSSL's verify codes; the last two are for a host name and an IP address."""
ADDRESS = "--registry-address"
BLOCKED = f"look for a NetworkPolicy, firewall or security group on the way to the registry, or a wrong address in {ADDRESS}"
NO_REGISTRY = f"give the address of the Service Center itself in {ADDRESS}, usually with port 30100, not of a console or proxy"
LOOK_AT_TLS = "look at the TLS settings of the registry"
CLIENT_CERTIFICATE = (
    "name a certificate by --registry-client-cert-file that is signed by an authority which the registry trusts"
)
HOW_TO_MEND_TLS: Mapping[str, str] = {
    "expired": "renew the certificate of the registry (or of the proxy before it)",
    "not valid yet": "set the clocks right, or wait until it is valid",
    "authority that is not trusted": "name the file with the authority that signed it by --registry-ca-file",
    "signed by itself": "name the file with that certificate or its authority by --registry-ca-file",
    "does not speak TLS": f"write http:// in {ADDRESS}",
    "client certificate": CLIENT_CERTIFICATE,
}

told = Findings(Area.REGISTRY)


@dataclass(frozen=True, slots=True)
class Reached:
    """What came of one address."""

    address: str
    findings: Sequence[Finding]
    usable: bool


class _StopError(Exception):
    """No further step makes sense."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.what)
        self.finding = finding


async def check_addresses(settings: Settings) -> Sequence[Reached]:
    """Try every address, all at once. Raises `SettingsError` for TLS files that cannot be used."""
    files = settings.registry_ca_file, settings.registry_client_cert_file, settings.registry_client_key_file

    def context() -> ssl.SSLContext:
        return TlsFiles(*files, clock=time.monotonic)()

    probes = [_Probe(address, settings, context).run() for address in settings.registry_address]
    return await asyncio.gather(*probes)


class _Probe:
    """Goes to one address."""

    def __init__(self, address: str, settings: Settings, make_context: Callable[[], ssl.SSLContext]) -> None:
        url = urlsplit(address)
        self._address = address
        self._host = url.hostname or ""
        self._secure = url.scheme == "https"
        self._port = url.port or (443 if self._secure else 80)
        self._settings = settings
        self._make_context = make_context
        self._context = make_context()
        self._found: list[Finding] = []

    async def run(self) -> Reached:
        try:
            await self._resolve()
            await self._connect()
            if self._secure:
                await self._shake_hands()
            await self._ask()
        except _StopError as stopped:
            return Reached(self._address, (*self._found, stopped.finding), usable=False)
        return Reached(self._address, tuple(self._found), usable=True)

    # --- name and connection -------------------------------------------------------------------

    async def _resolve(self) -> None:
        try:
            async with asyncio.timeout(self._settings.request_timeout):
                await asyncio.get_running_loop().getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except TimeoutError:
            fix = "look at the cluster's DNS, and at what blocks port 53"
            raise self._stop(f"DNS gave no answer for {self._host}", fix) from None
        except (socket.gaierror, UnicodeError) as error:
            why = error.strerror if isinstance(error, socket.gaierror) else "it is no name"
            fix = f"correct the name in {ADDRESS}; from another namespace a Service is SERVICE.NAMESPACE.svc"
            raise self._stop(f"DNS does not know the name {self._host} ({why})", fix) from None

    async def _connect(self) -> None:
        try:
            await self._opened(None)
        except TimeoutError:
            seconds = self._settings.connect_timeout
            raise self._stop(
                f"no connection within {seconds:g} s (--connect-timeout): the network is blocked", BLOCKED
            ) from None
        except ConnectionRefusedError:
            fix = (
                f"start the registry, or correct the port in {ADDRESS}; a Service Center listens on 30100 unless told otherwise"
            )
            raise self._stop(f"the connection is refused: nothing listens on port {self._port}", fix) from None
        except OSError as error:
            raise self._stop(f"no connection: {error.strerror or error}", BLOCKED) from None

    async def _opened(self, context: ssl.SSLContext | None, *, linger: bool = False) -> Mapping[str, object]:
        """Connect, and return the certificate that was shown.

        Lingering hears what the server makes of our own certificate, which in TLS 1.3 it says after the handshake. Once a
        request is on its way its words may be lost.
        """
        async with asyncio.timeout(self._settings.connect_timeout):
            reader, writer = await asyncio.open_connection(self._host, self._port, ssl=context)
        try:
            if linger and await _closes(reader):
                raise ConnectionResetError("closed")
            return dict(writer.get_extra_info("peercert") or {})
        finally:
            writer.transport.abort()

    # --- TLS -----------------------------------------------------------------------------------

    async def _shake_hands(self) -> None:
        try:
            certificate = await self._opened(self._context, linger=True)
        except ssl.SSLError as error:
            raise await self._distrusted(error) from None
        except ConnectionResetError:
            what = "the server breaks off at the TLS handshake; it may ask for a client certificate, or speak no TLS"
            raise self._stop(what, f"{CLIENT_CERTIFICATE}, or write http:// in {ADDRESS}") from None
        except (TimeoutError, OSError) as error:
            why = "no TLS handshake in time" if isinstance(error, TimeoutError) else "the connection broke in the TLS handshake"
            raise self._stop(why, f"if the registry does not speak TLS, write http:// in {ADDRESS}") from None
        end = _end(certificate)
        if end is not None:
            self._found.append(self._judged_end(end, time.time()))

    def _judged_end(self, end: float, now: float) -> Finding:
        day = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%d")
        if end - now > SOON:
            return told.ok(f"{self._address}: its certificate is trusted, and valid until {day}")
        days = max(0, int((end - now) // 86400))
        return told.warning(f"{self._address}: its certificate ends on {day}, in {days} days", "renew it in time")

    async def _distrusted(self, error: ssl.SSLError) -> _StopError:
        why = tls.explain(error)
        if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code == EXPIRED:
            end = await self._expired_at()
            why += f", on {datetime.fromtimestamp(end, UTC):%Y-%m-%d}" if end is not None else ""
        if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in OTHER_NAMES:
            fix = f"use a name in {ADDRESS} that its certificate is made for, or have {self._host} added to it"
            return self._stop(f"its certificate is made for other names than {self._host}", fix)
        return self._stop(why, _how_to_mend(why))

    async def _expired_at(self) -> float | None:
        """Look at the certificate again without minding its dates, and send nothing."""
        context = self._make_context()
        context.verify_flags |= NO_CHECK_TIME
        try:
            return _end(await self._opened(context))
        except (OSError, TimeoutError):
            return None

    # --- the registry --------------------------------------------------------------------------

    async def _ask(self) -> None:
        path = f"/v4/{self._settings.registry_project}/registry/version"
        limits = aiohttp.ClientTimeout(total=self._settings.request_timeout, sock_connect=self._settings.connect_timeout)
        began = time.time()
        try:
            async with (
                aiohttp.ClientSession(trust_env=False, cookie_jar=aiohttp.DummyCookieJar(), timeout=limits) as session,
                session.get(
                    self._address + path, headers={"x-domain-name": self._settings.registry_domain},
                    ssl=self._context if self._secure else True, allow_redirects=False,
                ) as answer,
            ):  # fmt: skip
                body = await _read(answer.content)
        except TimeoutError:
            seconds = self._settings.request_timeout
            fix = "look at the registry itself and its backend; a healthy one answers within milliseconds"
            raise self._stop(f"it accepts connections, but gives no answer within {seconds:g} s", fix) from None
        except aiohttp.ClientError as error:
            raise self._broken(error) from None
        self._found.append(self._judged_answer(answer, body))
        self._found.append(check_clock(told, self._address, answer.headers.get("Date", ""), began, time.time()))

    def _broken(self, error: aiohttp.ClientError) -> _StopError:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ssl.SSLError):
            cause = cause.__cause__
        if cause is not None:
            why = tls.explain(cause)
            return self._stop(why, _how_to_mend(why))
        hint = "" if self._secure else f"; if it speaks TLS, write https:// in {ADDRESS}"
        return self._stop("it closes the connection without an answer", NO_REGISTRY + hint)

    def _judged_answer(self, answer: aiohttp.ClientResponse, body: bytes) -> Finding:
        if 300 <= answer.status < 400:
            raise self._stop(f"it answers with a redirect (HTTP {answer.status})", NO_REGISTRY)
        if answer.status == 400 and TLS_WANTED in body:
            raise self._stop("it speaks TLS, and the address does not", f"write https:// in {ADDRESS}")
        said = _object(body)
        if answer.status == 200 and isinstance(said.get("apiVersion"), str):
            return told.ok(
                f"{self._address}: Service Center {_word(said.get('version'))}, API {_word(said['apiVersion'])}, answers"
            )
        if answer.status == 200 and isinstance(said.get("version"), str):
            return told.ok(f"{self._address}: Service Center {_word(said['version'])} answers")
        if said.get("errorCode") or said.get("errCode"):
            return told.ok(f"{self._address}: a Service Center answers; it does not tell its version (HTTP {answer.status})")
        if answer.status >= 500 or answer.status == 429:
            fix = "look at the registry itself, or at the proxy before it"
            raise self._stop(f"it answers HTTP {answer.status}, and not as a Service Center does", fix)
        kind = answer.headers.get("Content-Type", "something without a content type").split(";")[0]
        raise self._stop(f"this is no Service Center: it answers HTTP {answer.status} with {_word(kind)}", NO_REGISTRY)

    def _stop(self, what: str, fix: str) -> _StopError:
        return _StopError(told.error(f"{self._address}: {what}", fix))


async def _read(content: aiohttp.StreamReader) -> bytes:
    """Read to the end, but no more than `LONGEST_ANSWER`: one reading gives only what has come so far."""
    body = b""
    while len(body) < LONGEST_ANSWER and (more := await content.read(LONGEST_ANSWER - len(body))):
        body += more
    return body


async def _closes(reader: asyncio.StreamReader) -> bool:
    """Whether the server closes the connection at once, before it was asked anything. Raises `ssl.SSLError` for an alert."""
    try:
        async with asyncio.timeout(LINGER):
            return not await reader.read(1)
    except TimeoutError:
        return False


def _how_to_mend(why: str) -> str:
    return next((text for sign, text in HOW_TO_MEND_TLS.items() if sign in why), LOOK_AT_TLS)


def _end(certificate: Mapping[str, object]) -> float | None:
    text = certificate.get("notAfter")
    return float(ssl.cert_time_to_seconds(text)) if isinstance(text, str) else None


def _object(body: bytes) -> Mapping[str, object]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _word(value: object) -> str:
    """Something foreign, fit for a sentence."""
    return re.sub(r"[^!-~]", "?", value)[:40] if isinstance(value, str) and value else "of unknown version"
