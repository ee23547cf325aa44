"""The e2e tests' sample service beside the devserver: it behaves as an SDK does, and as it is told."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cluster.processes import Daemon, free_port, wait_for
from tests.cluster.tools import ROOT

SERVICE = ROOT / "tests" / "e2e" / "sample" / "service.py"
REGISTRY_ROOT = "/v4/default/registry"


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def devserver(tmp_path: Path) -> Iterator[tuple[Daemon, str]]:
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "registry_status", "devregistry", "--listen", url.removeprefix("http://")]
    daemon = Daemon("devregistry", command, tmp_path / "devregistry.log")
    daemon.start()
    yield daemon, url
    daemon.kill()


@dataclass
class Sample:
    """One running sample service, and the registry that it uses."""

    process: subprocess.Popen[bytes]
    http: httpx.Client
    registry: httpx.Client

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get("/").json()
        return found

    def instances(self) -> list[dict[str, Any]]:
        """What the registry has of its service."""
        service = self.state()["service_id"]
        answer = self.registry.get(f"/microservices/{service}/instances", params={"noCache": "1"})
        found: list[dict[str, Any]] = answer.json().get("instances", [])
        return found

    def tell(self, control: str) -> httpx.Response:
        return self.http.post(f"/control/{control}")

    def registered(self) -> bool:
        return bool(self.state()["instance_id"]) and self.state()["instance_id"] in [i["instanceId"] for i in self.instances()]


@pytest.fixture
def start(devserver: tuple[Daemon, str]) -> Iterator[Any]:
    running: list[Sample] = []

    def start(**env: str) -> Sample:
        port = free_port()
        settings = {"REGISTRY": devserver[1], "PORT": str(port), "HEARTBEAT": "0.2", "POD_IP": "127.0.0.1"} | env
        process = subprocess.Popen([sys.executable, SERVICE], env=os.environ | settings)
        http = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False)
        registry = httpx.Client(base_url=devserver[1] + REGISTRY_ROOT, trust_env=False)
        running.append(Sample(process, http, registry))
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/live"), 10, "sample service")
        return running[-1]

    yield start
    for sample in running:
        sample.process.kill()
        sample.process.wait()
        sample.http.close()
        sample.registry.close()


def test_it_registers_what_identifies_its_pod(start: Any) -> None:
    sample = start(HOST_NAME="pod-1", POD_NAME="pod-1", POD_UID="u-1", STATUS="STARTING", INSTANCE_ID="fixed")
    wait_for(sample.registered, 10, "registration")
    (instance,) = sample.instances()
    assert instance["instanceId"] == "fixed"
    assert instance["status"] == "STARTING"
    assert instance["hostName"] == "pod-1"
    assert instance["properties"] == {"podName": "pod-1", "podUid": "u-1"}
    assert instance["endpoints"][0].startswith("rest://127.0.0.1:")
    assert instance["healthCheck"]["mode"] == "push"


def test_it_registers_late_and_twice_when_told(start: Any) -> None:
    sample = start(DELAY="never")
    time.sleep(0.5)
    assert sample.state()["registrations"] == 0
    sample.tell("register")
    wait_for(sample.registered, 10, "registration")
    sample.tell("register")
    wait_for(lambda: sample.state()["registrations"] == 2, 10, "second registration")


def test_it_registers_again_when_the_registry_forgot_it(start: Any) -> None:
    sample = start()
    wait_for(sample.registered, 10, "registration")
    forget(sample)
    wait_for(lambda: sample.state()["registrations"] == 2 and sample.registered(), 10, "registration again")


def test_it_waits_for_a_registry_that_is_away(start: Any, devserver: tuple[Daemon, str]) -> None:
    daemon, _ = devserver
    daemon.kill()
    sample = start()
    time.sleep(1)
    assert sample.state()["registrations"] == 0
    daemon.start()
    wait_for(sample.registered, 15, "registration")


def test_it_can_fall_silent(start: Any) -> None:
    sample = start()
    wait_for(lambda: sample.state()["heartbeats"] > 1, 10, "heartbeats")
    sample.tell("stop-heartbeats")
    before = sample.state()["heartbeats"]
    forget(sample)
    time.sleep(1)
    assert sample.state()["heartbeats"] <= before + 1
    assert sample.instances() == []
    sample.tell("register")
    wait_for(sample.registered, 10, "registration again")


def forget(sample: Sample) -> None:
    """Let the registry forget it, as when it expires."""
    state = sample.state()
    sample.registry.delete(f"/microservices/{state['service_id']}/instances/{state['instance_id']}").raise_for_status()


def test_probes_answer_as_told(start: Any) -> None:
    sample = start(READY="false")
    assert sample.http.get("/ready").status_code == 503
    sample.tell("ready?value=true").raise_for_status()
    assert sample.http.get("/ready").status_code == 200
    for probe in ("live", "started"):
        assert sample.http.get(f"/{probe}").status_code == 200
        sample.tell(f"{probe}?value=false").raise_for_status()
        assert sample.http.get(f"/{probe}").status_code == 503
    assert sample.tell("nonsense").status_code == 404


@pytest.mark.parametrize(("mode", "left"), [("leave", 0), ("stay", 1)])
def test_on_sigterm_it_leaves_or_stays_in_the_registry(start: Any, mode: str, left: int) -> None:
    sample = start(ON_SIGTERM=mode, EXIT_DELAY="0.5")
    wait_for(sample.registered, 10, "registration")
    service = sample.state()["service_id"]
    began = time.monotonic()
    sample.process.send_signal(signal.SIGTERM)
    assert sample.process.wait(timeout=10) == 0
    assert time.monotonic() - began > 0.5
    answer = sample.registry.get(f"/microservices/{service}/instances", params={"noCache": "1"})
    assert len(answer.json().get("instances", [])) == left


def test_it_can_ignore_sigterm_crash_and_unregister(start: Any) -> None:
    sample = start(ON_SIGTERM="ignore")
    wait_for(sample.registered, 10, "registration")
    sample.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert sample.process.poll() is None
    sample.tell("unregister").raise_for_status()
    assert sample.instances() == []
    sample.tell("crash?code=3")
    assert sample.process.wait(timeout=10) == 3
