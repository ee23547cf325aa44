"""The cluster of a test run: started, with the images of the working tree, and what tests do with it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import httpx

from tests.cluster import images
from tests.cluster.backends import Backend
from tests.cluster.kube import Kube
from tests.cluster.processes import CommandError
from tests.cluster.tools import ROOT

SAMPLE = ROOT / "tests" / "e2e" / "sample"


class Cluster:
    """A running cluster whose nodes have the operator's image and the sample service's."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.operator_image = backend.operator_image
        self.sample_image = backend.sample_image

    # --- life ----------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start the cluster and build the images at the same time."""
        with ThreadPoolExecutor(max_workers=1) as aside:
            building = aside.submit(self._build)
            try:
                self.backend.start(tied=True)  # in this thread: the leash is tied to the one that starts it
                self._load(building.result())
            except BaseException:
                self.stop()
                raise
        return self

    def stop(self) -> None:
        """End what `start` started; a cluster that was up before stays up."""
        self.backend.release()

    def load_images(self) -> None:
        """Build the images as the working tree is now and give them to the nodes."""
        self._load(self._build())

    def _load(self, builder: images.Builder | None) -> None:
        if builder:
            for image in (self.operator_image, self.sample_image):
                self.backend.load(builder, image)

    def _build(self) -> images.Builder | None:
        builder = self.backend.builder()
        if builder:
            builder.build(ROOT / "Dockerfile", ROOT, self.operator_image, {"REVISION": images.revision(ROOT)})
            builder.build(SAMPLE / "Dockerfile", SAMPLE, self.sample_image)
        return builder

    # --- use -----------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.backend.name

    @property
    def kube(self) -> Kube:
        return self.backend.kube

    @property
    def kubeconfig(self) -> Path:
        return self.kube.kubeconfig

    def kubectl(self, *args: str | Path, input: str | None = None, timeout: float = 60) -> str:  # noqa: A002
        return self.kube.kubectl(*args, input=input, timeout=timeout)

    def helm(self, *args: str | Path, input: str | None = None, timeout: float = 180) -> str:  # noqa: A002
        return self.kube.helm(*args, input=input, timeout=timeout)

    def apply(self, *documents: dict[str, Any], namespace: str = "default") -> None:
        self.kube.apply(*documents, namespace=namespace)

    def get(self, *args: str, namespace: str = "default") -> Any:
        return self.kube.get(*args, namespace=namespace)

    def pod(self, namespace: str, name: str, port: int = 8080) -> httpx.Client:
        return self.kube.pod(namespace, name, port)

    def service(self, namespace: str, name: str, port: int) -> httpx.Client:
        return self.kube.service(namespace, name, port)

    def import_image(self, image: str) -> None:
        """Give the nodes one more image that the builder has."""
        builder = self.backend.builder()
        if builder:
            self.backend.load(builder, image)

    @property
    def can_stop_node(self) -> bool:
        return self.backend.can_stop_node

    def stop_node(self) -> None:
        self.backend.stop_node()

    def start_node(self) -> None:
        self.backend.start_node()

    def reach(self, host: str, port: int) -> tuple[str, int]:
        """Return the address by which pods reach a server that this process reaches at `host:port`."""
        return self.backend.reach(host, port)

    def collect_logs(self, target: Path) -> None:
        """Write what explains a failed test: the cluster's programs, all objects, Events and pods' logs."""
        target.mkdir(parents=True, exist_ok=True)
        try:
            self.backend.collect_logs(target)
            self.kubectl("cluster-info", "dump", "--all-namespaces", f"--output-directory={target}/api", timeout=120)
        except (CommandError, OSError) as error:
            (target / "incomplete.txt").write_text(f"{error}\n")
