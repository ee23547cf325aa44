"""Nothing that leaves the process holds a credential, though the registry repeats all that it is sent, wherever it can."""

import asyncio
import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from registry_status.config import LogFormat, LogLevel, Settings
from registry_status.model import InstanceStatus, Outcome, Tenant
from registry_status.pods.status import desired
from registry_status.registry.auth import HIDDEN
from registry_status.registry.base import RegistryError
from registry_status.registry.connect import registry_client
from registry_status.registry.servicecomb import ServiceComb
from registry_status.report import logs
from registry_status.report.metrics import Metrics
from registry_status.sync.engine import Engine
from tests.pods import pod
from tests.world import Deaf

TENANT = Tenant()
TOKEN = "dG9rZW4.very-secret-token/of+the_server=="
PASSWORD = "pässword-of-the-operator"
ACCESS_KEY, SECRET_KEY = "AKwithNoShape", "sk-very-secret-1"
DIGEST = hmac.new(SECRET_KEY.encode(), ACCESS_KEY.encode(), hashlib.sha256).hexdigest()
SECRETS = {TOKEN, TOKEN[:20], PASSWORD, json.dumps(PASSWORD)[1:-1], ACCESS_KEY, SECRET_KEY, DIGEST, DIGEST[:20]}
CODES = ("400001", "401201", "401202", "403001", "403201", "500003")


class Parrot:
    """The worst of servers: it gives out tokens now and then, and else repeats all that it was sent."""

    def __init__(self) -> None:
        self._numbers = count()
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(_length(head))
                number = next(self._numbers)
                if head.startswith(b"POST /v4/token") and number % 5:
                    writer.write(_answer(200, json.dumps({"token": TOKEN})))
                elif number % 11 == 0:
                    writer.write(head + body)
                    writer.close()
                else:
                    writer.write(_repeated((head + body).decode(), number))
        writer.close()

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


def _length(head: bytes) -> int:
    lines = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    return next((int(value) for name, _, value in lines if name == b"content-length"), 0)


def _repeated(text: str, number: int) -> bytes:
    """In the registry's own form, or as a proxy would; each line comes first now and then, or is cut in its middle."""
    lines = text.split("\r\n")
    text = "-" * (number % 3 * 90) + "\r\n".join(lines[number % len(lines) :] + lines)
    code = CODES[number % len(CODES)]
    error = json.dumps({"errorCode": code, "errorMessage": text, "detail": text})
    return [
        _answer(int(code[:3]), error),
        _answer(int(code[:3]), error),
        _answer(200, error),
        _answer(200, text),
        _answer(502, text),
        _answer(403, text),
        _answer(301, text),
    ][number % 7]


def _answer(status: int, body: str) -> bytes:
    location = f"Location: http://{ACCESS_KEY}:{TOKEN}@elsewhere/?x={TOKEN}\r\n" if status == 301 else ""
    return f"HTTP/1.1 {status} X\r\n{location}Content-Length: {len(body.encode())}\r\n\r\n{body}".encode()


class Audience(Deaf):
    """All that anybody could see."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    # What the engine reports: the texts of Events.

    def outcome(self, outcome: Outcome) -> None:
        self.shown += [outcome.message, repr(outcome)]

    # A stream for logs.

    def write(self, text: str) -> None:
        self.shown.append(text)

    def flush(self) -> None:
        pass


@contextmanager
def logging_to(audience: Any, form: LogFormat) -> Iterator[None]:
    """Log everything, what libraries say too."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure(form, LogLevel.DEBUG, audience)
    for name in logs.QUIET:
        logging.getLogger(name).setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.captureWarnings(False)
        for name in logs.QUIET:
            logging.getLogger(name).setLevel(logging.NOTSET)


def told(error: BaseException) -> Iterator[str]:
    """What can be said of an error, and of those it came from."""
    cause: BaseException | None = error
    while cause is not None:
        yield str(cause)
        yield repr(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


async def ask_everything(client: ServiceComb, audience: Audience) -> None:
    calls = (
        lambda: client.list_instances(TENANT, "svc-1"),
        lambda: client.list_services(TENANT),
        lambda: client.write_status(TENANT, "svc-1", "i-1", InstanceStatus.DOWN),
    )
    for call in calls * 4:
        try:
            await call()
        except RegistryError as error:
            audience.shown += told(error)
            logging.getLogger("test").warning("%s", error, exc_info=error)


async def run_engine(client: ServiceComb, settings: Settings, audience: Audience) -> None:
    engine = Engine(client, audience)
    engine.start_writing()
    for number in range(20):
        engine.take(desired(pod({"service-id": "svc-1"}, uid=f"u-{number}", name=f"cart-{number}"), settings))
    await asyncio.sleep(0.5)
    await engine.drain(1)


def with_credentials(settings: Settings, kind: str, folder: Path) -> Settings:
    for name, text in (("password", PASSWORD), ("ak", ACCESS_KEY), ("sk", SECRET_KEY)):
        (folder / name).write_text(text)
    if kind == "password":
        return replace(settings, registry_username="operator", registry_password_file=folder / "password")
    return replace(settings, registry_access_key_file=folder / "ak", registry_secret_key_file=folder / "sk")


@pytest.mark.parametrize("kind", ["password", "access key"])
@pytest.mark.parametrize("form", list(LogFormat))
async def test_secrets_are_in_nothing_that_leaves_the_process(tmp_path: Path, kind: str, form: LogFormat) -> None:
    """Errors and their causes, outcomes (the texts of Events), log lines down to debug, metrics, reprs."""
    parrot, audience, metrics = Parrot(), Audience(), Metrics()
    server = await asyncio.start_server(parrot.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    settings = with_credentials(Settings(registry_address=(url,), request_timeout=1.0), kind, tmp_path)
    with logging_to(audience, form):
        for _ in range(15):  # each logs in anew
            async with registry_client(settings, observer=metrics) as client:
                await ask_everything(client, audience)
                audience.shown += [repr(client), repr(client._auth), repr(vars(client))]
        async with registry_client(settings, observer=metrics) as client:
            await run_engine(client, settings, audience)
    parrot.close()
    server.close()
    everything = "\n".join([*audience.shown, repr(settings), metrics.render().body.decode()])
    assert "[redacted]" in everything
    assert len(audience.shown) > 200
    assert {secret for secret in SECRETS if secret in everything} == set()


def as_go_writes_it(text: str) -> bytes:
    """Go's JSON escapes what could end a tag in HTML."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").encode()


def escaped(text: str) -> bytes:
    """Every character of the key and the digest as an escape."""
    for secret in (ODD_KEY, ODD_DIGEST):
        text = text.replace(secret, "".join(f"\\u{ord(char):04x}" for char in secret))
    return text.encode()


ODD_KEY = "AK<with>odd&signs"
ODD_DIGEST = hmac.new(SECRET_KEY.encode(), ODD_KEY.encode(), hashlib.sha256).hexdigest()
CHARSETS = {name: lambda text, name=name: text.encode(name) for name in ("utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32")}


@pytest.mark.parametrize("write", [*CHARSETS.values(), as_go_writes_it, escaped], ids=[*CHARSETS, "Go", "escapes"])
async def test_secrets_are_found_however_an_answer_is_written(tmp_path: Path, write: Callable[[str], bytes]) -> None:
    """JSON may be in any of Unicode's encodings, with any character as an escape: what is told is what was meant."""

    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert ODD_KEY in head
        assert ODD_DIGEST in head
        body = write(
            json.dumps({"errorCode": "400001", "errorMessage": f"Invalid: not {ODD_KEY}", "detail": f"nor {ODD_DIGEST}"})
        )
        writer.write(b"HTTP/1.1 400 X\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    (tmp_path / "ak").write_text(ODD_KEY)
    (tmp_path / "sk").write_text(SECRET_KEY)
    server = await asyncio.start_server(repeat, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    settings = Settings(
        registry_address=(url,), registry_access_key_file=tmp_path / "ak", registry_secret_key_file=tmp_path / "sk"
    )
    async with registry_client(settings) as client:
        with pytest.raises(RegistryError) as caught:
            await client.list_services(TENANT)
    server.close()
    assert caught.value.message == f"Invalid: not {HIDDEN}: nor {HIDDEN}"
