"""`run --dry-run` against a real kube-apiserver: it says and counts what it would write, and leaves everything as it is."""

import re
from pathlib import Path

from tests.cluster.control_plane import ControlPlane
from tests.cluster.processes import wait_for
from tests.integration.cli_runs import registry, run
from tests.integration.running import PODS, Pods, account, operator, register, wait_status


def test_a_dry_run_says_and_counts_what_it_would_write_and_writes_nothing(
    control_plane: ControlPlane, pods: Pods, tmp_path: Path
) -> None:
    space = pods.namespace
    flags = ("--namespace", space, "--resync-interval", "1", "--report-updates", "true")
    elects = ("--leader-elect", "true", "--lease-namespace", space)
    with registry() as (server, url):
        pods.create("cart")
        instance = register(server, "cart", status="STARTING")
        pods.create("wrong", {"service-id": "svc-1", "match": "luck"}, ip="10.244.0.8")
        with operator(control_plane.kubeconfig, url, tmp_path, *flags, *elects, "--dry-run") as dry:
            wait_for(lambda: "would set" in dry.said(), 10, "what would be written")
            pods.show("cart", "False", 9)
            wait_for(lambda: "from UP to OUTOFSERVICE" in dry.said(), 10, "the next one")
            lists = len(server.requests)
            wait_for(lambda: len(server.requests) > lists + 3, 20, "some comparisons")
            said, metrics = dry.said(), dry.metrics()
            pods.show("cart", "True", 12)
            wait_for(lambda: "from OUTOFSERVICE to UP" in dry.said(), 10, "back again")
        assert server.writes == []
        assert server.registry.instance("svc-1", instance).status == "STARTING"
        assert pods.events("cart") == pods.events("wrong") == []
        leases = f"/apis/coordination.k8s.io/v1/namespaces/{space}/leases"
        assert control_plane.kube.http().get(leases).json()["items"] == []
        with operator(control_plane.kubeconfig, url, tmp_path, "--namespace", space):
            wait_status(server, instance, "UP")
    first = said.splitlines()[0]
    assert "nothing is written to the registry, no Event is posted and no Lease is taken" in said
    assert "dry run: " in first
    assert all("dry run: " in line for line in said.splitlines())
    assert f"would set {instance} of service svc-1 from STARTING to UP" in said
    assert said.count("would set") == 2, "what would be written is said once, not with each comparison"
    assert 'registry_status_dry_run_writes_total{status="UP"} 1.0' in metrics
    assert 'registry_status_dry_run_writes_total{status="OUTOFSERVICE"} 1.0' in metrics
    assert "registry_status_events_posted_total{" not in metrics
    assert not re.search(r"registry_status_drift_total\{[^}]*\} [1-9]", metrics)


def test_a_dry_run_beside_an_operator_does_not_disturb_it(control_plane: ControlPlane, pods: Pods, tmp_path: Path) -> None:
    flags = ("--namespace", pods.namespace, "--resync-interval", "1")
    with registry() as (server, url):
        pods.create("cart")
        instance = register(server, "cart", status="STARTING")
        with operator(control_plane.kubeconfig, url, tmp_path, *flags, "--dry-run") as dry:
            wait_for(lambda: "would set" in dry.said(), 10, "what would be written")
            with operator(control_plane.kubeconfig, url, tmp_path, *flags):
                wait_status(server, instance, "UP")
                pods.show("cart", "False", 9)
                wait_status(server, instance, "OUTOFSERVICE")
                lists = len(server.requests)
                wait_for(lambda: len(server.requests) > lists + 6, 20, "some comparisons")
        assert [write.after for write in server.writes] == ["UP", "OUTOFSERVICE"]
        assert pods.events("cart") == []


def test_a_dry_run_needs_no_right_but_to_see_pods(control_plane: ControlPlane, pods: Pods, tmp_path: Path) -> None:
    who = account(control_plane, pods.namespace, PODS)
    with (
        registry() as (_, url),
        operator(who.kubeconfig, url, tmp_path, "--namespace", pods.namespace, "--dry-run", "true") as dry,
    ):
        assert "may not" not in dry.said()


def test_dry_run_is_a_switch_that_may_say_false() -> None:
    refused = run("run", "--registry-address", "http://127.0.0.1:1", "--dry-run", "maybe")
    assert refused.status == 2
    assert "--dry-run: 'maybe' is not allowed; allowed: true or false" in refused.err
