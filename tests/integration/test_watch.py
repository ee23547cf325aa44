"""The watch of pods, kopf included, on a real API server: what Go writes is what the byte filter expects."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry_status.cluster import frames
from registry_status.cluster.access import load_access
from registry_status.cluster.api import ApiServer, Permission, missing_permissions, server_version
from registry_status.cluster.frames import WatchFrames
from registry_status.cluster.lines import ITEM, LIST_HEAD, NEXT_ITEM, POD, Known, Queued, WatchFault
from registry_status.cluster.protobuf import decode_object
from registry_status.cluster.read import list_pod_uids, list_pods, read_pod
from registry_status.cluster.watch import run_pod_watch
from registry_status.config import Settings
from registry_status.pods.handlers import pod_handlers
from registry_status.pods.observation import observe
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kube import Kube

PREFIX = "registry-status.io/"
OURS = {f"{PREFIX}service": "orders"}
OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "5d3f2c1b-0000-4000-8000-00000000aaaa"}
PODS = [Permission(verb, "pods") for verb in ("list", "watch")]


class Cluster:
    """The API server, and pods written as kubectl and a kubelet would."""

    def __init__(self, kube: Kube) -> None:
        self.kube = kube
        self.http = kube.http()

    def namespace(self) -> str:
        name = f"watch-{secrets.token_hex(4)}"
        self._sent("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        return name

    def create(self, namespace: str, name: str, **metadata: Any) -> str:
        body = {"metadata": {"name": name, **metadata}, "spec": {"containers": [{"name": "main", "image": "none"}]}}
        uid: str = self._sent("POST", f"/api/v1/namespaces/{namespace}/pods", body)["metadata"]["uid"]
        return uid

    def patch(self, namespace: str, name: str, patch: Mapping[str, Any], subresource: str = "") -> str:
        path = f"/api/v1/namespaces/{namespace}/pods/{name}{subresource}"
        headers = {"Content-Type": "application/merge-patch+json"}
        answer = self.http.patch(path, content=json.dumps(patch), headers=headers)
        version: str = answer.raise_for_status().json()["metadata"]["resourceVersion"]
        return version

    def delete(self, namespace: str, name: str) -> None:
        self._sent("DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}", {"gracePeriodSeconds": 0})

    def _sent(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        return self.http.request(method, path, json=body).raise_for_status().json()


@dataclass
class Watching:
    """What a watch has told so far."""

    stop: asyncio.Event
    task: "asyncio.Task[None]"
    started: list[str] = field(default_factory=list)
    finished: list[tuple[str, frozenset[str]]] = field(default_factory=list)
    faults: list[tuple[WatchFault, str]] = field(default_factory=list)
    events: list[tuple[str | None, str, dict[str, Any]]] = field(default_factory=list)

    def listing_started(self, namespace: str) -> None:
        self.started.append(namespace)

    def listing_finished(self, namespace: str, uids: frozenset[str]) -> None:
        self.finished.append((namespace, uids))

    def progressed(self, namespace: str) -> None:
        pass

    def suffered(self, _namespace: str, fault: WatchFault, detail: str) -> None:
        self.faults.append((fault, detail))

    def take(self, kind: str | None, pod: Mapping[str, Any]) -> None:
        self.events.append((kind, pod["metadata"]["name"], dict(pod)))

    def seen(self) -> list[tuple[str | None, str]]:
        return [(kind, name) for kind, name, _ in self.events]

    async def until(self, condition: Any, seconds: float = 20) -> None:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - what it waits for tells nobody
                await asyncio.sleep(0.01)


@asynccontextmanager
async def watching(
    kubeconfig: Path, *namespaces: str, tracked: Collection[str] = (), filtering: bool = True, label_selector: str = ""
) -> AsyncIterator[Watching]:
    access = await load_access(kubeconfig, None, {})
    stop = asyncio.Event()
    watch = Watching(stop, asyncio.create_task(asyncio.sleep(0)))
    watch.task = asyncio.create_task(
        run_pod_watch(
            access=access, settings=Settings(namespaces=namespaces, label_selector=label_selector, watch_filter=filtering),
            handlers=pod_handlers, listener=watch, tracked=tracked, stop=stop,
        )
    )  # fmt: skip
    try:
        yield watch
    finally:
        stop.set()
        async with asyncio.timeout(5):
            await watch.task


@pytest.fixture(scope="module")
def cluster(control_plane: ControlPlane) -> Cluster:
    return Cluster(control_plane.kube)


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    return cluster.namespace()


# --- what Go writes --------------------------------------------------------------------------------


@pytest.fixture
def varied(cluster: Cluster, namespace: str) -> dict[str, str]:
    """Create pods with everything that could stand before, or be mistaken for, their uid."""
    shapes: dict[str, dict[str, Any]] = {
        "plain": {},
        "owned": {"ownerReferences": [OWNER, {**OWNER, "name": "other", "uid": "5d3f2c1b-0000-4000-8000-00000000bbbb"}]},
        "annotated": {"annotations": {**OURS, "note": '{"uid":"not-it","a":"<&>"}'}, "labels": {"uid": "not-it"}},
        "held": {"finalizers": ["example.com/hold"], "ownerReferences": [OWNER]},
    }
    uids = {name: cluster.create(namespace, name, **metadata) for name, metadata in shapes.items()}
    made = {"metadata": {"generateName": "made-"}, "spec": {"containers": [{"name": "main", "image": "none"}]}}
    created = cluster.http.post(f"/api/v1/namespaces/{namespace}/pods", json=made).raise_for_status().json()["metadata"]
    uids[created["name"]] = created["uid"]
    cluster.patch(namespace, "owned", {"status": {"phase": "Running"}}, "/status")  # a second manager in managedFields
    cluster.delete(namespace, "held")  # stays, with deletionTimestamp
    return uids


def test_the_first_uid_of_every_watch_line_is_the_pods(cluster: Cluster, namespace: str, varied: dict[str, str]) -> None:
    query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
    lines = cluster.http.get(f"/api/v1/namespaces/{namespace}/pods?{query}").content.splitlines()
    found = {}
    for line in lines[:-1]:
        pod, parsed = POD.match(line), json.loads(line)["object"]["metadata"]
        assert pod is not None, line
        assert pod["uid"].decode() == parsed["uid"]
        assert pod["version"].decode() == parsed["resourceVersion"]
        found[parsed["name"]] = parsed["uid"]
    assert found == varied
    assert json.loads(lines[-1])["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_a_page_is_written_as_expected(cluster: Cluster, namespace: str, varied: dict[str, str]) -> None:
    body = cluster.http.get(f"/api/v1/namespaces/{namespace}/pods?limit=500").content
    head = LIST_HEAD.match(body)
    assert head is not None
    assert ITEM.match(body, head.end()) is not None
    assert body.count(NEXT_ITEM) == len(varied) - 1


EVERYTHING: dict[str, Any] = {
    "metadata": {"name": "everything", "annotations": {**OURS, "empty": "", "note": "ä\n€"}, "labels": {"app": "orders"}},
    "spec": {
        "nodeName": "node-1", "hostNetwork": True, "hostname": "orders-0",
        "readinessGates": [{"conditionType": "registry-status.io/registered"}],
        "initContainers": [{"name": "init", "image": "none"}, {"name": "side", "image": "none", "restartPolicy": "Always"}],
        "containers": [
            {"name": "main", "image": "none", "ports": [{"containerPort": 8080}, {"containerPort": 65535, "protocol": "UDP"}]},
            {"name": "other", "image": "none"},
        ],
    },
}  # fmt: skip
ENDED = {"exitCode": 137, "reason": "Error", "startedAt": "2026-01-05T10:00:02Z", "finishedAt": "2026-01-05T10:01:00Z"}
STATUS: dict[str, Any] = {
    "phase": "Running", "startTime": "2026-01-05T10:00:00Z",
    "podIP": "10.1.2.3", "podIPs": [{"ip": "10.1.2.3"}, {"ip": "fd00::7"}],
    "conditions": [
        {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "lastTransitionTime": "2026-01-05T10:00:05Z"},
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": None},
    ],
    "containerStatuses": [
        {
            "name": "main", "ready": False, "started": False, "restartCount": 3, "image": "none", "imageID": "",
            "containerID": "containerd://1", "state": {"running": {"startedAt": "2026-01-05T10:02:00Z"}},
            "lastState": {"terminated": ENDED},
        },
        {
            "name": "other", "ready": True, "restartCount": 0, "image": "none", "imageID": "",
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
        },
    ],
    "initContainerStatuses": [
        {
            "name": "side", "ready": True, "started": True, "restartCount": 0, "image": "none", "imageID": "",
            "state": {"terminated": ENDED},
        },
    ],
}  # fmt: skip


def test_a_pod_in_protobuf_says_what_it_says_in_json(cluster: Cluster, namespace: str, varied: dict[str, str]) -> None:
    cluster.http.post(f"/api/v1/namespaces/{namespace}/pods", json=EVERYTHING).raise_for_status()
    cluster.patch(namespace, "everything", {"status": STATUS}, "/status")
    query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
    path = f"/api/v1/namespaces/{namespace}/pods?{query}"
    answer = cluster.http.get(path, headers={"Accept": frames.ACCEPT})
    assert answer.headers["content-type"].startswith(frames.CONTENT_TYPE)
    stream = WatchFrames(prefix=PREFIX.encode(), known=Known(varied.values()), listing=True, queued=Queued())
    binary = [json.loads(line) for line in stream.take(answer.content, len(answer.content))[0].splitlines()]
    text = [json.loads(line) for line in cluster.http.get(path).content.splitlines()]
    assert len(binary) == len(text) == len(varied) + 2
    for ours, theirs in zip(binary[:-1], text[:-1], strict=True):
        assert ours["type"] == theirs["type"]
        assert observe(ours["object"], PREFIX) == observe(theirs["object"], PREFIX)
        assert [ours["object"][key] for key in ("kind", "apiVersion")] == ["Pod", "v1"]
        assert ours["object"]["metadata"]["resourceVersion"] == theirs["object"]["metadata"]["resourceVersion"]
    assert binary[-1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert stream.listed == {*varied.values(), binary[-2]["object"]["metadata"]["uid"]} | stream.listed


def test_a_refusal_in_protobuf_says_what_it_says_in_json(cluster: Cluster) -> None:
    path = "/api/v1/namespaces/default/pods?watch=true&resourceVersion=nonsense"
    refusals = [cluster.http.get(path, headers={"Accept": accept}) for accept in (frames.ACCEPT, "application/json")]
    binary, text = decode_object(refusals[0].content), refusals[1].json()
    assert {key: binary.get(key) for key in ("kind", "status", "message", "reason", "code")} == {
        key: text.get(key) for key in ("kind", "status", "message", "reason", "code")
    }


# --- the watch -------------------------------------------------------------------------------------


@pytest.mark.parametrize("filtering", [True, False])
async def test_a_pods_life(control_plane: ControlPlane, cluster: Cluster, namespace: str, filtering: bool) -> None:
    uid = cluster.create(namespace, "before", annotations=OURS, ownerReferences=[OWNER])
    stranger = cluster.create(namespace, "stranger", ownerReferences=[OWNER])
    async with watching(control_plane.kubeconfig, namespace, filtering=filtering) as watch:
        await watch.until(lambda: watch.finished and watch.events)
        assert watch.finished == [(namespace, frozenset({uid} if filtering else {uid, stranger}))]
        cluster.create(namespace, "after", annotations=OURS)
        cluster.patch(namespace, "after", {"status": {"phase": "Running"}}, "/status")
        cluster.patch(namespace, "stranger", {"metadata": {"labels": {"a": "b"}}})
        cluster.patch(namespace, "after", {"metadata": {"annotations": {"registry-status.io/service": None}}})
        cluster.patch(namespace, "after", {"metadata": {"labels": {"a": "b"}}})
        cluster.delete(namespace, "after")
        cluster.patch(namespace, "before", {"status": {"phase": "Running"}}, "/status")
        await watch.until(lambda: {("DELETED", "after"), ("MODIFIED", "before")} <= set(watch.seen()))
    told = {name: [kind for kind, other in watch.seen() if other == name] for name in ("before", "after", "stranger")}
    assert told["before"] == [None, "MODIFIED"]
    assert told["after"] == ["ADDED", *["MODIFIED"] * 4, "DELETED"]  # the deletion modifies it first
    assert told["stranger"] == ([] if filtering else [None, "MODIFIED"])
    assert not watch.faults


async def test_pods_whose_spec_looks_like_ours_pass_and_do_no_harm(
    control_plane: ControlPlane, cluster: Cluster, namespace: str
) -> None:
    applied = json.dumps({"metadata": {"annotations": OURS}})
    cluster.create(namespace, "applied", annotations={"kubectl.kubernetes.io/last-applied-configuration": applied})
    async with watching(control_plane.kubeconfig, namespace) as watch:
        await watch.until(lambda: watch.finished)
    assert len(watch.finished[0][1]) <= 1


async def test_all_namespaces_in_one_watch_or_some_in_several(control_plane: ControlPlane, cluster: Cluster) -> None:
    one, two = cluster.namespace(), cluster.namespace()
    uids = {cluster.create(space, "a", annotations=OURS) for space in (one, two)}
    async with watching(control_plane.kubeconfig, one, two) as watch:
        await watch.until(lambda: len(watch.finished) == 2 and len(watch.events) == 2)
    assert {space for space, _ in watch.finished} == {one, two}
    async with watching(control_plane.kubeconfig) as watch:
        await watch.until(lambda: watch.finished)
    assert watch.finished[0][0] == ""
    assert uids <= watch.finished[0][1]


async def test_a_pod_that_leaves_the_label_selector_is_told_as_deleted(
    control_plane: ControlPlane, cluster: Cluster, namespace: str
) -> None:
    cluster.create(namespace, "a", annotations=OURS, labels={"team": "a"})
    cluster.create(namespace, "b", annotations=OURS)
    async with watching(control_plane.kubeconfig, namespace, label_selector="team=a") as watch:
        await watch.until(lambda: watch.events)
        cluster.patch(namespace, "a", {"metadata": {"labels": {"team": None}}})
        await watch.until(lambda: len(watch.events) == 2)
    assert watch.seen() == [(None, "a"), ("DELETED", "a")]
    assert "deletionTimestamp" not in watch.events[1][2]["metadata"]


# --- reading ---------------------------------------------------------------------------------------


async def test_reading_pods(control_plane: ControlPlane, cluster: Cluster, namespace: str) -> None:
    uids = {cluster.create(namespace, f"p{number}") for number in range(5)}
    async with ApiServer(await load_access(control_plane.kubeconfig, None, {})) as api:
        assert await server_version(api) >= (1, 30)
        pod = await read_pod(api, namespace, "p0")
        assert pod is not None
        assert pod["kind"] == "Pod"
        assert await read_pod(api, namespace, "none") is None
        listed: list[Any] = [pod async for pod in list_pods(api, namespace, page=2)]
        assert {pod["metadata"]["uid"] for pod in listed} == uids
        assert await list_pod_uids(api, namespace, page=2) == uids


# --- rights ----------------------------------------------------------------------------------------


async def test_rights_that_are_missing_are_named_and_waited_for(
    control_plane: ControlPlane, cluster: Cluster, namespace: str
) -> None:
    cluster.http.post(f"/api/v1/namespaces/{namespace}/serviceaccounts", json={"metadata": {"name": "op"}}).raise_for_status()
    account = control_plane.service_account(namespace, "op")
    needed = [Permission(verb, "pods", namespace=namespace) for verb in ("list", "watch")]
    async with ApiServer(await load_access(account.kubeconfig, None, {})) as api:
        assert await missing_permissions(api, needed) == tuple(needed)
        async with watching(account.kubeconfig, namespace) as watch:
            await watch.until(lambda: WatchFault.FORBIDDEN in [fault for fault, _ in watch.faults])
            allow(cluster.http, namespace)
            await watch.until(lambda: watch.finished)
        assert {fault for fault, _ in watch.faults} == {WatchFault.FORBIDDEN}
        assert await missing_permissions(api, needed) == ()


def allow(http: httpx.Client, namespace: str) -> None:
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]
    subject = {"kind": "ServiceAccount", "name": "op", "namespace": namespace}
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "op"}
    http.post(f"{rbac}/roles", json={"metadata": {"name": "op"}, "rules": rules}).raise_for_status()
    binding = {"metadata": {"name": "op"}, "subjects": [subject], "roleRef": ref}
    http.post(f"{rbac}/rolebindings", json=binding).raise_for_status()


# --- an API server of its own ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def fragile() -> Iterator[ControlPlane]:
    """Yield an API server that may be stopped, without lists in watches: as old ones are."""
    with ControlPlane(feature_gates={"WatchList": False}) as control_plane:
        yield control_plane


async def test_a_server_without_lists_in_watches(fragile: ControlPlane) -> None:
    cluster = Cluster(fragile.kube)
    namespace = cluster.namespace()
    uids = {cluster.create(namespace, f"p{number}", annotations=OURS) for number in range(3)}
    cluster.create(namespace, "stranger")
    async with watching(fragile.kubeconfig, namespace) as watch:
        await watch.until(lambda: watch.finished and len(watch.events) == 3)
        assert watch.finished == [(namespace, frozenset(uids))]
        cluster.patch(namespace, "p0", {"status": {"phase": "Running"}}, "/status")
        await watch.until(lambda: watch.seen()[-1] == ("MODIFIED", "p0"))
    assert [fault for fault, _ in watch.faults] == [WatchFault.REFUSED]


@pytest.mark.parametrize("crash", [True, False])
async def test_a_server_that_restarts(fragile: ControlPlane, crash: bool) -> None:
    cluster = Cluster(fragile.kube)
    namespace = cluster.namespace()
    cluster.create(namespace, "a", annotations=OURS)
    async with watching(fragile.kubeconfig, namespace) as watch:
        await watch.until(lambda: watch.events)
        await asyncio.to_thread(fragile.kill_apiserver if crash else fragile.stop_apiserver)
        await watch.until(lambda: WatchFault.DISCONNECTED in [fault for fault, _ in watch.faults])
        fragile.apiserver.start()  # in this thread: it ends with the thread that started it
        await asyncio.to_thread(fragile.wait_ready)
        Cluster(fragile.kube).patch(namespace, "a", {"metadata": {"annotations": {"a": "b"}}})
        await watch.until(lambda: any("a" in pod["metadata"]["annotations"] for _, _, pod in watch.events), 30)
    assert WatchFault.RESTARTED not in [fault for fault, _ in watch.faults]
