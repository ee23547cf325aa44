"""The command line under kubectl, with the kubectl that the test clusters use."""

import os
import uuid
from pathlib import Path

from tests.cluster import tools
from tests.cluster.control_plane import ControlPlane
from tests.integration.cli_runs import Ran, registry, run
from tests.integration.running import CLI, Pods, register


def kubectl(control_plane: ControlPlane, *words: str) -> Ran:
    path = f"{CLI.parent}{os.pathsep}{os.environ['PATH']}"
    return run(*words, program=tools.program("kubectl"), KUBECONFIG=str(control_plane.kubeconfig), PATH=path)


def test_kubectl_finds_it_as_registry_status(control_plane: ControlPlane) -> None:
    assert str(CLI.with_name("kubectl-registry_status")) in kubectl(control_plane, "plugin", "list").out.split()


def test_kubectl_registry_status_plan_is_plan_with_kubectls_cluster(control_plane: ControlPlane) -> None:
    pods = Pods(control_plane.kube, f"plugin-{uuid.uuid4().hex[:8]}")
    pods.create("cart")
    with registry() as (server, url):
        register(server, "cart")
        ran = kubectl(control_plane, "registry-status", "plan", "-n", pods.namespace, "--registry-address", url)
        assert (ran.status, ran.err) == (0, "")
        assert "in-step" in ran.out
        with_underscore = kubectl(control_plane, "registry_status", "plan", "-n", pods.namespace, "--registry-address", url)
        assert with_underscore == ran
        server.registry.put_status("svc-1", server.registry.instances("svc-1")[0].instance_id, "DOWN")
        assert kubectl(control_plane, "registry-status", "plan", "-n", pods.namespace, "--registry-address", url).status == 1
    pods.delete("cart", grace=0)


def test_its_help_says_what_was_typed(control_plane: ControlPlane, tmp_path: Path) -> None:
    ran = kubectl(control_plane, "registry-status", "--help")
    assert ran.out.startswith("usage: kubectl registry-status ")
