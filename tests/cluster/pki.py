"""A certificate authority for one cluster, made by openssl: clients of the tests verify TLS as users' clients do."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.processes import run


@dataclass(frozen=True)
class Pki:
    """Where the files are. One key signs and verifies service-account tokens."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def certificate(self) -> Path:
        return self.folder / "server.crt"

    @property
    def key(self) -> Path:
        return self.folder / "server.key"

    @property
    def service_account_key(self) -> Path:
        return self.folder / "service-account.key"


def make_pki(folder: Path, addresses: Sequence[str], names: Sequence[str] = ()) -> Pki:
    """Make the authority, one server certificate for all the addresses and names, and the service-account key."""
    folder.mkdir(parents=True, exist_ok=True)
    pki = Pki(folder)
    ca_key = folder / "ca.key"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    extensions = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    ca = ["openssl", "req", "-x509", *curve, "-days", "30", "-subj", "/CN=registry-status test CA", *extensions]
    run([*ca, "-keyout", ca_key, "-out", pki.ca])
    alternatives = ",".join([f"IP:{address}" for address in addresses] + [f"DNS:{name}" for name in names])
    extensions = ["-addext", f"subjectAltName={alternatives}", "-addext", "extendedKeyUsage=serverAuth"]
    extensions += ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "keyUsage=critical,digitalSignature"]
    server = ["openssl", "req", "-x509", *curve, "-days", "30", "-subj", "/CN=kube-apiserver", *extensions]
    run([*server, "-CA", pki.ca, "-CAkey", ca_key, "-keyout", pki.key, "-out", pki.certificate])
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", pki.service_account_key])
    return pki
