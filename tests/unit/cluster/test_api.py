"""Single requests: what is asked, what comes back, and what a bad answer becomes."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from registry_status.cluster.api import ApiError, ApiServer, Permission, missing_permissions, server_version
from registry_status.cluster.read import METADATA_ONLY, ShardingError, list_pod_uids, list_pods, read_pod
from tests.unit.cluster.fake_api import (
    Act,
    FakeApi,
    access_to,
    answers,
    closed_port,
    page,
    pod,
    refuses,
    serving,
    streams,
)

pytestmark = pytest.mark.timeout(30)


class OneAct(FakeApi):
    """Answers every request with the acts in turn, and keeps the requests."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: list[Act] = []
        self.requests: list[tuple[str, str, Any, str | None]] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.requests.append((request.method, str(request.rel_url), body, request.headers.get("Accept")))
        return await self.turns.pop(0)(request)


@pytest.fixture
async def fake() -> AsyncIterator[OneAct]:
    fake = OneAct()
    async with serving(fake):
        yield fake


@pytest.fixture
async def api(fake: OneAct) -> AsyncIterator[ApiServer]:
    async with ApiServer(access_to(fake)) as api:
        yield api


@pytest.mark.parametrize(("minor", "number"), [("36", 36), ("34+", 34), ("9", 9)])
async def test_the_version_is_two_numbers(fake: OneAct, api: ApiServer, minor: str, number: int) -> None:
    fake.turns = [answers({"major": "1", "minor": minor})]
    assert await server_version(api) == (1, number)


async def test_a_version_that_is_none(fake: OneAct, api: ApiServer) -> None:
    fake.turns = [answers({"major": "one"})]
    with pytest.raises(ApiError, match="does not say major and minor"):
        await server_version(api)


async def test_only_missing_permissions_are_named(fake: OneAct, api: ApiServer) -> None:
    fake.turns = [answers({"status": {"allowed": True}}), answers({"status": {"allowed": False}}), answers({})]
    watch, patch = Permission("watch", "pods"), Permission("patch", "pods/status")
    create = Permission("create", "events", "events.k8s.io", "apps")
    assert await missing_permissions(api, (watch, create, patch)) == (create, patch)
    attributes = [body["spec"]["resourceAttributes"] for _, _, body, _ in fake.requests]
    assert attributes == [
        {"verb": "watch", "resource": "pods"},
        {"verb": "create", "resource": "events", "group": "events.k8s.io", "namespace": "apps"},
        {"verb": "patch", "resource": "pods", "subresource": "status"},
    ]
    assert str(watch) == "watch pods in all namespaces"
    assert str(create) == "create events.events.k8s.io in namespace apps"


async def test_a_pod_is_read_as_it_is(fake: OneAct, api: ApiServer) -> None:
    fake.turns = [answers(pod("a"))]
    assert await read_pod(api, "apps", "a") == pod("a")
    assert fake.requests[0][:2] == ("GET", "/api/v1/namespaces/apps/pods/a")


async def test_a_pod_that_is_not_there_is_none(fake: OneAct, api: ApiServer) -> None:
    fake.turns = [refuses(404, "NotFound")]
    assert await read_pod(api, "apps", "a") is None


async def test_another_404_is_an_error(fake: OneAct, api: ApiServer) -> None:
    """A proxy's, or a wrong server's: it says nothing about the pod."""
    fake.turns = [answers({"message": "no such page"}, 404)]
    with pytest.raises(ApiError):
        await read_pod(api, "apps", "a")


async def test_names_cannot_leave_their_path(fake: OneAct, api: ApiServer) -> None:
    fake.turns = [refuses(404, "NotFound")]
    await read_pod(api, "../../x", "a?b/c")
    assert fake.requests[0][1] == "/api/v1/namespaces/..%2F..%2Fx/pods/a%3Fb%2Fc"


async def test_pods_are_listed_page_by_page(fake: OneAct, api: ApiServer) -> None:
    fake.turns = [page("a", "b", more="next"), page("c")]
    listed: list[Any] = [item async for item in list_pods(api, "apps", selection={"labelSelector": "x=y"}, page=2)]
    assert [item["metadata"]["name"] for item in listed] == ["a", "b", "c"]
    first, second = (url for _, url, _, _ in fake.requests)
    assert first == "/api/v1/namespaces/apps/pods?limit=2&labelSelector=x%3Dy"
    assert second == first + "&continue=next"


@pytest.mark.parametrize("info", [None, {}, {"selector": "another"}, "nonsense"])
async def test_all_pods_are_never_taken_for_a_share_of_them(fake: OneAct, api: ApiServer, info: object) -> None:
    fake.turns = [answers({"items": [], "metadata": {"shardInfo": info}})]
    with pytest.raises(ShardingError, match="ShardedListAndWatch"):
        _ = [item async for item in list_pods(api, selection={"shardSelector": "half"})]


async def test_a_share_is_known_by_its_selector(fake: OneAct, api: ApiServer) -> None:
    fake.turns = [answers({"items": [{"metadata": {"name": "a"}}], "metadata": {"shardInfo": {"selector": "half"}}})]
    assert len([item async for item in list_pods(api, selection={"shardSelector": "half"})]) == 1


async def test_uids_are_read_from_metadata_alone(fake: OneAct, api: ApiServer) -> None:
    fake.turns = [page("a", more="next"), page("b")]
    assert await list_pod_uids(api) == {"uid-a", "uid-b"}
    assert [accept for *_, accept in fake.requests] == [METADATA_ONLY] * 2


@pytest.mark.parametrize(
    "second", [refuses(410, "Expired"), refuses(500), answers({"items": [{"metadata": {}}], "metadata": {}})]
)
async def test_uids_are_complete_or_an_error(fake: OneAct, api: ApiServer, second: Act) -> None:
    fake.turns = [page("a", more="next"), second]
    with pytest.raises(ApiError):
        await list_pod_uids(api)


@pytest.mark.parametrize(
    ("act", "status", "reason", "transient"),
    [
        (refuses(403, "Forbidden"), 403, "Forbidden", False),
        (refuses(429, "TooManyRequests"), 429, "TooManyRequests", True),
        (refuses(503, "ServiceUnavailable"), 503, "ServiceUnavailable", True),
        (refuses(302, "Found", {"Location": "/elsewhere"}), 302, "Found", False),
        (answers("text"), 200, "NoJson", False),
        (streams(b"<html>", then="end"), 200, "NoJson", False),
        (streams(b"\xff", then="end"), 200, "NoJson", False),
        (streams(b'{"kind":', then="cut"), 0, "Unreachable", True),
    ],
)
async def test_bad_answers(fake: OneAct, api: ApiServer, act: Act, status: int, reason: str, transient: bool) -> None:
    fake.turns = [act]
    with pytest.raises(ApiError) as caught:
        await api.get("/api/v1/pods")
    assert (caught.value.status, caught.value.reason, caught.value.transient) == (status, reason, transient)


async def test_a_server_that_is_not_there() -> None:
    fake = FakeApi()
    fake.url = f"http://127.0.0.1:{await closed_port()}"
    async with ApiServer(access_to(fake)) as api:
        with pytest.raises(ApiError, match=fake.url) as caught:
            await api.get("/version")
    assert caught.value.transient


async def test_what_is_created_is_sent_as_json(fake: OneAct, api: ApiServer) -> None:
    fake.turns = [answers({"kind": "Thing"}, 201)]
    assert await api.post("/things", {"a": 1}) == {"kind": "Thing"}
    assert fake.requests[0][:3] == ("POST", "/things", json.loads('{"a": 1}'))
