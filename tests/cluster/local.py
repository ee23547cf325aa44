"""One real Kubernetes node without Docker: built programs in namespaces of their own. Needs root on Linux.

The test process reaches the API server through a relay on a loopback port, and everything else (pods, services, logs, exec)
through the API server, as with any other cluster. Nothing in there can reach the world outside, nor the other way round.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import httpx

from tests.cluster import cgroups, images, tools
from tests.cluster.kube import Kube, write_kubeconfig
from tests.cluster.namespaces import Namespaces, Process
from tests.cluster.node import API_PORT, API_SERVICE, NODE, NODE_ADDRESS, NODE_NETWORK, PAUSE_IMAGE, Node
from tests.cluster.pki import make_pki
from tests.cluster.processes import CommandError, NotReadyError, free_port, run, tail, wait_for
from tests.cluster.record import Record

# Fixed, since two at once are of no use and a forgotten one must be found; short, since it holds Unix sockets (107 bytes).
STATE = Path("/var/lib/registry-status-cluster")
# Folders of the system that the programs insist on: inside they are the cluster's own, outside they stay empty.
OWN_FOLDERS = (Path("/var/lib/cni"), Path("/var/lib/kubelet"))
RELAY = Path(__file__).with_name("relay.py")
NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
FIRST = ("etcd", "kube-apiserver", "containerd")
THEN = ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "dns")


class ClusterInUseError(RuntimeError):
    """Another test run that still goes on owns the cluster."""


class LocalCluster:
    """The cluster on this machine; any process may look at it, or end it."""

    def __init__(self, state: Path = STATE) -> None:
        self.state = state
        self.node = Node(state, tools.program)

    # --- life ----------------------------------------------------------------------------------

    def start(self, *, tied: bool = False) -> Self:
        """Start it anew, clearing away what is there; `tied` ends it with the calling thread, whatever happens to that."""
        tools.build(*tools.ONE_NODE)
        with self._locked():
            record = Record.read(self._record_path)
            if record and record.taken:
                raise ClusterInUseError(f"process {record.owner and record.owner.pid} uses the cluster in {self.state}")
            self._clean()
            try:
                self._start(tied=tied)
            except (CommandError, NotReadyError, OSError) as error:
                error.add_note(self._what_the_logs_say())
                self._clean()
                raise
            except BaseException:
                self._clean()
                raise
        return self

    def stop(self) -> None:
        """End it and remove all it left: namespaces, control groups, files. Also a stale one's."""
        with self._locked():
            self._clean()

    @property
    def running(self) -> bool:
        record = Record.read(self._record_path)
        return record is not None and record.running

    @property
    def stays(self) -> bool:
        """Whether it runs well and belongs to nobody, so that a test run may use it and must leave it."""
        record = Record.read(self._record_path)
        return record is not None and record.running and record.owner is None and self._node_ready()

    # --- use -----------------------------------------------------------------------------------

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def kube(self) -> Kube:
        return Kube(self.kubeconfig, self.state / "kubectl-cache")

    def load(self, archive: Path) -> None:
        """Give the node an image."""
        self._ctr("--namespace", "k8s.io", "images", "import", archive, timeout=180)

    def stop_node(self) -> None:
        """Stop the kubelet: pods run on, the API server believes the node lost after node.GRACE_SECONDS."""
        self._end("kubelet")

    def start_node(self) -> None:
        self._spawn("kubelet")
        wait_for(self._node_ready, 60, f"node {NODE} ready again")

    def kill_apiserver(self) -> None:
        self._end("kube-apiserver", "KILL")

    def start_apiserver(self) -> None:
        self._spawn("kube-apiserver")
        self._wait_for_api()

    def reach(self, host: str, port: int) -> tuple[str, int]:
        """Let pods reach a server that we reach at this address; return the address they use. It goes with the cluster."""
        self._relay("theirs", f"{NODE_ADDRESS}:{port}", f"{host}:{port}")
        return NODE_ADDRESS, port

    def forward(self, host: str, port: int) -> int:
        """Return a loopback port of ours that leads to an address in the cluster. It goes with the cluster."""
        ours = free_port()
        self._relay("ours", f"127.0.0.1:{ours}", f"{host}:{port}")
        return ours

    def audit(self) -> list[dict[str, Any]]:
        """Return what users and service accounts asked of the API server so far."""
        return [json.loads(line) for line in (self.state / "log" / "audit.log").read_text().splitlines()]

    def collect_logs(self, target: Path) -> None:
        """Copy the logs of the cluster's programs, and of all pods there have been."""
        for folder, name in (("log", "node"), ("pod-logs", "pods")):
            if (self.state / folder).exists():
                shutil.copytree(self.state / folder, target / name, dirs_exist_ok=True)

    # --- starting ------------------------------------------------------------------------------

    def _start(self, *, tied: bool) -> None:
        self._lay_out(tied=tied)
        with ThreadPoolExecutor(max_workers=1) as aside:  # the API server needs some seconds: use them
            pause = aside.submit(images.pause_archive, PAUSE_IMAGE)
            for name in FIRST:
                self._spawn(name)
            self._relay("ours", f"127.0.0.1:{self._record().api_port}", f"{NODE_ADDRESS}:{API_PORT}")
            wait_for(self._containerd_answers, 30, "containerd")
            self.load(pause.result())
        self._wait_for_api()
        for name in THEN:
            self._spawn(name)
        wait_for(self._node_ready, 60, f"node {NODE}")
        wait_for(self._pods_can_be_made, 30, "default service account")

    def _lay_out(self, *, tied: bool) -> None:
        """Make files, control groups and namespaces, and write down what must be found again."""
        (self.state / "log").mkdir(parents=True)
        for folder in OWN_FOLDERS:
            folder.mkdir(exist_ok=True)
        api_port = free_port()
        self._write_credentials(api_port)
        self.node.write_configuration()
        cgroups.make()
        namespaces = Namespaces.create(self.state, NODE_NETWORK, [*OWN_FOLDERS, *self.node.in_memory], tied=tied)
        owner = Process.of(os.getpid()) if tied else None
        Record(namespaces.init, api_port, owner).write(self._record_path)

    def _write_credentials(self, api_port: int) -> None:
        pki = make_pki(self.state / "pki", ["127.0.0.1", NODE_ADDRESS, API_SERVICE], NAMES)
        token = secrets.token_hex(16)
        tokens = self.state / "tokens.csv"
        tokens.touch(mode=0o600)
        tokens.write_text(f'{token},admin,admin,"system:masters"\n')
        ca = pki.ca.read_bytes()
        write_kubeconfig(self.kubeconfig, server=f"https://127.0.0.1:{api_port}", ca=ca, token=token)
        write_kubeconfig(self.node.kubeconfig, server=f"https://{NODE_ADDRESS}:{API_PORT}", ca=ca, token=token)

    def _spawn(self, name: str) -> None:
        record = self._record()
        command = self.node.command(name)
        path = f"{tools.program('containerd').parent}:{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
        log = self.state / "log" / f"{name}.log"
        record.pids[name] = Namespaces(record.init).spawn(command, log, os.environ | {"PATH": path})
        record.write(self._record_path)

    def _relay(self, listen: str, address: str, target: str) -> None:
        """Start a relay; it ends by itself when the cluster does."""
        command = [sys.executable, str(RELAY), f"--cluster={self._record().init.pid}", f"--listen={listen}", address, target]
        with (self.state / "log" / "relay.log").open("ab") as log:
            relay = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )
        with relay.stdout or contextlib.nullcontext() as said:
            if not said or not said.readline():
                raise NotReadyError(f"relay {address} -> {target}:\n{tail(self.state / 'log' / 'relay.log')}")

    def _end(self, name: str, sign: str = "TERM") -> None:
        record = self._record()
        Namespaces(record.init).end(record.pids[name], sign)

    # --- looking -------------------------------------------------------------------------------

    def _record(self) -> Record:
        record = Record.read(self._record_path)
        if record is None:
            raise RuntimeError(f"no cluster in {self.state}")
        return record

    def _wait_for_api(self) -> None:
        with self.kube.http(timeout=5) as http:
            wait_for(lambda: _answers(http, "/readyz"), 60, "kube-apiserver")

    def _containerd_answers(self) -> bool:
        try:
            self._ctr("version")
        except CommandError:
            return False
        return True

    def _node_ready(self) -> bool:
        with self.kube.http(timeout=5) as http:
            try:
                answer = http.get(f"/api/v1/nodes/{NODE}")
            except httpx.TransportError:
                return False
        if answer.status_code != httpx.codes.OK:
            return False
        conditions = answer.json()["status"].get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def _pods_can_be_made(self) -> bool:
        with self.kube.http(timeout=5) as http:
            return _answers(http, "/api/v1/namespaces/default/serviceaccounts/default")

    def _ctr(self, *args: str | Path, timeout: float = 20) -> str:
        return run([tools.program("ctr"), "--address", self.node.containerd_socket, *args], timeout=timeout)

    def _what_the_logs_say(self) -> str:
        logs = sorted((self.state / "log").glob("*.log"))
        return "\n".join(f"--- {log.name}\n{tail(log, 8)}" for log in logs if log.name != "audit.log")

    # --- ending --------------------------------------------------------------------------------

    def _clean(self) -> None:
        record = Record.read(self._record_path)
        if record:
            Namespaces(record.init).destroy()
        if self.state.exists():
            cgroups.remove()
            shutil.rmtree(self.state)
        for folder in OWN_FOLDERS:
            with contextlib.suppress(OSError):  # not there, or with somebody else's files
                folder.rmdir()

    @property
    def _record_path(self) -> Path:
        return self.state / "cluster.json"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one process at a time start or stop it."""
        self.state.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.state.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _answers(http: httpx.Client, path: str) -> bool:
    try:
        return http.get(path).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
