"""A Kubernetes API server in a few hundred lines, good enough that the real operator runs against it unchanged.

Why not kmock, which kopf's author wrote for such tests: it emulates no selectors, resourceVersions, pages or 410, and those are
just what an operator trips over. Nothing here plays a node: who uses the emulator writes pod statuses as a kubelet would.
"""

import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from pathlib import Path

from aiohttp import web

from registry_status.demo.admission import Admission, Denial, Failure
from registry_status.demo.clock import Clock
from registry_status.demo.http import ApiServer, SeenRequest
from registry_status.demo.kinds import EVENTS, NAMESPACES, PODS, KubeObject
from registry_status.demo.store import DeleteOptions, Store
from registry_status.times import timestamp


def random_uid() -> str:
    """Make a uid as the API server does."""
    return str(uuid.uuid4())


class Emulator:
    """The API server, with the handles by which scenarios and tests play the rest of the cluster."""

    def __init__(self, *, clock: Clock = time.time, token: str | None = None, bookmark_interval: float = 60.0) -> None:
        self._clock = clock
        self.store = Store(clock, random_uid)
        self._admission = Admission(token=token)
        self._server = ApiServer(self.store, self._admission, bookmark_interval=bookmark_interval)
        self._url: str | None = None

    # --- the cluster's state

    def create_namespace(self, name: str) -> None:
        """Make a namespace, unless it is there."""
        if name not in {item["metadata"]["name"] for item in self.store.select(NAMESPACES)}:
            self.store.create(NAMESPACES, "", {"metadata": {"name": name}})

    def terminate_namespace(self, name: str) -> None:
        """Let nothing new be created in the namespace any more."""
        namespace = self.store.get(NAMESPACES, "", name)
        self.store.replace(NAMESPACES, "", name, {**namespace, "status": {"phase": "Terminating"}}, status=True)

    def create_pod(self, pod: KubeObject) -> KubeObject:
        """Create a pod, and its namespace where needed; a status given with it is written next, as by its kubelet."""
        namespace = pod["metadata"].get("namespace", "default")
        self.create_namespace(namespace)
        created = self.store.create(PODS, namespace, pod)
        if "status" in pod:
            created = self.store.replace(
                PODS, namespace, created["metadata"]["name"], {**created, "status": pod["status"]}, status=True
            )
        return deepcopy(created)

    def pod(self, namespace: str, name: str) -> KubeObject:
        """Read a pod. Raises `ApiError` 404."""
        return deepcopy(self.store.get(PODS, namespace, name))

    def bind_pod(self, namespace: str, name: str, node: str) -> KubeObject:
        """Put a pod on a node, as the scheduler does."""
        scheduled = {
            "type": "PodScheduled",
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": timestamp(self._clock()),
        }
        return deepcopy(self.store.bind(namespace, name, node, [scheduled]))

    def update_pod_status(self, namespace: str, name: str, status: KubeObject) -> KubeObject:
        """Replace a pod's status, as its kubelet does."""
        pod = self.store.get(PODS, namespace, name)
        return deepcopy(self.store.replace(PODS, namespace, name, {**pod, "status": status}, status=True))

    def annotate(self, namespace: str, name: str, annotations: Mapping[str, str | None]) -> KubeObject:
        """Set annotations of a pod, or with None remove them."""
        pod = self.store.get(PODS, namespace, name)
        merged = {**(pod["metadata"].get("annotations") or {}), **annotations}
        kept = {key: value for key, value in merged.items() if value is not None}
        return deepcopy(
            self.store.replace(PODS, namespace, name, {**pod, "metadata": {**pod["metadata"], "annotations": kept}})
        )

    def delete_pod(self, namespace: str, name: str, grace_seconds: int | None = None) -> KubeObject:
        """Ask for a pod's deletion, as `kubectl delete` does: a pod on a node stays until `remove_pod`."""
        return deepcopy(self.store.delete(PODS, namespace, name, DeleteOptions(grace_seconds=grace_seconds)))

    def remove_pod(self, namespace: str, name: str) -> None:
        """Let a pod go, as its kubelet does when all containers have ended. Finalizers hold it, as ever."""
        self.store.delete(PODS, namespace, name, DeleteOptions(grace_seconds=0))

    # --- trouble

    def compact(self) -> None:
        """Forget the history: watches from before are answered 410."""
        self.store.compact()

    def cut_watches(self) -> None:
        """Break all watches' connections."""
        self._server.cut_watches()

    def fail(self, times: int, code: int, *, verb: str = "", resource: str = "", retry_after: int | None = None) -> None:
        """Answer the next requests (of a verb, of a resource such as `pods/status`) with this HTTP status."""
        self._admission.failures.append(Failure(times, code, verb, resource, retry_after))

    def deny(self, verb: str, resource: str, namespace: str = "") -> None:
        """Take a right away, in one namespace or in all: access reviews say so, and requests get 403."""
        self._admission.denials.add(Denial(verb, resource, namespace))

    def allow_all(self) -> None:
        """Give all rights back."""
        self._admission.denials.clear()

    # --- what was done to it

    @property
    def events(self) -> Sequence[KubeObject]:
        """The Events that exist, oldest change first."""
        found = self.store.select(EVENTS)
        return [deepcopy(event) for event in sorted(found, key=lambda event: int(event["metadata"]["resourceVersion"]))]

    @property
    def requests(self) -> Sequence[SeenRequest]:
        """Every request for objects that arrived, refused ones too."""
        return tuple(self._server.requests)

    @property
    def writes(self) -> Sequence[SeenRequest]:
        """Those requests that wanted to change something."""
        return tuple(request for request in self._server.requests if request.writes)

    # --- the network

    @asynccontextmanager
    async def listening(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
        """Serve over HTTP while the context lasts. Yields the URL."""
        runner = web.AppRunner(self._server.application(), access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
            self._url = f"http://{host}:{runner.addresses[0][1]}"
            yield self._url
        finally:
            self._url = None
            self.cut_watches()
            await runner.cleanup()

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig that leads here (as JSON, which is YAML). Raises `RuntimeError` unless it is listening."""
        if self._url is None:
            raise RuntimeError("the emulator does not listen, so there is no address to write down")
        user = {"token": self._admission.token} if self._admission.token is not None else {}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "emulator", "cluster": {"server": self._url}}],
            "users": [{"name": "emulator", "user": user}],
            "contexts": [{"name": "emulator", "context": {"cluster": "emulator", "user": "emulator"}}],
            "current-context": "emulator",
        }
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        return path
