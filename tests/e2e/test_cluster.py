"""The cluster of the e2e tests itself: real pods of the sample service, on a node that can be lost."""

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cluster.e2e import Cluster
from tests.cluster.node import GRACE_SECONDS
from tests.cluster.processes import wait_for


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    name = f"cluster-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    wait_for(lambda: bool(cluster.get("serviceaccounts", namespace=name)["items"]), 20, "service account")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def sample_pod(cluster: Cluster, name: str, **env: str) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": cluster.sample_image,
        "env": [{"name": key, "value": value} for key, value in env.items()],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1, "failureThreshold": 1},
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": 5}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def condition(cluster: Cluster, namespace: str, name: str) -> str:
    status = cluster.get("pod", name, namespace=namespace)["status"]
    return next((str(c["status"]) for c in status.get("conditions", []) if c["type"] == "Ready"), "")


def is_ready(cluster: Cluster, namespace: str, name: str, wanted: str) -> Callable[[], bool]:
    return lambda: condition(cluster, namespace, name) == wanted


@pytest.fixture
def pod(cluster: Cluster, namespace: str) -> str:
    cluster.apply(sample_pod(cluster, "sample"), namespace=namespace)
    wait_for(is_ready(cluster, namespace, "sample", "True"), 30, "pod ready")
    return "sample"


def test_a_pods_readiness_follows_what_it_is_told(cluster: Cluster, namespace: str, pod: str) -> None:
    with cluster.pod(namespace, pod) as http:
        assert http.get("/").json()["ready"] is True
        http.post("/control/ready", params={"value": "false"}).raise_for_status()
        wait_for(is_ready(cluster, namespace, pod, "False"), 10, "pod not ready")
        http.post("/control/ready", params={"value": "true"}).raise_for_status()
        wait_for(is_ready(cluster, namespace, pod, "True"), 10, "pod ready again")


def test_logs_and_exec_work(cluster: Cluster, namespace: str, pod: str) -> None:
    with cluster.pod(namespace, pod) as http:
        http.post("/control/live", params={"value": "true"}).raise_for_status()
    assert "told: /control/live" in cluster.kubectl("logs", pod, "-n", namespace)
    assert cluster.kubectl("exec", pod, "-n", namespace, "--", "id", "-u") == "65532\n"


def test_a_crash_is_restarted(cluster: Cluster, namespace: str, pod: str) -> None:
    with cluster.pod(namespace, pod) as http:
        http.post("/control/crash", params={"code": "3"}).raise_for_status()

    def restarted() -> bool:
        main = cluster.get("pod", pod, namespace=namespace)["status"]["containerStatuses"][0]
        return bool(main["restartCount"] == 1 and main["lastState"]["terminated"]["exitCode"] == 3)

    wait_for(restarted, 20, "restart")
    wait_for(is_ready(cluster, namespace, pod, "True"), 20, "pod ready again")


def test_pods_reach_services_by_name(cluster: Cluster, namespace: str, pod: str) -> None:
    cluster.kubectl("label", "pod", pod, "app=sample", "-n", namespace)
    cluster.kubectl("expose", "pod", pod, "--port=80", "--target-port=8080", "-n", namespace)
    fetch = f"import urllib.request; print(urllib.request.urlopen('http://{pod}.{namespace}/ready', timeout=5).status)"

    def reached() -> bool:
        said = cluster.kubectl("exec", pod, "-n", namespace, "--", "sh", "-c", f'python3 -c "{fetch}" 2>&1 || true')
        return said == "200\n"

    wait_for(reached, 30, "service by name", interval=0.5)


def test_a_lost_node_is_noticed_and_comes_back(cluster: Cluster, namespace: str, pod: str) -> None:
    if not cluster.can_stop_node:
        pytest.skip(f"the node of the {cluster.name} cluster can't be stopped")
    cluster.stop_node()
    try:
        began = time.monotonic()
        wait_for(is_ready(cluster, namespace, pod, "False"), GRACE_SECONDS + 30, "pod of a lost node not ready")
        assert time.monotonic() - began > 2
    finally:
        cluster.start_node()
    wait_for(is_ready(cluster, namespace, pod, "True"), 30, "pod ready again")
