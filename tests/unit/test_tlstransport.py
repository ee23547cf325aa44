"""TLS over a socket that OpenSSL reads itself does for protocols what asyncio's own does."""

import asyncio
import gc
import os
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from registry_status import tlstransport
from registry_status.cluster.access import in_cluster
from registry_status.cluster.connection import open_session
from registry_status.eventloop import EventLoop
from registry_status.tlstransport import DirectSocket, TlsTransport
from tests.unit.cluster.fake_api import until
from tests.unit.mounts import PEMS

BY_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends a reset."""
LONG = os.urandom(700_001)
WITHIN = 20.0
"""Seconds for a test that hangs."""

Exchange = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class Recorder(asyncio.Protocol):
    """Notes what it is called for."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.pieces: list[int] = []
        self.calls: list[str] = []
        self.error: Exception | None = None
        self.over = asyncio.Event()
        self.can_write = asyncio.Event()
        self.can_write.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.calls.append("made")

    def data_received(self, data: bytes) -> None:
        self.take(data)

    def take(self, data: bytes) -> None:
        self.data += data
        self.pieces.append(len(data))

    def eof_received(self) -> None:
        self.calls.append("eof")

    def connection_lost(self, error: Exception | None) -> None:
        self.calls.append("lost")
        self.error = error
        self.over.set()

    def pause_writing(self) -> None:
        self.can_write.clear()

    def resume_writing(self) -> None:
        self.can_write.set()

    async def has(self, size: int) -> bytes:
        """What has come, once it is so much."""
        await until(lambda: len(self.data) >= size)
        return bytes(self.data)


class WithBuffer(Recorder, asyncio.BufferedProtocol):
    """Has what comes read into a buffer of its own."""

    SIZE = 256 * 1024

    def __init__(self) -> None:
        super().__init__()
        self.buffer = bytearray(self.SIZE)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.take(bytes(self.buffer[:nbytes]))


class WithShortBuffer(WithBuffer):
    """Its buffer is shorter than a record, so that OpenSSL holds the rest."""

    SIZE = 1000


PROTOCOLS = [Recorder, WithBuffer, WithShortBuffer]


def on_our_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on the operator's event loop; it fails, too, if the loop is told of anything."""

    @wraps(test)
    def run(**arguments: object) -> None:
        with asyncio.Runner(loop_factory=EventLoop) as runner:
            trouble: list[dict[str, Any]] = []
            runner.get_loop().set_exception_handler(lambda _, context: trouble.append(context))
            runner.run(asyncio.wait_for(test(**arguments), WITHIN))
            gc.collect()
        assert trouble == []

    return run


with_each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


def trusting(authority: str = "ca") -> ssl.SSLContext:
    return ssl.create_default_context(cafile=PEMS / f"{authority}.pem")


def serving_context(name: str = "server") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=PEMS / "ca.pem")
    context.load_cert_chain(PEMS / f"{name}.pem", PEMS / f"{name}-key.pem")
    return context


async def dial(address: tuple[str, int]) -> DirectSocket:
    sock = DirectSocket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, address)
    return sock


async def secured(
    address: tuple[str, int], protocol: type[Recorder], context: ssl.SSLContext | None = None
) -> tuple[TlsTransport, Recorder]:
    """Connect as aiohttp does."""
    loop, sock = asyncio.get_running_loop(), await dial(address)
    transport, made = await loop.create_connection(protocol, sock=sock, ssl=context or trusting(), server_hostname="127.0.0.1")
    assert isinstance(transport, TlsTransport)
    return transport, made


@asynccontextmanager
async def peer(exchange: Exchange, context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[str, int]]:
    """A server that speaks asyncio's TLS; whatever goes wrong with it fails the test."""
    done: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await exchange(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(
        lambda reader, writer: done.append(asyncio.ensure_future(serve(reader, writer))),
        "127.0.0.1", 0, ssl=context or serving_context(),
    )  # fmt: skip
    try:
        yield server.sockets[0].getsockname()[:2]
        await asyncio.gather(*done)
    finally:
        server.close()


Serve = Callable[[ssl.SSLSocket], bytes]


@asynccontextmanager
async def blunt_peer(serve: Serve) -> AsyncIterator[tuple[tuple[str, int], "asyncio.Future[bytes]"]]:
    """A server in a thread, for what asyncio's TLS hides; `serve` says what it has heard. Its socket is closed after that."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> bytes:
            accepted, _ = listener.accept()
            with serving_context().wrap_socket(accepted, server_side=True, suppress_ragged_eofs=False) as secure:
                secure.settimeout(WITHIN)
                return serve(secure)

        heard = asyncio.get_running_loop().run_in_executor(None, run)
        yield listener.getsockname(), heard
        await heard


async def said_all(writer: asyncio.StreamWriter, *pieces: bytes) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()


# --- reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("sizes", [[1], [1, 4096, 2100], [16384], [16384, 16384, 1], [999, 1000, 1001], [700_001]])
@with_each_protocol
@on_our_loop
async def test_what_the_peer_sends_is_handed_on_in_its_order(
    protocol: type[Recorder], sizes: list[int], version: ssl.TLSVersion
) -> None:
    begins = [sum(sizes[:number]) for number in range(len(sizes))]

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await said_all(writer, *(LONG[begin : begin + size] for begin, size in zip(begins, sizes, strict=True)))
        await reader.read()

    context = trusting()
    context.minimum_version = context.maximum_version = version
    async with peer(send) as address:
        transport, recorder = await secured(address, protocol, context)
        assert transport.get_extra_info("cipher")[1] == version.name.replace("_", ".")
        assert await recorder.has(sum(sizes)) == LONG[: sum(sizes)]
        transport.close()


@with_each_protocol
@on_our_loop
async def test_while_reading_is_paused_nothing_is_handed_on_and_all_of_it_later(protocol: type[Recorder]) -> None:
    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await said_all(writer, LONG[:5000])
        await reader.readexactly(1)
        await said_all(writer, LONG[5000:])
        await reader.read()

    async with peer(send) as address:
        transport, recorder = await secured(address, protocol)
        await recorder.has(1)
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        before = len(recorder.data)
        transport.write(b".")
        await asyncio.sleep(0.05)
        assert len(recorder.data) == before
        transport.resume_reading()
        transport.resume_reading()
        assert await recorder.has(len(LONG)) == LONG
        transport.close()


class Pausing(WithShortBuffer):
    """Has reading paused after each piece."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def take(self, data: bytes) -> None:
        super().take(data)
        self.transport.pause_reading()


@on_our_loop
async def test_what_openssl_holds_when_reading_is_paused_comes_when_it_goes_on() -> None:
    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await said_all(writer, LONG[:5000])
        await reader.read()

    async with peer(send) as address:
        transport, recorder = await secured(address, Pausing)
        for number in range(1, 6):
            assert await recorder.has(number * Pausing.SIZE) == LONG[: number * Pausing.SIZE]
            await asyncio.sleep(0.01)
            assert len(recorder.data) == number * Pausing.SIZE
            transport.resume_reading()
        transport.close()


@on_our_loop
async def test_what_has_piled_up_is_handed_on_in_few_pieces() -> None:
    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        await said_all(writer, *(LONG[:500] for _ in range(100)))
        writer.write(b"!")
        await reader.read()

    async with peer(send) as address:
        transport, recorder = await secured(address, WithBuffer)
        transport.pause_reading()
        transport.write(b".")
        await asyncio.sleep(0.1)
        transport.resume_reading()
        assert await recorder.has(50_001) == LONG[:500] * 100 + b"!"
        assert len(recorder.pieces) <= 3
        transport.close()


@with_each_protocol
@on_our_loop
async def test_another_protocol_takes_over_between_two_bytes(protocol: type[Recorder]) -> None:
    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await said_all(writer, b"head")
        await reader.readexactly(1)
        await said_all(writer, LONG)
        await reader.read()

    async with peer(send) as address:
        transport, first = await secured(address, Recorder)
        await first.has(4)
        second = protocol()
        transport.set_protocol(second)
        transport.write(b".")
        assert await second.has(len(LONG)) == LONG
        assert (bytes(first.data), transport.get_protocol()) == (b"head", second)
        transport.close()
        await second.over.wait()
        assert (first.calls, second.calls) == (["made"], ["lost"])


# --- the end ---------------------------------------------------------------------------------------


def with_a_word(writer: asyncio.StreamWriter) -> None:
    writer.close()


def without_a_word(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@pytest.mark.parametrize("paused", [False, True], ids=["reading", "paused"])
@pytest.mark.parametrize("size", [0, 1, 5000, len(LONG)])
@pytest.mark.parametrize("end", [with_a_word, without_a_word])
@with_each_protocol
@on_our_loop
async def test_the_peers_end_is_told_after_all_that_it_has_sent(
    protocol: type[Recorder], end: Callable[[asyncio.StreamWriter], None], size: int, paused: bool
) -> None:
    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await said_all(writer, LONG[:size])
        await until(lambda: not writer.transport.get_write_buffer_size())
        end(writer)
        await asyncio.sleep(0.02)

    async with peer(send) as address:
        transport, recorder = await secured(address, protocol)
        if paused:
            transport.pause_reading()
            await asyncio.sleep(0.02)
            transport.resume_reading()
        await recorder.over.wait()
        assert (recorder.calls, recorder.error, bytes(recorder.data)) == (["made", "eof", "lost"], None, LONG[:size])
        assert transport.is_closing()


@with_each_protocol
@on_our_loop
async def test_a_reset_is_told_as_an_end(protocol: type[Recorder]) -> None:
    """CPython's ssl does not tell the two apart."""

    def reset(secure: ssl.SSLSocket) -> bytes:
        secure.sendall(b"hello")
        heard = secure.recv(1)
        secure.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, BY_RESET)
        return heard

    async with blunt_peer(reset) as (address, _):
        transport, recorder = await secured(address, protocol)
        await recorder.has(5)
        transport.write(b".")
        await recorder.over.wait()
        assert (recorder.calls, recorder.error) == (["made", "eof", "lost"], None)


@with_each_protocol
@on_our_loop
async def test_bytes_that_are_no_tls_end_the_connection(protocol: type[Recorder]) -> None:
    def talk_nonsense(secure: ssl.SSLSocket) -> bytes:
        secure.sendall(b"hello")
        os.write(secure.fileno(), b"HTTP/1.1 400 Bad Request\r\n\r\n")
        return b""

    async with blunt_peer(talk_nonsense) as (address, _):
        _, recorder = await secured(address, protocol)
        await recorder.over.wait()
        assert (bytes(recorder.data), recorder.calls) == (b"hello", ["made", "lost"])
        assert isinstance(recorder.error, ssl.SSLError)


@pytest.mark.parametrize("way", ["close", "abort"])
@with_each_protocol
@on_our_loop
async def test_an_end_of_ours_is_told_once_and_nothing_comes_after_it(protocol: type[Recorder], way: str) -> None:
    heard: list[bytes] = []

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await said_all(writer, b"hello")
        heard.append(await reader.read())

    async with peer(send) as address:
        transport, recorder = await secured(address, protocol)
        await recorder.has(5)
        transport.write(b"bye")
        for _ in range(2):
            getattr(transport, way)()
        assert transport.is_closing()
        transport.write(b"more")
        transport.resume_reading()
        await recorder.over.wait()
        await asyncio.sleep(0.01)
        assert (recorder.calls, recorder.error) == (["made", "lost"], None)
    assert heard == [b"bye"]


@on_our_loop
async def test_the_peer_is_told_of_a_close() -> None:
    """With a word of TLS's own, so that it takes nothing for cut."""
    async with blunt_peer(lambda secure: secure.recv(10) + secure.recv(10)) as (address, heard):
        transport, _ = await secured(address, Recorder)
        transport.write(b"bye")
        transport.close()
        assert await heard == b"bye"


class Failing(Recorder):
    """A protocol with a fault."""

    def take(self, data: bytes) -> None:
        raise LookupError("a fault")


def test_a_protocol_that_fails_is_told_of_the_end_and_the_loop_of_the_fault() -> None:
    trouble: list[dict[str, Any]] = []

    async def test() -> Recorder:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: trouble.append(context))

        async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await said_all(writer, b"hello")
            await reader.read()

        async with peer(send) as address:
            _, recorder = await secured(address, Failing)
            await asyncio.wait_for(recorder.over.wait(), WITHIN)
            return recorder

    with asyncio.Runner(loop_factory=EventLoop) as runner:
        recorder = runner.run(test())
    assert (recorder.calls, type(recorder.error)) == (["made", "lost"], LookupError)
    assert [type(context["exception"]) for context in trouble] == [LookupError]


# --- writing ---------------------------------------------------------------------------------------


def hears_all_once(may_read: threading.Event) -> Serve:
    """A peer that reads nothing before it may, and then all."""

    def hear(secure: ssl.SSLSocket) -> bytes:
        may_read.wait(WITHIN)
        return b"".join(iter(lambda: secure.recv(65536), b""))

    return hear


@on_our_loop
async def test_more_than_the_socket_takes_pauses_the_protocol_and_arrives_whole() -> None:
    may_read = threading.Event()
    async with blunt_peer(hears_all_once(may_read)) as (address, heard):
        transport, recorder = await secured(address, Recorder)
        transport.writelines([LONG[:10], LONG[10:]])
        for _ in range(29):
            transport.write(LONG)
        assert not recorder.can_write.is_set()
        assert transport.get_write_buffer_size() > transport.get_write_buffer_limits()[1]
        may_read.set()
        await recorder.can_write.wait()
        assert transport.get_write_buffer_size() <= transport.get_write_buffer_limits()[0]
        transport.close()
        await recorder.over.wait()
        assert recorder.error is None
        assert await heard == LONG * 30


@on_our_loop
async def test_what_is_unsent_at_a_close_arrives_and_ends_the_connection() -> None:
    may_read = threading.Event()
    async with blunt_peer(hears_all_once(may_read)) as (address, heard):
        transport, recorder = await secured(address, Recorder)
        transport.write(LONG * 30)
        transport.close()
        assert transport.get_write_buffer_size() > 0
        may_read.set()
        await recorder.over.wait()
        assert recorder.error is None
        assert await heard == LONG * 30


@on_our_loop
async def test_what_a_peer_does_not_take_is_waited_for_so_long_after_a_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tlstransport, "FLUSHED_WITHIN", 0.05)
    is_over = asyncio.Event()

    async def be_deaf(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cast("asyncio.Transport", writer.transport).pause_reading()
        await is_over.wait()

    async with peer(be_deaf) as address:
        transport, recorder = await secured(address, Recorder)
        transport.write(LONG * 30)
        transport.close()
        assert recorder.calls == ["made"]
        await recorder.over.wait()
        is_over.set()


@on_our_loop
async def test_a_write_that_finds_the_connection_reset_ends_it_later_and_raises_nothing() -> None:
    def reset(secure: ssl.SSLSocket) -> bytes:
        secure.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, BY_RESET)
        return b""

    async with blunt_peer(reset) as (address, heard):
        transport, recorder = await secured(address, Recorder)
        transport.pause_reading()
        await heard
        transport.write(b".")
        transport.write(b".")
        assert recorder.calls == ["made"]
        await recorder.over.wait()
        assert isinstance(recorder.error, OSError)


# --- the handshake ---------------------------------------------------------------------------------


async def be_quiet(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


@on_our_loop
async def test_who_is_at_the_other_end_is_known() -> None:
    seen: list[Any] = []

    async def look(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peercert")["subject"][0][0][1])
        await reader.read()

    asking, showing = serving_context(), trusting()
    asking.verify_mode = ssl.CERT_REQUIRED
    showing.load_cert_chain(PEMS / "client.pem", PEMS / "client-key.pem")
    async with peer(look, asking) as address:
        transport, _ = await secured(address, Recorder, showing)
        assert transport.get_extra_info("peername") == address
        assert transport.get_extra_info("peercert")["subject"]
        assert transport.get_extra_info("sslcontext") is showing
        await until(lambda: bool(seen))
        transport.close()
    assert seen == ["client"]


@on_our_loop
async def test_a_certificate_of_another_authority_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            accepted, _ = listener.accept()
            with pytest.raises(OSError, match=r"unknown ca|reset|EOF|closed"):
                serving_context().wrap_socket(accepted, server_side=True).recv(1)
            accepted.close()

        serving = asyncio.get_running_loop().run_in_executor(None, serve)
        with pytest.raises(ssl.SSLCertVerificationError):
            await secured(listener.getsockname(), Recorder, trusting("other-ca"))
        await serving


@on_our_loop
async def test_a_peer_that_is_silent_is_given_up_and_its_socket_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tlstransport.secure, "__kwdefaults__", {"within": 0.05})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = await dial(listener.getsockname())
        number = sock.fileno()
        with pytest.raises(TimeoutError):
            await asyncio.get_running_loop().create_connection(Recorder, sock=sock, ssl=trusting(), server_hostname="127.0.0.1")
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)


# --- aiohttp over it -------------------------------------------------------------------------------


@asynccontextmanager
async def api_server(
    tmp_path: Path, authority: str, proxy: str | None = None
) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """A session for an API server, which trusts this authority, and the URL."""

    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(body=LONG)

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=serving_context()).start()
    (tmp_path / "ca.crt").write_bytes((PEMS / f"{authority}.pem").read_bytes())
    (tmp_path / "token").write_text("t")
    port = str(runner.addresses[0][1])
    access = in_cluster({"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": port}, tmp_path)
    try:
        async with open_session(replace(access, proxy=proxy)) as session:
            yield session, access.server
    finally:
        await runner.cleanup()


@on_our_loop
async def test_a_session_for_an_api_server_goes_over_it(tmp_path: Path) -> None:
    async with api_server(tmp_path, "ca") as (session, url):
        for _ in range(3):
            async with session.get(url) as response:
                assert response.connection is not None
                assert isinstance(response.connection.transport, TlsTransport)
                assert await response.read() == LONG


@on_our_loop
async def test_a_certificate_that_is_not_trusted_is_what_a_session_says(tmp_path: Path) -> None:
    async with api_server(tmp_path, "other-ca") as (session, url):
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(url)


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        await said_all(writer, data)
    writer.close()


async def connect_through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What a proxy does when it is asked to CONNECT."""
    asked = await reader.readuntil(b"\r\n\r\n")
    host, _, port = asked.split()[1].decode().partition(":")
    there = await asyncio.open_connection(host, int(port))
    await said_all(writer, b"HTTP/1.1 200 OK\r\n\r\n")
    await asyncio.gather(carry(reader, there[1]), carry(there[0], writer))


@pytest.mark.parametrize("scheme", ["http", "https"])
@on_our_loop
async def test_behind_a_proxy_a_session_works_whatever_the_proxy_speaks(tmp_path: Path, scheme: str) -> None:
    tls = serving_context() if scheme == "https" else None
    proxy = await asyncio.start_server(connect_through, "127.0.0.1", 0, ssl=tls)
    url = f"{scheme}://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    async with proxy, api_server(tmp_path, "ca", url) as (session, server), session.get(server) as response:
        assert await response.read() == LONG
