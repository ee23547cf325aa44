"""A bare etcd and kube-apiserver on free loopback ports: a real Kubernetes API with no nodes, up in a few seconds.

No controller runs here: pods stay as they are written, namespaces are never finalised, service accounts are not made by
themselves (and so pods do not need one). As many as you like may run at once; all of it ends with the process that started it.
"""

import base64
import json
import secrets
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.cluster import tools
from tests.cluster.kube import Kube, write_kubeconfig
from tests.cluster.pki import make_pki
from tests.cluster.processes import CommandError, Daemon, free_port, tail, wait_for

ADMIN = "admin"
# What a test asks is what an ordinary user or service account did: the noise of Kubernetes' own parts is left out.
AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  userGroups: [system:masters, system:serviceaccounts:kube-system, system:nodes]
  verbs: [get, list, watch]
- level: None
  userGroups: [system:masters, system:serviceaccounts:kube-system, system:nodes]
  resources: [{group: coordination.k8s.io}]
- level: None
  users: [system:apiserver, "system:anonymous"]
- level: Metadata
"""


def apiserver_command(program: Path, pki_folder: Path, tokens: Path, **flags: str) -> list[str]:
    """Return the flags that the bare control plane and the one-node cluster have in common."""
    pki = pki_folder
    common = {
        "tls-cert-file": f"{pki}/server.crt",
        "tls-private-key-file": f"{pki}/server.key",
        "token-auth-file": str(tokens),
        "service-account-key-file": f"{pki}/service-account.key",
        "service-account-signing-key-file": f"{pki}/service-account.key",
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-cluster-ip-range": "10.96.0.0/16",
        "authorization-mode": "Node,RBAC",
        "allow-privileged": "true",
    }
    return [str(program), *(f"--{name.replace('_', '-')}={value}" for name, value in (common | flags).items())]


def etcd_command(program: Path, data: Path, client_port: int, peer_port: int) -> list[str]:
    client, peer = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
    flags = {
        "data-dir": str(data),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
    }
    # Tests lose nothing when the machine loses its power: no fsync.
    return [str(program), "--unsafe-no-fsync", *(f"--{name}={value}" for name, value in flags.items())]


class ControlPlane:
    """One etcd, one kube-apiserver, and the kubeconfigs of its users."""

    def __init__(
        self,
        *,
        users: Mapping[str, Sequence[str]] | None = None,
        apiserver_flags: Sequence[str] = (),
        feature_gates: Mapping[str, bool] | None = None,
        audit: bool = False,
    ) -> None:
        """Prepare it; `users` (name: groups) are besides `admin`, who may do everything.

        The API server reads its token file only when it starts: users that come later are service accounts.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="registry-status-api-"))
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.tokens = {name: secrets.token_hex(16) for name in (ADMIN, *(users or {}))}
        self._groups = {ADMIN: ["system:masters"], **(users or {})}
        self._audit = audit
        self._flags = [*apiserver_flags, *_gates(feature_gates or {})]
        self.etcd, self.apiserver = self._prepare()

    def start(self) -> Self:
        """Start both; it is ready when this returns."""
        try:
            self.start_etcd()
            self.start_apiserver()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End both and forget everything. Nobody needs a last word of theirs: by force is fast."""
        self.apiserver.kill()  # first: without etcd it would not even listen to SIGTERM
        self.etcd.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    # --- its parts, one by one -----------------------------------------------------------------

    def start_etcd(self) -> None:
        self.etcd.start()

    def kill_etcd(self) -> None:
        self.etcd.kill()

    def start_apiserver(self, timeout: float = 60) -> None:
        """Start the API server and wait until it is ready. Same address, same users, same data as before."""
        self.apiserver.start()
        self.wait_ready(timeout)

    def kill_apiserver(self) -> None:
        """As a crash: connections are reset."""
        self.apiserver.kill()

    def stop_apiserver(self) -> None:
        """As a rollout: watches are closed in good order."""
        self.apiserver.stop()

    def compact(self) -> None:
        """Make etcd forget all history: whoever watches from an older version has to list anew."""
        with httpx.Client(base_url=self._etcd_url, timeout=10, trust_env=False) as etcd:
            key = base64.b64encode(b"/").decode()
            found = etcd.post("/v3/kv/range", json={"key": key, "limit": 1}).raise_for_status().json()
            wanted = {"revision": found["header"]["revision"], "physical": True}
            etcd.post("/v3/kv/compaction", json=wanted).raise_for_status()

    def wait_ready(self, timeout: float = 60) -> None:
        with self.kube.http(timeout=5) as http:
            wait_for(lambda: self._ready(http), timeout, f"kube-apiserver (log: {self.apiserver.log})")

    # --- its users -----------------------------------------------------------------------------

    @property
    def kubeconfig(self) -> Path:
        return self.user_kubeconfig(ADMIN)

    @property
    def kube(self) -> Kube:
        """The API as its admin sees it."""
        return self.user(ADMIN)

    def user_kubeconfig(self, name: str) -> Path:
        return self.folder / f"kubeconfig-{name}"

    def user(self, name: str) -> Kube:
        return Kube(self.user_kubeconfig(name), self.folder / "kubectl-cache")

    def service_account(self, namespace: str, name: str) -> Kube:
        """Return the API as a service account sees it; the account must exist."""
        return self.kube.service_account(namespace, name, self.folder)

    # --- what happened -------------------------------------------------------------------------

    def audit(self) -> list[dict[str, Any]]:
        """Return what was asked so far (made with `audit=True`): user, verb, objectRef, responseStatus."""
        log = self.folder / "log" / "audit.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def collect_logs(self, target: Path) -> None:
        shutil.copytree(self.folder / "log", target, dirs_exist_ok=True)

    # --- inside --------------------------------------------------------------------------------

    def _prepare(self) -> tuple[Daemon, Daemon]:
        log = self.folder / "log"
        log.mkdir()
        pki = make_pki(self.folder / "pki", ["127.0.0.1"], ["localhost"])
        for name, token in self.tokens.items():
            write_kubeconfig(self.user_kubeconfig(name), server=self.url, ca=pki.ca.read_bytes(), token=token)
        tokens = self.folder / "tokens.csv"
        tokens.write_text("".join(self._token_lines()))
        etcd_port = free_port()
        self._etcd_url = f"http://127.0.0.1:{etcd_port}"
        etcd = etcd_command(tools.program("etcd"), self.folder / "etcd", etcd_port, free_port())
        command = apiserver_command(
            tools.program("kube-apiserver"),
            pki.folder,
            tokens,
            etcd_servers=f"http://127.0.0.1:{etcd_port}",
            bind_address="127.0.0.1",
            advertise_address="127.0.0.1",
            secure_port=str(self.port),
            endpoint_reconciler_type="none",
            disable_admission_plugins="ServiceAccount",
        )
        command += self._audit_flags() + self._flags
        return Daemon("etcd", etcd, log / "etcd.log"), Daemon("kube-apiserver", command, log / "kube-apiserver.log")

    def _token_lines(self) -> list[str]:
        return [f'{token},{name},{name},"{",".join(self._groups[name])}"\n' for name, token in self.tokens.items()]

    def _audit_flags(self) -> list[str]:
        if not self._audit:
            return []
        policy = self.folder / "audit-policy.yaml"
        policy.write_text(AUDIT_POLICY)
        return [f"--audit-policy-file={policy}", f"--audit-log-path={self.folder}/log/audit.log"]

    def _ready(self, http: httpx.Client) -> bool:
        self.apiserver.check()
        if not self.etcd.running:
            raise CommandError(f"etcd does not run:\n{tail(self.etcd.log)}")
        try:
            ready = http.get("/readyz").status_code == httpx.codes.OK
            return ready and http.get("/api/v1/namespaces/default").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


def _gates(gates: Mapping[str, bool]) -> list[str]:
    if not gates:
        return []
    return ["--feature-gates=" + ",".join(f"{name}={str(on).lower()}" for name, on in gates.items())]
