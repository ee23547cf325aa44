"""The operator's start on a real API server: the rights that it needs, and what it makes of an API server that is away."""

import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.kube import write_kubeconfig
from tests.cluster.processes import free_port, wait_for
from tests.integration.running import EVENTS, LEASES, PODS, account, operator, registry


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with registry() as (_, url):
        yield url


@pytest.fixture
def namespace(control_plane: ControlPlane) -> str:
    name = f"start-{uuid.uuid4().hex[:8]}"
    control_plane.kube.kubectl("create", "namespace", name)
    return name


NO_PODS = (
    "cannot watch pods: the operator may not get pods in namespace {ns}, list pods in namespace {ns}, watch pods in namespace "
    '{ns}; it needs a Role in namespace {ns}: apiGroups: [""], resources: [pods], verbs: [get, list, watch]'
)
NO_WATCH = "cannot watch pods: the operator may not get pods in namespace {ns}, watch pods in namespace {ns};"
NO_LEASE = "cannot elect a leader: the operator may not get leases.coordination.k8s.io/status in namespace {ns}, "


@pytest.mark.parametrize(("rules", "said"), [
    ([EVENTS, LEASES], NO_PODS), ([EVENTS, LEASES, PODS | {"verbs": ["list"]}], NO_WATCH), ([EVENTS, PODS], NO_LEASE)
])  # fmt: skip
def test_without_a_vital_right_it_ends_and_names_it(
    control_plane: ControlPlane, url: str, namespace: str, tmp_path: Path, rules: list[dict[str, Any]], said: str
) -> None:
    who = account(control_plane, namespace, *rules)
    elects = ("--namespace", namespace, "--leader-elect", "true", "--lease-name", "status")
    with operator(who.kubeconfig, url, tmp_path, *elects, ready=False) as run:
        assert run.process.wait(15) == 1
        lines = run.said().splitlines()
    expected = said.format(ns=namespace)
    assert expected in lines[-1]
    assert lines[-1].startswith("registry-status: ")
    assert len([line for line in lines if "ERROR" in line and expected in line]) == 1
    assert "Traceback" not in run.said()


def test_without_events_it_works_and_warns(control_plane: ControlPlane, url: str, namespace: str, tmp_path: Path) -> None:
    who = account(control_plane, namespace, PODS)
    with operator(who.kubeconfig, url, tmp_path, "--namespace", namespace) as run:
        assert "cannot post Events: the operator may not create events" in run.said()


def test_with_just_the_rights_it_needs_nothing_is_said(
    control_plane: ControlPlane, url: str, namespace: str, tmp_path: Path
) -> None:
    who = account(control_plane, namespace, PODS, EVENTS, LEASES)
    with operator(who.kubeconfig, url, tmp_path, "--namespace", namespace, "--leader-elect", "true") as run:
        wait_for(lambda: "registry_status_leader 1.0" in run.metrics(), 15, "leading")
        assert "WARNING" not in run.said()
        assert "ERROR" not in run.said()
        code, took = run.stop()
        assert code == 0
        assert took < 3


def test_an_api_server_that_is_away_is_waited_for(url: str, tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    kubeconfig = write_kubeconfig(tmp_path / "nowhere", server=nowhere, ca=b"", token="x")
    with operator(kubeconfig, url, tmp_path, "--leader-elect", "true", ready=False) as run:
        wait_for(lambda: run.http("/healthz") == 200, 15, "alive")
        time.sleep(2)
        assert run.process.poll() is None
        assert run.http("/readyz") == 503
        assert "the operator's rights could not be checked" in run.said()
        code, took = run.stop(signal.SIGTERM)
        assert code == 0
        assert took < 5


def test_a_signal_before_the_watch_has_begun_ends_it_with_exit_status_0(url: str, tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    kubeconfig = write_kubeconfig(tmp_path / "nowhere", server=nowhere, ca=b"", token="x")
    with operator(kubeconfig, url, tmp_path, ready=False) as run:
        wait_for(lambda: "probes and metrics" in run.said(), 15, "its first line", interval=0.005)
        code, took = run.stop(signal.SIGTERM)
    assert (code, took < 5) == (0, True), run.said()
