"""The registry contract, as measured on a real ServiceComb Service Center (2.x line, 2024-08).

It is run against our own in-memory server, or against any server that claims to speak the contract:

    REGISTRY_URL=http://127.0.0.1:30100 pytest -q tests/integration/test_registry_contract.py

Every assertion here passed on the real server. It creates services and instances of its own (random names) and removes them.
The time in it is real: an expiry takes 24 seconds.
"""

import asyncio
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from registry_status.registry.devserver import DevServer

R = "/v4/default/registry"
DOMAIN = {"x-domain-name": "default"}
Ids = dict[str, str]


@contextmanager
def devserver_in_a_thread() -> Iterator[str]:
    """These tests block, so the server needs an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="devserver")
    thread.start()
    server = DevServer()
    try:
        yield asyncio.run_coroutine_threadsafe(server.start(), loop).result(timeout=10)
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(timeout=10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    given = os.environ.get("REGISTRY_URL")
    if given:
        yield given
    else:
        with devserver_in_a_thread() as url:
            yield url


@pytest.fixture(scope="module")
def http(base_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=base_url, headers=DOMAIN, timeout=10) as client:
        yield client


@pytest.fixture(scope="module")
def service(http: httpx.Client) -> Iterator[Ids]:
    name = f"contract-{uuid.uuid4().hex[:8]}"
    body = {"service": {"appId": "contract", "serviceName": name, "version": "1.0.0", "environment": "testing"}}
    answer = http.post(f"{R}/microservices", json=body)
    assert answer.status_code == 200
    service_id = answer.json()["serviceId"]
    yield {"id": service_id, "name": name}
    http.delete(f"{R}/microservices/{service_id}", params={"force": "true"})


def register(
    http: httpx.Client,
    service: Ids,
    *,
    status: str | None = None,
    interval: int = 30,
    times: int = 3,
    host: str = "pod-1",
    ip: str = "127.0.0.1",
    instance_id: str | None = None,
) -> str:
    instance: dict[str, object] = {
        "hostName": host,
        "endpoints": [f"rest://{ip}:8080?sslEnabled=false"],
        "healthCheck": {"mode": "push", "interval": interval, "times": times},
        "properties": {"podName": host},
    }
    if status:
        instance["status"] = status
    if instance_id:
        instance["instanceId"] = instance_id
    answer = http.post(f"{R}/microservices/{service['id']}/instances", json={"instance": instance})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["instanceId"])


@pytest.fixture
def instance(http: httpx.Client, service: Ids) -> Iterator[str]:
    instance_id = register(http, service)
    yield instance_id
    http.delete(f"{R}/microservices/{service['id']}/instances/{instance_id}")


def path(service: Ids, instance_id: str, tail: str = "") -> str:
    return f"{R}/microservices/{service['id']}/instances/{instance_id}{tail}"


def read(http: httpx.Client, service: Ids, instance_id: str) -> dict[str, object]:
    answer = http.get(path(service, instance_id), params={"noCache": "1"})
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()["instance"]
    return found


def put_status(
    http: httpx.Client, service: Ids, instance_id: str, value: str | None, headers: Ids | None = None
) -> httpx.Response:
    params = {"noCache": "1"} | ({"value": value} if value is not None else {})
    return http.put(path(service, instance_id, "/status"), params=params, headers=headers)


def assert_error(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["errorCode"]) == (status, code)
    assert isinstance(answer.json()["errorCode"], str)
    assert answer.json()["errorMessage"]


# --- the status endpoint ------------------------------------------------------------------


@pytest.mark.parametrize("value", ["UP", "STARTING", "OUTOFSERVICE", "DOWN", "TESTING"])
def test_each_status_is_accepted_and_read_back(http: httpx.Client, service: Ids, instance: str, value: str | None) -> None:
    answer = put_status(http, service, instance, value)
    assert answer.status_code == 200
    assert answer.content == b""
    assert read(http, service, instance)["status"] == value


def test_the_same_status_again_is_accepted(http: httpx.Client, service: Ids, instance: str) -> None:
    assert put_status(http, service, instance, "DOWN").status_code == 200
    assert put_status(http, service, instance, "DOWN").status_code == 200


@pytest.mark.parametrize("value", ["up", "", None, "BOGUS", " UP"])
def test_any_other_status_is_refused(http: httpx.Client, service: Ids, instance: str, value: str | None) -> None:
    assert_error(put_status(http, service, instance, value), 400, "400001")
    assert read(http, service, instance)["status"] == "UP"


def test_a_bad_status_is_refused_before_the_instance_is_looked_up(http: httpx.Client, service: Ids) -> None:
    assert_error(put_status(http, service, "no-such-instance", "BOGUS"), 400, "400001")


def test_unknown_instance(http: httpx.Client, service: Ids) -> None:
    assert_error(put_status(http, service, "no-such-instance", "UP"), 400, "400017")


def test_unknown_service(http: httpx.Client, instance: str) -> None:
    assert_error(put_status(http, {"id": "no-such-service"}, instance, "UP"), 400, "400017")


def test_another_domain_does_not_see_the_instance(http: httpx.Client, service: Ids, instance: str) -> None:
    answer = put_status(http, service, instance, "DOWN", headers={"x-domain-name": "someone-else"})
    assert_error(answer, 400, "400017")


def test_another_project_does_not_see_the_instance(http: httpx.Client, service: Ids, instance: str) -> None:
    url = path(service, instance, "/status").replace("/v4/default/", "/v4/another/")
    assert_error(http.put(url, params={"value": "DOWN", "noCache": "1"}), 400, "400017")


def test_no_domain_header_means_default(base_url: str, service: Ids, instance: str) -> None:
    with httpx.Client(base_url=base_url) as bare:
        assert bare.put(path(service, instance, "/status"), params={"value": "DOWN"}).status_code == 200


@pytest.mark.parametrize("bad", ["x" * 65, "with space", "a,b", "ä"])
def test_an_instance_id_out_of_form_is_refused(http: httpx.Client, service: Ids, bad: str) -> None:
    assert_error(put_status(http, service, bad, "UP"), 400, "400001")


def test_wrong_verb(http: httpx.Client, service: Ids, instance: str) -> None:
    assert http.post(path(service, instance, "/status"), params={"value": "UP"}).status_code == 405


# --- reading ------------------------------------------------------------------------------


def test_listing_shows_every_status_and_what_identifies_a_pod(http: httpx.Client, service: Ids) -> None:
    ids = {
        register(http, service, host=f"pod-{s}", ip=f"127.0.0.{n}", status=s): s
        for n, s in enumerate(["UP", "STARTING", "OUTOFSERVICE", "DOWN"], start=2)
    }
    try:
        answer = http.get(f"{R}/microservices/{service['id']}/instances", params={"noCache": "1"})
        assert answer.status_code == 200
        found = {i["instanceId"]: i for i in answer.json()["instances"]}
        assert {k: found[k]["status"] for k in ids} == ids
        one = found[next(iter(ids))]
        assert one["hostName"] == "pod-UP"
        assert one["endpoints"] == ["rest://127.0.0.2:8080?sslEnabled=false"]
        assert one["properties"]["podName"] == "pod-UP"
        assert one["timestamp"].isdigit()
    finally:
        for instance_id in ids:
            http.delete(path(service, instance_id))


def test_listing_an_unknown_service(http: httpx.Client) -> None:
    assert_error(http.get(f"{R}/microservices/no-such-service/instances"), 400, "400012")


def test_reading_an_unknown_instance(http: httpx.Client, service: Ids) -> None:
    assert_error(http.get(path(service, "no-such-instance")), 400, "400017")


def test_existence_finds_the_service_id(http: httpx.Client, service: Ids) -> None:
    query = {"type": "microservice", "appId": "contract", "serviceName": service["name"], "version": "1.0.0", "env": "testing"}
    answer = http.get(f"{R}/existence", params=query)
    assert (answer.status_code, answer.json()["serviceId"]) == (200, service["id"])


def test_existence_of_an_unknown_service(http: httpx.Client) -> None:
    query = {"type": "microservice", "appId": "contract", "serviceName": "no-such", "version": "1.0.0", "env": "testing"}
    assert_error(http.get(f"{R}/existence", params=query), 400, "400012")


def test_existence_of_an_unknown_version(http: httpx.Client, service: Ids) -> None:
    query = {"type": "microservice", "appId": "contract", "serviceName": service["name"], "version": "9.9.9", "env": "testing"}
    assert_error(http.get(f"{R}/existence", params=query), 400, "400026")


def test_services_listing(http: httpx.Client, service: Ids) -> None:
    answer = http.get(f"{R}/microservices", params={"noCache": "1"})
    assert answer.status_code == 200
    names = {s["serviceId"]: s for s in answer.json()["services"]}
    assert names[service["id"]]["serviceName"] == service["name"]
    assert names[service["id"]]["environment"] == "testing"


def test_services_of_an_unknown_domain(http: httpx.Client) -> None:
    answer = http.get(f"{R}/microservices", headers={"x-domain-name": f"d{uuid.uuid4().hex[:6]}"})
    assert (answer.status_code, answer.json()) == (200, {})


def test_health(http: httpx.Client) -> None:
    assert http.get(f"{R}/health").status_code == 200


# --- the life of an instance --------------------------------------------------------------


def test_a_heartbeat_keeps_the_status(http: httpx.Client, service: Ids, instance: str) -> None:
    put_status(http, service, instance, "OUTOFSERVICE")
    answer = http.put(path(service, instance, "/heartbeat"))
    assert (answer.status_code, answer.content) == (200, b"")
    assert read(http, service, instance)["status"] == "OUTOFSERVICE"


def test_registering_a_live_instance_again_keeps_its_status(http: httpx.Client, service: Ids) -> None:
    instance_id = register(http, service, instance_id="kept-" + uuid.uuid4().hex[:8])
    try:
        put_status(http, service, instance_id, "DOWN")
        time.sleep(1)
        assert register(http, service, instance_id=instance_id, status="UP") == instance_id
        assert read(http, service, instance_id)["status"] == "DOWN"
    finally:
        http.delete(path(service, instance_id))


def test_registering_after_removal_takes_the_clients_status(http: httpx.Client, service: Ids) -> None:
    instance_id = register(http, service, instance_id="lost-" + uuid.uuid4().hex[:8])
    put_status(http, service, instance_id, "DOWN")
    assert http.delete(path(service, instance_id)).status_code == 200
    time.sleep(1)
    register(http, service, instance_id=instance_id)
    try:
        assert read(http, service, instance_id)["status"] == "UP"
    finally:
        http.delete(path(service, instance_id))


def test_the_same_endpoints_without_an_id_make_a_second_instance(http: httpx.Client, service: Ids) -> None:
    first = register(http, service, host="twice")
    second = register(http, service, host="twice")
    try:
        assert first != second
    finally:
        for instance_id in {first, second}:
            http.delete(path(service, instance_id))


def test_an_instance_without_heartbeats_expires(http: httpx.Client, service: Ids) -> None:
    instance_id = register(http, service, interval=1, times=1)  # raised by the server to 5 s and 3 times
    time.sleep(15)
    assert put_status(http, service, instance_id, "UP").status_code == 200
    time.sleep(9)
    assert_error(put_status(http, service, instance_id, "UP"), 400, "400017")


def test_properties_are_replaced_as_a_whole(http: httpx.Client, service: Ids, instance: str) -> None:
    answer = http.put(path(service, instance, "/properties"), json={"properties": {"a": "1"}}, params={"noCache": "1"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert read(http, service, instance)["properties"] == {"a": "1"}


def test_deleting_an_unknown_instance(http: httpx.Client, service: Ids) -> None:
    assert_error(http.delete(path(service, "no-such-instance")), 400, "400017")
