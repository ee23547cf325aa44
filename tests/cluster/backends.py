"""The clusters that the e2e tests can run on, behind one interface: an existing one, kind, or the local one."""

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tests.cluster import images, tools
from tests.cluster.kube import Kube
from tests.cluster.local import LocalCluster
from tests.cluster.node import GRACE_SECONDS, LEASE_SECONDS
from tests.cluster.processes import CommandError, run

PACKAGES = Path(__file__).with_name("packages.sh")
OPERATOR_IMAGE = "registry-status.local/operator:e2e"
SAMPLE_IMAGE = "registry-status.local/sample:e2e"


class NoBackendError(RuntimeError):
    """No cluster can be had here; says for each kind why not."""


class Backend(Protocol):
    """One way to have a cluster."""

    name: str
    operator_image: str
    sample_image: str
    can_stop_node: bool

    def why_not(self) -> str | None:
        """Say why it can't be had here, or None."""

    def start(self, *, tied: bool) -> None:
        """Start it, or take the one that is there. `tied`: it ends with this process, where that is possible."""

    def stop(self) -> None:
        """End it, whoever started it."""

    def release(self) -> None:
        """End it if `start` started it; one that was there before stays."""

    def running(self) -> bool: ...

    @property
    def kube(self) -> Kube: ...

    def builder(self) -> images.Builder | None:
        """Return who builds the images for it; None when they are there already."""

    def load(self, builder: images.Builder, image: str) -> None:
        """Give its nodes an image."""

    def stop_node(self) -> None:
        """Stop the kubelet of the node; pods run on."""

    def start_node(self) -> None: ...

    def reach(self, host: str, port: int) -> tuple[str, int]:
        """Return the address by which pods reach a server that this process reaches at `host:port`."""

    def collect_logs(self, target: Path) -> None:
        """Copy what only the backend has: the logs of the cluster's own programs."""


class Existing:
    """A cluster that you name by E2E_KUBECONFIG, with images that it can pull: E2E_IMAGE, E2E_SAMPLE_IMAGE."""

    name = "existing"
    can_stop_node = False

    def __init__(self, env: Mapping[str, str]) -> None:
        self._kubeconfig = env.get("E2E_KUBECONFIG", "")
        self.operator_image, self.sample_image = env.get("E2E_IMAGE", ""), env.get("E2E_SAMPLE_IMAGE", "")

    def why_not(self) -> str | None:
        if not self._kubeconfig:
            return "E2E_KUBECONFIG is not set"
        if not (self.operator_image and self.sample_image):
            return "E2E_KUBECONFIG is set, but E2E_IMAGE and E2E_SAMPLE_IMAGE do not name images that are there"
        return tools.why_not(*tools.CLIENTS)

    def start(self, *, tied: bool) -> None:
        self.kube.kubectl("version")

    def stop(self) -> None:
        pass

    def release(self) -> None:
        pass

    def running(self) -> bool:
        return True

    @property
    def kube(self) -> Kube:
        return Kube(Path(self._kubeconfig))

    def builder(self) -> images.Builder | None:
        return None

    def load(self, builder: images.Builder, image: str) -> None:
        raise NotImplementedError("an existing cluster pulls its images")

    def stop_node(self) -> None:
        raise NotImplementedError("the nodes of an existing cluster are not ours to stop")

    start_node = stop_node

    def reach(self, host: str, port: int) -> tuple[str, int]:
        return host, port

    def collect_logs(self, target: Path) -> None:
        pass


class Kind:
    """kind, where Docker runs."""

    name = "kind"
    operator_image, sample_image = OPERATOR_IMAGE, SAMPLE_IMAGE
    can_stop_node = True
    cluster = "registry-status"
    node = f"{cluster}-control-plane"

    def __init__(self) -> None:
        self._folder = tools.cache() / "kind"
        self._ours = False

    def why_not(self) -> str | None:
        return images.Docker.why_not() or tools.why_not("kind", *tools.CLIENTS)

    def start(self, *, tied: bool) -> None:
        if not self.running():
            self._folder.mkdir(parents=True, exist_ok=True)
            configuration = self._folder / "kind.json"  # JSON is YAML
            configuration.write_text(json.dumps(_kind_configuration()))
            self._kind("create", "cluster", "--config", configuration, "--wait", "120s", timeout=600)
            self._ours = True
        path = self.kube.kubeconfig
        path.touch(mode=0o600)
        path.write_text(self._kind("get", "kubeconfig"))

    def stop(self) -> None:
        if self.running():
            self._kind("delete", "cluster")

    def release(self) -> None:
        if self._ours:
            self.stop()

    def running(self) -> bool:
        return self.cluster in run([tools.program("kind"), "get", "clusters"]).split()

    @property
    def kube(self) -> Kube:
        return Kube(self._folder / "kubeconfig", self._folder / "kubectl-cache")

    def builder(self) -> images.Builder | None:
        return images.Docker()

    def load(self, builder: images.Builder, image: str) -> None:
        self._kind("load", "docker-image", image, timeout=300)

    def stop_node(self) -> None:
        run(["docker", "exec", self.node, "systemctl", "stop", "kubelet"])

    def start_node(self) -> None:
        run(["docker", "exec", self.node, "systemctl", "start", "kubelet"])
        self.kube.kubectl("wait", "--for=condition=Ready", f"node/{self.node}", "--timeout=60s", timeout=90)

    def reach(self, host: str, port: int) -> tuple[str, int]:
        """Name the Docker network's gateway: it leads to servers of this machine that listen on all addresses."""
        found = run(["docker", "network", "inspect", "kind", "--format", "{{range .IPAM.Config}}{{.Gateway}} {{end}}"])
        return next(gateway for gateway in found.split() if re.fullmatch(r"[\d.]+", gateway)), port

    def collect_logs(self, target: Path) -> None:
        self._kind("export", "logs", target / "kind", timeout=300)

    def _kind(self, *args: str | Path, timeout: float = 120) -> str:
        return run([tools.program("kind"), *args, "--name", self.cluster], timeout=timeout)


def _kind_configuration() -> dict[str, object]:
    """One node that is noticed early when it is lost, as the local cluster's is."""
    grace = {"name": "node-monitor-grace-period", "value": f"{GRACE_SECONDS}s"}
    manager: list[object] = [{"op": "add", "path": "/controllerManager/extraArgs/-", "value": grace}]
    kubelet: list[object] = [{"op": "add", "path": "/nodeLeaseDurationSeconds", "value": LEASE_SECONDS}]

    def patch(group: str, version: str, kind: str, operations: list[object]) -> dict[str, str]:
        return {"group": group, "version": version, "kind": kind, "patch": json.dumps(operations)}

    image = os.environ.get("E2E_KIND_IMAGE")  # of another version of Kubernetes than the one this kind brings
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "nodes": [{"role": "control-plane"} | ({"image": image} if image else {})],
        "kubeadmConfigPatchesJSON6902": [
            patch("kubeadm.k8s.io", "v1beta4", "ClusterConfiguration", manager),
            patch("kubelet.config.k8s.io", "v1beta1", "KubeletConfiguration", kubelet),
        ],
    }


class Local:
    """The local cluster: no Docker, but root on Linux."""

    name = "local"
    operator_image, sample_image = OPERATOR_IMAGE, SAMPLE_IMAGE
    can_stop_node = True

    def __init__(self) -> None:
        self.cluster = LocalCluster()
        self._ours = False

    def why_not(self) -> str | None:
        if sys.platform != "linux":
            return "not Linux"
        if os.geteuid() != 0:
            return "not root"
        if not shutil.which("apt-get"):
            return "no apt-get to install runc, CNI plugins and buildah with"
        return tools.why_not(*tools.ONE_NODE) or _why_no_namespaces()

    def start(self, *, tied: bool) -> None:
        if self.cluster.stays:
            return
        run([PACKAGES], timeout=900)
        self.cluster.start(tied=tied)
        self._ours = True

    def stop(self) -> None:
        self.cluster.stop()

    def release(self) -> None:
        if self._ours:
            self.stop()

    def running(self) -> bool:
        return self.cluster.running

    @property
    def kube(self) -> Kube:
        return self.cluster.kube

    def builder(self) -> images.Builder | None:
        run([PACKAGES], timeout=900)
        return images.Buildah() if images.Docker.why_not() else images.Docker()

    def load(self, builder: images.Builder, image: str) -> None:
        self.cluster.load(builder.archive(image))

    def stop_node(self) -> None:
        self.cluster.stop_node()

    def start_node(self) -> None:
        self.cluster.start_node()

    def reach(self, host: str, port: int) -> tuple[str, int]:
        return self.cluster.reach(host, port)

    def collect_logs(self, target: Path) -> None:
        self.cluster.collect_logs(target)


def _why_no_namespaces() -> str | None:
    """Try it: in many containers root may not make namespaces."""
    try:
        run(["unshare", "--mount", "--pid", "--net", "--fork", "--mount-proc", "true"])
    except (CommandError, OSError) as error:
        return f"no namespaces can be made here: {error}"
    return None


def select_backend(env: Mapping[str, str] = os.environ) -> Backend:
    """Return the first backend that can be had, or the one that E2E_BACKEND names; raise with the reasons if there is none."""
    backends: list[Backend] = [Existing(env), Kind(), Local()]
    wanted = env.get("E2E_BACKEND")
    if wanted:
        backends = [backend for backend in backends if backend.name == wanted]
    elif env.get("E2E_KUBECONFIG"):
        backends = backends[:1]  # who names a cluster does not want another one silently
    reasons = {backend.name: backend.why_not() for backend in backends}
    for backend in backends:
        if reasons[backend.name] is None:
            return backend
    why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    raise NoBackendError(why or f"E2E_BACKEND={wanted}: there are existing, kind and local")
