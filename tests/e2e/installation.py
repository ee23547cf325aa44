"""The operator as its users install it: the built image, the chart, a registry, and pods of the sample service."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.cluster.e2e import Cluster
from tests.cluster.processes import CommandError, wait_for
from tests.cluster.tools import ROOT

CHART = ROOT / "charts" / "registry-status-operator"
SYSTEM = "registry-status-system"
RELEASE = "registry-status"
SELECTOR = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/name=registry-status-operator"
REGISTRY_PORT = 30100
PREFIX = "registry-status.io/"


@dataclass
class RegistryView:
    """A Service Center, seen through its public API alone; `dev` is the development server's own view where it is one."""

    http: httpx.Client
    dev: bool

    def instances(self, service: str) -> list[dict[str, Any]]:
        """All instances of all versions of a service."""
        listed = self._get("/v4/default/registry/microservices").get("services", [])
        ids = [one["serviceId"] for one in listed if one["serviceName"] == service]
        return [
            found
            for one in ids
            for found in self._get(f"/v4/default/registry/microservices/{one}/instances").get("instances", [])
        ]

    def newest(self, service: str) -> dict[str, dict[str, Any]]:
        """Each pod's newest instance."""
        found = sorted(self.instances(service), key=lambda one: int(one["timestamp"]))
        return {one["properties"]["podName"]: one for one in found}

    def statuses(self, service: str) -> dict[str, str]:
        """Statuses by pod; of several instances of one pod the newest counts."""
        return {pod: one["status"] for pod, one in self.newest(service).items()}

    def redundant_writes(self) -> list[dict[str, Any]]:
        """Status writes of what was there already."""
        return [write for write in self.http.get("/devserver/writes").raise_for_status().json()["writes"] if write["redundant"]]

    @contextmanager
    def failing(self, status: int = 503) -> Iterator[None]:
        """The development server answers everything but its own pages with an error."""
        fault = {"effect": "answer", "status": status, "body": "down for maintenance", "contentType": "text/plain"}
        self.http.put("/devserver/faults", json=[fault]).raise_for_status()
        try:
            yield
        finally:
            self.http.delete("/devserver/faults").raise_for_status()

    def _get(self, path: str) -> dict[str, Any]:
        answer = self.http.get(path, params={"noCache": "1"}, headers={"x-domain-name": "default"})
        if answer.status_code == 400:  # the service went in between
            return {}
        got: dict[str, Any] = answer.raise_for_status().json()
        return got


@dataclass
class Installation:
    """The installed operator, and the means to play with pods beside it."""

    cluster: Cluster
    registry: RegistryView
    registry_url: str

    @property
    def operator(self) -> str:
        """The operator's Deployment."""
        return f"{RELEASE}-registry-status-operator"

    def metrics(self) -> str:
        """What Prometheus would scrape from the replica that writes; nothing while none does."""
        for pod in self.cluster.get("pods", "-l", SELECTOR, namespace=SYSTEM)["items"]:
            with self.cluster.pod(SYSTEM, pod["metadata"]["name"], 8080) as http:
                scraped = http.get("/metrics").raise_for_status().text
                if "\nregistry_status_leader 1.0\n" in scraped:
                    return scraped
        return ""

    def logs(self) -> str:
        """What the operator's pods say."""
        return self.cluster.kubectl("-n", SYSTEM, "logs", "-l", SELECTOR, "--tail=-1")


def install(cluster: Cluster) -> Installation:
    """Start a registry in the cluster (or take E2E_REGISTRY), then `helm install` the operator."""
    cluster.kubectl("create", "namespace", SYSTEM)
    cluster.kubectl("label", "namespace", SYSTEM, "pod-security.kubernetes.io/enforce=restricted")
    outside = os.environ.get("E2E_REGISTRY")
    if outside:
        url, view = outside, RegistryView(httpx.Client(base_url=outside, timeout=10), dev=False)
    else:
        url = start_registry(cluster)
        view = RegistryView(cluster.service(SYSTEM, "registry", REGISTRY_PORT), dev=True)
    repository, _, tag = cluster.operator_image.rpartition(":")
    values = {
        "image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"},
        "registry": {"addresses": [url]},
        "delivery": {"resyncInterval": 5},
        "pods": {"readinessGate": True},
        "log": {"level": "debug"},
    }
    cluster.helm("install", RELEASE, CHART, "-n", SYSTEM, "-f", "-", "--wait", "--timeout", "120s", input=json.dumps(values))
    installation = Installation(cluster, view, url)
    wait_for(lambda: installation.metrics() != "", 30, "a replica that writes")
    return installation


def start_registry(cluster: Cluster) -> str:
    """Run the development server out of the operator's own image; returns its URL within the cluster."""
    cluster.apply(_registry_deployment(cluster.operator_image), _registry_service(), namespace=SYSTEM)
    cluster.kubectl("-n", SYSTEM, "rollout", "status", "deployment/registry", "--timeout=60s", timeout=70)
    address = cluster.get("service", "registry", namespace=SYSTEM)["spec"]["clusterIP"]
    return f"http://{address}:{REGISTRY_PORT}"


def _registry_deployment(image: str) -> dict[str, Any]:
    container = {
        "name": "registry",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["devregistry", "--listen", f"0.0.0.0:{REGISTRY_PORT}"],
        "readinessProbe": {"tcpSocket": {"port": REGISTRY_PORT}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec = {
        "containers": [container],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 1,
    }
    labels = {"app": "registry"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "registry"},
        "spec": {
            "selector": {"matchLabels": labels},
            "strategy": {"type": "Recreate"},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def _registry_service() -> dict[str, Any]:
    """Found even while its node is lost: with a single node that is where it runs, too."""
    ports = [{"port": REGISTRY_PORT, "targetPort": REGISTRY_PORT}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "registry"},
        "spec": {"selector": {"app": "registry"}, "ports": ports, "publishNotReadyAddresses": True},
    }


@dataclass
class Workload:
    """Pods of the sample service in a namespace of their own; the service bears the namespace's name."""

    installation: Installation
    namespace: str
    annotations: dict[str, str] = field(default_factory=dict)

    @property
    def cluster(self) -> Cluster:
        return self.installation.cluster

    def template(
        self, *, annotations: dict[str, str] | None = None, grace: int = 30, gated: bool = False, **env: str
    ) -> dict[str, Any]:
        """A pod template, annotated unless told otherwise."""
        asked = self.annotations if annotations is None else annotations
        settings = {"REGISTRY": self.installation.registry_url, "SERVICE_NAME": self.namespace, "HEARTBEAT": "2", **env}
        container = {
            "name": "main",
            "image": self.cluster.sample_image,
            "imagePullPolicy": "IfNotPresent",
            "env": [
                *({"name": key, "value": value} for key, value in settings.items()),
                *(_from_field(key, path) for key, path in (("POD_NAME", "metadata.name"), ("POD_IP", "status.podIP"))),
            ],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1, "failureThreshold": 1},
        }
        return {
            "metadata": {"labels": {"app": "sample"}, "annotations": {PREFIX + key: value for key, value in asked.items()}},
            "spec": {
                "containers": [container],
                "terminationGracePeriodSeconds": grace,
                "readinessGates": [{"conditionType": f"{PREFIX}registered"}] if gated else [],
            },
        }

    def pod(self, name: str, *, restart: str = "Always", **more: Any) -> None:
        """Create a pod."""
        template = self.template(**more)
        template["spec"]["restartPolicy"] = restart
        template["metadata"]["name"] = name
        self.cluster.apply({"apiVersion": "v1", "kind": "Pod", **template}, namespace=self.namespace)

    def deployment(self, name: str, replicas: int, **more: Any) -> None:
        """Create a Deployment."""
        spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "sample"}}, "template": self.template(**more)}
        document = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
        self.cluster.apply(document, namespace=self.namespace)

    def tell(self, pod: str, path: str) -> None:
        """Tell a pod's program to do something, once it listens: the kubelet calls a container running before that."""
        with self.cluster.pod(self.namespace, pod) as http:
            self._wait(lambda: http.get("/").is_success, 20, f"{pod} listens")
            http.post(f"/control/{path}").raise_for_status()

    def crash(self, pod: str, code: int) -> str:
        """Have a pod's program end with this code at once; returns the id of the instance that it leaves behind.

        The program that follows may register within a fraction of a second: from then on the pod's newest instance is another.
        """
        left: str = self.installation.registry.newest(self.namespace)[pod]["instanceId"]
        self.tell(pod, f"crash?code={code}")
        return left

    def names(self) -> set[str]:
        """The pods there are."""
        listed = self.cluster.get("pods", namespace=self.namespace)["items"]
        return {pod["metadata"]["name"] for pod in listed}

    def shown(self, pod: str) -> dict[str, Any]:
        """The pod as the API server shows it."""
        got: dict[str, Any] = self.cluster.get("pod", pod, namespace=self.namespace)
        return got

    def condition(self, pod: str, kind: str) -> str:
        """A condition's status; empty while it is not set."""
        conditions = self.shown(pod)["status"].get("conditions", [])
        return next((str(one["status"]) for one in conditions if one["type"] == kind), "")

    def ready(self, pod: str) -> str:
        """The Ready condition's status."""
        return self.condition(pod, "Ready")

    def status(self, pod: str) -> str | None:
        """What the registry says of the pod's newest instance."""
        return self.installation.registry.statuses(self.namespace).get(pod)

    def wait_status(self, pod: str, status: str, timeout: float = 15) -> float:
        """Wait until the registry says so; returns the seconds it took."""
        return self._wait(lambda: self.status(pod) == status, timeout, f"{pod} {status} in the registry")

    def wait_instance(self, instance_id: str, status: str, timeout: float) -> None:
        """Wait until the registry says so of this instance, whether it is the pod's newest or not."""

        def says_so() -> bool:
            found = self.installation.registry.instances(self.namespace)
            return any(one["instanceId"] == instance_id and one["status"] == status for one in found)

        self._wait(says_so, timeout, f"instance {instance_id} {status} in the registry")

    def wait_ready(self, pod: str, value: str = "True", timeout: float = 30) -> float:
        """Wait until Kubernetes says so."""
        return self._wait(lambda: self.ready(pod) == value, timeout, f"{pod} Ready={value}")

    def wait_up(self, pod: str, timeout: float = 30) -> None:
        """Wait until the pod is Ready and the registry says UP: what SDKs register may be UP before."""
        self.wait_ready(pod, timeout=timeout)
        self.wait_status(pod, "UP")

    def restarts(self, pod: str) -> int:
        """How often the container was restarted."""
        return int(self._main(pod)["restartCount"])

    def waits_for(self, pod: str) -> str:
        """Why the container waits; empty if it does not."""
        return str(self._main(pod)["state"].get("waiting", {}).get("reason", ""))

    def _main(self, pod: str) -> dict[str, Any]:
        main: dict[str, Any] = self.shown(pod)["status"]["containerStatuses"][0]
        return main

    def events(self, pod: str) -> list[dict[str, Any]]:
        """The operator's Events of the pod."""
        listed = self.cluster.get("events", f"--field-selector=involvedObject.name={pod}", namespace=self.namespace)["items"]
        return [event for event in listed if event["source"].get("component") == "registry-status-operator"]

    def wait_event(self, pod: str, reason: str, timeout: float = 30) -> dict[str, Any]:
        """Wait for an Event of this reason."""
        self._wait(lambda: any(event["reason"] == reason for event in self.events(pod)), timeout, f"{pod} event {reason}")
        return next(event for event in self.events(pod) if event["reason"] == reason)

    def _wait(self, condition: Callable[[], bool], timeout: float, what: str) -> float:
        def holds() -> bool:
            try:
                return condition()
            except (CommandError, httpx.HTTPError):  # the pod or the registry's pod may just be restarting
                return False

        return wait_for(holds, timeout, what, interval=0.05)


def _from_field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def now() -> float:
    """Seconds, for latencies within a test."""
    return time.monotonic()
