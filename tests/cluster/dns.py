"""The cluster's name server: just enough DNS for `http://NAME.NAMESPACE.svc.cluster.local`, read from the API at each question.

    dns.py ADDRESS KUBE-APISERVER-URL CA-FILE TOKEN

CoreDNS would be one more big program to build. Only the standard library: it runs as a script of its own.
"""

import argparse
import contextlib
import ipaddress
import json
import socketserver
import ssl
import struct
import urllib.error
import urllib.request
from typing import Any

ZONE = ("svc", "cluster", "local")
A, IN, TTL = 1, 1, 1
NO_ERROR, SERVER_FAILURE, NO_SUCH_NAME = 0, 2, 3
HEADER = struct.Struct("!6H")
QUESTION = struct.Struct("!2H")
RECORD = struct.Struct("!3HIH")
POINTER_TO_QUESTION = 0xC00C


class Services:
    """The addresses of services, as the API server has them now."""

    def __init__(self, url: str, ca: str, token: str) -> None:
        self._url, self._token = url, token
        self._tls = ssl.create_default_context(cafile=ca)

    def addresses(self, name: tuple[str, ...]) -> list[str] | None:
        """Return a name's addresses; None when there is no such name."""
        if name[2:] != ZONE:
            return None
        service = self._get(name[1], "services", name[0])
        if service is None:
            return None
        address = service["spec"].get("clusterIP", "None")
        if address != "None":
            return [address]
        endpoints = self._get(name[1], "endpoints", name[0]) or {}
        return [a["ip"] for subset in endpoints.get("subsets", []) for a in subset.get("addresses", [])]

    def _get(self, namespace: str, kind: str, name: str) -> dict[str, Any] | None:
        url = f"{self._url}/api/v1/namespaces/{namespace}/{kind}/{name}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self._token}"})
        try:
            with urllib.request.urlopen(request, timeout=5, context=self._tls) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return None


class Question(socketserver.BaseRequestHandler):
    """One datagram, one answer."""

    def handle(self) -> None:
        data, connection = self.request
        name, end = _read_name(data)
        kind, _ = QUESTION.unpack_from(data, end)
        try:
            found = self.server.services.addresses(name)  # type: ignore[attr-defined]
        except OSError:  # the API server is away, or slow
            code, records = SERVER_FAILURE, b""
        else:
            code = NO_SUCH_NAME if found is None else NO_ERROR
            records = b"".join(_record(address) for address in found or () if kind == A)
        answers = len(records) // (RECORD.size + 4)
        (identity,) = struct.unpack_from("!H", data)
        flags = 0x8580 | code  # an answer, authoritative, recursion asked for and available
        header = HEADER.pack(identity, flags, 1, answers, 0, 0)
        connection.sendto(header + data[HEADER.size : end + QUESTION.size] + records, self.client_address)


class Server(socketserver.ThreadingUDPServer):
    """Answers each question in a thread, so that a slow API server does not make them queue."""

    daemon_threads = True

    def __init__(self, address: str, services: Services) -> None:
        super().__init__((address, 53), Question)
        self.services = services


def _read_name(data: bytes) -> tuple[tuple[str, ...], int]:
    labels, at = [], HEADER.size
    while length := data[at]:
        labels.append(data[at + 1 : at + 1 + length].decode("ascii", "replace").lower())
        at += 1 + length
    return tuple(labels), at + 1


def _record(address: str) -> bytes:
    return RECORD.pack(POINTER_TO_QUESTION, A, IN, TTL, 4) + ipaddress.IPv4Address(address).packed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("address", "url", "ca", "token"):
        parser.add_argument(name)
    options = parser.parse_args()
    with (
        contextlib.suppress(KeyboardInterrupt),
        Server(options.address, Services(options.url, options.ca, options.token)) as server,
    ):
        server.serve_forever()


if __name__ == "__main__":
    main()
