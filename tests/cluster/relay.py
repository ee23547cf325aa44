"""A TCP relay between our network namespace and the one of the local cluster; the cluster has no other way out.

So all test traffic stays on loopback and inside a namespace that we made: there is no route to the cluster that could one day
point elsewhere. A socket belongs to the namespace it was made in, whoever uses it: one process can serve both sides.

    relay.py --cluster PID --listen ours|theirs ADDRESS:PORT TARGET:PORT

It ends when the cluster's first process (PID) ends. Only the standard library: it runs as a script of its own.
"""

import argparse
import asyncio
import contextlib
import ctypes
import os
import socket
import sys
from dataclasses import dataclass

CLONE_NEWNET = 0x40000000
CHUNK = 256 * 1024
CONNECT_TIMEOUT = 5.0

Address = tuple[str, int]


@dataclass(frozen=True)
class Namespace:
    """A network namespace, held open."""

    descriptor: int

    def enter(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(self.descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")

    @classmethod
    def of(cls, process: int | str) -> "Namespace":
        return cls(os.open(f"/proc/{process}/ns/net", os.O_RDONLY | os.O_CLOEXEC))


class Relay:
    """Listens on one side, dials on the other."""

    def __init__(self, *, listen_in: Namespace, dial_in: Namespace, target: Address) -> None:
        self._listen_in, self._dial_in, self._target = listen_in, dial_in, target
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, address: Address) -> None:
        listener = self._socket(self._listen_in)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
        sys.stdout.write("listening\n")  # whoever started us waits for this line
        sys.stdout.flush()
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(listener)
            task = asyncio.create_task(self._serve_one(client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _socket(self, namespace: Namespace) -> socket.socket:
        namespace.enter()
        made = socket.socket()
        made.setblocking(False)
        return made

    async def _serve_one(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with client, self._socket(self._dial_in) as server, contextlib.suppress(OSError):
            client.setblocking(False)
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await loop.sock_connect(server, self._target)
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(client, server))
                both.create_task(_pump(server, client))


async def _pump(source: socket.socket, target: socket.socket) -> None:
    """Copy one direction to its end, and pass the end on; an error of one side ends both."""
    loop = asyncio.get_running_loop()
    try:
        while chunk := await loop.sock_recv(source, CHUNK):
            await loop.sock_sendall(target, chunk)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for side in (source, target):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


async def _run(cluster: int, relay: Relay, address: Address) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(os.pidfd_open(cluster), ended.set)
    server = asyncio.create_task(relay.serve(address))
    waiting = asyncio.create_task(ended.wait())
    await asyncio.wait([server, waiting], return_when=asyncio.FIRST_COMPLETED)
    if server.done():
        server.result()


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host, int(port)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cluster", type=int, required=True, help="a process in the cluster's namespace")
    parser.add_argument("--listen", choices=["ours", "theirs"], required=True, help="which side to listen on")
    parser.add_argument("address", type=_address)
    parser.add_argument("target", type=_address)
    options = parser.parse_args()
    ours, theirs = Namespace.of("self"), Namespace.of(options.cluster)
    listen_in, dial_in = (ours, theirs) if options.listen == "ours" else (theirs, ours)
    relay = Relay(listen_in=listen_in, dial_in=dial_in, target=options.target)
    asyncio.run(_run(options.cluster, relay, options.address))


if __name__ == "__main__":
    main()
