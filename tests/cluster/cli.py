"""A cluster to work with by hand: `python -m tests.cluster.cli up|down|status` (make cluster-up, make cluster-down)."""

import argparse
import sys
import time

from tests.cluster import tools
from tests.cluster.backends import Backend, NoBackendError, select_backend
from tests.cluster.e2e import Cluster
from tests.cluster.local import ClusterInUseError
from tests.cluster.processes import CommandError, NotReadyError


def up(backend: Backend) -> int:
    """Start it and say how to use it."""
    began = time.monotonic()
    if not backend.running():
        say(f"starting the {backend.name} cluster (the first time on a machine its programs are built: about 10 minutes) ...")
    backend.start(tied=False)
    say(f"the {backend.name} cluster is up after {time.monotonic() - began:.0f} s")
    return status(backend)


def down(backend: Backend) -> int:
    backend.stop()
    say(f"the {backend.name} cluster is gone")
    return 0


def status(backend: Backend) -> int:
    """Say whether it runs, and how to reach it."""
    if not backend.running():
        say(f"no {backend.name} cluster runs; start one: make cluster-up")
        return 1
    kubectl = tools.program("kubectl")
    say(backend.kube.kubectl("get", "nodes"))
    say(f"kubeconfig: {backend.kube.kubeconfig}")
    say(f"to use it:  export KUBECONFIG={backend.kube.kubeconfig} PATH={kubectl.parent}:$PATH")
    say("then:       kubectl get pods --all-namespaces; helm list --all-namespaces")
    say("pods:       kubectl port-forward, logs and exec; images: python -m tests.cluster.cli images")
    say("to end it:  make cluster-down")
    return 0


def load_images(backend: Backend) -> int:
    """Build the images of the working tree and give them to the cluster."""
    Cluster(backend).load_images()
    say(f"loaded {backend.operator_image} and {backend.sample_image}")
    return 0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    commands = {"up": up, "down": down, "status": status, "images": load_images}
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.cli", description=__doc__)
    parser.add_argument("command", choices=commands)
    options = parser.parse_args()
    try:
        return commands[options.command](select_backend())
    except NoBackendError as error:
        say(f"no cluster can be had here: {error}")
    except (ClusterInUseError, CommandError, NotReadyError, OSError) as error:
        say("\n".join([f"error: {error}", *getattr(error, "__notes__", [])]))
    return 1


if __name__ == "__main__":
    sys.exit(main())
