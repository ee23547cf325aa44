"""A release's whole life: installed, tested, upgraded, rolled back, uninstalled, beside pods that it serves all the while."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster.e2e import Cluster
from tests.cluster.processes import CommandError, wait_for
from tests.e2e.installation import CHART, Installation, Workload

RELEASE = "writer"
OPERATOR = "writer-registry-status-operator"
LEASE = f"{OPERATOR}-leader"
FOR_A_WHILE = {"events", "events.events.k8s.io", "endpoints", "endpointslices.discovery.k8s.io"}
"""What others make and take away in their own time."""


@dataclass(frozen=True)
class Release:
    """A second operator, of a class and in a namespace of its own."""

    installation: Installation
    namespace: str

    @property
    def cluster(self) -> Cluster:
        return self.installation.cluster

    def values(self, **more: Any) -> str:
        repository, _, tag = self.cluster.operator_image.rpartition(":")
        return json.dumps(
            {
                "image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"},
                "registry": {"addresses": [self.installation.registry_url]},
                "pods": {"class": self.namespace},
                "networkPolicy": {"enabled": True},
                "monitoring": {"dashboard": {"enabled": True}},
                **more,
            }
        )

    def helm(self, verb: str, *words: str, values: str | None = None) -> str:
        return self.cluster.helm(verb, RELEASE, *words, "-n", self.namespace, input=values)

    def apply(self, verb: str, **more: Any) -> None:
        """Install or upgrade it, and wait until all replicas are ready."""
        self.helm(verb, str(CHART), "-f", "-", "--wait", "--timeout", "120s", values=self.values(**more))

    def leader(self) -> str:
        spec = self.cluster.get("lease", LEASE, namespace=self.namespace).get("spec", {})
        return str(spec.get("holderIdentity", ""))

    def wait_leader(self) -> None:
        """Wait until one of the pods that there are leads."""

        def leads() -> bool:
            found = self.cluster.get("pods", "-l", f"app.kubernetes.io/instance={RELEASE}", namespace=self.namespace)["items"]
            return any(self.leader().startswith(pod["metadata"]["name"]) for pod in found)

        wait_for(leads, 30, "a leader")

    def objects(self) -> set[str]:
        """Everything in the namespace, and the rights in the whole cluster."""
        kinds = set(self.cluster.kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name").split()) - FOR_A_WHILE
        listed = self.cluster.kubectl("get", ",".join(sorted(kinds)), "-n", self.namespace, "-o", "name").split()
        return {*listed, *self.cluster.kubectl("get", "clusterroles,clusterrolebindings", "-o", "name").split()}


@pytest.fixture
def release(installation: Installation) -> Iterator[Release]:
    cluster, name = installation.cluster, f"e2e-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    wait_for(lambda: bool(cluster.get("serviceaccounts", namespace=name)["items"]), 20, "service account")
    wait_for(lambda: "kube-root-ca.crt" in cluster.kubectl("get", "configmaps", "-n", name), 20, "authorities")
    yield Release(installation, name)
    cluster.helm("uninstall", RELEASE, "-n", name, "--ignore-not-found")
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def test_install_test_upgrade_rollback_and_uninstall_leave_nothing_behind(release: Release, workload: Workload) -> None:
    cluster = release.cluster
    before = release.objects()
    release.apply("install")
    release.wait_leader()
    workload.pod("cart", annotations=workload.annotations | {"class": release.namespace})
    workload.wait_up("cart")

    said = release.helm("test", "--timeout", "90s", "--logs")
    assert "Phase:          Succeeded" in said
    assert "they are valid, and fit together" in said, "what `registry-status check` says of the settings"

    release.apply("upgrade", log={"level": "debug"}, commonLabels={"team": "platform"})
    release.wait_leader()
    workload.tell("cart", "ready?value=false")
    workload.wait_status("cart", "OUTOFSERVICE")

    release.helm("rollback", "1", "--wait", "--timeout", "120s")
    release.wait_leader()
    assert "team" not in cluster.get("lease", LEASE, namespace=release.namespace)["metadata"]["labels"]
    workload.tell("cart", "ready?value=true")
    workload.wait_status("cart", "UP")

    release.helm("uninstall", "--wait", "--timeout", "90s")
    cluster.kubectl("delete", "pod", "-l", "app.kubernetes.io/component=test", "-n", release.namespace)
    wait_for(lambda: release.objects() == before, 60, "all that the release and its test made is gone", interval=1)
    assert "finalizers" not in workload.shown("cart")["metadata"]
    assert workload.status("cart") == "UP", "what was written last stays"


def test_helm_test_says_what_is_wrong(release: Release) -> None:
    address = "http://127.0.0.1:9"
    release.apply("install", registry={"addresses": [address]}, networkPolicy={"enabled": False})
    with pytest.raises(CommandError):
        release.helm("test", "--timeout", "90s")
    said = release.cluster.kubectl("logs", f"{OPERATOR}-test", "-n", release.namespace)
    assert f"{address}: the connection is refused" in said
