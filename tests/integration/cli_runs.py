"""The command line as people run it, in a process of its own, and registries for it to meet."""

import json
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry_status.registry.devserver import DevServer
from tests.integration import running
from tests.integration.running import CLI

TLS = Path(__file__).parents[1] / "data" / "tls"


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    def findings(self, level: str) -> list[str]:
        """What `check -o json` found of one level: what, and what to do."""
        return [f"{found['what']}; {found['fix']}" for found in self.data["findings"] if found["level"] == level]


def run(*words: str | Path, program: Path = CLI, timeout: float = 60, **environment: str) -> Ran:
    """Run it with an environment that says nothing of registries and clusters but what is given."""
    clean = running.clean_environment()
    ended = subprocess.run(
        [program, *words], env=clean | environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    return Ran(ended.returncode, ended.stdout, ended.stderr)


@contextmanager
def registry(
    certificate: Path | None = None, *, clients: Path | None = None, **options: Any
) -> Iterator[tuple[DevServer, str]]:
    """A development server in a thread, with TLS where there is a certificate (beside its key, NAME-key.pem).

    `clients` names the authority whose certificates clients must show.
    """
    with running.registry(app="shop", ssl_context=_context(certificate, clients), **options) as served:
        yield served


def _context(certificate: Path | None, clients: Path | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients)
    context.verify_mode = ssl.CERT_REQUIRED if clients is not None else ssl.CERT_NONE
    context.load_cert_chain(certificate, certificate.with_name(f"{certificate.stem}-key.pem"))
    return context
