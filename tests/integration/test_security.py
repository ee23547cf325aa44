"""What strangers can make the operator do: hostile pods go in at its feed, and what comes out is looked at on the wire.

docs/security.md names the tests of each threat; `tests/docs/test_security.py` sees to it that they exist.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from registry_status.cluster.lines import WatchFault
from registry_status.config import Settings
from registry_status.feed import PodFeed
from registry_status.model import InstanceStatus, Outcome, Tenant
from registry_status.pods.status import desired
from registry_status.registry.base import FencedError, RegistryError, TransientError
from registry_status.registry.connect import registry_client
from registry_status.registry.devserver import Answer, DevServer, Fault, NewInstance, NewService
from registry_status.registry.servicecomb import ServiceComb
from registry_status.report.health import HealthState
from registry_status.sync.engine import Engine
from tests.pods import pod
from tests.world import Deaf

TENANT = Tenant()
PASSWORD = "Very-long-Password-0123456789-of-the-operator"
PIECES = {PASSWORD[at : at + 8] for at in range(0, len(PASSWORD) - 8, 4)}


class Audience(Deaf):
    """Takes what the engine and the feed report."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def outcome(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def watch_fault(self, fault: WatchFault) -> None:
        pass


@asynccontextmanager
async def fed(server: DevServer, *pods: dict[str, Any], **more: Any) -> AsyncIterator[Audience]:
    """An operator whose feed was given these pods, before a real registry over HTTP."""
    async with server.listening() as url:
        settings, audience = Settings(registry_address=(url,), **more), Audience()
        async with registry_client(settings) as client:
            engine = Engine(client, audience)
            health = HealthState(0.0, ("pods",))
            feed = PodFeed(settings, engine, health, audience, listed=engine.start_writing, read_pod=_nobody)
            feed.listing_started("")
            for raw in pods:
                feed.take(None, raw)
            feed.listing_finished("", frozenset(raw["metadata"]["uid"] for raw in pods))
            await asyncio.sleep(0.3)
            yield audience
            await engine.drain(1)
            await feed.aclose()


async def _nobody(namespace: str, name: str) -> None:
    return None


# --- a pod's author -----------------------------------------------------------------------------

ID_KEYS = ("service-id", "instance-id", "service", "app", "environment", "version", "project", "domain")
NASTY = {
    "slash": "a/b",
    "climbs": "../../other/registry/microservices/x",
    "dots": "..",
    "a dot": ".",
    "encoded slash": "a%2Fb",
    "encoded dots": "%2e%2e",
    "twice encoded": "%252e%252e%252f",
    "another host": "//evil.example/x",
    "a URL": "http://evil.example/",
    "user part": "x@evil.example/",
    "query": "a?noCache=0&value=UP",
    "fragment": "a#b",
    "line break": "a\r\nx-domain-name: other\r\n\r\nPUT /v4/other",
    "trailing line break": "a\n",
    "NUL": "a\0b",
    "escape": "\x1b[2J\x1b[1;31mowned",
    "space": "a b",
    "letters like ours": "\u0441art",
    "wide dots": "\uff0e\uff0e\uff0f",
    "right to left": "\u202eabc",
    "half a character": "\ud800",
    "backslash": "..\\..",
    "semicolon": "a;b",
    "template": "{pod.__class__}",
    "very long": "x" * 200_000,
}


@pytest.mark.parametrize("key", ID_KEYS)
async def test_nothing_odd_in_an_annotation_reaches_the_registry(key: str) -> None:
    server = DevServer()
    others = {"service": "cart"} if key in ("service", "app", "environment", "version") else {"service-id": "svc-1"}
    pods = [pod(others | {key: value}, name=f"p-{n}", uid=f"u-{n}") for n, value in enumerate(NASTY.values())]
    async with fed(server, *pods, allowed_projects=("*",), allowed_domains=("*",)) as audience:
        pass
    assert server.requests == []
    assert len(audience.outcomes) == len(NASTY)
    for outcome in audience.outcomes:
        assert f"registry-status.io/{key}" in outcome.message
        assert outcome.message.isprintable()
        assert len(outcome.message) < 2_000


@pytest.mark.parametrize("value", ["a..b", "...a", "_", "-", "a.b-c_d", "%", "x" * 64])
async def test_what_is_asked_for_stays_in_the_path_of_its_project(value: str) -> None:
    """Whatever form an id may have: the request goes to this service of this project, or is not sent."""
    server = DevServer()
    async with fed(server, pod({"service-id": value})):
        pass
    assert {record.path for record in server.requests} <= {
        f"/v4/default/registry/microservices/{value}/instances", "/v4/default/registry/microservices"
    }  # fmt: skip
    assert {record.domain for record in server.requests} <= {"default"}


@pytest.mark.parametrize(
    ("annotations", "settings", "places"),
    [
        ({"project": "other"}, {}, set()),
        ({"domain": "other"}, {}, set()),
        ({"project": "other"}, {"allowed_projects": ("web/other",)}, set()),
        ({"domain": "other"}, {"allowed_projects": ("*",)}, set()),
        ({"project": "other"}, {"allowed_projects": ("shop/other",)}, {("default", "other")}),
        ({"domain": "other"}, {"allowed_domains": ("shop/o*",)}, {("other", "default")}),
    ],
)
async def test_another_project_or_tenant_is_reached_only_where_the_settings_allow_it_to_the_namespace(
    annotations: dict[str, str], settings: dict[str, Any], places: set[tuple[str, str]]
) -> None:
    server = DevServer()
    async with fed(server, pod({"service-id": "svc-1"} | annotations, namespace="shop"), **settings):
        pass
    assert {(record.domain, record.path.split("/")[2]) for record in server.requests} == places


FLOODS: Mapping[str, dict[str, str]] = {
    "10,000 unknown keys": {f"k{number}": "v" for number in range(10_000)},
    "a large value of an unknown key": {"service-id": "s", "x": "y" * 250_000},
    "a large template": {"service-id": "s", "instance-id": "{pod.namespace}" * 16_000},
    "a large unknown field": {"service-id": "s", "instance-id": "{" + "x" * 250_000 + "}"},
    "many unknown fields": {"service-id": "s", "instance-id": "".join(f"{{{n}}}" for n in range(40_000))},
    "open braces": {"service-id": "s", "instance-id": "{" * 250_000},
    "large names": dict.fromkeys(("service", "app", "environment", "version", "project", "domain"), "x." * 20_000),
}


@pytest.mark.parametrize("annotations", FLOODS.values(), ids=FLOODS)
def test_huge_annotations_cost_little_time_and_leave_little_behind(annotations: dict[str, str]) -> None:
    raw = pod(annotations)
    began = time.process_time()
    answer = desired(raw, Settings())
    assert time.process_time() - began < 0.25
    assert answer.problems
    assert len(answer.message) + sum(len(str(problem)) for problem in answer.problems) < 10_000


def test_a_pod_with_thousands_of_containers_is_told_of_a_few() -> None:
    names = tuple(f"container-{number}" for number in range(5_000))
    answer = desired(pod({"service-id": "s", "container": "nope"}, containers=names), Settings())
    assert "and 4990 more" in answer.message
    assert len(answer.message) < 1_000


def test_the_value_of_an_annotation_that_means_nothing_is_not_told() -> None:
    """It may be a password that somebody put there by mistake; Events are read by more people than pods are."""
    answer = desired(pod({"service-id": "s", "passwrd": "hunter2-hunter2"}), Settings())
    assert "registry-status.io/passwrd" in answer.message
    assert "hunter2" not in answer.message + repr(answer)


# --- a registry that misbehaves -----------------------------------------------------------------


async def read(client: ServiceComb) -> None:
    await client.list_instances(TENANT, "svc-1")


async def write(client: ServiceComb) -> None:
    await client.write_status(TENANT, "svc-1", "i-1", InstanceStatus.DOWN)


LARGE = 1_000_000


def says(status: int, body: bytes, kind: str = "application/json") -> Answer:
    return Answer(status=status, body=body, content_type=kind)


def error_json(errors: bytes) -> bytes:
    return b'{"errorCode":"500003",' + errors + b"}"


BOMBS = {
    "deep lists": says(200, b"[" * LARGE),
    "deep objects": says(200, b'{"instances":' * 100_000 + b"1"),
    "an error of deep lists": says(500, error_json(b'"errorMessage":' + b"[" * 900 + b"]" * 900)),
    "a deep detail": says(400, error_json(b'"detail":' + b'{"a":' * 800 + b"1" + b"}" * 800)),
    "a number of a million digits": says(200, b'{"instances":' + b"9" * LARGE + b"}"),
    "a long message": says(500, error_json(b'"errorMessage":"' + b"x" * LARGE + b'"')),
    "a message of spaces": says(500, error_json(b'"errorMessage":"' + b" " * LARGE + b'"')),
    "an error of 30 MiB": says(500, b"x" * 30 * 2**20, "text/html"),
}


@pytest.mark.parametrize("call", [read, write], ids=["read", "write"])
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
async def test_an_answer_that_is_a_bomb_is_an_error_like_others_and_cheap(
    bomb: Answer, call: Callable[[ServiceComb], Awaitable[None]]
) -> None:
    server = DevServer()
    server.registry.create_service(NewService(name="cart", service_id="svc-1"))
    server.registry.register("svc-1", NewInstance(host_name="x", instance_id="i-1"))
    server.faults.set(Fault(bomb))
    async with server.listening() as url, ServiceComb([url]) as client:
        began = time.process_time()
        with pytest.raises(RegistryError) as caught:
            await call(client)
        assert time.process_time() - began < 0.5
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


Reply = Callable[[str], bytes]


def answer(status: int, head: str, body: str = "") -> bytes:
    return f"HTTP/1.1 {status} X\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


ECHOES: Mapping[str, Reply] = {
    "content type": lambda said: answer(200, f"Content-Type: {said}\r\n"),
    "content type like one": lambda said: answer(200, f"Content-Type: text/{said}\r\n"),
    "body of a 200": lambda said: answer(200, "", said),
    "no token": lambda said: answer(200, "", json.dumps({"token": {said: said}})),
    "error": lambda said: answer(400, "", json.dumps({"errorCode": "401202", "errorMessage": said, "detail": said})),
    "code": lambda said: answer(400, "", json.dumps({"errorCode": said, "errorMessage": said})),
    "place of a redirect": lambda said: answer(302, f"Location: https://{said}.example/{said}\r\n"),
    "retry after": lambda said: answer(503, f"Retry-After: {said}\r\n"),
    "reason": lambda said: f"HTTP/1.1 502 {said}\r\nContent-Length: 0\r\n\r\n".encode(),
    "status line": lambda said: f"{said}\r\n\r\n".encode(),
    "half a status line": lambda said: f"HTTP/1.1 {said[3:20]}".encode(),
    "header": lambda said: f"HTTP/1.1 200 OK\r\n{said}\r\n\r\n".encode(),
    "half a header": lambda said: f"HTTP/1.1 200 OK\r\nx\0{said[5:30]}".encode(),
    "chunk": lambda said: f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{said}\r\n".encode(),
    "length": lambda said: f"HTTP/1.1 200 OK\r\nContent-Length: {said}\r\n\r\n".encode(),
    "coding": lambda said: f"HTTP/1.1 200 OK\r\nContent-Encoding: {said}\r\nContent-Length: 0\r\n\r\n".encode(),
    "cut": lambda said: f"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{said}".encode(),
}  # fmt: skip


@pytest.mark.parametrize("reply", ECHOES.values(), ids=ECHOES)
async def test_a_login_that_is_answered_with_its_own_password_shows_no_piece_of_it(tmp_path: Any, reply: Reply) -> None:
    """The password cannot be looked for in the answer: pieces of it would be missed. So no word of the answer is told."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b'"}')
        writer.write(reply(PASSWORD))
        await writer.drain()
        writer.close()

    (tmp_path / "password").write_text(PASSWORD)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    settings = Settings(
        registry_address=(url,), registry_username="operator", registry_password_file=tmp_path / "password", request_timeout=1.0
    )
    async with registry_client(settings) as client:
        with pytest.raises(RegistryError) as caught:
            await read(client)
    server.close()
    error: BaseException | None = caught.value
    shown = f"{error} {error!r} {caught.value.code}"
    assert {piece for piece in PIECES if piece in shown} == set()


class NoTurn:
    """The fence of a replica that does not lead."""

    def remaining(self) -> float:
        return 0.0


async def test_a_replica_that_does_not_lead_never_logs_in_and_does_not_even_knock(tmp_path: Any) -> None:
    (tmp_path / "password").write_text(PASSWORD)
    server = DevServer(accounts={"operator": PASSWORD})
    async with server.listening() as url:
        settings = Settings(registry_address=(url,), registry_username="operator", registry_password_file=tmp_path / "password")
        async with registry_client(settings, fence=NoTurn()) as client:
            for call in (read, write, ServiceComb.knock):
                with pytest.raises((FencedError, TransientError)):
                    await call(client)
    assert server.requests == []
