"""What the registry's answers mean: pure functions from status, headers and body to values or errors (DESIGN section 5)."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from registry_status.registry.base import (
    AuthError,
    BlockedError,
    Instance,
    NotFoundError,
    PermanentError,
    RegistryError,
    Service,
    TransientError,
)

NOT_FOUND = frozenset({"400017", "400012", "400026"})
TOKEN = frozenset({"401201", "401204", "401205"})
BLOCKED = "403201"
TRANSIENT = frozenset({"400002", "400100"})
WRONG_PASSWORD = frozenset({"401202", "401302"})
NO_SCOPE = "no valid resouce scope"
"""The server's own spelling: how it answers for a service that is not there when roles are restricted to services."""
TLS_WANTED = b"HTTP request to an HTTPS server"
"""How servers written in Go, a Service Center too, answer what is not TLS."""
TOKEN_FORM = re.compile(r"[A-Za-z0-9._~+/-]{1,16384}=*")
MAX_RETRY_AFTER = 300.0
"""Seconds. Whoever asks for more patience is asked again all the same."""
LONGEST_LEASE = 10 * 365 * 24 * 3600
"""Seconds. What an instance says of itself has no bounds."""
SHOWN = 200
"""Characters of a foreign text."""
KINDS = frozenset({
    "application/json", "application/octet-stream", "application/problem+json", "application/xml", "text/html", "text/plain",
    "text/xml",
})  # fmt: skip
"""Content types that are named in errors. Any other is a foreign word, and may repeat what was sent."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a request, whole."""

    method: str
    """The request's."""
    status: int
    headers: httpx.Headers
    content: bytes

    @property
    def reason(self) -> str:
        """The usual words for the status, not the server's."""
        return httpx.codes.get_reason_phrase(self.status)


@dataclass(frozen=True, slots=True)
class _Fault:
    """An error's body in either of its two shapes: errorCode/errorMessage, or the vendor page's errCode/errMsg."""

    code: str
    message: str
    detail: str

    @property
    def text(self) -> str:
        return shortened(": ".join(part for part in (self.message, self.detail) if part)) or "no message"


def check(answer: Answer, address: str) -> None:
    """Raise the `RegistryError` that a status other than 200 stands for."""
    if answer.status != 200:
        raise _error(answer, address, _fault(answer))


def check_done(answer: Answer, address: str) -> None:
    """Check the answer to a write: 200 with an empty body, or `Success` as the vendor's page has it."""
    check(answer, address)
    if answer.content.strip() not in (b"", b"Success", b'"Success"'):
        raise _foreign(answer, address)


def check_read(answer: Answer, address: str) -> None:
    """Check the answer to a read whose content does not matter: 200 with a JSON object that is no error."""
    check(answer, address)
    _object(answer, address)


def instances(answer: Answer, service_id: str, address: str) -> Sequence[Instance]:
    """The instances of a listing; what has no id cannot be written to, so it is left out."""
    check(answer, address)
    listed = (_instance(entry, service_id) for entry in _entries(answer, "instances", address))
    return tuple(found for found in listed if found.instance_id)


def services(answer: Answer, address: str) -> Sequence[Service]:
    """The services of a listing; what has no id cannot be asked for, so it is left out."""
    check(answer, address)
    return tuple(found for found in map(_service, _entries(answer, "services", address)) if found.service_id)


def service_id(answer: Answer, address: str) -> str:
    """The service id that `existence` found."""
    check(answer, address)
    found = _object(answer, address).get("serviceId")
    if not isinstance(found, str) or not found:
        raise _foreign(answer, address)
    return found


def token(answer: Answer, address: str) -> str:
    """The token that a login gave. The server's own words are left out of errors: they may repeat the password."""
    if answer.status != 200:
        raise _login_error(answer, address)
    found = _object(answer, address).get("token")
    if not isinstance(found, str) or not TOKEN_FORM.fullmatch(found):
        raise _foreign(answer, address)
    return found


def _login_error(answer: Answer, address: str) -> RegistryError:
    """The error that a refused login stands for, without a word of the server's: not even of where it redirects to."""
    fault = _fault(answer)
    if fault is not None:
        return _error(answer, address, replace(fault, message=_refusal(fault.code), detail=""))
    headers = httpx.Headers([(name, value) for name, value in answer.headers.raw if name.lower() == b"retry-after"])
    return _bare_error(replace(answer, headers=headers), address)


def _refusal(code: str) -> str:
    if code in WRONG_PASSWORD:
        return "user name or password is wrong"
    return "the account is blocked" if code == BLOCKED else "the login failed"


def as_meant(content: bytes) -> bytes:
    """Write JSON anew, in UTF-8 and without escapes, so that what is looked for in it is found; what is none stays."""
    try:
        return json.dumps(json.loads(content), ensure_ascii=False).encode(errors="surrogatepass")
    except (ValueError, RecursionError):
        return content


def shortened(text: str) -> str:
    """Fit for an Event or a log line: one line, printable, bounded."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: 10 * SHOWN]).split())
    return line if len(line) <= SHOWN else line[:SHOWN] + "..."


def _error(answer: Answer, address: str, fault: _Fault | None) -> RegistryError:
    if fault is None:
        return _bare_error(answer, address)
    code, text = fault.code, fault.text
    if code in NOT_FOUND or (code == "401201" and NO_SCOPE in fault.detail + fault.message):
        return NotFoundError(code, text, address=address)
    if code == BLOCKED:
        return BlockedError(code, text, address=address)
    if code == "401206" or (answer.status == 403 and code.startswith("403")):
        return PermanentError(code, text, address=address)
    if code in TOKEN or answer.status == 401:
        return AuthError(code, text, address=address)
    if code in TRANSIENT or code.startswith("5") or answer.status == 429 or answer.status >= 500:
        return _transient(code, text, answer, address)
    return PermanentError(code, text, address=address)


def _bare_error(answer: Answer, address: str) -> RegistryError:
    """An error whose body is not the registry's: a proxy's, most likely."""
    status, code = answer.status, f"http-{answer.status}"
    text = f"HTTP {status} {answer.reason}".strip()
    if 300 <= status < 400:
        text = f"redirected to {_place(answer.headers.get('redirected-to', ''))}; give the registry's own address"
        return PermanentError(code, text, address=address)
    if status == 400 and TLS_WANTED in answer.content:
        return TransientError("tls", "the server speaks TLS: its address must begin with https://", address=address)
    if status in (404, 405, 403, 431):
        return PermanentError(code, text, address=address)
    if status == 401:
        return AuthError(code, text, address=address)
    return _transient(code, text, answer, address)


def _transient(code: str, text: str, answer: Answer, address: str) -> TransientError:
    applied = answer.method != "GET" and not 300 <= answer.status < 500
    return TransientError(code, text, address=address, retry_after=_retry_after(answer), maybe_applied=applied)


def _retry_after(answer: Answer) -> float | None:
    """Seconds; None if it asks for no wait at all: that must not switch the backoff off."""
    text = answer.headers.get("retry-after", "").strip()
    seconds = float(text) if text.isascii() and text.isdigit() else _seconds_until(text, answer)
    return min(seconds, MAX_RETRY_AFTER) if seconds > 0 else None


def _seconds_until(text: str, answer: Answer) -> float:
    """Compare a date with the server's own; 0 if either is none."""
    until, now = _date(text), _date(answer.headers.get("date", ""))
    return 0.0 if until is None or now is None else (until - now).total_seconds()


def _date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text).replace(tzinfo=UTC)  # HTTP knows no zone but GMT
    except (ValueError, OverflowError):
        return None


def _foreign(answer: Answer, address: str) -> TransientError:
    kind = answer.headers.get("content-type", "").split(";")[0].strip().lower()
    applied = answer.method != "GET"
    shown = kind if kind in KINDS else "another type" if kind else "no content type"
    text = f"HTTP 200 with {len(answer.content)} bytes of {shown} that are not a Service Center's answer"
    return TransientError("foreign-answer", text, address=address, maybe_applied=applied)


def _place(location: str) -> str:
    """Where a redirect leads, without what may be secret in it: a user, a password, a query."""
    where = re.sub(r"//.*@", "//", location)
    return shortened(re.split(r"[?#]", where)[0]) or "elsewhere"


def _fault(answer: Answer) -> _Fault | None:
    try:
        body = json.loads(answer.content)
    except (ValueError, RecursionError):
        return None
    return _fault_in(body) if isinstance(body, dict) else None


def _fault_in(body: Mapping[str, object]) -> _Fault | None:
    code = body.get("errorCode") or body.get("errCode")
    if not isinstance(code, str | int) or not re.fullmatch(r"[0-9]{1,8}", str(code)):
        return None
    message, detail = body.get("errorMessage") or body.get("errMsg") or "", body.get("detail") or ""
    return _Fault(code=str(code), message=_text(message), detail=_text(detail))


def _object(answer: Answer, address: str) -> Mapping[str, object]:
    try:
        body = json.loads(answer.content)
    except (ValueError, RecursionError):
        raise _foreign(answer, address) from None
    if not isinstance(body, dict) or _fault_in(body) is not None:
        raise _foreign(answer, address)
    return body


def _entries(answer: Answer, key: str, address: str) -> Sequence[Mapping[str, object]]:
    """The list under `key`; a listing of nothing may lack it."""
    listed = _object(answer, address).get(key)
    if listed is None:
        return []
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise _foreign(answer, address)
    return listed


def _instance(entry: Mapping[str, object], service_id: str) -> Instance:
    properties, endpoints = entry.get("properties"), entry.get("endpoints")
    return Instance(
        instance_id=_text(entry.get("instanceId")),
        service_id=service_id,
        status=_text(entry.get("status")),
        host_name=_text(entry.get("hostName")),
        endpoints=tuple(map(_text, endpoints)) if isinstance(endpoints, list) else (),
        properties={str(key): _text(value) for key, value in properties.items()} if isinstance(properties, dict) else {},
        registered_at=_seconds(entry.get("timestamp")),
        lease=_lease(entry.get("healthCheck")),
    )


def _service(entry: Mapping[str, object]) -> Service:
    framework = entry.get("framework")
    framework = framework if isinstance(framework, dict) else {}
    return Service(
        service_id=_text(entry.get("serviceId")),
        name=_text(entry.get("serviceName")),
        app=_text(entry.get("appId")),
        version=_text(entry.get("version")),
        environment=_text(entry.get("environment")),
        framework_name=_text(framework.get("name")),
        framework_version=_text(framework.get("version")),
    )


def _lease(check: object) -> float:
    check = check if isinstance(check, dict) else {}
    interval, times = check.get("interval"), check.get("times")
    if isinstance(interval, int) and isinstance(times, int) and interval > 0 and times >= 0:
        return float(min(interval * (times + 1), LONGEST_LEASE))
    return 120.0


def _seconds(value: object) -> int | None:
    """Epoch seconds: a text, though a number is understood too. Without them a ghost could not be told."""
    text = str(value) if isinstance(value, int) and abs(value) < 10**12 else _text(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
