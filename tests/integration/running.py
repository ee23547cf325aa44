"""The real operator as a process of its own, a registry beside it, and pods whose kubelet is the test."""

import asyncio
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from registry_status.registry.devserver import DevServer, NewInstance, NewService
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kube import Kube
from tests.cluster.processes import free_port, wait_for
from tests.pods import at, condition, running

SERVICE = "svc-1"
PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
EVENTS = {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "get", "patch"]}
LEASES = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]}
"""The rules of an operator's role, as `account` takes them."""
CLI = Path(sys.executable).parent / "registry-status"


@contextmanager
def registry(
    port: int = 0, *, app: str = "default", ssl_context: ssl.SSLContext | None = None, **options: Any
) -> Iterator[tuple[DevServer, str]]:
    """A development server in a thread: its journal and faults are at hand while the operator talks to it over HTTP."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = DevServer(**options)
    try:
        starting = server.start("127.0.0.1", port, ssl_context=ssl_context)
        url = asyncio.run_coroutine_threadsafe(starting, loop).result(10)
        server.registry.create_service(NewService(name="cart", app=app, service_id=SERVICE))
        yield server, url
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


class Operator:
    """One run of `registry-status run`. With WATCH_FILTER=false in the environment all runs are of plain kopf."""

    def __init__(
        self, kubeconfig: Path, url: str, folder: Path, *flags: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.listen = f"127.0.0.1:{free_port()}"
        self.log = folder / f"operator-{self.listen.rpartition(':')[2]}.log"
        command: list[str | Path] = [
            CLI,
            "run",
            "--kubeconfig",
            kubeconfig,
            "--registry-address",
            url,
            "--listen",
            self.listen,
            "--watch-filter",
            os.environ.get("WATCH_FILTER", "true"),
            *flags,
        ]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log, env=clean_environment() | dict(environment or {}))

    def wait_ready(self, timeout: float = 20) -> None:
        """Wait until it has listed the pods and watches them."""
        wait_for(lambda: self.http("/readyz") == httpx.codes.OK, timeout, f"operator ready (log: {self.log})")

    def http(self, path: str) -> int:
        """The status of one of its pages; 0 if it does not answer."""
        try:
            return httpx.get(f"http://{self.listen}{path}", timeout=2, trust_env=False).status_code
        except httpx.TransportError:
            return 0

    def metrics(self) -> str:
        """What Prometheus would scrape."""
        return httpx.get(f"http://{self.listen}/metrics", timeout=5, trust_env=False).text

    def said(self) -> str:
        """Its log."""
        return self.log.read_text()

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 15) -> tuple[int, float]:
        """Send a signal; returns the exit status and the seconds it took."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return code, time.monotonic() - began


@contextmanager
def operator(kubeconfig: Path, url: str, folder: Path, *flags: str, ready: bool = True) -> Iterator[Operator]:
    """Run the operator while the block runs."""
    running_one = Operator(kubeconfig, url, folder, *flags)
    try:
        if ready:
            running_one.wait_ready()
        yield running_one
    finally:
        running_one.stop()


class Pods:
    """Pods in one namespace of a bare API server: what a kubelet would write, the test writes."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.namespace = namespace
        self.http = kube.http(f"/api/v1/namespaces/{namespace}")
        kube.kubectl("create", "namespace", namespace)

    def create(self, name: str, annotations: dict[str, str] | None = None, *, ip: str = "10.244.0.7", **spec: Any) -> str:
        """Create a running, Ready pod; returns its uid."""
        asked = {"service-id": SERVICE} if annotations is None else annotations
        metadata = {"name": name, "annotations": {f"registry-status.io/{key}": value for key, value in asked.items()}}
        container = {"name": "main", "image": "example/none"}
        body = {"metadata": metadata, "spec": {"nodeName": "node-1", "containers": [container], **spec}}
        uid: str = self.http.post("/pods", json=body).raise_for_status().json()["metadata"]["uid"]
        self.show(name, ip=ip)
        return uid

    def show(self, name: str, ready: str = "True", since: float = 5, *, ip: str | None = None, **status: Any) -> None:
        """Write the status of a pod whose Ready condition changed so many seconds after its start."""
        conditions = [condition("Ready", ready, since), condition("ContainersReady", ready, since)]
        body: dict[str, Any] = {
            "phase": "Running",
            "conditions": conditions,
            "startTime": at(0),
            "containerStatuses": [running()],
        }
        for entry in body["containerStatuses"]:
            entry |= {"image": "example/none", "imageID": "", "ready": ready == "True"}
        if ip is not None:
            body |= {"podIP": ip, "podIPs": [{"ip": ip}]}
        self.patch(name, {"status": body | status}, "/status")

    def patch(self, name: str, body: dict[str, Any], part: str = "") -> None:
        """Change a pod."""
        kind = {"Content-Type": "application/strategic-merge-patch+json"}
        self.http.patch(f"/pods/{name}{part}", json=body, headers=kind).raise_for_status()

    def annotate(self, name: str, **values: str | None) -> None:
        """Set or remove annotations of ours."""
        asked = {f"registry-status.io/{key.replace('_', '-')}": value for key, value in values.items()}
        self.patch(name, {"metadata": {"annotations": asked}})

    def delete(self, name: str, grace: int | None = None) -> None:
        """Ask for a pod's deletion; with grace 0 it is gone at once."""
        query = {} if grace is None else {"gracePeriodSeconds": str(grace)}
        self.http.delete(f"/pods/{name}", params=query).raise_for_status()

    def events(self, name: str) -> list[dict[str, Any]]:
        """The Events of a pod."""
        query = {"fieldSelector": f"involvedObject.name={name}"}
        listed: list[dict[str, Any]] = self.http.get("/events", params=query).raise_for_status().json()["items"]
        return listed


def account(control_plane: ControlPlane, namespace: str, *rules: dict[str, Any]) -> Kube:
    """The API as one who has these rights in the namespace, and no others."""
    rbac = "rbac.authorization.k8s.io"
    meta = {"name": "operator"}
    control_plane.kube.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": meta, "rules": list(rules)},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "operator"},
            "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": namespace}],
        },
        namespace=namespace,
    )
    return control_plane.service_account(namespace, "operator")


def register(server: DevServer, host: str, ip: str = "10.244.0.7", *, status: str = "UP", **more: Any) -> str:
    """What an SDK would do; the lease is long, as nobody sends heartbeats."""
    new = NewInstance(
        host_name=host, endpoints=(f"rest://{ip}:8080",), status=status, **{"interval": 3600, "times": 100, **more}
    )
    return server.registry.register(SERVICE, new)


def wait_status(server: DevServer, instance: str, status: str, timeout: float = 10) -> float:
    """Wait until the registry says so; returns the seconds it took."""
    return wait_until(lambda: server.registry.instance(SERVICE, instance).status == status, timeout, f"{instance} {status}")


def wait_until(condition: Callable[[], bool], timeout: float, what: str) -> float:
    """Poll often: latencies are told from it."""
    return wait_for(condition, timeout, what, interval=0.01)


def clean_environment() -> dict[str, str]:
    """The environment without what would change the operator's settings."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("REGISTRY_STATUS_", "KUBE"))}
