"""The real operator against a real kube-apiserver and the development server over HTTP."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_status.registry.devserver import Answer, DevServer, Drop, Fault
from tests.cluster.control_plane import ControlPlane
from tests.integration.running import CLI, SERVICE, Operator, Pods, operator, register, wait_status, wait_until


@pytest.fixture(params=["true", "false"], ids=["filtered", "plain kopf"])
def run(
    request: pytest.FixtureRequest, control_plane: ControlPlane, server: tuple[DevServer, str], pods: Pods, tmp_path: Path
) -> Iterator[Operator]:
    """The operator, watching the test's namespace."""
    flags = ["--namespace", pods.namespace, "--resync-interval", "2", "--watch-filter", request.param]
    with operator(control_plane.kubeconfig, server[1], tmp_path, *flags) as started:
        yield started


def test_a_pods_life_is_followed(run: Operator, server: tuple[DevServer, str], pods: Pods) -> None:
    registry, _ = server
    pods.create("cart")
    instance = register(registry, "cart", status="STARTING")
    wait_status(registry, instance, "UP")
    pods.show("cart", "False", 9)
    assert wait_status(registry, instance, "OUTOFSERVICE") < 1
    pods.show("cart", "True", 12)
    assert wait_status(registry, instance, "UP") < 1
    pods.delete("cart")
    assert wait_status(registry, instance, "DOWN") < 1
    pods.delete("cart", grace=0)
    assert [write.after for write in registry.writes] == ["UP", "OUTOFSERVICE", "UP", "DOWN"]
    assert registry.journal.redundant_writes == 0
    assert 'kind="delivered"} 4.0' in run.metrics()


def test_a_service_by_name_is_found(run: Operator, server: tuple[DevServer, str], pods: Pods) -> None:
    registry, _ = server
    pods.create("cart", {"service": "cart"})
    instance = register(registry, "cart", status="STARTING")
    wait_status(registry, instance, "UP")


def test_a_pod_that_is_not_annotated_any_more_is_left_alone(run: Operator, server: tuple[DevServer, str], pods: Pods) -> None:
    registry, _ = server
    pods.create("cart")
    instance = register(registry, "cart", status="STARTING")
    wait_status(registry, instance, "UP")
    pods.annotate("cart", service_id=None)
    pods.show("cart", "False", 9)
    pods.create("other", {"service-id": SERVICE}, ip="10.244.0.8")
    wait_status(registry, register(registry, "other", "10.244.0.8", status="STARTING"), "UP")
    assert registry.registry.instance(SERVICE, instance).status == "UP"
    pods.annotate("cart", service_id=SERVICE)
    wait_status(registry, instance, "OUTOFSERVICE")


def test_drift_is_put_back(run: Operator, server: tuple[DevServer, str], pods: Pods) -> None:
    registry, _ = server
    pods.create("cart")
    instance = register(registry, "cart", status="STARTING")
    wait_status(registry, instance, "UP")
    registry.registry.put_status(SERVICE, instance, "DOWN")
    wait_status(registry, instance, "UP", timeout=6)
    wait_until(lambda: any(event["reason"] == "RegistryStatusDrifted" for event in pods.events("cart")), 10, "event of drift")
    assert 'registry_status_drift_total{cause="changed-by-others"} 1.0' in run.metrics()


def test_an_outage_earns_one_warning_and_one_normal_event(run: Operator, server: tuple[DevServer, str], pods: Pods) -> None:
    registry, _ = server
    pods.create("cart")
    instance = register(registry, "cart", status="STARTING")
    wait_status(registry, instance, "UP")
    registry.faults.set(Fault(Answer(status=503, body=b"down")))
    pods.show("cart", "False", 9)
    wait_until(lambda: bool(pods.events("cart")), 15, "warning")
    assert run.http("/readyz") == run.http("/healthz") == 200
    registry.faults.clear()
    assert wait_status(registry, instance, "OUTOFSERVICE") < 3
    wait_until(lambda: len(pods.events("cart")) == 2, 10, "recovery")
    assert sorted((event["type"], event["reason"], event["count"]) for event in pods.events("cart")) == [
        ("Normal", "RegistryUpdateRecovered", 1),
        ("Warning", "RegistryUpdateFailed", 1),
    ]


@pytest.mark.parametrize(
    "fault",
    [
        Answer.html_page(),
        Answer.redirect("http://127.0.0.1:1/"),
        Answer(status=200, body=b'{"instances": [', content_type="application/json"),
        Answer.mebibytes(40),
        Drop(),
    ],
    ids=["HTML", "redirect", "truncated JSON", "40 MiB", "dropped connection"],
)
def test_a_registry_that_answers_nonsense_is_told_and_outlived(
    run: Operator, server: tuple[DevServer, str], pods: Pods, fault: Answer | Drop
) -> None:
    registry, _ = server
    registry.faults.set(Fault(fault))
    pods.create("cart")
    instance = register(registry, "cart", status="STARTING")
    wait_until(lambda: any(event["type"] == "Warning" for event in pods.events("cart")), 20, "warning")
    registry.faults.clear()
    if isinstance(fault, Answer) and fault.status in (301, 302, 307, 308):  # permanent: tried again after five minutes, or when
        pods.show("cart", "False", 9)  # the pod changes
        wait_status(registry, instance, "OUTOFSERVICE", timeout=10)
    else:
        wait_status(registry, instance, "UP", timeout=35)
    assert "Traceback" not in run.said()


def test_pods_that_change_while_the_api_server_is_away_are_put_right(
    control_plane: ControlPlane, run: Operator, server: tuple[DevServer, str], pods: Pods
) -> None:
    registry, _ = server
    instances = {}
    for number, name in enumerate(("stays", "changes", "goes")):
        pods.create(name, ip=f"10.244.0.{number + 10}")
        instances[name] = register(registry, name, f"10.244.0.{number + 10}", status="STARTING")
        wait_status(registry, instances[name], "UP")
    control_plane.kill_apiserver()
    control_plane.start_apiserver()
    pods.show("changes", "False", 9)
    pods.delete("goes", grace=0)
    wait_status(registry, instances["changes"], "OUTOFSERVICE", timeout=20)
    wait_status(registry, instances["goes"], "DOWN", timeout=20)
    assert registry.registry.instance(SERVICE, instances["stays"]).status == "UP"
    assert run.process.poll() is None


def test_a_start_with_pods_that_are_in_step_writes_nothing(
    control_plane: ControlPlane, server: tuple[DevServer, str], pods: Pods, tmp_path: Path
) -> None:
    registry, url = server
    for number in range(20):
        pods.create(f"cart-{number}", ip=f"10.244.1.{number}")
        register(registry, f"cart-{number}", f"10.244.1.{number}", status="UP")
    with operator(control_plane.kubeconfig, url, tmp_path, "--namespace", pods.namespace) as started:
        wait_until(lambda: "acknowledged" in started.metrics(), 5, "metrics")
        wait_until(lambda: 'registry_status_acknowledged_pods{status="UP"} 20.0' in started.metrics(), 10, "20 acknowledged")
    assert registry.writes == []


def test_sigterm_ends_it_soon_with_exit_status_0(run: Operator) -> None:
    code, seconds = run.stop()
    assert code == 0
    assert seconds < 10
    assert "Traceback" not in run.said()
    assert "Unclosed" not in run.said()


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--registry-address", "http://127.0.0.1:1"], 1, "no-such-kubeconfig"),
        (["--registry-address", "registry:30100"], 2, "--registry-address: 'registry:30100' is not allowed"),
        (["--registry-address", "http://r", "--resync-interval", "never"], 2, "--resync-interval: 'never'"),
        ([], 2, "--registry-address is needed"),
    ],
    ids=["unreadable kubeconfig", "wrong URL", "wrong setting", "missing setting"],
)
def test_wrong_settings_are_told_and_end_it(flags: list[str], code: int, said: str) -> None:
    ended = subprocess.run(
        [CLI, "run", "--kubeconfig", "/no-such-kubeconfig", "--listen", "127.0.0.1:0", *flags],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (ended.returncode, said in ended.stderr) == (code, True), ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_pod_in_the_cluster_is_explained(control_plane: ControlPlane, pods: Pods) -> None:
    pods.create("cart")
    command: list[str | Path] = [CLI, "explain", f"{pods.namespace}/cart"]
    command += ["--kubeconfig", control_plane.kubeconfig, "-o", "json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    told = json.loads(ended.stdout)
    assert [(one["name"], one["status"], one["reason"]) for one in told] == [("cart", "UP", "PodReady")]
    missing = subprocess.run(
        [*command[:2], f"{pods.namespace}/nobody", *command[3:]], capture_output=True, text=True, timeout=30, check=False
    )
    assert missing.returncode == 2
    assert "no pod nobody" in missing.stderr
