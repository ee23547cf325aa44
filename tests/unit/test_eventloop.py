"""The event loop closes each file descriptor once: a second time it would be another connection's."""

import asyncio
import gc
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from registry_status.eventloop import EventLoop
from registry_status.tlstransport import DirectSocket

TRIES = 5
AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends a reset."""


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    peer.close()


def end(peer: socket.socket) -> None:
    peer.close()


def talk_nonsense(peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    peer.close()


def end_later(peer: socket.socket) -> None:
    threading.Timer(0.02, peer.close).start()


def be_silent(peer: socket.socket) -> None:
    threading.Timer(0.5, peer.close).start()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


async def connected(
    listener: socket.socket, answer: Callable[[socket.socket], None], kind: type[socket.socket]
) -> socket.socket:
    """A socket of ours, connected, as aiohttp hands it to the loop; the server has done its part."""
    sock = kind()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, listener.getsockname())
    answer(listener.accept()[0])
    return sock


async def use(sock: socket.socket, context: ssl.SSLContext | None) -> None:
    """Talk over it for a moment, whatever comes of it."""
    options: dict[str, Any] = {"ssl": context, "server_hostname": "localhost"} if context else {}
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(0.1):
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=sock, **options)
            await asyncio.sleep(0.01)
            transport.close()
    await asyncio.sleep(0.01)


async def closed_once(
    listener: socket.socket,
    answer: Callable[[socket.socket], None],
    context: ssl.SSLContext | None,
    kind: type[socket.socket],
) -> bool:
    """Whether a descriptor that was free, and is in use again, survives the end of the socket that had it before."""
    sock = await connected(listener, answer, kind)
    number = sock.fileno()
    await use(sock, context)
    others = [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]
    assert number in others, "the connection is closed"
    del sock
    gc.collect()
    try:
        os.fstat(number)
    except OSError:
        others.remove(number)
        return False
    finally:
        for other in others:
            os.close(other)
    return True


@pytest.mark.parametrize("kind", [socket.socket, DirectSocket])
@pytest.mark.parametrize("context", [ssl.create_default_context(), None], ids=["tls", "plain"])
@pytest.mark.parametrize("answer", [reset, end, talk_nonsense, end_later, be_silent])
def test_a_connection_that_breaks_is_closed_once(
    listener: socket.socket,
    answer: Callable[[socket.socket], None],
    context: ssl.SSLContext | None,
    kind: type[socket.socket],
) -> None:
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        assert all(runner.run(closed_once(listener, answer, context, kind)) for _ in range(TRIES))


def test_a_connection_by_name_is_as_ever(listener: socket.socket) -> None:
    async def exchange() -> bytes:
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        talk_nonsense(listener.accept()[0])
        line = await reader.readline()
        writer.close()
        return line

    with asyncio.Runner(loop_factory=EventLoop) as runner:
        assert runner.run(exchange()) == b"HTTP/1.1 400 Bad Request\r\n"
