"""The main job on a real kubelet: a pod annotated by a user goes through its life, and the registry says so.

The registry is read through its public API; with E2E_REGISTRY it is a Service Center of yours.
"""

import re
import time
from typing import Any

import pytest

from tests.cluster.processes import wait_for
from tests.e2e.installation import SYSTEM, Installation, Workload, now
from tests.pods import GATE

GATE_AT_ONCE = 5.0
"""Seconds from the SDK's registration to Ready: a look for it each second, a write, a patch, and the kubelet's next pass."""
AT_ONCE = 1.0
"""Seconds from the API server's showing of a change to the registry's."""


def test_a_pod_is_starting_until_it_is_ready_and_then_up(workload: Workload) -> None:
    workload.pod("cart", READY="false")
    workload.wait_status("cart", "STARTING", timeout=30)
    workload.tell("cart", "ready?value=true")
    workload.wait_ready("cart")
    assert workload.wait_status("cart", "UP", timeout=5) < AT_ONCE


def test_lost_readiness_is_out_of_service_and_regained_up_within_a_second(workload: Workload) -> None:
    workload.pod("cart")
    workload.wait_up("cart")
    latencies = []
    for value, ready, status in [("false", "False", "OUTOFSERVICE"), ("true", "True", "UP")] * 3:
        workload.tell("cart", f"ready?value={value}")
        workload.wait_ready("cart", ready)
        latencies.append(workload.wait_status("cart", status, timeout=5))
    print(f"API server to registry: {', '.join(f'{seconds * 1000:.0f} ms' for seconds in latencies)}")  # noqa: T201
    assert max(latencies) < AT_ONCE


def test_a_rollout_takes_the_old_pods_down_before_they_go_and_the_new_ones_up(workload: Workload) -> None:
    workload.deployment("cart", 3, ON_SIGTERM="stay", EXIT_DELAY="5")
    wait_for(lambda: list(workload.installation.registry.statuses(workload.namespace).values()) == ["UP"] * 3, 60, "3 UP")
    old = set(workload.installation.registry.statuses(workload.namespace))
    workload.cluster.kubectl("-n", workload.namespace, "set", "env", "deployment/cart", "GENERATION=2")
    workload.cluster.kubectl("-n", workload.namespace, "rollout", "status", "deployment/cart", "--timeout=90s", timeout=100)

    def settled() -> bool:
        statuses = workload.installation.registry.statuses(workload.namespace)
        new = {pod: status for pod, status in statuses.items() if pod not in old}
        return list(new.values()) == ["UP"] * 3 and all(statuses.get(pod, "DOWN") == "DOWN" for pod in old)

    wait_for(settled, 20, "new pods UP, old ones DOWN or expired")


def test_a_crash_is_down_a_restart_starting_then_up_and_a_crash_loop_is_down_while_it_waits(workload: Workload) -> None:
    workload.pod("cart", READY="true")
    workload.wait_up("cart")
    workload.wait_instance(workload.crash("cart", code=1), "DOWN", timeout=10)
    wait_for(lambda: workload.restarts("cart") == 1, 30, "first restart")
    workload.wait_up("cart")
    workload.wait_instance(workload.crash("cart", code=1), "DOWN", timeout=10)
    wait_for(lambda: workload.waits_for("cart") == "CrashLoopBackOff", 30, "back-off")
    assert workload.status("cart") in ("DOWN", None), "DOWN while it waits, or expired"
    workload.wait_up("cart", timeout=60)


def test_a_pod_that_completes_is_down(workload: Workload) -> None:
    workload.pod("job", restart="Never")
    workload.wait_up("job")
    workload.wait_instance(workload.crash("job", code=0), "DOWN", timeout=10)
    wait_for(lambda: workload.shown("job")["status"]["phase"] == "Succeeded", 20, "job succeeded")


@pytest.mark.parametrize("ending", ["stay", "leave"])
def test_a_deleted_pod_is_down_before_its_grace_period_ends(workload: Workload, ending: str) -> None:
    workload.pod("cart", grace=20, ON_SIGTERM=ending, EXIT_DELAY="8")
    workload.wait_up("cart")
    began = now()
    workload.cluster.kubectl("-n", workload.namespace, "delete", "pod", "cart", "--wait=false")
    wait_for(lambda: workload.status("cart") in ("DOWN", None), 5, "DOWN, or left by itself", interval=0.05)
    assert now() - began < 5
    if ending == "stay":
        assert workload.status("cart") == "DOWN"
        assert workload.shown("cart")["metadata"]["deletionTimestamp"]


def test_a_lost_node_takes_its_pods_out_of_service(workload: Workload) -> None:
    if not workload.cluster.can_stop_node:
        pytest.skip(f"the node of the {workload.cluster.name} cluster can't be stopped")
    workload.pod("cart")
    workload.wait_up("cart")
    workload.cluster.stop_node()
    try:
        wait_for(lambda: workload.ready("cart") != "True", 60, "pod of the lost node not ready")
        assert workload.wait_status("cart", "OUTOFSERVICE", timeout=5) < AT_ONCE
    finally:
        workload.cluster.start_node()
    workload.wait_ready("cart", timeout=60)
    workload.wait_status("cart", "UP", timeout=5)


def test_a_bad_annotation_is_told_in_an_event_and_nothing_is_written(workload: Workload) -> None:
    workload.pod("cart", annotations=workload.annotations | {"terminating-status": "down"}, READY="false")
    event = workload.wait_event("cart", "InvalidRegistryAnnotation")
    assert event["type"] == "Warning"
    for part in ("registry-status.io/terminating-status", "'down'", "STARTING, OUTOFSERVICE, DOWN"):
        assert part in event["message"]
    workload.wait_status("cart", "UP", timeout=30)  # as the SDK registered it


def test_an_sdk_that_registers_late_and_unready_is_corrected_within_about_a_second(workload: Workload) -> None:
    workload.pod("cart", READY="false", DELAY="never")
    wait_for(
        lambda: "running" in workload.shown("cart")["status"].get("containerStatuses", [{"state": {}}])[0]["state"],
        30,
        "running",
    )
    workload.tell("cart", "register")
    wait_for(lambda: workload.status("cart") is not None, 5, "registered", interval=0.02)
    assert workload.wait_status("cart", "STARTING", timeout=5) < 1.5


def test_a_registry_that_is_down_earns_one_warning_and_one_normal_event_and_the_status_arrives(workload: Workload) -> None:
    registry = workload.installation.registry
    if not registry.dev:
        pytest.skip("a Service Center of yours is not ours to break")
    workload.pod("cart")
    workload.wait_up("cart")
    with registry.failing():
        workload.tell("cart", "ready?value=false")
        workload.wait_ready("cart", "False")
        warning = workload.wait_event("cart", "RegistryUpdateFailed")
    workload.wait_status("cart", "OUTOFSERVICE", timeout=5)
    workload.wait_event("cart", "RegistryUpdateRecovered")
    assert warning["type"] == "Warning"
    assert "503" in warning["message"]
    described = workload.cluster.kubectl("-n", workload.namespace, "describe", "pod", "cart")
    assert len(re.findall(r"Warning\s+RegistryUpdateFailed", described)) == 1
    assert len(re.findall(r"Normal\s+RegistryUpdateRecovered", described)) == 1


def test_a_registry_that_lost_everything_is_put_right_when_the_sdks_are_back(workload: Workload) -> None:
    if not workload.installation.registry.dev:
        pytest.skip("a Service Center of yours is not ours to break")
    workload.pod("cart")
    workload.wait_up("cart")
    workload.tell("cart", "ready?value=false")
    workload.wait_status("cart", "OUTOFSERVICE")
    workload.installation.registry.http.post("/devserver/reset", params={"only": "registry"}).raise_for_status()
    wait_for(lambda: workload.status("cart") is not None, 20, "registered again")
    workload.wait_status("cart", "OUTOFSERVICE", timeout=15)


def test_a_gated_pod_is_ready_only_when_the_registry_says_up(workload: Workload) -> None:
    workload.pod("cart", DELAY="never", gated=True)
    wait_for(lambda: workload.condition("cart", "ContainersReady") == "True", 30, "containers ready")
    wait_for(
        lambda: "ReadinessGatesNotReady" in str(workload.shown("cart")["status"]["conditions"]), 10, "waiting for its gate"
    )
    assert (workload.ready("cart"), workload.condition("cart", GATE)) == ("False", "")
    workload.tell("cart", "register")
    assert workload.wait_ready("cart", timeout=15) < GATE_AT_ONCE
    assert workload.status("cart") == "UP"
    workload.tell("cart", "ready?value=false")
    workload.wait_status("cart", "OUTOFSERVICE")
    workload.tell("cart", "ready?value=true")
    workload.wait_up("cart")


def test_a_rollout_of_gated_pods_waits_while_the_registry_is_down(workload: Workload) -> None:
    registry = workload.installation.registry
    if not registry.dev:
        pytest.skip("a Service Center of yours is not ours to break")
    workload.deployment("cart", 2, gated=True)
    wait_for(lambda: list(registry.statuses(workload.namespace).values()) == ["UP"] * 2, 60, "2 UP")
    workload.cluster.kubectl("-n", workload.namespace, "rollout", "status", "deployment/cart", "--timeout=60s", timeout=70)
    old = workload.names()
    with registry.failing():
        workload.cluster.kubectl("-n", workload.namespace, "set", "env", "deployment/cart", "GENERATION=2")
        wait_for(lambda: len(workload.names()) > len(old), 30, "a new pod")
        (new,) = workload.names() - old
        wait_for(lambda: workload.condition(new, "ContainersReady") == "True", 30, "containers of the new pod ready")
        time.sleep(3)
        assert workload.ready(new) == "False"
        assert old < workload.names()
        assert {workload.ready(pod) for pod in old} == {"True"}
    workload.cluster.kubectl("-n", workload.namespace, "rollout", "status", "deployment/cart", "--timeout=90s", timeout=100)
    assert {registry.statuses(workload.namespace).get(pod) for pod in workload.names() - old} == {"UP"}


def test_pods_carry_no_finalizer_and_no_patch_of_ours(workload: Workload) -> None:
    workload.pod("cart")
    workload.wait_up("cart")
    metadata: dict[str, Any] = workload.cluster.get("pod", "cart", "--show-managed-fields", namespace=workload.namespace)[
        "metadata"
    ]
    assert "finalizers" not in metadata
    managers = {entry["manager"] for entry in metadata["managedFields"]}
    assert not [manager for manager in managers if "kopf" in manager or "registry-status" in manager or "python" in manager]


def test_the_runtimes_seccomp_profile_lets_the_operator_be_scheduled_as_a_batch(installation: Installation) -> None:
    look = "import os; print(os.sched_getscheduler(1) == os.SCHED_BATCH, 'Seccomp:\\t2' in open('/proc/1/status').read())"
    told = installation.cluster.kubectl(
        "-n", SYSTEM, "exec", f"deployment/{installation.operator}", "--", "python3", "-c", look
    )
    assert told.split() == ["True", "True"]


def test_the_operator_has_been_healthy_wrote_nothing_twice_and_was_denied_nothing(installation: Installation) -> None:
    """Runs last in this file: it judges what the others did."""
    pods = installation.cluster.get("pods", "-l", "app.kubernetes.io/name=registry-status-operator", namespace=SYSTEM)["items"]
    assert pods
    for pod in pods:
        main = pod["status"]["containerStatuses"][0]
        assert (main["ready"], main["restartCount"]) == (True, 0)
    logs = installation.logs()
    assert "orbidden" not in logs
    assert "internal error" not in logs
    assert "Traceback" not in logs
    if installation.registry.dev:
        assert installation.registry.redundant_writes() == []
    metrics = installation.metrics()
    delivered = re.search(r'registry_status_outcomes_total\{kind="delivered"\} (\d+)', metrics)
    assert delivered
    assert int(delivered[1]) > 0
