"""What goes wrong between us and the API server, in words: one line, no Python objects, no secrets."""

import base64
import os
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress

import aiohttp

from registry_status.report.text import REDACTED, cut, one_line, redact

LONGEST = 400
"""Bytes of a foreign message that are shown; what an API server says of a missing right is half as long."""
NUMBERED = re.compile(r"\[Errno (\d+)\] (?:Connect call failed )?(?:\('?([^',()]+)'?[^()]*\))?")
"""How asyncio tells of one of several addresses that could not be connected to."""


def said(error: Exception) -> str:
    """Say what has happened to a connection or a request."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"cannot connect to {error.host}:{error.port}: {_of_tls(error.certificate_error)}"
    if isinstance(error, aiohttp.ClientConnectorError):
        proxy = "the proxy " if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
        return f"cannot connect to {proxy}{error.host}:{error.port}: {_of_system(error.os_error)}"
    cause = error.__cause__
    if isinstance(error, aiohttp.ClientPayloadError) and isinstance(cause, OSError | aiohttp.ClientError):
        return f"the answer broke off: {said(cause)}"
    if isinstance(error, OSError) and error.errno:
        return _of_system(error)
    return shown(str(error)) or ("nothing came in time" if isinstance(error, TimeoutError) else type(error).__name__)


def shown(text: str) -> str:
    """A foreign text as far as it may be shown."""
    return cut(redact(one_line(text)), LONGEST)


def message(answer: Mapping[str, object] | None, sent: Mapping[str, str]) -> str:
    """What a `Status` of Kubernetes' says went wrong; empty for any other answer, such as a proxy's page.

    `sent` are the request's headers: should their credentials come back, they are left out.
    """
    text = answer.get("message") if answer is not None and answer.get("kind") == "Status" else None
    return shown(concealed(text, sent)) if isinstance(text, str) else ""


def concealed(text: str, sent: Mapping[str, str]) -> str:
    """A foreign text without the credentials in the headers of the request that it answers: it may repeat what was sent."""
    for name in ("Authorization", "Proxy-Authorization"):
        kind, _, secret = sent.get(name, "").partition(" ")
        for form in (secret, _password(secret) if kind == "Basic" else ""):
            text = text.replace(form, REDACTED) if form else text
    return text


def _password(secret: str) -> str:
    """The password of Basic authentication."""
    with suppress(ValueError):
        return base64.b64decode(secret).decode("latin-1").partition(":")[2]
    return ""


def _of_system(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return _of_tls(error)
    text = error.strerror or str(error)
    if "Multiple exceptions" in text:
        return ", ".join(f"{where} {os.strerror(int(number))}" for number, where in NUMBERED.findall(text)) or shown(text)
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return shown(text) or type(error).__name__


def _of_tls(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS failed: {error.reason.lower().replace('_', ' ')}"
    return f"TLS failed: {shown(str(error)) or type(error).__name__}"
