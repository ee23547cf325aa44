"""The command line as people run it, in a process of its own, and registries for it to meet."""

import asyncio
import json
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry_status.registry.devserver import DevServer, NewService
from tests.integration.running import CLI, SERVICE

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
    clean = {key: text for key, text in os.environ.items() if not key.startswith(("REGISTRY_STATUS_", "KUBE"))}
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
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = DevServer(**options)
    try:
        starting = server.start("127.0.0.1", 0, ssl_context=_context(certificate, clients))
        url = asyncio.run_coroutine_threadsafe(starting, loop).result(10)
        server.registry.create_service(NewService(name="cart", app="shop", service_id=SERVICE))
        yield server, url
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def _context(certificate: Path | None, clients: Path | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients)
    context.verify_mode = ssl.CERT_REQUIRED if clients is not None else ssl.CERT_NONE
    context.load_cert_chain(certificate, certificate.with_name(f"{certificate.stem}-key.pem"))
    return context
