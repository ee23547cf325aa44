"""The emulator over HTTP, as kopf and the Kubernetes client use it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException

from registry_status.demo.admission import Call
from registry_status.demo.emulator import Emulator
from registry_status.demo.http import parse_call
from registry_status.demo.kinds import LEASES, NAMESPACES, PODS, ApiError

MakePod = Callable[..., dict[str, Any]]
INITIAL = {"watch": "true", "sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}


@pytest.fixture
def emulator() -> Emulator:
    return Emulator(bookmark_interval=0.2)


@pytest.fixture
async def http(emulator: Emulator) -> AsyncIterator[aiohttp.ClientSession]:
    async with emulator.listening() as url, aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield session


@pytest.fixture
async def kube(emulator: Emulator, http: aiohttp.ClientSession, tmp_path: Path) -> AsyncIterator[client.ApiClient]:
    api = await config.new_client_from_config(str(emulator.kubeconfig(tmp_path / "kubeconfig")))
    async with api:
        yield api


class Watch:
    """Reads a watch line by line."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def line(self) -> bytes:
        return await asyncio.wait_for(self.response.content.readline(), 5)

    async def event(self) -> tuple[str, dict[str, Any]]:
        event = json.loads(await self.line())
        return event["type"], event["object"]

    async def names(self, count: int) -> list[tuple[str, str]]:
        events = [await self.event() for _ in range(count)]
        return [(kind, item["metadata"]["name"]) for kind, item in events]


async def watch(http: aiohttp.ClientSession, path: str = "/api/v1/pods", **query: str) -> Watch:
    response = await http.get(path, params={"watch": "true", **query})
    assert response.status == 200, await response.text()
    return Watch(response)


async def get(http: aiohttp.ClientSession, path: str, **query: str) -> dict[str, Any]:
    async with http.get(path, params=query) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "application/json"
        answer: dict[str, Any] = await response.json()
        return answer


class TestPaths:
    @pytest.mark.parametrize(
        ("method", "path", "query", "call"),
        [
            ("GET", "/api/v1/pods", {}, Call("list", PODS)),
            ("GET", "/api/v1/pods", {"watch": "1"}, Call("watch", PODS)),
            ("GET", "/api/v1/namespaces/shop/pods", {}, Call("list", PODS, "shop")),
            ("GET", "/api/v1/namespaces/shop/pods/cart", {}, Call("get", PODS, "shop", "cart")),
            ("PATCH", "/api/v1/namespaces/shop/pods/cart/status", {}, Call("patch", PODS, "shop", "cart", "status")),
            ("POST", "/api/v1/namespaces/shop/pods", {}, Call("create", PODS, "shop")),
            ("DELETE", "/api/v1/namespaces/shop/pods/cart", {}, Call("delete", PODS, "shop", "cart")),
            ("GET", "/api/v1/namespaces", {}, Call("list", NAMESPACES)),
            ("GET", "/api/v1/namespaces/shop", {}, Call("get", NAMESPACES, "", "shop")),
            ("PUT", "/api/v1/namespaces/shop/status", {}, Call("update", NAMESPACES, "", "shop", "status")),
            (
                "PUT",
                "/apis/coordination.k8s.io/v1/namespaces/shop/leases/lead",
                {},
                Call("update", LEASES, "shop", "lead"),
            ),
        ],
    )
    def test_name_verb_kind_and_place(self, method: str, path: str, query: dict[str, str], call: Call) -> None:
        assert parse_call(method, path, query) == call

    @pytest.mark.parametrize(
        ("method", "path", "code"),
        [
            ("GET", "/api/v1/secrets", 404),
            ("GET", "/apis/apps/v1/deployments", 404),
            ("GET", "/api/v1/namespaces/shop/pods/cart/log", 404),
            ("GET", "/api/v1/namespaces/shop/pods/cart/status/more", 404),
            ("POST", "/api/v1/namespaces/shop/pods/cart", 405),
            ("DELETE", "/api/v1/namespaces/shop/pods", 405),
            ("GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", 405),
            ("OPTIONS", "/api/v1/pods", 405),
        ],
    )
    def test_that_lead_nowhere_are_refused(self, method: str, path: str, code: int) -> None:
        with pytest.raises(ApiError) as raised:
            parse_call(method, path, {})
        assert raised.value.code == code


class TestDiscovery:
    async def test_tells_what_there_is(self, http: aiohttp.ClientSession) -> None:
        assert (await get(http, "/version"))["minor"] == "36"
        assert (await get(http, "/api"))["versions"] == ["v1"]
        groups = {group["name"] for group in (await get(http, "/apis"))["groups"]}
        assert groups == {"apiextensions.k8s.io", "authorization.k8s.io", "coordination.k8s.io"}
        core = {resource["name"]: resource for resource in (await get(http, "/api/v1"))["resources"]}
        assert core["pods"]["kind"] == "Pod"
        assert {"list", "watch"} <= set(core["pods"]["verbs"])
        assert "pods/status" in core
        assert "events/status" not in core

    @pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
    async def test_says_that_it_lives(self, http: aiohttp.ClientSession, path: str) -> None:
        async with http.get(path) as response:
            assert (response.status, await response.text()) == (200, "ok")


class TestLists:
    async def test_come_in_pages(self, emulator: Emulator, http: aiohttp.ClientSession, pod: MakePod) -> None:
        for name in "abc":
            emulator.create_pod(pod(name))
        first = await get(http, "/api/v1/pods", limit="2")
        assert (first["kind"], first["apiVersion"], first["metadata"]["remainingItemCount"]) == ("PodList", "v1", 1)
        assert "kind" not in first["items"][0]
        second = await get(http, "/api/v1/pods", limit="2", **{"continue": first["metadata"]["continue"]})
        assert [item["metadata"]["name"] for item in first["items"] + second["items"]] == ["a", "b", "c"]
        assert "continue" not in second["metadata"]
        assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"] == str(emulator.store.version)

    async def test_can_be_selected(self, emulator: Emulator, http: aiohttp.ClientSession, pod: MakePod) -> None:
        emulator.create_pod(pod("a", labels={"app": "cart"}))
        emulator.create_pod(pod("b", labels={"app": "other"}))
        emulator.create_pod(pod("c", labels={"app": "cart"}, namespace="shop"))
        found = await get(http, "/api/v1/namespaces/default/pods", labelSelector="app=cart")
        assert [item["metadata"]["name"] for item in found["items"]] == ["a"]
        assert len((await get(http, "/api/v1/pods", fieldSelector="metadata.namespace=shop"))["items"]) == 1

    async def test_can_be_of_metadata_only(self, emulator: Emulator, http: aiohttp.ClientSession, pod: MakePod) -> None:
        emulator.create_pod(pod("a"))
        accept = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"}
        async with http.get("/api/v1/pods", headers=accept) as response:
            found = await response.json()
        assert found["kind"] == "PartialObjectMetadataList"
        assert [sorted(item) for item in found["items"]] == [["apiVersion", "kind", "metadata"]]


class TestWatches:
    async def test_lines_are_written_as_go_writes_them(
        self, emulator: Emulator, http: aiohttp.ClientSession, pod: MakePod
    ) -> None:
        owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "not-the-pods"}
        created = emulator.create_pod(pod("a", ownerReferences=[owner], annotations={"note": "ä"}))
        line = await (await watch(http)).line()
        assert line.startswith(b'{"type":"ADDED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a",')
        assert line.split(b'"uid":"')[1].startswith(created["metadata"]["uid"].encode())
        assert '"note":"ä"'.encode() in line

    async def test_without_a_version_begin_with_what_there_is(
        self, emulator: Emulator, http: aiohttp.ClientSession, pod: MakePod
    ) -> None:
        emulator.create_pod(pod("a"))
        watching = await watch(http)
        emulator.update_pod_status("default", "a", {"phase": "Running"})
        assert await watching.names(2) == [("ADDED", "a"), ("MODIFIED", "a")]

    async def test_tell_what_happened_after_a_version(
        self, emulator: Emulator, http: aiohttp.ClientSession, pod: MakePod
    ) -> None:
        since = emulator.create_pod(pod("a"))["metadata"]["resourceVersion"]
        emulator.create_pod(pod("b"))
        watching = await watch(http, resourceVersion=since)
        emulator.create_pod(pod("c"))
        assert await watching.names(2) == [("ADDED", "b"), ("ADDED", "c")]

    async def test_end_the_initial_list_with_a_bookmark(
        self, emulator: Emulator, http: aiohttp.ClientSession, pod: MakePod
    ) -> None:
        emulator.create_pod(pod("a"))
        version = emulator.create_pod(pod("b"))["metadata"]["resourceVersion"]
        watching = await watch(http, **INITIAL)
        assert await watching.names(2) == [("ADDED", "a"), ("ADDED", "b")]
        kind, item = await watching.event()
        assert kind == "BOOKMARK"
        assert item["metadata"] == {"resourceVersion": version, "annotations": {"k8s.io/initial-events-end": "true"}}
        emulator.create_pod(pod("c"))
        assert await watching.names(1) == [("ADDED", "c")]

    async def test_of_nothing_end_their_list_too(self, http: aiohttp.ClientSession) -> None:
        kind, item = await (await watch(http, **INITIAL)).event()
        assert (kind, item["metadata"]["annotations"]) == ("BOOKMARK", {"k8s.io/initial-events-end": "true"})

    async def test_need_a_match_for_initial_events(self, http: aiohttp.ClientSession) -> None:
        async with http.get("/api/v1/pods", params={"watch": "true", "sendInitialEvents": "true"}) as response:
            assert (response.status, (await response.json())["reason"]) == (422, "Invalid")

    async def test_from_a_compacted_version_end_with_410(
        self, emulator: Emulator, http: aiohttp.ClientSession, pod: MakePod
    ) -> None:
        since = emulator.create_pod(pod("a"))["metadata"]["resourceVersion"]
        emulator.create_pod(pod("b"))
        emulator.compact()
        watching = await watch(http, resourceVersion=since)
        kind, status = await watching.event()
        assert (kind, status["kind"], status["code"], status["reason"]) == ("ERROR", "Status", 410, "Expired")
        assert await watching.line() == b""

    async def test_that_run_survive_a_compaction(self, emulator: Emulator, http: aiohttp.ClientSession, pod: MakePod) -> None:
        watching = await watch(http)
        emulator.create_pod(pod("a"))
        assert await watching.names(1) == [("ADDED", "a")]
        emulator.compact()
        emulator.create_pod(pod("b"))
        assert await watching.names(1) == [("ADDED", "b")]

    async def test_send_bookmarks_while_nothing_happens(self, emulator: Emulator, http: aiohttp.ClientSession) -> None:
        watching = await watch(http, allowWatchBookmarks="true")
        emulator.create_namespace("elsewhere")
        kind, item = await watching.event()
        assert (kind, item["metadata"]) == ("BOOKMARK", {"resourceVersion": str(emulator.store.version)})

    async def test_send_none_unasked(self, http: aiohttp.ClientSession) -> None:
        assert await (await watch(http, timeoutSeconds="1")).line() == b""

    async def test_end_when_their_time_is_up(self, emulator: Emulator, http: aiohttp.ClientSession, pod: MakePod) -> None:
        watching = await watch(http, timeoutSeconds="1")
        emulator.create_pod(pod("a"))
        assert await watching.names(1) == [("ADDED", "a")]
        assert await watching.line() == b""

    async def test_can_be_cut(self, emulator: Emulator, http: aiohttp.ClientSession, pod: MakePod) -> None:
        watching = await watch(http)
        emulator.create_pod(pod("a"))
        await watching.line()
        emulator.cut_watches()
        with pytest.raises(aiohttp.ClientError):
            await watching.line()

    async def test_are_of_one_object_if_it_is_named(
        self, emulator: Emulator, http: aiohttp.ClientSession, pod: MakePod
    ) -> None:
        emulator.create_pod(pod("a"))
        emulator.create_pod(pod("b"))
        watching = await watch(http, "/api/v1/namespaces/default/pods/b")
        assert await watching.names(1) == [("ADDED", "b")]


class TestTheKubernetesClient:
    async def test_posts_events_and_counts_them_up(self, emulator: Emulator, kube: client.ApiClient) -> None:
        core = client.CoreV1Api(kube)
        body: Any = {  # the client sends plain dicts as well as its own classes
            "metadata": {"name": "cart.1", "namespace": "default"},
            "involvedObject": {"kind": "Pod", "name": "cart", "namespace": "default"},
            "reason": "Test",
            "type": "Warning",
            "count": 1,
        }
        await core.create_namespaced_event("default", body)
        with pytest.raises(ApiException) as raised:
            await core.create_namespaced_event("default", body)
        assert raised.value.body is not None
        assert (raised.value.status, json.loads(raised.value.body)["reason"]) == (409, "AlreadyExists")
        merge = "application/merge-patch+json"
        await core.patch_namespaced_event("cart.1", "default", {"count": 2}, _content_type=merge)
        assert (await core.read_namespaced_event("cart.1", "default")).count == 2
        assert [(event["reason"], event["count"]) for event in emulator.events] == [("Test", 2)]

    async def test_leads_by_a_lease(self, kube: client.ApiClient) -> None:
        leases = client.CoordinationV1Api(kube)
        lease = client.V1Lease(metadata=client.V1ObjectMeta(name="lead"), spec=client.V1LeaseSpec(holder_identity="a"))
        mine = await leases.create_namespaced_lease("default", lease)
        theirs = await leases.read_namespaced_lease("lead", "default")
        assert mine.spec is not None
        assert theirs.spec is not None
        mine.spec.holder_identity = "b"
        await leases.replace_namespaced_lease("lead", "default", mine)
        theirs.spec.holder_identity = "c"
        with pytest.raises(ApiException) as raised:
            await leases.replace_namespaced_lease("lead", "default", theirs)
        assert (raised.value.status, raised.value.reason) == (409, "Conflict")
        kept = await leases.read_namespaced_lease("lead", "default")
        assert kept.spec is not None
        assert kept.spec.holder_identity == "b"

    async def test_asks_for_its_rights(self, emulator: Emulator, kube: client.ApiClient) -> None:
        emulator.deny("create", "events", "shop")
        assert await self._allowed(kube, namespace="default", verb="create", resource="events")
        assert not await self._allowed(kube, namespace="shop", verb="create", resource="events")
        emulator.deny("patch", "pods/status")
        assert not await self._allowed(kube, verb="patch", resource="pods", subresource="status")
        assert await self._allowed(kube, verb="patch", resource="pods")
        emulator.allow_all()
        assert await self._allowed(kube, namespace="shop", verb="create", resource="events")

    async def _allowed(self, kube: client.ApiClient, **attributes: Any) -> bool:
        spec = client.V1SelfSubjectAccessReviewSpec(resource_attributes=client.V1ResourceAttributes(**attributes))
        review = client.V1SelfSubjectAccessReview(spec=spec)
        answer = await client.AuthorizationV1Api(kube).create_self_subject_access_review(review)
        assert answer.status is not None
        return bool(answer.status.allowed)

    async def test_deletes_with_grace(self, emulator: Emulator, kube: client.ApiClient, pod: MakePod) -> None:
        core = client.CoreV1Api(kube)
        emulator.create_pod(pod("cart"))
        emulator.bind_pod("default", "cart", "node-1")
        deleted = await core.delete_namespaced_pod("cart", "default")
        assert deleted.metadata is not None
        assert deleted.metadata.deletion_grace_period_seconds == 4
        left = await core.read_namespaced_pod("cart", "default")
        assert left.spec is not None
        assert left.spec.node_name == "node-1"
        emulator.remove_pod("default", "cart")
        with pytest.raises(ApiException) as raised:
            await core.read_namespaced_pod("cart", "default")
        assert raised.value.status == 404

    async def test_options_of_a_deletion_count(self, emulator: Emulator, kube: client.ApiClient, pod: MakePod) -> None:
        core = client.CoreV1Api(kube)
        emulator.create_pod(pod("cart"))
        emulator.bind_pod("default", "cart", "node-1")
        stranger = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="other"))
        with pytest.raises(ApiException) as raised:
            await core.delete_namespaced_pod("cart", "default", body=stranger)
        assert raised.value.status == 409
        await core.delete_namespaced_pod("cart", "default", grace_period_seconds=0)
        assert emulator.store.select(PODS) == []

    async def test_patches_a_status(self, emulator: Emulator, kube: client.ApiClient, pod: MakePod) -> None:
        core = client.CoreV1Api(kube)
        emulator.create_pod(pod("cart"))
        gate = {"type": "registry-status.io/registered", "status": "True"}
        strategic = "application/strategic-merge-patch+json"
        await core.patch_namespaced_pod_status("cart", "default", {"status": {"conditions": [gate]}}, _content_type=strategic)
        assert emulator.pod("default", "cart")["status"]["conditions"] == [gate]
        assert [(one.call.verb, one.call.resource) for one in emulator.writes] == [("patch", "pods/status")]


class TestTrouble:
    async def test_a_wrong_token_is_refused(self, tmp_path: Path) -> None:
        emulator = Emulator(token="right")
        async with emulator.listening() as url, aiohttp.ClientSession() as http:
            for headers, status in (
                ({}, 401),
                ({"Authorization": "Bearer wrong"}, 401),
                ({"Authorization": "Bearer right"}, 200),
            ):
                async with http.get(f"{url}/api/v1/pods", headers=headers) as response:
                    assert response.status == status
            written = json.loads(emulator.kubeconfig(tmp_path / "kubeconfig").read_text())
            assert written["users"][0]["user"] == {"token": "right"}
            assert written["clusters"][0]["cluster"]["server"] == url

    async def test_what_is_denied_is_forbidden(self, emulator: Emulator, http: aiohttp.ClientSession) -> None:
        emulator.deny("list", "pods")
        async with http.get("/api/v1/pods") as response:
            status = await response.json()
            assert (response.status, status["reason"]) == (403, "Forbidden")
            assert 'cannot list resource "pods"' in status["message"]
        assert (await watch(http)).response.status == 200

    async def test_failures_come_as_often_as_asked(self, emulator: Emulator, http: aiohttp.ClientSession) -> None:
        emulator.fail(2, 429, verb="list", resource="pods", retry_after=7)
        answers = []
        for _ in range(3):
            async with http.get("/api/v1/pods") as response:
                answers.append((response.status, response.headers.get("Retry-After")))
        assert answers == [(429, "7"), (429, "7"), (200, None)]
        emulator.fail(1, 500)
        async with http.get("/api/v1/namespaces") as response:
            assert (response.status, (await response.json())["reason"]) == (500, "InternalError")

    async def test_bad_requests_are_told(self, http: aiohttp.ClientSession) -> None:
        async with http.post("/api/v1/namespaces/default/events", data=b"{") as response:
            assert response.status == 400
        async with http.post("/api/v1/namespaces/default/events", json=[1]) as response:
            assert response.status == 400
        async with http.get("/api/v1/pods", params={"limit": "many"}) as response:
            assert (response.status, (await response.json())["reason"]) == (400, "BadRequest")

    async def test_every_request_is_seen(self, emulator: Emulator, http: aiohttp.ClientSession) -> None:
        await get(http, "/api/v1/pods", limit="5")
        async with http.post("/api/v1/namespaces/nowhere/events", json={"metadata": {"name": "a"}}) as response:
            assert response.status == 404
        assert [request.call.verb for request in emulator.requests] == ["list", "create"]
        assert emulator.requests[0].query == {"limit": "5"}
        assert [(one.call.resource, one.call.namespace, one.body) for one in emulator.writes] == [
            ("events", "nowhere", {"metadata": {"name": "a"}})
        ]

    async def test_the_handles_of_a_scenario_are_no_requests(self, emulator: Emulator, pod: MakePod) -> None:
        emulator.create_pod(pod("a", namespace="new") | {"status": {"phase": "Running"}})
        assert emulator.pod("new", "a")["status"] == {"phase": "Running"}
        emulator.annotate("new", "a", {"x": "1", "y": "2"})
        assert emulator.annotate("new", "a", {"x": None})["metadata"]["annotations"] == {"y": "2"}
        assert emulator.requests == ()

    async def test_a_namespace_can_be_closed(self, emulator: Emulator, http: aiohttp.ClientSession) -> None:
        emulator.create_namespace("closing")
        emulator.terminate_namespace("closing")
        async with http.post("/api/v1/namespaces/closing/events", json={"metadata": {"name": "a"}}) as response:
            assert response.status == 403

    def test_a_kubeconfig_needs_an_address(self, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError, match="does not listen"):
            Emulator().kubeconfig(tmp_path / "kubeconfig")
