"""The documentation before real servers: manifests before an API server, the look at the registry before a registry."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.control_plane import ControlPlane
from tests.cluster.processes import CommandError, Daemon, free_port, wait_for
from tests.docs.pages import BLOCKS, ROOT, Block, documents, page
from tests.integration.test_sample_service import answers

OTHERS = {"values.yaml", "prometheus.yaml", "application.yaml", "microservice.yaml", "chassis.yaml"}
"""Files that are not for an API server."""
SAMPLE = ROOT / "manifests" / "demo" / "service.py"
MANIFESTS = [block for block in BLOCKS if block.language == "yaml" and block.file not in OTHERS]
ADDRESSES = re.compile(r"localhost:(\d+)")


def whole(fragment: dict[str, Any]) -> dict[str, Any]:
    """The manifest that a fragment is a part of: a container's, a pod's, or a Deployment's."""
    if "kind" in fragment:
        return fragment
    if not fragment.keys() & {"metadata", "spec"}:
        return whole({"spec": {"containers": [{"name": "main", "image": "main"} | fragment]}})
    if "template" in fragment.get("spec", {}):
        pod = whole(fragment["spec"]["template"])
        pod["metadata"]["labels"] = {"app": "main"}
        template = {"metadata": pod["metadata"], "spec": pod["spec"]}
        spec = {"selector": {"matchLabels": {"app": "main"}}, "template": template}
        return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "main"}, "spec": spec}
    spec = fragment.get("spec", {"containers": [{"name": "main"}]})
    containers = [{"image": "main"} | container for container in spec["containers"]]
    metadata = {"name": "main"} | fragment.get("metadata", {})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec | {"containers": containers}}


def take(control_plane: ControlPlane, manifest: dict[str, Any]) -> str:
    """Let the API server check it, strictly: unknown fields are errors."""
    manifest["metadata"]["namespace"] = "default"
    words = ("apply", "--dry-run=server", "--validate=strict", "-o", "name", "-f", "-")
    return control_plane.kube.kubectl(*words, input=yaml.safe_dump(manifest)).strip()


@pytest.mark.parametrize("block", MANIFESTS, ids=lambda block: f"{block.page}-{block.file or BLOCKS.index(block)}")
def test_an_api_server_takes_every_manifest(control_plane: ControlPlane, block: Block) -> None:
    for manifest in map(whole, documents(block)):
        if manifest["kind"] == "Kustomization":
            continue  # it is for kubectl: see the next test
        assert take(control_plane, manifest).endswith(f"/{manifest['metadata']['name']}")


def test_a_mistake_in_a_fragment_would_not_be_taken(control_plane: ControlPlane) -> None:
    with pytest.raises(CommandError, match="preStopp"):
        take(control_plane, whole({"lifecycle": {"preStopp": {"exec": {"command": ["sleep", "1"]}}}}))


def test_the_kustomization_builds_and_names_the_registry_and_the_image(control_plane: ControlPlane, tmp_path: Path) -> None:
    found = [tree for block in MANIFESTS for tree in documents(block) if tree.get("kind") == "Kustomization"]
    (told,) = [tree for tree in found if "images" in tree]
    base = os.path.relpath(ROOT / "manifests" / "base", tmp_path.resolve())
    told["resources"] = [base if path == "PATH-OF/manifests/base" else path for path in told["resources"]]
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(told))
    built = control_plane.kube.kubectl("kustomize", tmp_path)
    assert "http://registry.example:30100" in built
    assert "image: registry.example/registry-status-operator:" in built


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What the README's port-forwards lead to, by the ports that it names."""
    ports = {"8080": free_port(), "30100": free_port()}
    registry = f"127.0.0.1:{ports['30100']}"
    daemon = Daemon(
        "devregistry", [sys.executable, "-m", "registry_status", "devregistry", "--listen", registry], tmp_path / "registry.log"
    )
    daemon.start()
    settings = {"REGISTRY": f"http://{registry}", "PORT": str(ports["8080"]), "HOST_NAME": "demo-0", "POD_IP": "127.0.0.1"}
    with subprocess.Popen([sys.executable, SAMPLE], env=os.environ | settings) as service:
        try:
            wait_for(lambda: answers(f"http://127.0.0.1:{ports['8080']}/live"), 10, "the sample service")
            yield {told: f"127.0.0.1:{port}" for told, port in ports.items()}
        finally:
            service.kill()
            daemon.kill()


def test_the_readmes_commands_change_readiness_and_show_the_registry(demo: dict[str, str]) -> None:
    lines = [line for block in page("README.md").blocks for line in block.commands if line.startswith("curl ")]
    change, look = (ADDRESSES.sub(lambda found: demo[found[1]], line) for line in lines)

    def run(line: str) -> str:
        return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=10, check=False).stdout

    wait_for(lambda: '"status": "UP"' in run(look), 10, "the instance in the registry")
    assert '"hostName": "demo-0"' in run(look)
    assert answers(f"http://{demo['8080']}/ready")
    run(change)
    assert not answers(f"http://{demo['8080']}/ready")
