"""What the in-memory Service Center does beyond the shared contract (tests/integration/test_registry_contract.py)."""

import argparse
import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from registry_status.cli import devregistry
from registry_status.model import Tenant
from registry_status.registry.devserver import (
    Answer,
    Code,
    Delay,
    DevServer,
    Drop,
    Effect,
    Fault,
    Hang,
    Journal,
    NewInstance,
    NewService,
    Refusal,
    RegistryState,
    RequestRecord,
    Truncate,
    When,
)
from registry_status.registry.devserver.accounts import TOKEN_LIFE, Accounts
from registry_status.registry.devserver.journal import LARGEST_SIZE

SERVICES = "/v4/default/registry/microservices"


class Clock:
    """Wall time that moves when told to."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Sleep:
    """A sleep that lasts until the test wakes it."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.begun = asyncio.Event()
        self.over = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        self.begun.set()
        await self.over.wait()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(clock: Clock) -> RegistryState:
    return RegistryState(clock)


@pytest.fixture
def sleep() -> Sleep:
    return Sleep()


@pytest.fixture
def server(clock: Clock, sleep: Sleep) -> DevServer:
    return DevServer(clock=clock, sleep=sleep)


@pytest.fixture
async def http(server: DevServer) -> AsyncIterator[httpx.AsyncClient]:
    async with server.listening() as base_url, httpx.AsyncClient(base_url=base_url, trust_env=False) as client:
        yield client


@pytest.fixture
def status_url(server: DevServer) -> str:
    """Where to PUT the status of instance i-1, which is UP."""
    return f"{SERVICES}/{with_instance(server.registry)}/instances/i-1/status"


def with_instance(registry: RegistryState, **wanted: object) -> str:
    """A service with one instance, i-1 unless said otherwise; gives back the service's id."""
    service_id = registry.create_service(NewService(name="orders"))
    registry.register(service_id, NewInstance(**{"host_name": "orders-0", "instance_id": "i-1"} | wanted))  # type: ignore[arg-type]
    return service_id


def on_status_puts(effect: Effect, *, count: int | None = None, when: When = When.BEFORE) -> Fault:
    return Fault(effect, method="PUT", path="/status$", count=count, when=when)


def refusal_of(action: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(Refusal) as caught:
        action()
    return caught.value.code.number, caught.value.detail


def request_record(path: str = "/") -> RequestRecord:
    return RequestRecord(time=0.0, method="GET", path=path, query={}, domain=None, authorization=False, consumer_id=False)


# --- leases -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "times", "mode", "lease"),
    [(30, 3, "push", 120), (15, 3, "push", 60), (1, 1, "push", 20), (5, 9, "push", 50), (1, 9, "pull", 120)],
)
def test_an_instance_lives_for_one_interval_more_than_it_may_miss(
    registry: RegistryState, clock: Clock, interval: int, times: int, mode: str, lease: int
) -> None:
    service_id = with_instance(registry, interval=interval, times=times, mode=mode)
    clock.advance(lease - 0.001)
    assert registry.instance(service_id, "i-1").lease == lease
    clock.advance(0.001)
    assert refusal_of(lambda: registry.instance(service_id, "i-1"))[0] == 400017
    assert registry.instances(service_id) == []


def test_a_heartbeat_starts_the_lease_anew(registry: RegistryState, clock: Clock) -> None:
    service_id = with_instance(registry)
    clock.advance(119)
    registry.heartbeat(service_id, "i-1")
    clock.advance(119)
    assert [one.instance_id for one in registry.instances(service_id)] == ["i-1"]


def test_a_status_write_does_not_prolong_the_lease(registry: RegistryState, clock: Clock) -> None:
    service_id = with_instance(registry)
    clock.advance(119)
    registry.put_status(service_id, "i-1", "DOWN")
    clock.advance(1)
    assert registry.instances(service_id) == []


def test_registering_a_live_id_again_is_only_a_heartbeat(registry: RegistryState, clock: Clock) -> None:
    service_id = with_instance(registry, endpoints=("rest://10.0.0.1:8080",))
    registry.put_status(service_id, "i-1", "DOWN")
    before = registry.instance(service_id, "i-1")
    clock.advance(100)
    registry.register(service_id, NewInstance(host_name="other", instance_id="i-1", status="UP", endpoints=("rest://b:1",)))
    clock.advance(100)
    assert registry.instance(service_id, "i-1") == before


def test_registering_an_expired_id_again_takes_everything_from_the_client(registry: RegistryState, clock: Clock) -> None:
    service_id = with_instance(registry)
    registry.put_status(service_id, "i-1", "DOWN")
    clock.advance(120)
    registry.register(service_id, NewInstance(host_name="other", instance_id="i-1"))
    record = registry.instance(service_id, "i-1")
    assert (record.status, record.host_name, record.registered_at) == ("UP", "other", int(clock.now))


def test_what_expires_is_counted_once_whoever_comes_across_it(registry: RegistryState, clock: Clock) -> None:
    service_id = with_instance(registry)
    registry.register(service_id, NewInstance(host_name="orders-1", instance_id="i-2"))
    clock.advance(120)
    refusal_of(lambda: registry.heartbeat(service_id, "i-1"))
    assert registry.expired == 2
    assert registry.instances(service_id) == []
    assert registry.expired == 2


def test_what_expires_takes_no_memory_even_if_nobody_asks_for_it_again(registry: RegistryState, clock: Clock) -> None:
    service_id = with_instance(registry)
    other_id = registry.create_service(NewService(name="billing"))
    clock.advance(120)
    registry.register(other_id, NewInstance(host_name="billing-0"))
    assert registry._tenants[Tenant()].instances[service_id] == {}


def test_a_test_can_let_an_instance_expire_at_once(registry: RegistryState) -> None:
    service_id = with_instance(registry)
    registry.expire_now(service_id, "i-1")
    assert (registry.instances(service_id), registry.expired) == ([], 1)


def test_only_the_modification_time_follows_a_status_write(registry: RegistryState, clock: Clock) -> None:
    service_id = with_instance(registry)
    clock.advance(7.9)
    assert registry.put_status(service_id, "i-1", "DOWN") == "UP"
    said = registry.instance(service_id, "i-1").to_json()
    assert (said["timestamp"], said["modTimestamp"]) == ("1700000000", "1700000007")


# --- services -----------------------------------------------------------------------------------


def test_the_same_names_answer_the_service_that_is_there(registry: RegistryState) -> None:
    first = registry.create_service(NewService(name="orders"))
    assert registry.create_service(NewService(name="orders", app="default", version="0.0.1")) == first
    assert registry.create_service(NewService(name="orders", service_id=first)) == first
    others = [NewService(name="orders", version="2"), NewService(name="orders", app="shop")]
    others.append(NewService(name="orders", environment="testing"))
    assert first not in [registry.create_service(new) for new in others]


@pytest.mark.parametrize(
    "new", [NewService(name="orders", service_id="another-id"), NewService(name="billing", service_id="my-id")]
)
def test_a_service_id_that_contradicts_what_is_there_is_refused(registry: RegistryState, new: NewService) -> None:
    assert registry.create_service(NewService(name="orders", service_id="my-id")) == "my-id"
    assert refusal_of(lambda: registry.create_service(new))[0] == 400010


def test_a_service_created_anew_has_its_old_id_but_not_its_old_instances(registry: RegistryState) -> None:
    service_id = with_instance(registry)
    registry.delete_service(service_id, force=True)
    assert refusal_of(lambda: registry.instances(service_id))[0] == 400012
    assert registry.create_service(NewService(name="orders")) == service_id
    assert registry.instances(service_id) == []


def test_a_service_with_instances_is_removed_only_by_force(registry: RegistryState, clock: Clock) -> None:
    service_id = with_instance(registry)
    assert refusal_of(lambda: registry.delete_service(service_id))[0] == 400013
    clock.advance(120)
    registry.delete_service(service_id)
    assert registry.services() == []


async def test_a_service_may_have_any_text_as_its_alias(http: httpx.AsyncClient) -> None:
    answer = await http.post(SERVICES, content=b'{"service": {"serviceName": "cart", "alias": "\\ud800"}}')
    assert answer.status_code == 200


def test_a_service_is_found_by_name_before_alias(registry: RegistryState) -> None:
    aliased = registry.create_service(NewService(name="orders", alias="shop"))
    assert registry.find_service("shop", "0.0.1") == aliased
    named = registry.create_service(NewService(name="shop"))
    assert registry.find_service("shop", "0.0.1") == named


@pytest.mark.parametrize("version", ["", "latest", "1+", "1.0-2.0", "1.40000", "1.2.3.4.5", "v1"])
def test_a_service_is_found_by_an_exact_version_only(registry: RegistryState, version: str) -> None:
    assert refusal_of(lambda: registry.find_service("orders", version))[0] == 400001


def test_tenants_do_not_see_each_other(registry: RegistryState) -> None:
    service_id = with_instance(registry)
    for stranger in (Tenant("other", "default"), Tenant("default", "other")):
        assert registry.services(stranger) == []
        assert refusal_of(lambda: registry.instances(service_id, stranger))[0] == 400012  # noqa: B023
        assert refusal_of(lambda: registry.heartbeat(service_id, "i-1", stranger))[0] == 400017  # noqa: B023
        other_id = registry.create_service(NewService(name="orders"), stranger)
        registry.register(other_id, NewInstance(host_name="orders-0", instance_id="i-1"), stranger)
    assert {one.tenant for one in registry.all_instances()} == {Tenant(), Tenant("other"), Tenant(project="other")}
    assert len(registry.all_services()) == 3


# --- instances ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"host_name": " "},
        {"host_name": "x" * 65},
        {"status": "up"},
        {"mode": "shove"},
        {"interval": 0},
        {"interval": 2**31},
        {"times": -1},
        {"instance_id": "a b"},
        {"instance_id": "i-1\n"},
    ],
)
def test_an_instance_out_of_form_is_refused_before_its_service_is_looked_up(
    registry: RegistryState, wrong: dict[str, object]
) -> None:
    new = NewInstance(**{"host_name": "orders-0"} | wrong)  # type: ignore[arg-type]
    assert refusal_of(lambda: registry.register("no-such-service", new))[0] == 400001


def test_a_generated_instance_id_is_32_hex_digits(registry: RegistryState) -> None:
    service_id = registry.create_service(NewService(name="orders"))
    instance_id = registry.register(service_id, NewInstance(host_name="orders-0"))
    assert len(instance_id) == 32
    assert int(instance_id, 16)


def test_only_writes_say_instance_where_the_service_is_missing(registry: RegistryState) -> None:
    assert refusal_of(lambda: registry.instance("no-such", "i-1"))[0] == 400012
    assert refusal_of(lambda: registry.register("no-such", NewInstance(host_name="h")))[0] == 400012
    assert refusal_of(lambda: registry.put_status("no-such", "i-1", "UP"))[0] == 400017
    assert refusal_of(lambda: registry.put_properties("no-such", "i-1", {}))[0] == 400017
    assert refusal_of(lambda: registry.delete_instance("no-such", "i-1"))[0] == 400017


def test_what_is_empty_is_left_out_of_the_json(registry: RegistryState) -> None:
    service_id = with_instance(registry)
    assert not {"environment", "properties", "framework", "alias"} & registry.service(service_id).to_json().keys()
    assert not {"properties", "endpoints"} & registry.instance(service_id, "i-1").to_json().keys()


# --- over HTTP ----------------------------------------------------------------------------------


async def test_writes_are_acknowledged_with_an_empty_text_and_errors_are_json(http: httpx.AsyncClient, status_url: str) -> None:
    done = await http.put(status_url, params={"value": "DOWN"})
    assert (done.status_code, done.content) == (200, b"")
    assert done.headers["Content-Type"].startswith("text/plain")
    wrong = await http.put(status_url, params={"value": "down"})
    assert (wrong.status_code, wrong.headers["Content-Type"]) == (400, "application/json")
    assert wrong.json().keys() == {"errorCode", "errorMessage", "detail"}


async def test_a_service_without_instances_lists_an_empty_object(server: DevServer, http: httpx.AsyncClient) -> None:
    service_id = server.registry.create_service(NewService(name="orders"))
    assert (await http.get(f"{SERVICES}/{service_id}/instances")).json() == {}


async def test_what_a_client_registers_is_given_back(http: httpx.AsyncClient) -> None:
    service = {
        "serviceName": "orders",
        "appId": "shop",
        "version": "1.2.3",
        "environment": "production",
        "framework": {"name": "ServiceComb", "version": "3.4.0"},
        "properties": {"allowCrossApp": "true"},
        "schemas": ["a", "b"],
        "level": "FRONT",
    }
    service_id = (await http.post(SERVICES, json={"service": service})).json()["serviceId"]
    read = (await http.get(f"{SERVICES}/{service_id}")).json()["service"]
    assert read.items() >= (service | {"serviceId": service_id, "status": "UP"}).items()
    instance = {
        "instanceId": "i-1",
        "hostName": "orders-0",
        "endpoints": ["rest://10.0.0.1:8080"],
        "healthCheck": {"mode": "push", "interval": 30, "times": 3},
        "properties": {"podName": "orders-0"},
        "dataCenterInfo": {"name": "dc", "region": "r", "availableZone": "z"},
    }
    await http.post(f"{SERVICES}/{service_id}/instances", json={"instance": instance})
    read = (await http.get(f"{SERVICES}/{service_id}/instances/i-1")).json()["instance"]
    expected = {"status": "UP", "version": "1.2.3", "timestamp": "1700000000", "modTimestamp": "1700000000"}
    assert read == instance | expected | {"serviceId": service_id}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"instance": {}}',
        b'{"instance": []}',
        b'{"instance": {"hostName": 1}}',
        b'{"instance": {"hostName": "h", "endpoints": "rest://a:1"}}',
        b'{"instance": {"hostName": "h", "endpoints": [""]}}',
        b'{"instance": {"hostName": "h", "properties": {"a": 1}}}',
        b'{"instance": {"hostName": "h", "healthCheck": {"mode": "push", "interval": "30"}}}',
        b'{"instance": {"hostName": "h", "healthCheck": {"mode": "push", "interval": true}}}',
    ],
)
async def test_a_body_out_of_form_is_refused(server: DevServer, http: httpx.AsyncClient, body: bytes) -> None:
    service_id = server.registry.create_service(NewService(name="orders"))
    answer = await http.post(f"{SERVICES}/{service_id}/instances", content=body)
    assert (answer.status_code, answer.json()["errorCode"]) == (400, "400001")
    assert server.registry.all_instances() == []


async def test_there_is_no_batch_status_endpoint(server: DevServer, http: httpx.AsyncClient, status_url: str) -> None:
    answer = await http.put("/v4/default/registry/instances/status", json={"matches": {}, "status": "DOWN"})
    assert answer.status_code == 404
    assert [one.status for one in server.registry.all_instances()] == ["UP"]
    assert server.writes == []
    assert status_url not in {one.path for one in server.requests}


async def test_wrong_verbs_and_unknown_paths_are_answered_in_plain_text(http: httpx.AsyncClient, status_url: str) -> None:
    wrong_verb = await http.head(status_url)
    assert (wrong_verb.status_code, wrong_verb.headers["Allow"]) == (405, "PUT")
    unknown = await http.get("/v4/default/nothing")
    assert (unknown.status_code, unknown.headers["Content-Type"]) == (404, "text/plain; charset=utf-8")


async def test_a_domain_that_is_no_text_is_a_tenant_like_any_other(server: DevServer, http: httpx.AsyncClient) -> None:
    headers = [(b"x-domain-name", b"d\xff")]
    created = await http.post(SERVICES, json={"service": {"serviceName": "orders"}}, headers=headers)
    listed = await http.get(SERVICES, headers=headers)
    assert [one["serviceId"] for one in listed.json()["services"]] == [created.json()["serviceId"]]
    assert (await http.get("/devserver/requests")).status_code == 200
    assert server.registry.services() == []


async def test_removing_a_service_takes_force_as_a_truth_value(server: DevServer, http: httpx.AsyncClient) -> None:
    service_id = with_instance(server.registry)
    url = f"{SERVICES}/{service_id}"
    answers = [await http.delete(url, params={"force": force}) for force in ("maybe", "0", "1")]
    codes = [answer.json()["errorCode"] if answer.content else answer.status_code for answer in answers]
    assert codes == ["400001", "400013", 200]


# --- the journal --------------------------------------------------------------------------------


async def test_every_request_is_in_the_journal_without_its_secrets(server: DevServer, http: httpx.AsyncClient) -> None:
    await http.get(SERVICES, params={"noCache": "1"}, headers={"x-domain-name": "d", "Authorization": "Bearer secret"})
    await http.put("/v4/p/registry/microservices/s/instances/i/status?value=UP", headers={"X-ConsumerId": "c"})
    assert server.requests == [
        RequestRecord(
            time=1_700_000_000.0,
            method="GET",
            path=SERVICES,
            query={"noCache": "1"},
            domain="d",
            authorization=True,
            consumer_id=False,
            status=200,
        ),
        RequestRecord(
            time=1_700_000_000.0,
            method="PUT",
            path="/v4/p/registry/microservices/s/instances/i/status",
            query={"value": "UP"},
            domain=None,
            authorization=False,
            consumer_id=True,
            status=400,
        ),
    ]
    assert "secret" not in repr(server.requests)


async def test_accepted_writes_are_kept_with_what_was_there_before(
    server: DevServer, http: httpx.AsyncClient, status_url: str, clock: Clock
) -> None:
    clock.advance(1)
    for value in ("DOWN", "DOWN", "BOGUS"):
        await http.put(status_url, params={"value": value})
    assert [(w.time, w.instance_id, w.before, w.after, w.redundant) for w in server.writes] == [
        (1_700_000_001.0, "i-1", "UP", "DOWN", False),
        (1_700_000_001.0, "i-1", "DOWN", "DOWN", True),
    ]
    assert (server.writes[0].domain, server.writes[0].project) == ("default", "default")
    assert (server.journal.total_writes, server.journal.redundant_writes) == (2, 1)


async def test_a_write_that_the_test_makes_itself_is_not_a_clients_write(server: DevServer) -> None:
    service_id = with_instance(server.registry)
    server.registry.put_status(service_id, "i-1", "DOWN")
    assert server.writes == []


def test_the_journal_keeps_the_newest_and_counts_all() -> None:
    journal = Journal(size=2)
    for number in range(5):
        journal.finished(journal.arrived(request_record(f"/{number}")), 200)
    assert [one.path for one in journal.requests] == ["/3", "/4"]
    assert journal.total_requests == 5
    journal.clear()
    assert (journal.requests, journal.total_requests) == ([], 0)


def test_the_journal_knows_how_many_requests_were_under_way_at_once() -> None:
    journal = Journal(size=1)
    pending = [journal.arrived(request_record()) for _ in range(3)]
    journal.finished(pending.pop(), 200)
    assert (journal.in_flight, journal.peak_in_flight) == (2, 3)
    journal.clear()
    assert (journal.in_flight, journal.peak_in_flight) == (2, 2)


async def test_a_callback_is_told_of_each_finished_request() -> None:
    told: list[RequestRecord] = []
    server = DevServer(on_request=told.append)
    async with server.listening() as base_url, httpx.AsyncClient(base_url=base_url) as http:
        await http.get(SERVICES)
        await http.get("/devserver/writes")
    assert told == server.requests


# --- faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "status", "start", "header"),
    [
        (Answer(), 500, b"", ("Content-Type", "application/json")),
        (Answer.refusal(Code.BACKEND_UNAVAILABLE), 500, b'{"errorCode": "500011"', ("Content-Type", "application/json")),
        (Answer.too_many_requests("7"), 429, b"slow", ("Retry-After", "7")),
        (Answer.html_page(), 200, b"<!DOCTYPE html>", ("Content-Type", "text/html")),
        (Answer.redirect("http://elsewhere/"), 301, b"", ("Location", "http://elsewhere/")),
        (Answer.mebibytes(3), 200, b"   ", ("Content-Length", str(3 * 2**20))),
    ],
)
async def test_a_fault_answers_something_else_and_nothing_is_applied(
    server: DevServer,
    http: httpx.AsyncClient,
    status_url: str,
    answer: Answer,
    status: int,
    start: bytes,
    header: tuple[str, str],
) -> None:
    server.faults.set(Fault(answer))
    got = await http.put(status_url, params={"value": "DOWN"})
    assert (got.status_code, got.content[: len(start)], got.headers[header[0]]) == (status, start, header[1])
    assert (server.writes, server.requests[0].status) == ([], status)


@pytest.mark.parametrize(("when", "applied"), [(When.BEFORE, []), (When.AFTER, ["DOWN"])])
@pytest.mark.parametrize("effect", [Drop(), Answer.html_page(502)])
async def test_an_unacknowledged_write_is_applied_or_not_as_the_fault_says(
    server: DevServer, http: httpx.AsyncClient, status_url: str, effect: Effect, when: When, applied: list[str]
) -> None:
    server.faults.set(on_status_puts(effect, when=when))
    try:
        answer = await http.put(status_url, params={"value": "DOWN"})
    except httpx.TransportError:
        assert effect == Drop()
        assert server.requests[0].status is None
    else:
        assert answer.status_code == 502
    assert [write.after for write in server.writes] == applied


async def test_a_fault_hits_only_the_requests_it_is_meant_for_and_only_so_often(
    server: DevServer, http: httpx.AsyncClient, status_url: str
) -> None:
    server.faults.set(
        on_status_puts(Answer(status=503), count=1),
        Fault(Answer(status=502), count=1, method="PUT"),
        Fault(Answer(), count=0),
    )
    read = await http.get(status_url.removesuffix("/status"))
    puts = [(await http.put(status_url, params={"value": "DOWN"})).status_code for _ in range(3)]
    assert (read.status_code, puts) == (200, [503, 502, 200])
    assert server.faults.active == ()


async def test_faults_are_in_force_until_they_are_cleared(server: DevServer, http: httpx.AsyncClient) -> None:
    server.faults.set(Fault(Answer(status=503)))
    assert [(await http.get(SERVICES)).status_code for _ in range(3)] == [503] * 3
    server.faults.clear()
    assert (await http.get(SERVICES)).status_code == 200


async def test_a_hanging_request_is_seen_while_it_hangs_and_then_fails(
    server: DevServer, http: httpx.AsyncClient, sleep: Sleep
) -> None:
    server.faults.add(Fault(Hang(30)))
    request = asyncio.create_task(http.get(SERVICES))
    await sleep.begun.wait()
    assert ([one.status for one in server.requests], server.journal.in_flight) == ([None], 1)
    sleep.over.set()
    answer = await request
    assert (answer.status_code, answer.json()["errorCode"], sleep.asked) == (500, "500003", [30])
    assert server.journal.in_flight == 0


async def test_a_delayed_write_takes_effect_after_its_client_has_given_up(
    server: DevServer, http: httpx.AsyncClient, status_url: str, sleep: Sleep
) -> None:
    server.faults.set(Fault(Delay(9), count=1))
    late = asyncio.create_task(http.put(status_url, params={"value": "DOWN"}))
    await sleep.begun.wait()
    late.cancel()
    assert (await http.put(status_url, params={"value": "STARTING"})).status_code == 200
    sleep.over.set()
    assert (await http.get(SERVICES)).status_code == 200
    assert [(write.before, write.after) for write in server.writes] == [("UP", "STARTING"), ("STARTING", "DOWN")]


async def test_a_delayed_answer_can_be_one_to_a_write_made_at_once(
    server: DevServer, http: httpx.AsyncClient, status_url: str, sleep: Sleep
) -> None:
    server.faults.set(Fault(Delay(9), when=When.AFTER))
    request = asyncio.create_task(http.put(status_url, params={"value": "DOWN"}))
    await sleep.begun.wait()
    assert len(server.writes) == 1
    sleep.over.set()
    assert ((await request).status_code, len(server.writes)) == (200, 1)


async def test_a_truncated_answer_is_half_of_the_truth(server: DevServer, http: httpx.AsyncClient) -> None:
    with_instance(server.registry)
    whole = (await http.get(SERVICES)).content
    server.faults.set(Fault(Truncate()))
    assert (await http.get(SERVICES)).content == whole[: len(whole) // 2]
    server.faults.set(Fault(Truncate(abrupt=True)))
    with pytest.raises(httpx.RemoteProtocolError):
        await http.get(SERVICES)


# --- the life of the server ---------------------------------------------------------------------


async def test_a_server_comes_back_on_its_port_with_its_state(server: DevServer) -> None:
    with_instance(server.registry)
    async with server.listening() as base_url:
        port = httpx.URL(base_url).port
    assert port is not None
    async with httpx.AsyncClient(base_url=base_url) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(SERVICES)
        async with server.listening(port=port) as again:
            assert again == base_url
            assert len((await http.get(SERVICES)).json()["services"]) == 1


async def test_a_stop_does_not_wait_for_requests_that_hang(server: DevServer, sleep: Sleep) -> None:
    server.faults.set(Fault(Hang(3600)))
    base_url = await server.start()
    async with httpx.AsyncClient(base_url=base_url) as http:
        request = asyncio.create_task(http.get(SERVICES))
        await sleep.begun.wait()
        async with asyncio.timeout(5):
            await server.stop()
        with pytest.raises(httpx.TransportError):
            await request


async def test_a_server_listens_once(server: DevServer) -> None:
    async with server.listening() as base_url:
        with pytest.raises(RuntimeError):
            await server.start()
        with pytest.raises(OSError, match="address already in use"):
            await DevServer().start(port=httpx.URL(base_url).port or 0)


async def test_a_reset_forgets_everything(server: DevServer, http: httpx.AsyncClient, status_url: str) -> None:
    server.faults.set(Fault(Answer(), count=1))
    await http.put(status_url)
    server.reset()
    assert (server.registry.all_services(), server.requests, server.faults.active) == ([], [], ())


# --- the admin surface --------------------------------------------------------------------------


async def test_the_admin_surface_tells_what_tests_look_at(
    server: DevServer, http: httpx.AsyncClient, status_url: str, clock: Clock
) -> None:
    for value in ("DOWN", "DOWN"):
        await http.put(status_url, params={"value": value})
    writes = (await http.get("/devserver/writes", params={"limit": 1})).json()
    assert (writes["total"], writes["redundant"], len(writes["writes"])) == (2, 1, 1)
    assert writes["writes"][0] == {
        "time": clock.now,
        "domain": "default",
        "project": "default",
        "serviceId": status_url.split("/")[-4],
        "instanceId": "i-1",
        "before": "DOWN",
        "after": "DOWN",
        "redundant": True,
    }
    requests = (await http.get("/devserver/requests")).json()
    assert (requests["total"], requests["inFlight"], requests["peakInFlight"]) == (2, 0, 1)
    assert [one["query"] for one in requests["requests"]] == [{"value": "DOWN"}] * 2
    instances = (await http.get("/devserver/instances")).json()
    assert (instances["expired"], [one["status"] for one in instances["instances"]]) == (0, ["DOWN"])
    assert (instances["instances"][0]["domain"], instances["instances"][0]["project"]) == ("default", "default")


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({"effect": "answer"}, Fault(Answer())),
        (
            {"effect": "answer", "status": 429, "body": "x", "contentType": "text/plain", "headers": {"Retry-After": "2"}},
            Fault(Answer(status=429, body=b"x", content_type="text/plain", headers={"Retry-After": "2"})),
        ),
        ({"effect": "answer", "mebibytes": 1}, Fault(Answer.mebibytes(1))),
        ({"effect": "hang"}, Fault(Hang(30))),
        ({"effect": "delay", "seconds": 0.5, "when": "after"}, Fault(Delay(0.5), when=When.AFTER)),
        ({"effect": "drop", "method": "put", "path": "/status$", "count": 3}, on_status_puts(Drop(), count=3)),
        ({"effect": "truncate", "abrupt": True}, Fault(Truncate(abrupt=True))),
    ],
)
async def test_faults_can_be_put_in_force_over_http(
    server: DevServer, http: httpx.AsyncClient, said: dict[str, object], fault: Fault
) -> None:
    answer = await http.put("/devserver/faults", json=said)
    assert (answer.status_code, server.faults.active) == (200, ((fault, fault.count),))
    assert answer.json()["faults"][0]["effect"] == said["effect"]
    assert (await http.put("/devserver/faults", json=[said, said])).status_code == 200
    assert len(server.faults.active) == 2
    await http.delete("/devserver/faults")
    assert (await http.get("/devserver/faults")).json() == {"faults": []}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"{", "Expecting"),
        (b"\xff", "codec"),
        (b"1", "a fault is an object"),
        (b"{}", "effect must be one of answer, hang, delay, drop, truncate"),
        (b'{"effect": "drop", "seconds": 1}', "drop knows no seconds"),
        (b'{"effect": "answer", "status": 99}', "status must be"),
        (b'{"effect": "answer", "headers": []}', "headers must be an object"),
        (b'{"effect": "answer", "headers": {"a": 1}}', "a must be a string"),
        (b'{"effect": "hang", "seconds": "1"}', "seconds must be a number"),
        (b'{"effect": "drop", "path": "("}', "path is no regular expression"),
        (b'{"effect": "drop", "count": -1}', "count must be a number"),
        (b'{"effect": "drop", "when": "never"}', "when must be before or after"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"effect": "drop", "count": NaN}', "count must be a number"),
        (b'{"effect": "drop", "count": Infinity}', "count must be a number"),
        (b'{"effect": "drop", "count": 0.5}', "count must be a whole number"),
        (b'{"effect": "drop", "count": ' + b"9" * 5000 + b"}", "digits"),
        (b'{"effect": "hang", "seconds": NaN}', "seconds must be a number"),
        (b'{"effect": "answer", "status": 404.5}', "status must be a whole number"),
        (b'{"effect": "answer", "mebibytes": 1e18}', "mebibytes must be a number from 0 to 1024"),
        (b'{"effect": "answer", "body": "\\ud800"}', "body must be Unicode text"),
        (b'{"effect": "answer", "contentType": "a\\nb"}', "contentType must be one line"),
        (b'{"effect": "answer", "headers": {"X": "a\\r\\nb"}}', "X must be one line"),
        (b'{"effect": "answer", "headers": {"X": "\\udfff"}}', "X must be Unicode text"),
        (b'{"effect": "answer", "headers": {"X: a\\nY": "b"}}', "headers must have names"),
        (b'{"effect": "drop", "path": "a{99999999999999999999}"}', "path is no regular expression"),
    ],
)
async def test_a_fault_that_is_none_is_refused_with_the_reason(
    server: DevServer, http: httpx.AsyncClient, said: bytes, why: str
) -> None:
    answer = await http.put("/devserver/faults", content=said)
    assert answer.status_code == 400
    assert why in answer.json()["error"]
    assert server.faults.active == ()


@pytest.mark.parametrize("what", ["writes", "requests"])
async def test_a_limit_that_no_number_can_be_is_refused(http: httpx.AsyncClient, what: str) -> None:
    answer = await http.get(f"/devserver/{what}", params={"limit": "9" * 5000})
    assert (answer.status_code, answer.text) == (400, "limit must have at most 9 digits\n")


async def test_a_reset_over_http_forgets_all_or_what_is_named(
    server: DevServer, http: httpx.AsyncClient, status_url: str
) -> None:
    await http.put(status_url, params={"value": "DOWN"})
    server.faults.set(Fault(Answer()))
    assert (await http.post("/devserver/reset", params={"only": "journal,nonsense"})).status_code == 400
    assert (await http.post("/devserver/reset", params={"only": "journal,faults"})).status_code == 200
    assert (len(server.registry.all_instances()), server.writes, server.faults.active) == (1, [], ())
    await http.post("/devserver/reset")
    assert server.registry.all_instances() == []


async def test_the_admin_surface_is_neither_journaled_nor_hit_by_faults(server: DevServer, http: httpx.AsyncClient) -> None:
    server.faults.set(Fault(Drop()))
    assert (await http.get("/devserver/nothing")).status_code == 404
    assert (await http.get("/devserver/requests")).status_code == 200
    assert server.requests == []


# --- accounts and TLS ---------------------------------------------------------------------------


async def login(http: httpx.AsyncClient, password: str = "right") -> httpx.Response:
    return await http.post("/v4/token", json={"name": "operator", "password": password})


async def read_with(http: httpx.AsyncClient, authorization: str | None) -> tuple[int, str]:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = await http.get(SERVICES, headers=headers)
    return answer.status_code, answer.json().get("errorCode", "")


@pytest.fixture
def guarded(clock: Clock) -> DevServer:
    return DevServer(clock=clock, accounts={"operator": "right"})


@pytest.fixture
async def guarded_http(guarded: DevServer) -> AsyncIterator[httpx.AsyncClient]:
    async with guarded.listening() as base_url, httpx.AsyncClient(base_url=base_url) as client:
        yield client


async def test_with_accounts_everything_but_health_needs_a_token(
    guarded: DevServer, guarded_http: httpx.AsyncClient, clock: Clock
) -> None:
    http = guarded_http
    assert (await http.get("/v4/default/registry/health")).status_code == 200
    assert await read_with(http, None) == (401, "401204")
    assert await read_with(http, "Bearer nonsense") == (401, "401201")
    token = (await login(http)).json()["token"]
    assert await read_with(http, token) == (401, "401201")
    assert await read_with(http, f"Bearer {token}") == (200, "")
    clock.advance(12 * 3600)
    assert await read_with(http, f"Bearer {token}") == (401, "401205")
    assert guarded.accounts is not None
    guarded.accounts.revoke_tokens()
    assert await read_with(http, f"Bearer {token}") == (401, "401201")


async def test_the_fourth_login_after_three_wrong_passwords_is_blocked_for_an_hour(
    guarded: DevServer, guarded_http: httpx.AsyncClient, clock: Clock
) -> None:
    wrong = [(await login(guarded_http, "wrong")).json()["errorCode"] for _ in range(3)]
    assert wrong == ["401202"] * 3
    assert (await login(guarded_http)).json()["errorCode"] == "403201"
    clock.advance(3600)
    assert (await login(guarded_http)).status_code == 200
    assert "right" not in repr(guarded.requests)


async def test_a_good_login_forgives_the_bad_ones_before_it(guarded_http: httpx.AsyncClient) -> None:
    for _ in range(3):
        for password in ("wrong", "wrong", "right"):
            answer = await login(guarded_http, password)
        assert answer.status_code == 200


async def test_passwords_can_be_rotated_and_tokens_expired(guarded: DevServer, guarded_http: httpx.AsyncClient) -> None:
    token = (await login(guarded_http)).json()["token"]
    assert guarded.accounts is not None
    guarded.accounts.set_password("operator", "new")
    guarded.accounts.expire_tokens()
    assert await read_with(guarded_http, f"Bearer {token}") == (401, "401205")
    assert (await login(guarded_http)).status_code == 401
    assert (await login(guarded_http, "new")).status_code == 200


async def test_expired_tokens_are_forgotten_when_another_is_made(clock: Clock) -> None:
    accounts = Accounts({"operator": "right"}, clock)
    old, new = accounts.login("operator", "right"), ""
    for _ in range(10):
        clock.advance(TOKEN_LIFE)
        new = accounts.login("operator", "right")
    accounts.check(f"Bearer {new}")
    assert old != new
    assert len(accounts._tokens) == 1


async def test_without_accounts_there_is_nobody_to_log_in(http: httpx.AsyncClient) -> None:
    assert (await login(http)).status_code == 404


async def test_a_password_that_is_no_text_is_a_wrong_one(guarded_http: httpx.AsyncClient) -> None:
    answer = await guarded_http.post("/v4/token", content=b'{"name": "operator", "password": "\\ud800"}')
    assert answer.json()["errorCode"] == "401202"


@pytest.mark.parametrize(("key", "digest"), [(b"ak", b"\xff\xfe"), (b"\xff\xfe", b"x")])
async def test_an_access_key_or_a_digest_that_is_no_text_is_a_wrong_one(key: bytes, digest: bytes) -> None:
    headers = [(b"X-Service-Project", b"default"), (b"X-Service-AK", key), (b"X-Service-ShaAKSK", digest)]
    async with DevServer(access_keys={"ak": "sk"}).listening() as url, httpx.AsyncClient(base_url=url) as http:
        answer = await http.get(SERVICES, headers=headers)
    assert (answer.status_code, answer.json()["errorCode"]) == (401, "401201")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1 and its key, in one file."""
    path = tmp_path / "tls.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=devserver -addext subjectAltName=IP:127.0.0.1"
    try:
        made = subprocess.run([*command.split(), "-keyout", path, "-out", "-"], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs the openssl command")
    path.write_bytes(path.read_bytes() + made.stdout)
    return path


async def test_it_speaks_tls_where_a_context_is_given(server: DevServer, certificate: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    trust = ssl.create_default_context(cafile=str(certificate))
    async with server.listening(ssl_context=context) as base_url, httpx.AsyncClient(base_url=base_url, verify=trust) as http:
        assert base_url.startswith("https://")
        assert (await http.get(SERVICES)).status_code == 200


# --- the command --------------------------------------------------------------------------------


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    devregistry.add_arguments(parser)
    return parser.parse_args(arguments)


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("127.0.0.1:30100", ("127.0.0.1", 30100)),
        ("[::1]:1", ("::1", 1)),
        (":30100", ("", 30100)),
        ("registry.local:0", ("registry.local", 0)),
    ],
)
def test_listen_takes_a_host_and_a_port(text: str, listen: tuple[str, int]) -> None:
    assert parse("--listen", text).listen == listen


@pytest.mark.parametrize(
    "text", ["", "30100", "localhost", "::1:30100", "localhost:", "localhost:http", "a:65536", "a:-1", "a:٣", f"a:{'9' * 5000}"]
)
def test_a_bad_listen_is_a_usage_error(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse(f"--listen={text}")
    assert exit_.value.code == 2
    assert "is not HOST:PORT" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "1e3", "many", "٣", "10000001", "9" * 23, "9" * 5000])
def test_a_journal_of_no_possible_size_is_a_usage_error(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse(f"--journal-size={text}")
    assert exit_.value.code == 2
    assert f"{text[:100]!r} is not a number from 1 to 10000000" in capsys.readouterr().err


def test_the_largest_journal_is_one() -> None:
    assert parse("--journal-size=10000000").journal_size == LARGEST_SIZE
    Journal(LARGEST_SIZE)


@pytest.mark.parametrize("size", [-1, LARGEST_SIZE + 1, 10**23])
def test_a_journal_has_a_possible_size(size: int) -> None:
    with pytest.raises(ValueError, match="a journal has room for 0 to 10000000, not"):
        Journal(size)


@pytest.mark.parametrize("host", ["a..b", "x" * 70, "nowhere.invalid"])
def test_a_host_that_no_resolver_knows_is_told_with_exit_status_2(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert devregistry.run(parse("--listen", f"{host}:0")) == 2
    assert f"cannot listen on {host} port 0: " in capsys.readouterr().err


def test_a_port_in_use_is_told_with_exit_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert devregistry.run(parse("--listen", f"127.0.0.1:{port}")) == 2
    told = capsys.readouterr()
    assert (told.out, f"cannot listen on 127.0.0.1 port {port}" in told.err) == ("", True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--tls-key", "{dir}/key.pem"], "--tls-key needs --tls-cert"),
        (["--tls-cert", "{dir}/none.pem"], "cannot use the certificate in"),
        (["--accounts", "{dir}/none"], "cannot read the accounts in"),
        (["--accounts", "{dir}/bad"], "every line must be NAME:PASSWORD"),
    ],
)
def test_an_option_that_cannot_work_is_told_with_exit_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    (tmp_path / "bad").write_text("operator:secret-word\nnobody\n")
    given = [argument.format(dir=tmp_path) for argument in arguments]
    assert devregistry.run(parse("--listen", "127.0.0.1:0", *given)) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "secret-word" not in error


def test_accounts_are_read_as_editors_of_any_system_write_them(tmp_path: Path) -> None:
    file = tmp_path / "accounts"
    file.write_text("\ufeffoperator:sécret\r\n\r\nother:a:b\r\n", "utf-8")
    assert devregistry._read_accounts(file) == {"operator": "sécret", "other": "a:b"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_told_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "accounts").write_text("operator:a:b\n")
    options = ["--listen", "127.0.0.1:0", "--log-requests", "--accounts", str(tmp_path / "accounts")]
    with subprocess.Popen(
        [sys.executable, "-m", "registry_status", "devregistry", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        answer = httpx.post(line.split()[-1] + "/v4/token?a=1", json={"name": "operator", "password": "a:b"})
        process.send_signal(number)
        rest, log = process.communicate(timeout=30)
    assert (process.returncode, answer.status_code, rest) == (0, 200, "")
    assert log.endswith(" - POST /v4/token?a=1 200\n")


def test_a_line_of_its_log_is_one_line_whatever_was_asked(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/v4/x\n1.000 - GET /forged 200\x1b[2J"
    devregistry._log_request(replace(request_record(), path=path, query={"a\n": "\r\u2028b"}, domain="d\x9b"))
    log = capsys.readouterr().err
    assert log.count("\n") == len(log.splitlines()) == 1
    assert log.rstrip("\n").isprintable()


async def test_a_log_that_nobody_reads_any_more_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with suppress(BrokenPipeError), os.fdopen(writer, "w", buffering=1) as broken:
        monkeypatch.setattr(sys, "stderr", broken)
        server = DevServer(on_request=devregistry._log_request)
        async with server.listening() as url, httpx.AsyncClient(base_url=url) as http:
            answers = [await http.get(SERVICES) for _ in range(2)]
        monkeypatch.undo()
    assert [answer.status_code for answer in answers] == [200, 200]
