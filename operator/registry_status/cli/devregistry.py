"""Serve an in-memory ServiceComb Service Center, for trying things out and for tests in other processes.

It keeps nothing on disk. Everything under /devserver/ (what it was asked, and faults that make it misbehave) is open to whoever
can reach it: it is for development and tests only. SIGTERM and SIGINT stop it.
"""

import argparse
import asyncio
import re
import signal
import ssl
import sys
from contextlib import suppress
from pathlib import Path

from registry_status.registry.devserver import DEFAULT_JOURNAL_SIZE, DevServer, RequestRecord
from registry_status.registry.devserver.journal import LARGEST_SIZE
from registry_status.report.text import one_line

DEFAULT_LISTEN = ("127.0.0.1", 30100)
USAGE_ERROR = 2


class StartError(Exception):
    """The server cannot begin; the message says what to change."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "--listen",
        type=parse_listen,
        default=DEFAULT_LISTEN,
        metavar="HOST:PORT",
        help="where to listen; port 0 picks a free one, no host means all addresses (default: 127.0.0.1:30100)",
    )
    parser.add_argument("--log-requests", action="store_true", help="write a line for each request to standard error")
    parser.add_argument(
        "--journal-size",
        type=_journal_size,
        default=DEFAULT_JOURNAL_SIZE,
        metavar="N",
        help="how many requests and writes to remember (default: %(default)s)",
    )
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="serve HTTPS with this PEM certificate chain")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key, unless it is in the same file")
    parser.add_argument(
        "--accounts",
        type=Path,
        metavar="FILE",
        help="ask for tokens (RBAC); the file has a line NAME:PASSWORD for each account",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT. Exit status 2: it could not even begin."""
    try:
        return asyncio.run(_serve(arguments))
    except StartError as error:
        sys.stderr.write(f"devregistry: {error}\n")
        return USAGE_ERROR


def parse_listen(text: str) -> tuple[str, int]:
    """`HOST:PORT`, `[IPv6]:PORT` or `:PORT`."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535 or (":" in host and not bracketed):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT (for example 127.0.0.1:30100 or [::1]:30100)")
    return host[1:-1] if bracketed else host, int(port)


async def _serve(arguments: argparse.Namespace) -> int:
    host, port = arguments.listen
    server = DevServer(
        journal_size=arguments.journal_size,
        accounts=_read_accounts(arguments.accounts),
        on_request=_log_request if arguments.log_requests else None,
    )
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    tls = _tls(arguments.tls_cert, arguments.tls_key)
    try:
        base_url = await server.start(host, port, ssl_context=tls)
    except (OSError, UnicodeError) as error:  # the latter for a name that no resolver could be asked for
        why = error.strerror if isinstance(error, OSError) else "it is no name of a host"
        raise StartError(f"cannot listen on {host or '*'} port {port}: {why}") from error
    print(f"devregistry listens on {base_url}", flush=True)
    await stopped.wait()
    await server.stop()
    return 0


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if certificate is None:
        if key is not None:
            raise StartError("--tls-key needs --tls-cert")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        raise StartError(f"cannot use the certificate in {certificate}: {error}") from error
    return context


def _read_accounts(path: Path | None) -> dict[str, str] | None:
    if path is None:
        return None
    try:
        lines = [line for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"cannot read the accounts in {path}: {error}") from error
    accounts = dict(line.split(":", 1) for line in lines if ":" in line)
    if len(accounts) != len(lines):
        raise StartError(f"{path}: every line must be NAME:PASSWORD, and each name there once")
    return accounts


def _log_request(record: RequestRecord) -> None:
    query = "&".join(f"{key}={value}" for key, value in record.query.items())
    target = f"{record.path}?{query}" if query else record.path
    answer = "dropped" if record.status is None else record.status
    line = one_line(f"{record.time:.3f} {record.domain or '-'} {record.method} {target} {answer}")
    with suppress(OSError):  # nobody reads it any more, which is no failure of the registry
        sys.stderr.write(f"{line}\n")


def _journal_size(text: str) -> int:
    if not re.fullmatch("[0-9]{1,20}", text) or not 1 <= int(text) <= LARGEST_SIZE:
        raise argparse.ArgumentTypeError(f"{text[:100]!r} is not a number from 1 to {LARGEST_SIZE}")
    return int(text)
