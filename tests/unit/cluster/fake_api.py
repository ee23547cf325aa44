"""A small API server that plays faults: each request for pods takes the next act of a script."""

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from aiohttp import HttpVersion, HttpVersion11, web

from registry_status.cluster.access import Access, Credentials, Fixed
from registry_status.cluster.lines import LIST_ENDS, WatchFault

Act = Callable[[web.Request], Awaitable[web.StreamResponse]]
RESOURCES = {
    "v1": [("pods", "Pod"), ("namespaces", "Namespace"), ("events", "Event")],
    "apiextensions.k8s.io/v1": [("customresourcedefinitions", "CustomResourceDefinition")],
}


def pod(name: str, version: int = 1, *, ours: bool = True, namespace: str = "default", **metadata: Any) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "resourceVersion": str(version)}
    if ours:
        meta["annotations"] = {"registry-status.io/service": "orders"}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": meta | metadata, "spec": {}, "status": {}}


def line(kind: str, body: Mapping[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": body}, separators=(",", ":")).encode() + b"\n"


def added(*names: str, version: int = 1) -> bytes:
    return b"".join(line("ADDED", pod(name, version)) for name in names)


def end_of_list(version: int = 9) -> bytes:
    metadata = {"resourceVersion": str(version), "annotations": {LIST_ENDS: "true"}}
    return line("BOOKMARK", {"kind": "Pod", "apiVersion": "v1", "metadata": metadata})


def error(code: int) -> bytes:
    return line("ERROR", {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": f"says {code}", "code": code})


def page(*names: str, version: int = 9, more: str = "") -> Act:
    metadata = {"resourceVersion": str(version)} | ({"continue": more} if more else {})
    items = [{"metadata": pod(name)["metadata"]} for name in names]
    return answers({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items})


def answers(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Act:
    async def act(_: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status, headers=headers)

    return act


def refuses(status: int, reason: str = "Nope", headers: Mapping[str, str] | None = None) -> Act:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": f"says {status}",
        "reason": reason,
        "code": status,
    }
    return answers(body, status, headers)


def streams(*pieces: bytes | float, then: str = "hang") -> Act:
    """Send bytes, pause for seconds, and then `hang`, `end` (as it should be) or `cut` (in the midst of it)."""

    async def act(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        if request.version >= HttpVersion11:
            response.enable_chunked_encoding()
        await response.prepare(request)
        for piece in pieces:
            if isinstance(piece, bytes):
                await response.write(piece)
            else:
                await asyncio.sleep(piece)
        if then == "hang":
            await asyncio.sleep(60)
        if then == "cut":
            await asyncio.sleep(0.02)  # what was written must arrive before the reset
            assert request.transport is not None
            request.transport.abort()
        return response

    return act


async def hangs(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError("nobody waits that long")


class FakeApi:
    """What it is asked, and what it answers. `acts` by namespace; when none is left, an empty list that stays open."""

    def __init__(self) -> None:
        self.acts: dict[str, deque[Act]] = {}
        self.version: Act = answers({"major": "1", "minor": "36"})
        self.first: dict[str, Act] = {}
        """What is answered the first time that a path is asked for which tells of resources."""
        self.seen: list[tuple[float, str, dict[str, str]]] = []
        self.watched_with: list[HttpVersion] = []
        self.authorize: Callable[[str | None], bool] = lambda _: True
        self.url = ""

    def play(self, *acts: Act, namespace: str = "") -> None:
        self.acts.setdefault(namespace, deque()).extend(acts)

    def pod_requests(self) -> list[dict[str, str]]:
        return [query for _, path, query in self.seen if path.endswith("/pods")]

    def times(self) -> list[float]:
        return [at for at, path, _ in self.seen if path.endswith("/pods")]

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((time.monotonic(), request.path, dict(request.query)))
        if not self.authorize(request.headers.get("Authorization")):
            return await refuses(401, "Unauthorized")(request)
        if request.path == "/version":
            return await self.version(request)
        if request.path.endswith("/pods"):
            self.watched_with.append(request.version)
            namespace = request.path.split("/")[-2] if "/namespaces/" in request.path else ""
            acts = self.acts.get(namespace)
            return await (acts.popleft() if acts else streams(end_of_list()))(request)
        act = self.first.pop(request.path, None) or answers(discovery(request.path))
        return await act(request)


def discovery(path: str) -> dict[str, Any]:
    if path == "/api":
        return {"versions": ["v1"]}
    if path == "/apis":
        version = {"groupVersion": "apiextensions.k8s.io/v1", "version": "v1"}
        return {"groups": [{"name": "apiextensions.k8s.io", "versions": [version], "preferredVersion": version}]}
    resources = RESOURCES.get(path.removeprefix("/apis/").removeprefix("/api/"), [])
    verbs = ["get", "list", "watch", "patch", "create"]
    return {
        "resources": [
            {"name": n, "singularName": "", "kind": k, "namespaced": n != "namespaces", "verbs": verbs} for n, k in resources
        ]
    }


@asynccontextmanager
async def serving(api: FakeApi, port: int = 0) -> AsyncIterator[FakeApi]:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return await api(cast("web.Request", request))

    runner = web.ServerRunner(web.Server(handle, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    api.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield api
    finally:
        await runner.cleanup()


def access_to(api: FakeApi, credentials: Credentials | None = None) -> Access:
    return Access(server=api.url, source="test", credentials=credentials or Fixed())


class Listening:
    """Remembers what the watch tells."""

    def __init__(self) -> None:
        self.events: list[tuple[str | None, str]] = []
        self.started: list[str] = []
        self.finished: list[tuple[str, frozenset[str]]] = []
        self.faults: list[tuple[str, WatchFault, str]] = []
        self.progress = 0

    def take(self, kind: str | None, pod: Mapping[str, Any]) -> None:
        self.events.append((kind, pod["metadata"]["name"]))

    def listing_started(self, namespace: str) -> None:
        self.started.append(namespace)

    def listing_finished(self, namespace: str, uids: frozenset[str]) -> None:
        self.finished.append((namespace, uids))

    def progressed(self, namespace: str) -> None:
        self.progress += 1

    def suffered(self, namespace: str, fault: WatchFault, detail: str) -> None:
        self.faults.append((namespace, fault, detail))

    def kinds(self) -> list[WatchFault]:
        return [fault for _, fault, _ in self.faults]


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until it holds; it is asked often, as these are real sockets."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def closed_port() -> int:
    """Return a port where nobody listens."""
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port
