"""Two real operators, a real API server and a registry: who writes when one of them stops, dies or sleeps.

Each operator reaches the registry through a relay of its own, so that it is known who sent what. The figures are printed
(`pytest -s`).
"""

import asyncio
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.processes import free_port, leashed, tail, wait_for

PODS = 12
LAG = 2.0
"""Seconds after which a status that a pod had before must not be written any more; what passes in them is the way there."""

pytestmark = pytest.mark.timeout(120, func_only=True)


def figure(text: str) -> None:
    sys.stdout.write(f"\n{text}\n")


def timestamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Relay:
    """Passes on what an operator sends to the registry, and remembers it."""

    def __init__(self, target: int) -> None:
        self.sent: list[tuple[float, str]] = []
        self.port = free_port()
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", self.port), self._loop).result(5)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def writes(self) -> list[tuple[float, str]]:
        return [(at, line) for at, line in self.sent if line.startswith("PUT")]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        await asyncio.gather(self._pass(reader, back, note=True), self._pass(there, writer, note=False), return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, note: bool) -> None:
        with suppress(ConnectionError):
            while chunk := await reader.read(65536):
                if note and (line := re.match(rb"(GET|PUT|POST) [^ ]+", chunk)):
                    self.sent.append((time.time(), line[0].decode()))
                writer.write(chunk)
                await writer.drain()
        writer.close()


class Registry:
    """The development server in a process of its own, and what it was told."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False)
        self.instances: dict[str, str] = {}

    def create(self, service: str) -> None:
        body = {"service": {"serviceId": service, "serviceName": service, "appId": "default", "version": "1.0.0"}}
        self.http.post("/v4/default/registry/microservices", json=body).raise_for_status()

    def register(self, service: str, name: str, ip: str) -> None:
        lease = {"mode": "push", "interval": 120, "times": 30}
        endpoints = [f"rest://{ip}:8080"]
        instance = {"instanceId": f"i-{name}", "hostName": name, "endpoints": endpoints, "status": "UP", "healthCheck": lease}
        path = f"/v4/default/registry/microservices/{service}/instances"
        self.http.post(path, json={"instance": instance}).raise_for_status()

    def statuses(self, service: str) -> dict[str, str]:
        answer = self.http.get(f"/v4/default/registry/microservices/{service}/instances").json()
        return {instance["instanceId"].removeprefix("i-"): instance["status"] for instance in answer["instances"]}

    def writes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.http.get("/devserver/writes").json()["writes"]
        return found


@dataclass
class Workload:
    """Pods without a kubelet: the test writes their statuses, and remembers what each should be in the registry."""

    api: httpx.Client
    registry: Registry
    namespace: str
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    history: dict[str, list[tuple[float, str]]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def service(self) -> str:
        return self.namespace

    def create(self, name: str, ip: str) -> None:
        self.registry.register(self.service, name, ip)
        annotations = {"registry-status.io/service-id": self.service}
        spec = {"containers": [{"name": "main", "image": "example.invalid/x"}]}
        body = {"metadata": {"name": name, "annotations": annotations}, "spec": spec}
        made = self.api.post(f"/api/v1/namespaces/{self.namespace}/pods", json=body).raise_for_status().json()
        made["status"] = {"podIP": ip, "podIPs": [{"ip": ip}], "phase": "Running", "startTime": timestamp(time.time() - 3600)}
        self.pods[name] = made
        self.set_ready(name, ready=True)

    def set_ready(self, name: str, *, ready: bool) -> None:
        pod = self.pods[name]
        running = {"running": {"startedAt": timestamp(time.time() - 3000)}}
        word, now = str(ready), timestamp(time.time())
        status = pod["status"] | {
            "conditions": [{"type": kind, "status": word, "lastTransitionTime": now} for kind in ("Ready", "ContainersReady")],
            "containerStatuses": [
                {
                    "name": "main",
                    "image": "x",
                    "imageID": "",
                    "restartCount": 0,
                    "ready": ready,
                    "started": True,
                    "state": running,
                }
            ],
        }
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}/status"
        with self.lock:
            began = time.time()
            patch = {"status": status}
            headers = {"Content-Type": "application/merge-patch+json"}
            self.api.patch(path, json=patch, headers=headers).raise_for_status()
            self.history.setdefault(name, []).append((began, "UP" if ready else "OUTOFSERVICE"))

    def delete(self, name: str) -> None:
        self.history[name].append((time.time(), "DOWN"))
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}"
        self.api.delete(path, params={"gracePeriodSeconds": 0}).raise_for_status()

    def wanted(self) -> dict[str, str]:
        return {name: history[-1][1] for name, history in self.history.items()}

    def settled(self) -> bool:
        return self.registry.statuses(self.service) == self.wanted()

    @contextmanager
    def changing(self, a_second: float = 10.0) -> Iterator[None]:
        """Pods lose and regain readiness all the while."""
        over, chance = threading.Event(), random.Random(1)

        def change() -> None:
            while not over.wait(1 / a_second):
                name = chance.choice([name for name, history in self.history.items() if history[-1][1] != "DOWN"])
                self.set_ready(name, ready=self.history[name][-1][1] != "UP")

        thread = threading.Thread(target=change)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(10)

    def late(self) -> list[tuple[str, float, str]]:
        """Writes of what was not wanted any more when they arrived."""
        found = []
        for write in self.registry.writes():
            name, at = write["instanceId"].removeprefix("i-"), write["time"]
            history = self.history[name]
            ended = [after for (_, status), (after, _) in itertools.pairwise(history) if status == write["after"]]
            current = [status for began, status in history if began <= at]
            fine = current[-1] == write["after"] or any(at - LAG <= moment <= at for moment in ended)
            if not fine:
                found.append((name, at, write["after"]))
        return found


class Operator:
    """One replica."""

    def __init__(self, name: str, workload: Workload, kubeconfig: Path, folder: Path) -> None:
        self.name = name
        self.relay = Relay(workload.registry.port)
        self.port = free_port()
        self.log = folder / f"{name}.log"
        settings = {
            "kubeconfig": kubeconfig, "namespace": workload.namespace, "leader-elect": "true", "lease-name": "status",
            "lease-namespace": workload.namespace, "registry-address": f"http://127.0.0.1:{self.relay.port}",
            "listen": f"127.0.0.1:{self.port}",
        }  # fmt: skip
        words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                leashed([sys.executable, "-m", "registry_status", "run", *words]),
                stdout=log, stderr=log, env=os.environ | {"POD_NAME": name},
            )  # fmt: skip
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=2)

    def metric(self, name: str) -> float:
        try:
            found = re.search(rf"^registry_status_{name} (\S+)$", self.http.get("/metrics").text, re.MULTILINE)
        except httpx.TransportError:
            return 0.0
        return float(found[1]) if found else 0.0

    @property
    def leads(self) -> bool:
        return self.metric("leader") == 1

    @property
    def ready(self) -> bool:
        try:
            return self.http.get("/readyz").is_success
        except httpx.TransportError:
            return False

    def signal(self, number: signal.Signals) -> float:
        at = time.time()
        self.process.send_signal(number)
        return at

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self.http.close()
        self.relay.close()

    def said(self) -> str:
        return self.log.read_text()


@dataclass
class Scene:
    """Everything, settled: a leader, a standby, and pods that are in step."""

    workload: Workload
    leader: Operator
    standby: Operator
    start: Callable[[str], Operator]

    def lease(self) -> dict[str, Any]:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self.workload.namespace}/leases/status"
        found: dict[str, Any] = self.workload.api.get(path).raise_for_status().json()
        return found

    def redundant(self) -> list[dict[str, Any]]:
        return [write for write in self.workload.registry.writes() if write["redundant"]]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    port = free_port()
    with (tmp_path / "registry.log").open("wb") as log:
        command = [sys.executable, "-m", "registry_status", "devregistry", "--listen", f"127.0.0.1:{port}"]
        process = subprocess.Popen(leashed(command), stdout=log, stderr=log)
    registry = Registry(port)
    wait_for(lambda: listens(registry), 20, "the registry")
    yield registry
    registry.http.close()
    process.kill()
    process.wait(10)


def listens(registry: Registry) -> bool:
    try:
        return registry.http.get("/devserver/writes").is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def workload(control_plane: ControlPlane, registry: Registry) -> Iterator[Workload]:
    namespace = f"election-{uuid.uuid4().hex[:8]}"
    with control_plane.kube.http() as api:
        api.post("/api/v1/namespaces", json={"metadata": {"name": namespace}}).raise_for_status()
        registry.create(namespace)
        yield Workload(api, registry, namespace)


@pytest.fixture
def scene(control_plane: ControlPlane, workload: Workload, tmp_path: Path) -> Iterator[Scene]:
    for number in range(PODS):
        workload.create(f"p{number}", f"10.9.0.{number}")
    released = {"metadata": {"name": "status", "labels": {"kept": "yes"}}, "spec": {"leaseDurationSeconds": 1}}
    workload.api.post(f"/apis/coordination.k8s.io/v1/namespaces/{workload.namespace}/leases", json=released).raise_for_status()
    with ExitStack() as stack:

        def start(name: str) -> Operator:
            operator = Operator(name, workload, control_plane.kubeconfig, tmp_path)
            stack.callback(operator.close)
            return operator

        leader = start("a")
        wait_for(lambda: leader.leads, 20, f"a leader:\n{tail(leader.log)}")
        standby = start("b")
        wait_for(lambda: standby.ready, 20, f"a standby:\n{tail(standby.log)}")
        workload.set_ready("p1", ready=False)
        wait_for(workload.settled, 10, f"all in step:\n{tail(leader.log)}")
        assert not standby.leads
        assert standby.relay.sent == []
        yield Scene(workload, leader, standby, start)
        assert "internal error" not in leader.said() + standby.said()
        assert "Traceback" not in leader.said() + standby.said()


def test_a_graceful_stop_hands_over_within_two_seconds(scene: Scene) -> None:
    workload, standby = scene.workload, scene.standby
    began = scene.leader.signal(signal.SIGTERM)
    workload.set_ready("p0", ready=False)
    wait_for(workload.settled, 10, f"the change:\n{tail(standby.log)}", interval=0.01)
    took = time.time() - began
    wait_for(lambda: standby.leads, 5, "a new leader", interval=0.01)
    assert scene.leader.process.wait(10) == 0
    stopped = time.time() - began
    figure(
        f"graceful stop: p0's change in the registry {took:.2f} s after SIGTERM, the old leader's exit after {stopped:.2f} s"
    )
    assert took < 2
    assert standby.ready
    assert scene.redundant() == []
    assert [line for _, line in standby.relay.sent if line.startswith("GET")] != []
    assert scene.lease()["metadata"]["labels"] == {"kept": "yes"}
    assert "lease" in scene.leader.said().splitlines()[-1], "released last"


def test_a_graceful_takeover_reads_each_list_once_and_writes_nothing_where_nothing_changed(scene: Scene) -> None:
    writes = len(scene.workload.registry.writes())
    began = scene.leader.signal(signal.SIGTERM)
    wait_for(lambda: bool(scene.standby.relay.sent), 5, "the new leader's list", interval=0.005)
    figure(f"graceful stop: the new leader's first request {scene.standby.relay.sent[0][0] - began:.2f} s after SIGTERM")
    assert scene.standby.relay.sent[0][0] - began < 2
    time.sleep(3)
    asked = sorted(request.rpartition("/")[2] for _, request in scene.standby.relay.sent)
    assert asked == ["instances?noCache=1", "microservices?noCache=1"], "one list of the service, one of the services"
    assert len(scene.workload.registry.writes()) == writes


def test_what_cannot_be_delivered_holds_nobody_up_and_is_the_next_leaders(scene: Scene) -> None:
    workload = scene.workload
    workload.registry.http.put("/devserver/faults", json={"effect": "hang", "seconds": 30, "method": "PUT", "count": 1})
    changed = time.time()
    workload.set_ready("p0", ready=False)
    wait_for(
        lambda: any(at > changed and "/i-p0/" in line for at, line in scene.leader.relay.writes()), 5, "the write that hangs"
    )
    began = scene.leader.signal(signal.SIGTERM)
    assert scene.leader.process.wait(12) == 0
    stopped = time.time() - began
    wait_for(workload.settled, 5, f"the change:\n{tail(scene.standby.log)}", interval=0.02)
    took = time.time() - began
    figure(f"stop with a hanging registry: exit after {stopped:.2f} s, the change in the registry after {took:.2f} s")
    assert stopped < 10
    assert took < stopped + 2
    assert "is released" in scene.leader.said().splitlines()[-1]


def test_a_crash_is_survived_within_eight_seconds(scene: Scene) -> None:
    workload = scene.workload
    began = scene.leader.signal(signal.SIGKILL)
    workload.set_ready("p0", ready=False)
    workload.delete("p2")
    wait_for(workload.settled, 15, f"the changes:\n{tail(scene.standby.log)}", interval=0.02)
    took = time.time() - began
    figure(f"crash: changes in the registry {took:.2f} s after SIGKILL")
    assert took < 8
    assert scene.redundant() == []
    assert len(scene.standby.relay.writes()) == 2, "the differences, and nothing else"
    assert scene.standby.metric(r'lease_transitions_total\{to="leader"\}') == 1


def test_a_leader_that_sleeps_longer_than_its_lease_writes_nothing_when_it_wakes(scene: Scene) -> None:
    workload, sleeper = scene.workload, scene.leader
    with workload.changing():
        time.sleep(2)
        asleep = sleeper.signal(signal.SIGSTOP)
        wait_for(lambda: scene.standby.leads, 10, "a new leader", interval=0.02)
        took = time.time() - asleep
        time.sleep(max(0.0, asleep + 15 - time.time()))
        awake = sleeper.signal(signal.SIGCONT)
        time.sleep(4)
    wait_for(workload.settled, 5, "all in step")
    fenced = sleeper.metric(r'requests_total\{code="fenced",operation="write-status"\}')
    writes = len(workload.registry.writes())
    figure(f"SIGSTOP: a new leader after {took:.2f} s; {writes} writes in all, {fenced:g} held off by the sleeper's fence")
    assert [line for at, line in sleeper.relay.writes() if at > asleep + 0.1] == []
    assert workload.late() == []
    assert scene.redundant() == []
    assert sleeper.ready
    assert not sleeper.leads
    assert "not leading any more" in sleeper.said()
    assert len([at for at, _ in scene.standby.relay.writes() if at > awake]) > 5
    # And back again: what it knew before its sleep is worth nothing.
    began = scene.standby.signal(signal.SIGTERM)
    workload.set_ready("p0", ready=workload.wanted()["p0"] != "UP")
    wait_for(workload.settled, 10, f"the change:\n{tail(sleeper.log)}", interval=0.01)
    assert time.time() - began < 2
    assert workload.late() == []
    assert scene.redundant() == []


def test_rolling_through_three_generations_loses_nothing(scene: Scene) -> None:
    """As a Deployment's rollout does it: a new one is ready before an old one stops."""
    workload, running = scene.workload, [scene.standby, scene.leader]
    with workload.changing(20):
        for name in ("c", "d", "e"):
            new = scene.start(name)
            wait_for(lambda new=new: new.ready, 20, f"{name}:\n{tail(new.log)}")  # type: ignore[misc]  # a default binds it
            old = next((operator for operator in running if operator.leads), running[0])
            running.remove(old)
            old.signal(signal.SIGTERM)
            assert old.process.wait(10) == 0
            running.append(new)
            time.sleep(1)
    wait_for(workload.settled, 5, "all in step")
    assert workload.late() == []
    assert scene.redundant() == []


def test_a_leader_that_loses_the_api_server_stops_writing_and_is_replaced_by_itself(scene: Scene) -> None:
    """A deleted lease is made again; one that names a stranger is respected until it has stood for its duration."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{scene.workload.namespace}/leases/status"
    scene.workload.api.delete(path).raise_for_status()
    time.sleep(2)
    assert scene.leader.leads
    assert not scene.standby.leads
    assert scene.lease()["spec"]["holderIdentity"].startswith("a_")
    patch = {"spec": {"holderIdentity": "stranger"}}
    headers = {"Content-Type": "application/merge-patch+json"}
    scene.workload.api.patch(path, json=patch, headers=headers).raise_for_status()
    began = time.time()
    wait_for(lambda: not scene.leader.leads, 3, "the leader gives up", interval=0.02)
    wait_for(lambda: scene.leader.leads or scene.standby.leads, 10, "a new leader", interval=0.02)
    assert 5.0 < time.time() - began < 8
    scene.workload.set_ready("p0", ready=False)
    wait_for(scene.workload.settled, 5, "the change")
    assert scene.redundant() == []


def test_the_first_start_makes_the_lease(control_plane: ControlPlane, workload: Workload, tmp_path: Path) -> None:
    """It waits for its duration first: nobody can tell whether there was one a moment ago."""
    workload.create("p0", "10.9.0.1")
    workload.set_ready("p0", ready=False)
    operators = [Operator(name, workload, control_plane.kubeconfig, tmp_path) for name in ("a", "b")]
    try:
        wait_for(lambda: all(operator.ready for operator in operators), 20, "both ready")
        wait_for(workload.settled, 15, f"the change:\n{tail(operators[0].log)}{tail(operators[1].log)}")
        assert sorted(operator.metric("leader") for operator in operators) == [0, 1]
        for operator in operators:
            operator.signal(signal.SIGTERM)
        assert [operator.process.wait(10) for operator in operators] == [0, 0]
        spec = Scene(workload, operators[0], operators[1], start=lambda _: operators[0]).lease()["spec"]
        assert (spec.get("holderIdentity", ""), spec["leaseDurationSeconds"]) == ("", 1)
    finally:
        for operator in operators:
            operator.close()
