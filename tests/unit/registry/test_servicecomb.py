"""The real client against a Service Center over real HTTP: what it sends, what it makes of answers and of their absence."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_status.model import InstanceStatus, ServiceName, Tenant
from registry_status.registry.base import (
    Instance,
    NotFoundError,
    Operation,
    PermanentError,
    RegistryError,
    Service,
    TransientError,
    UnavailableError,
)
from registry_status.registry.devserver import (
    Answer,
    Code,
    Delay,
    DevServer,
    Drop,
    Effect,
    Fault,
    Hang,
    NewInstance,
    NewService,
    Truncate,
    When,
)
from registry_status.registry.servicecomb import ServiceComb
from tests.unit.registry.test_transport import Speak, answering, serving
from tests.virtual_time import run_virtual

NOW = 1_795_600_000
TENANT = Tenant()
FOREIGN = Tenant(domain="acme", project="eu-1")
SERVICE = "svc-1"
DOWN, UP = InstanceStatus.DOWN, InstanceStatus.UP
Call = Callable[[ServiceComb], Awaitable[object]]


@dataclass
class Seen:
    """An observer that remembers."""

    requests: list[tuple[Operation, str]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    circuits: list[tuple[str, bool]] = field(default_factory=list)

    def request_finished(self, operation: Operation, code: str, seconds: float) -> None:
        self.requests.append((operation, code))
        self.seconds.append(seconds)

    def circuit_changed(self, address: str, *, is_open: bool) -> None:
        self.circuits.append((address, is_open))


@pytest.fixture
def server() -> DevServer:
    """A registry in which service svc-1 has the instance i-1, and tenant acme the same."""
    server = DevServer(clock=lambda: NOW)
    for tenant in (TENANT, FOREIGN):
        server.registry.create_service(
            NewService(name="cart", service_id=SERVICE, version="1.2.0", framework_name="go-chassis"), tenant
        )
        new = NewInstance(host_name="cart-1", instance_id="i-1", endpoints=("rest://10.0.0.7:8080",), properties={"a": "b"})
        server.registry.register(SERVICE, new, tenant)
    return server


@pytest.fixture
async def url(server: DevServer) -> AsyncIterator[str]:
    async with server.listening() as url:
        yield url


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
async def client(url: str, seen: Seen) -> AsyncIterator[ServiceComb]:
    async with ServiceComb([url], request_timeout=2, observer=seen) as client:
        yield client


async def read(client: ServiceComb) -> object:
    return await client.list_instances(TENANT, SERVICE)


async def write(client: ServiceComb) -> None:
    await client.write_status(TENANT, SERVICE, "i-1", DOWN)


async def find(client: ServiceComb) -> object:
    return await client.find_service(TENANT, ServiceName("cart"), "1.2.0")


async def list_services(client: ServiceComb) -> object:
    return await client.list_services(TENANT)


CALLS: dict[str, Call] = {
    "list-services": list_services,
    "find-service": find,
    "list-instances": read,
    "write-status": write,
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def status_of(server: DevServer, tenant: Tenant = TENANT) -> str:
    return server.registry.instance(SERVICE, "i-1", tenant).status


# --- what is sent -------------------------------------------------------------------------------

SENT: dict[str, tuple[str, str, dict[str, str]]] = {
    "list-services": ("GET", "/v4/default/registry/microservices", {}),
    "find-service": (
        "GET",
        "/v4/default/registry/existence",
        {"type": "microservice", "appId": "default", "serviceName": "cart", "version": "1.2.0", "env": ""},
    ),
    "list-instances": ("GET", "/v4/default/registry/microservices/svc-1/instances", {}),
    "write-status": ("PUT", "/v4/default/registry/microservices/svc-1/instances/i-1/status", {"value": "DOWN"}),
}


@pytest.mark.parametrize("operation", CALLS)
async def test_each_operation_is_one_request_past_the_registrys_cache(
    client: ServiceComb, server: DevServer, seen: Seen, operation: str
) -> None:
    await CALLS[operation](client)
    (request,) = server.requests
    method, path, query = SENT[operation]
    assert (request.method, request.path, request.query) == (method, path, query | {"noCache": "1"})
    assert (request.domain, request.consumer_id, request.authorization) == ("default", False, False)
    assert seen.requests == [(operation, "ok")]


async def test_a_foreign_tenant_is_named_by_path_and_header(client: ServiceComb, server: DevServer) -> None:
    await client.write_status(FOREIGN, SERVICE, "i-1", DOWN)
    assert (server.requests[0].path.split("/")[2], server.requests[0].domain) == ("eu-1", "acme")
    assert (status_of(server, FOREIGN), status_of(server)) == ("DOWN", "UP")


@pytest.mark.parametrize("status", InstanceStatus)
async def test_every_status_is_written_and_read_back(client: ServiceComb, server: DevServer, status: InstanceStatus) -> None:
    await client.write_status(TENANT, SERVICE, "i-1", status)
    assert status_of(server) == status
    assert [found.status for found in await client.list_instances(TENANT, SERVICE)] == [status]


@pytest.mark.parametrize("place", ["project", "service", "instance"])
@pytest.mark.parametrize("text", ["a/b", "a?b=c", "a#b", "a%2Fb", "a b", "ä", "../x", "a;b", "a\\b", "a\r\nb", "%", "+"])
async def test_an_id_stays_one_segment_of_the_path(client: ServiceComb, server: DevServer, place: str, text: str) -> None:
    ids = {"project": "default", "service": SERVICE, "instance": "i-1"} | {place: text}
    with pytest.raises(RegistryError):
        await client.write_status(Tenant(project=ids["project"]), ids["service"], ids["instance"], DOWN)
    path = "/v4/{project}/registry/microservices/{service}/instances/{instance}/status".format(**ids)
    assert [request.path for request in server.requests] == [path]
    assert server.writes == []


@pytest.mark.parametrize("text", ["", ".", "..", "\ud800"])
async def test_what_can_be_no_segment_is_never_sent(server: DevServer, client: ServiceComb, text: str) -> None:
    with pytest.raises(PermanentError) as caught:
        await client.write_status(TENANT, SERVICE, text, DOWN)
    assert caught.value.code == "bad-path"
    with pytest.raises(PermanentError):
        await client.list_instances(TENANT, text)
    assert server.requests == []


async def test_an_id_too_long_for_any_url_is_an_error_of_ours(client: ServiceComb, server: DevServer) -> None:
    with pytest.raises(PermanentError):
        await client.list_instances(TENANT, "a" * 70_000)
    assert server.requests == []


# --- what comes back ----------------------------------------------------------------------------


async def test_instances_are_read_whole(client: ServiceComb) -> None:
    assert await client.list_instances(TENANT, SERVICE) == (
        Instance("i-1", SERVICE, "UP", "cart-1", ("rest://10.0.0.7:8080",), {"a": "b"}, NOW, 120.0),
    )


async def test_services_are_read_whole(client: ServiceComb) -> None:
    assert await client.list_services(TENANT) == (Service(SERVICE, "cart", "default", "1.2.0", "", "go-chassis"),)


async def test_a_tenant_without_data_has_no_services(client: ServiceComb) -> None:
    assert await client.list_services(Tenant(project="empty")) == ()


async def test_a_service_without_instances_has_an_empty_list(client: ServiceComb, server: DevServer) -> None:
    server.registry.delete_instance(SERVICE, "i-1")
    assert await client.list_instances(TENANT, SERVICE) == ()


async def test_twenty_thousand_instances_are_read(client: ServiceComb, server: DevServer) -> None:
    entry = {"instanceId": "i" * 32, "hostName": "h" * 40, "endpoints": ["rest://10.0.0.7:8080"] * 2, "status": "UP"}
    server.faults.set(Fault(Answer(status=200, body=json.dumps({"instances": [entry] * 20_000}).encode())))
    assert len(await client.list_instances(TENANT, SERVICE)) == 20_000


@pytest.mark.parametrize(
    ("service", "version", "found"),
    [
        (ServiceName("cart"), "1.2.0", SERVICE),
        (ServiceName("cart"), "1.2.1", None),
        (ServiceName("wagon"), "1.2.0", None),
        (ServiceName("cart", app="shop"), "1.2.0", None),
        (ServiceName("cart", environment="production"), "1.2.0", None),
    ],
)
async def test_a_service_is_found_by_all_of_its_names(
    client: ServiceComb, service: ServiceName, version: str, found: str | None
) -> None:
    assert await client.find_service(TENANT, service, version) == found


async def test_names_in_a_query_are_quoted(client: ServiceComb, server: DevServer) -> None:
    with pytest.raises(PermanentError):
        await client.find_service(TENANT, ServiceName("a&noCache=0", app="ä+#"), "1 2")
    query = server.requests[0].query
    assert (query["serviceName"], query["appId"], query["version"]) == ("a&noCache=0", "ä+#", "1 2")
    assert query["noCache"] == "1"


@pytest.mark.parametrize("body", [b"", b"Success"])
async def test_a_write_is_done_when_answered_by_nothing_or_success(client: ServiceComb, server: DevServer, body: bytes) -> None:
    server.faults.set(Fault(Answer(status=200, body=body, content_type="text/plain")))
    await client.write_status(TENANT, SERVICE, "i-1", DOWN)


@pytest.mark.parametrize(("service", "instance"), [(SERVICE, "gone"), ("gone", "i-1")])
async def test_a_write_to_what_is_not_there_is_not_found(client: ServiceComb, service: str, instance: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        await client.write_status(TENANT, service, instance, DOWN)
    assert caught.value.code == "400017"


async def test_a_list_of_what_is_not_there_is_not_found(client: ServiceComb) -> None:
    with pytest.raises(NotFoundError) as caught:
        await client.list_instances(TENANT, "gone")
    assert caught.value.code == "400012"


# --- misbehaviour -------------------------------------------------------------------------------

MISBEHAVIOUR: dict[str, tuple[Effect, type[RegistryError], str]] = {
    "an error of the registry": (Answer.refusal(Code.INTERNAL), TransientError, "500003"),
    "too many requests": (Answer.too_many_requests("7"), TransientError, "http-429"),
    "HTML under 200": (Answer.html_page(), TransientError, "foreign-answer"),
    "HTML under 502": (Answer.html_page(502), TransientError, "http-502"),
    "a moved registry": (Answer.redirect("http://elsewhere/"), PermanentError, "http-301"),
    "a temporary redirect": (Answer.redirect("http://elsewhere/", 307), PermanentError, "http-307"),
    "no such page": (Answer.html_page(404), PermanentError, "http-404"),
    "a compressed answer": (Answer(status=200, body=b"x", headers={"Content-Encoding": "gzip"}), TransientError, "broken"),
    "a compressed error": (Answer(status=500, body=b"x", headers={"Content-Encoding": "br"}), TransientError, "broken"),
    "40 MiB": (Answer.mebibytes(40), TransientError, "body-too-large"),
    "40 MiB of an error": (Answer.mebibytes(40, 500), TransientError, "body-too-large"),
    "a dropped connection": (Drop(), TransientError, "broken"),
    "silence": (Hang(30), TransientError, "timeout"),
}


@pytest.mark.parametrize(("effect", "kind", "code"), MISBEHAVIOUR.values(), ids=MISBEHAVIOUR)
@pytest.mark.parametrize("call", [read, write], ids=["read", "write"])
async def test_misbehaviour_is_told_by_its_class_and_code(
    server: DevServer, url: str, seen: Seen, call: Call, effect: Effect, kind: type[RegistryError], code: str
) -> None:
    server.faults.set(Fault(effect))
    async with ServiceComb([url], request_timeout=0.2 if isinstance(effect, Hang) else 5, observer=seen) as client:
        with pytest.raises(RegistryError) as caught:
            await call(client)
    error = caught.value
    assert (type(error), error.code, error.address) == (kind, code, url)
    assert url in str(error)
    assert [code for _, code in seen.requests] == [code]
    unclear = kind is TransientError and code != "http-429"
    assert error.maybe_applied is (unclear and call is write)
    assert len(server.requests) == (2 if isinstance(effect, Drop) and call is read else 1)


async def test_the_wait_that_a_busy_registry_asks_for_is_told(client: ServiceComb, server: DevServer) -> None:
    server.faults.set(Fault(Answer.too_many_requests("7")))
    with pytest.raises(TransientError) as caught:
        await read(client)
    assert caught.value.retry_after == 7


@pytest.mark.parametrize("call", [list_services, find, read])
async def test_a_truncated_answer_is_transient(client: ServiceComb, server: DevServer, call: Call) -> None:
    server.faults.set(Fault(Truncate()))
    with pytest.raises(TransientError) as caught:
        await call(client)
    assert caught.value.code == "foreign-answer"


@every_call
async def test_a_connection_that_breaks_within_the_answer_is_transient(
    client: ServiceComb, server: DevServer, call: Call
) -> None:
    server.faults.set(Fault(Truncate(abrupt=True)))
    with pytest.raises(TransientError) as caught:
        await call(client)
    assert (caught.value.code, caught.value.maybe_applied) == ("broken", call is write)


@pytest.mark.parametrize("warm", [False, True], ids=["new connection", "used connection"])
@pytest.mark.parametrize(("when", "applied"), [(When.BEFORE, []), (When.AFTER, ["DOWN"])])
async def test_a_write_whose_connection_drops_is_unclear_and_never_repeated_by_itself(
    client: ServiceComb, server: DevServer, when: When, applied: list[str], warm: bool
) -> None:
    if warm:
        await read(client)
    before = len(server.requests)
    server.faults.set(Fault(Drop(), method="PUT", count=1, when=when))
    with pytest.raises(TransientError) as caught:
        await write(client)
    assert caught.value.maybe_applied
    assert [one.after for one in server.writes] == applied
    assert len(server.requests) == before + 1


async def test_after_a_dropped_connection_the_next_request_gets_a_new_one(client: ServiceComb, server: DevServer) -> None:
    server.faults.set(Fault(Drop(), count=1))
    with pytest.raises(TransientError):
        await write(client)
    await write(client)


async def test_a_late_answer_is_a_timeout_though_the_write_took_effect(server: DevServer, url: str) -> None:
    server.faults.set(Fault(Delay(30), when=When.AFTER))
    async with ServiceComb([url], request_timeout=0.2) as client:
        with pytest.raises(TransientError) as caught:
            await write(client)
    assert (caught.value.code, caught.value.maybe_applied) == ("timeout", True)
    assert status_of(server) == "DOWN"


async def test_the_time_limit_is_for_the_whole_answer_not_for_each_piece(seen: Seen) -> None:
    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0.02)

    dripping = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = dripping.sockets[0].getsockname()[1]
    async with ServiceComb([f"http://127.0.0.1:{port}"], request_timeout=0.3, observer=seen) as client:
        with pytest.raises(TransientError) as caught:
            await read(client)
    dripping.close()
    assert caught.value.code == "timeout"
    assert 0.25 < seen.seconds[0] < 2


async def test_a_refused_connection_is_known_to_have_changed_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with ServiceComb([f"http://127.0.0.1:{port}"]) as client:
        with pytest.raises(TransientError) as caught:
            await write(client)
    assert (caught.value.code, caught.value.maybe_applied) == ("connect", False)
    assert str(caught.value).startswith("cannot connect: ")


async def test_a_server_that_is_stopped_and_started_again_is_found_again(server: DevServer) -> None:
    url = await server.start()
    port = httpx.URL(url).port
    assert port is not None
    async with ServiceComb([url]) as client:
        await read(client)
        await server.stop()
        with pytest.raises(TransientError) as caught:
            await read(client)
        assert caught.value.code in ("connect", "broken")
        await server.start(port=port)
        await write(client)
    await server.stop()
    assert status_of(server) == "DOWN"


# --- the environment ----------------------------------------------------------------------------


async def test_proxies_and_passwords_of_the_environment_do_not_matter(
    client: ServiceComb, server: DevServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://user:secret@127.0.0.1:1")
    await write(client)
    assert [request.authorization for request in server.requests] == [False]


# --- many at once -------------------------------------------------------------------------------


async def test_no_more_requests_run_at_once_than_allowed(server: DevServer, url: str) -> None:
    server.faults.set(Fault(Delay(0.02)))
    async with ServiceComb([url], concurrency=3) as client:
        await asyncio.gather(*(read(client) for _ in range(12)))
    assert (server.journal.total_requests, server.journal.peak_in_flight) == (12, 3)


async def test_what_waits_for_its_turn_does_not_use_up_its_time(server: DevServer, url: str) -> None:
    server.faults.set(Fault(Delay(0.1)))
    async with ServiceComb([url], concurrency=1, request_timeout=0.5) as client:
        await asyncio.gather(*(read(client) for _ in range(6)))


async def test_a_cancelled_request_frees_its_place_and_counts_neither_as_done_nor_as_failed(
    seen: Seen,
) -> None:
    begun = asyncio.Event()

    async def hang(_: float) -> None:
        begun.set()
        await asyncio.Event().wait()

    server = DevServer(sleep=hang)
    server.registry.create_service(NewService(name="cart", service_id=SERVICE))
    server.faults.set(Fault(Hang(), count=1))
    async with server.listening() as url, ServiceComb([url], concurrency=1, observer=seen) as client:
        hanging = asyncio.create_task(read(client))
        await begun.wait()
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        await read(client)
    assert [code for _, code in seen.requests] == ["cancelled", "ok"]


async def test_the_observer_is_told_how_long_a_request_took(server: DevServer, url: str, seen: Seen) -> None:
    times = iter([10.0, 12.5])
    async with ServiceComb([url], observer=seen, clock=lambda: next(times)) as client:
        await read(client)
    assert seen.seconds == [2.5]


# --- addresses ----------------------------------------------------------------------------------


@dataclass
class Transport(httpx.AsyncBaseTransport):
    """What each host answers, without any network; fit for virtual time."""

    hosts: Mapping[str, Callable[[httpx.Request], httpx.Response]]
    asked: list[str] = field(default_factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.01)
        self.asked.append(request.url.host)
        return self.hosts[request.url.host](request)


def works(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={}, request=request)


def is_busy(request: httpx.Request) -> httpx.Response:
    return httpx.Response(503, text="no server is available", request=request)


def asks_to_log_in(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, html="<html>sign in</html>", request=request)


def refuses(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def over(transport: Transport, seen: Seen) -> ServiceComb:
    addresses = [f"http://{host}" for host in transport.hosts]
    return ServiceComb(addresses, transport=transport, observer=seen, clock=lambda: asyncio.get_running_loop().time())


async def fail(client: ServiceComb, times: int) -> None:
    for number in range(times):
        with pytest.raises(TransientError):
            await client.list_instances(TENANT, f"svc-{number}")


ODD = "Sp\u00e4\u00dfe \u4e2d".encode(), "Sp\u00e4\u00dfe".encode("latin-1"), bytes(range(128, 256))


def oddly(status: int, name: str, odd: bytes) -> Speak:
    """Answer with these bytes in the head."""
    speak, _ = answering(b"HTTP/1.1 %d Odd\r\n%b: %b\r\nContent-Length: 2\r\n\r\n{}" % (status, name.encode(), odd))
    return speak


@pytest.mark.parametrize("odd", ODD, ids=["UTF-8", "Latin-1", "any bytes"])
@pytest.mark.parametrize("name", ["via", "retry-after", "location", "content-type"])
async def test_an_answer_with_any_bytes_in_its_head_is_an_answer_like_any_other(seen: Seen, name: str, odd: bytes) -> None:
    async with serving(oddly(200, name, odd)) as url, ServiceComb([url], observer=seen) as client:
        await read(client)
    assert seen.requests


@pytest.mark.parametrize("odd", ODD, ids=["UTF-8", "Latin-1", "any bytes"])
@pytest.mark.parametrize("status", [302, 400, 401, 429, 503])
@pytest.mark.parametrize("name", ["via", "retry-after", "location", "content-type"])
async def test_an_error_with_any_bytes_in_its_head_is_an_error_like_any_other(
    seen: Seen, name: str, status: int, odd: bytes
) -> None:
    async with serving(oddly(status, name, odd)) as url, ServiceComb([url], observer=seen) as client:
        for asking in (read(client), client.log_in("user", "password")):
            with pytest.raises(RegistryError):
                await asking
    assert seen.requests


async def test_only_a_request_with_a_body_names_its_type(seen: Seen) -> None:
    named: list[str | None] = []

    def notes(request: httpx.Request) -> httpx.Response:
        named.append(request.headers.get("content-type"))
        return httpx.Response(200, json={"token": "t"} if request.method == "POST" else None, request=request)

    async with over(Transport({"one": notes}), seen) as client:
        await client.log_in("user", "password")
        await client.write_status(TENANT, SERVICE, "i-1", InstanceStatus.DOWN)
    assert named == ["application/json", None]


def test_the_next_request_after_a_failure_goes_to_the_next_address_and_stays_there(seen: Seen) -> None:
    transport = Transport({"one": refuses, "two": works})

    async def story() -> None:
        async with over(transport, seen) as client:
            await fail(client, 1)
            for _ in range(3):
                await read(client)

    run_virtual(story())
    assert transport.asked == ["one", "two", "two", "two"]


def test_after_five_failures_in_a_row_nothing_but_a_probe_a_second_is_sent_until_one_succeeds(seen: Seen) -> None:
    hosts = {"one": is_busy}
    transport = Transport(hosts)
    woken: list[float] = []

    async def story() -> None:
        async with over(transport, seen) as client:
            client.on_available(lambda: woken.append(asyncio.get_running_loop().time()))
            await fail(client, 5)
            with pytest.raises(UnavailableError) as caught:
                await read(client)
            assert "one" in str(caught.value)
            assert "503" in str(caught.value)
            await asyncio.sleep(10.5)
            assert len(transport.asked) == 5 + 10
            hosts["one"] = works
            await asyncio.sleep(1)
            assert len(woken) == 1
            await read(client)

    run_virtual(story())
    assert seen.circuits == [("http://one", True), ("http://one", False)]


@pytest.mark.parametrize("answer", [asks_to_log_in, refuses, is_busy])
def test_a_probe_that_finds_no_registry_leaves_the_circuit_open(
    seen: Seen, answer: Callable[[httpx.Request], httpx.Response]
) -> None:
    async def story() -> None:
        async with over(Transport({"one": answer}), seen) as client:
            await fail(client, 5)
            await asyncio.sleep(30)

    run_virtual(story())
    assert seen.circuits == [("http://one", True)]


def is_slow(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("no answer in time", request=request)


def errs(request: httpx.Request) -> httpx.Response:
    return httpx.Response(500, json={"errorCode": "500011", "errorMessage": "unavailable"}, request=request)


@pytest.mark.parametrize("known", [True, False], ids=["something worked before", "nothing worked before"])
@pytest.mark.parametrize("answer", [is_slow, is_busy], ids=["slow", "busy"])
def test_one_thing_that_never_works_stops_the_rest_for_seconds_at_most(
    seen: Seen, answer: Callable[[httpx.Request], httpx.Response], *, known: bool
) -> None:
    def all_but_one(request: httpx.Request) -> httpx.Response:
        return answer(request) if b"/sick/" in request.extensions["target"] else works(request)

    async def story() -> None:
        async with over(Transport({"one": all_but_one}), seen) as client:
            if known:
                await client.list_instances(TENANT, "well")
            for _ in range(5):
                with pytest.raises(TransientError):
                    await client.list_instances(TENANT, "sick")
            await asyncio.sleep(3)
            await client.list_instances(TENANT, "well")

    run_virtual(story())
    assert seen.circuits == [("http://one", True), ("http://one", False)]


def test_after_an_outage_what_never_worked_holds_up_nothing(seen: Seen) -> None:
    def all_but_one(request: httpx.Request) -> httpx.Response:
        return errs(request) if b"/sick/" in request.extensions["target"] else works(request)

    hosts = {"one": is_busy}

    async def story() -> None:
        async with over(Transport(hosts), seen) as client:
            await fail(client, 4)
            with pytest.raises(TransientError):
                await client.list_instances(TENANT, "sick")
            hosts["one"] = all_but_one
            await asyncio.sleep(3)
            await client.list_instances(TENANT, "well")

    run_virtual(story())
    assert seen.circuits == [("http://one", True), ("http://one", False)]


def test_a_probe_asks_all_that_was_asked(seen: Seen) -> None:
    """Half a question is refused for its form, by a registry that could not answer a whole one."""
    tenant, asked = Tenant(domain="acme", project="shop"), []

    def remember(request: httpx.Request) -> httpx.Response:
        asked.append((request.extensions["target"], request.headers["x-domain-name"]))
        return errs(request)

    async def story() -> None:
        async with over(Transport({"one": remember}), seen) as client:
            for number in range(5):
                with pytest.raises(TransientError):
                    await client.find_service(tenant, ServiceName(f"svc-{number}"), "1.0.0")
            await asyncio.sleep(1.5)

    run_virtual(story())
    assert seen.circuits == [("http://one", True)], "five services are five things, and none of them worked"
    assert asked[-1] == asked[-2]


def test_a_login_that_works_does_not_tell_that_the_rest_does(seen: Seen) -> None:
    def only_login(request: httpx.Request) -> httpx.Response:
        if request.extensions["target"].startswith((b"/v4/token", b"/v4/default/registry/health")):
            return httpx.Response(200, json={"token": "t"}, request=request)
        return errs(request)

    async def story() -> None:
        async with over(Transport({"one": only_login}), seen) as client:
            await client.log_in("user", "password")
            await fail(client, 5)
            await asyncio.sleep(30)

    run_virtual(story())
    assert seen.circuits == [("http://one", True)]


@given(text=st.text(min_size=1, max_size=80))
def test_whatever_an_id_is_the_request_goes_to_its_own_path_or_nowhere(text: str) -> None:
    paths: list[str] = []

    def remember(request: httpx.Request) -> httpx.Response:
        paths.append(request.extensions["target"].decode())
        return works(request)

    async def story() -> Any:
        async with over(Transport({"one": remember}), Seen()) as client:
            return await client.list_instances(TENANT, text)

    try:
        run_virtual(story())
    except PermanentError:
        assert paths == []
    else:
        assert paths == [f"/v4/default/registry/microservices/{quote(text, safe='')}/instances?noCache=1"]
