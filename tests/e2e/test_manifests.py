"""`kubectl apply -k manifests/demo` on a real cluster, as the manifests say it, with the image of the working tree."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.e2e import Cluster
from tests.cluster.processes import wait_for
from tests.cluster.tools import ROOT
from tests.e2e.installation import REGISTRY_PORT, RegistryView

DEMO = "registry-status-demo"
BASE_NAMESPACE = "registry-status-system"
OPERATOR = "registry-status-operator"
ELSEWHERE = "registry-status-manifests"
"""The base's namespace here: the chart's tests use its own."""


@pytest.fixture
def demo(cluster: Cluster, tmp_path: Path) -> Iterator[Cluster]:
    """The demo, applied from a copy that names the image and another namespace for the operator."""
    shutil.copytree(ROOT / "manifests", tmp_path / "manifests")
    for file in (tmp_path / "manifests").rglob("*.yaml"):
        file.write_text(file.read_text().replace(BASE_NAMESPACE, ELSEWHERE))
    name, _, tag = cluster.operator_image.rpartition(":")
    image = {"name": OPERATOR, "newName": name, "newTag": tag}
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["manifests/demo"],
        "images": [image],
    }
    (tmp_path / "kustomization.yaml").write_text(json.dumps(overlay))
    cluster.kubectl("apply", "-k", tmp_path)
    yield cluster
    cluster.kubectl("delete", "-k", tmp_path, "--wait=false")


def test_the_demo_comes_up_and_follows_a_replica_that_loses_readiness(demo: Cluster) -> None:
    demo.kubectl("-n", ELSEWHERE, "rollout", "status", f"deployment/{OPERATOR}", "--timeout=90s", timeout=100)
    demo.kubectl("-n", DEMO, "rollout", "status", "deployment/demo", "--timeout=90s", timeout=100)
    registry = RegistryView(demo.service(DEMO, "registry", REGISTRY_PORT), dev=True)
    wait_for(lambda: list(registry.statuses("demo").values()) == ["UP", "UP"], 30, "two replicas UP")
    pods = demo.get("pods", "-l", "app.kubernetes.io/name=demo", namespace=DEMO)["items"]
    name = pods[0]["metadata"]["name"]
    with demo.pod(DEMO, name) as http:
        http.post("/control/ready", params={"value": "false"}).raise_for_status()
    wait_for(lambda: registry.statuses("demo")[name] == "OUTOFSERVICE", 30, "OUTOFSERVICE")
