"""The readiness gate on a real API server: its condition is set once the registry says UP, for this pod and no other."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from registry_status.cluster.access import load_access
from registry_status.cluster.api import ApiServer
from registry_status.cluster.gate import GateKeeper
from registry_status.model import PodRef
from registry_status.registry.devserver import Answer, DevServer, Fault
from registry_status.report.metrics import Metrics
from tests.cluster.control_plane import ControlPlane
from tests.integration.running import EVENTS, PODS, Pods, account, operator, register, wait_status, wait_until
from tests.pods import GATE, condition

THEIRS = "example.org/gate"
PATCH_STATUS = {"apiGroups": [""], "resources": ["pods/status"], "verbs": ["patch"]}


def gated(pods: Pods, name: str, *gates: str, ip: str = "10.244.0.7") -> str:
    """Create a pod whose kubelet finds it ready but for its gates; returns its uid."""
    uid = pods.create(name, ip=ip, readinessGates=[{"conditionType": gate} for gate in gates or (GATE,)])
    waits = condition("Ready", "False", 5, "ReadinessGatesNotReady")
    pods.show(name, conditions=[waits, condition("ContainersReady", "True", 5)])
    return uid


def conditions(pods: Pods, name: str) -> dict[str, dict[str, Any]]:
    listed = pods.http.get(f"/pods/{name}").raise_for_status().json()["status"]["conditions"]
    return {one["type"]: one for one in listed}


def is_open(pods: Pods, name: str) -> bool:
    return conditions(pods, name).get(GATE, {}).get("status") == "True"


def managers(pods: Pods, name: str) -> set[str]:
    listed = pods.http.get(f"/pods/{name}").raise_for_status().json()["metadata"]["managedFields"]
    return {entry["manager"] for entry in listed}


def test_it_is_opened_once_the_registry_says_up_and_nothing_else_of_the_pod_is_changed(
    control_plane: ControlPlane, server: tuple[DevServer, str], pods: Pods, tmp_path: Path
) -> None:
    registry, url = server
    who = account(control_plane, pods.namespace, PODS, EVENTS, PATCH_STATUS)
    with operator(who.kubeconfig, url, tmp_path, "--namespace", pods.namespace, "--readiness-gate", "true") as run:
        gated(pods, "cart")
        gated(pods, "other", THEIRS, ip="10.244.0.8")
        pods.create("plain", ip="10.244.0.9")
        before = pods.http.get("/pods/cart").json()
        wait_status(registry, register(registry, "plain", "10.244.0.9", status="STARTING"), "UP")
        assert not is_open(pods, "cart"), "nothing is registered of it yet"
        instance = register(registry, "cart", status="STARTING")
        wait_until(lambda: is_open(pods, "cart"), 10, "the gate open")
        assert registry.registry.instance("svc-1", instance).status == "UP"
        after = pods.http.get("/pods/cart").json()
        opened = conditions(pods, "cart")[GATE]
        assert (opened["reason"], opened["lastTransitionTime"][-1]) == ("Registered", "Z")
        kept = [one for one in after["status"]["conditions"] if one["type"] != GATE]
        assert kept == before["status"]["conditions"]
        assert after["spec"] == before["spec"]
        assert after["metadata"].get("annotations") == before["metadata"].get("annotations")
        assert {name: "registry-status-operator" in managers(pods, name) for name in ("cart", "other", "plain")} == {
            "cart": True, "other": False, "plain": False,
        }  # fmt: skip
        assert GATE not in conditions(pods, "other") | conditions(pods, "plain")
        assert 'registry_status_gates_total{code="ok"} 1.0' in run.metrics()
        assert registry.journal.redundant_writes == 0
        assert "WARNING" not in run.said()


def test_it_waits_for_a_registry_that_is_away(
    control_plane: ControlPlane, server: tuple[DevServer, str], pods: Pods, tmp_path: Path
) -> None:
    registry, url = server
    flags = ("--namespace", pods.namespace, "--readiness-gate", "true")
    with operator(control_plane.kubeconfig, url, tmp_path, *flags):
        register(registry, "cart", status="STARTING")
        registry.faults.set(Fault(Answer(status=503, body=b"down")))
        gated(pods, "cart")
        wait_until(lambda: bool(pods.events("cart")), 15, "warning")
        assert not is_open(pods, "cart")
        registry.faults.clear()
        wait_until(lambda: is_open(pods, "cart"), 5, "the gate open")


def test_pods_that_waited_while_no_operator_ran_are_opened_at_its_start(
    control_plane: ControlPlane, server: tuple[DevServer, str], pods: Pods, tmp_path: Path
) -> None:
    registry, url = server
    for number in range(20):
        gated(pods, f"cart-{number}", ip=f"10.244.0.{number + 1}")
        register(registry, f"cart-{number}", f"10.244.0.{number + 1}", status="UP")
    flags = ("--namespace", pods.namespace, "--readiness-gate", "true")
    with operator(control_plane.kubeconfig, url, tmp_path, *flags) as run:
        wait_until(lambda: all(is_open(pods, f"cart-{number}") for number in range(20)), 10, "all gates open")
        assert 'registry_status_gates_total{code="ok"} 20.0' in run.metrics()
    assert registry.writes == []


@pytest.mark.parametrize("flags", [(), ("--readiness-gate", "true", "--dry-run")], ids=["not switched on", "a dry run"])
def test_no_pod_is_patched_by(
    control_plane: ControlPlane, server: tuple[DevServer, str], pods: Pods, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    registry, url = server
    with operator(
        control_plane.kubeconfig, url, tmp_path, "--namespace", pods.namespace, "--resync-interval", "1", *flags
    ) as run:
        gated(pods, "cart")
        register(registry, "cart", status="STARTING" if not flags else "UP")
        wait_until(lambda: 'acknowledged_pods{status="UP"} 1.0' in run.metrics(), 10, "UP acknowledged")
        assert GATE not in conditions(pods, "cart")
        assert "registry-status-operator" not in managers(pods, "cart")


def test_without_the_right_it_says_so_and_statuses_are_written_all_the_same(
    control_plane: ControlPlane, server: tuple[DevServer, str], pods: Pods, tmp_path: Path
) -> None:
    registry, url = server
    who = account(control_plane, pods.namespace, PODS, EVENTS)
    with operator(who.kubeconfig, url, tmp_path, "--namespace", pods.namespace, "--readiness-gate", "true") as run:
        assert (
            f"cannot set the readiness gate: the operator may not patch pods/status in namespace {pods.namespace};"
            in run.said()
        )
        gated(pods, "cart")
        wait_status(registry, register(registry, "cart", status="STARTING"), "UP")
        wait_until(lambda: f"cannot set condition {GATE} of pod {pods.namespace}/cart" in run.said(), 5, "a warning")
        assert 'registry_status_gates_total{code="Forbidden"}' in run.metrics()
        assert "Traceback" not in run.said()


async def test_a_pod_of_the_same_name_that_came_after_it_does_not_get_its_condition(
    control_plane: ControlPlane, pods: Pods
) -> None:
    uid = gated(pods, "cart")
    metrics = Metrics()
    access = await load_access(control_plane.kubeconfig, None, {})
    async with ApiServer(access) as api:
        keeper = GateKeeper(api, GATE, metrics, chance=random.Random(1))
        gone = PodRef(f"{uid[:-4]}0000", pods.namespace, "cart")
        keeper.open(gone)
        await asyncio.sleep(2)  # it would have tried again several times
        await keeper.aclose()
    assert GATE not in conditions(pods, "cart")
    attempts = [line for line in metrics.render().body.splitlines() if line.startswith(b"registry_status_gates_total{")]
    assert [line.rpartition(b" ")[2] for line in attempts] == [b"1.0"]
    assert b'"ok"' not in attempts[0]
