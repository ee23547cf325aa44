"""A Kubernetes API as tests use it: kubectl, helm, and plain HTTP with what the kubeconfig says."""

import base64
import os
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.cluster import tools
from tests.cluster.processes import run


def write_kubeconfig(path: Path, *, server: str, ca: bytes, token: str, namespace: str = "default") -> Path:
    """Write a kubeconfig for one user with a bearer token."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "test", "cluster": {"server": server, "certificate-authority-data": base64.b64encode(ca).decode()}}
        ],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
        "current-context": "test",
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


@dataclass(frozen=True)
class Kube:
    """One API server, as one user."""

    kubeconfig: Path
    cache: Path | None = None  # kubectl remembers an API server by its address: a new one on an old port must not be mistaken

    def kubectl(self, *args: str | Path, input: str | None = None, timeout: float = 60) -> str:  # noqa: A002
        return run([tools.program("kubectl"), *args], input=input, timeout=timeout, env=self._env())

    def helm(self, *args: str | Path, input: str | None = None, timeout: float = 180) -> str:  # noqa: A002
        return run([tools.program("helm"), *args], input=input, timeout=timeout, env=self._env())

    def apply(self, *documents: dict[str, Any], namespace: str = "default") -> None:
        """Apply objects given as Python."""
        self.kubectl("apply", "-n", namespace, "-f", "-", input=yaml.safe_dump_all(documents))

    def get(self, *args: str, namespace: str = "default") -> Any:
        """Return what `kubectl get` answers, parsed."""
        return yaml.safe_load(self.kubectl("get", "-n", namespace, "-o", "json", *args))

    def service_account(self, namespace: str, name: str, folder: Path, duration: str = "2h") -> "Kube":
        """Return the same API as a service account sees it (TokenRequest)."""
        token = self.kubectl("create", "token", name, "-n", namespace, f"--duration={duration}").strip()
        cluster = _entry(self.document(), "cluster")
        path = folder / f"kubeconfig-{namespace}-{name}"
        ca = _bytes(cluster, "certificate-authority")
        write_kubeconfig(path, server=cluster["server"], ca=ca, token=token, namespace=namespace)
        return Kube(path, self.cache)

    def http(self, path: str = "", timeout: float = 10) -> httpx.Client:
        """Return an HTTP client of the API server; `path` is put before every path asked for."""
        document = self.document()
        cluster, user = _entry(document, "cluster"), _entry(document, "user")
        headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
        return httpx.Client(
            base_url=cluster["server"] + path,
            headers=headers,
            verify=_tls(cluster, user),
            timeout=timeout,
            trust_env=False,
        )

    def pod(self, namespace: str, name: str, port: int, timeout: float = 10) -> httpx.Client:
        """Return an HTTP client of a port of a pod, through the API server: it works wherever the cluster is."""
        return self.http(f"/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy", timeout)

    def service(self, namespace: str, name: str, port: int, timeout: float = 10) -> httpx.Client:
        """Return an HTTP client of a port of a service, through the API server."""
        return self.http(f"/api/v1/namespaces/{namespace}/services/{name}:{port}/proxy", timeout)

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = yaml.safe_load(self.kubeconfig.read_text())
        return document

    def _env(self) -> dict[str, str]:
        cache = {"KUBECACHEDIR": str(self.cache)} if self.cache else {}
        return os.environ | {"KUBECONFIG": str(self.kubeconfig)} | cache


def _entry(document: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the cluster or the user that the current context names."""
    context = next(c["context"] for c in document["contexts"] if c["name"] == document["current-context"])
    entry: dict[str, Any] = next(e[kind] for e in document[f"{kind}s"] if e["name"] == context[kind])
    return entry


def _bytes(entry: dict[str, Any], key: str) -> bytes:
    """Return what a kubeconfig holds either inline or as a file."""
    if f"{key}-data" in entry:
        return base64.b64decode(entry[f"{key}-data"])
    return Path(entry[key]).read_bytes() if key in entry else b""


def _tls(cluster: dict[str, Any], user: dict[str, Any]) -> ssl.SSLContext:
    ca = _bytes(cluster, "certificate-authority")
    context = ssl.create_default_context(cadata=ca.decode() if ca else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate, key = _bytes(user, "client-certificate"), _bytes(user, "client-key")
    if certificate:  # kind's way; ssl reads these from files only
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(certificate + b"\n" + key)
            pair.flush()
            context.load_cert_chain(pair.name)
    return context
