"""TLS over a socket that OpenSSL reads itself, as an asyncio transport.

asyncio's own TLS, uvloop's too, reads the socket, copies what it has read to OpenSSL's memory, and has it decrypted from there.
A process that is woken some hundred times a second finds its caches cold each time, and pays for all that it touches: to read a
watch and do nothing more takes a quarter less where OpenSSL has the socket (docs/performance.md).
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import cast

HANDSHAKE_WITHIN = 60.0
"""Seconds, as with asyncio's own."""
FLUSHED_WITHIN = 30.0
"""Seconds that what is unsent when a transport is closed has to leave, as with asyncio's own."""
AT_ONCE = 64 * 1024
"""Bytes handed on at once at most to a protocol without a buffer of its own."""
HIGH_WATER = 64 * 1024
"""Unsent bytes above which the protocol is to pause; it goes on at a quarter of them. As with asyncio's own."""


class DirectSocket(socket.socket):
    """A socket for which `EventLoop.create_connection` makes this module's TLS."""


async def secure(
    sock: socket.socket,
    context: ssl.SSLContext,
    factory: Callable[[], asyncio.BaseProtocol],
    *,
    server_hostname: str | None,
    within: float = HANDSHAKE_WITHIN,
) -> tuple["TlsTransport", asyncio.BaseProtocol]:
    """Go over to TLS on a connected socket, within so many seconds. The socket is this function's, which closes it if it fails.

    Raises `OSError`, of which `ssl.SSLError` and `TimeoutError` are.
    """
    secured = context.wrap_socket(sock, server_hostname=server_hostname, do_handshake_on_connect=False)
    try:
        async with asyncio.timeout(within):
            await _shake_hands(secured)
        protocol = factory()
        return TlsTransport(secured, protocol), protocol
    except BaseException:
        secured.close()
        raise


async def _shake_hands(sock: ssl.SSLSocket) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            return sock.do_handshake()
        except ssl.SSLWantReadError:
            await _ready(sock, loop.add_reader, loop.remove_reader)
        except ssl.SSLWantWriteError:
            await _ready(sock, loop.add_writer, loop.remove_writer)


async def _ready(
    sock: socket.socket,
    add: Callable[[socket.socket, Callable[[], None]], None],
    remove: Callable[[socket.socket], bool],
) -> None:
    ready = asyncio.Event()
    add(sock, ready.set)
    try:
        await ready.wait()
    finally:
        remove(sock)


class TlsTransport(asyncio.Transport):
    """One connection. It ends as soon as the peer has: of half-closed ones TLS knows none."""

    def __init__(self, sock: ssl.SSLSocket, protocol: asyncio.BaseProtocol) -> None:
        """`sock` has shaken hands."""
        super().__init__({
            "socket": sock, "sockname": sock.getsockname(), "peername": sock.getpeername(), "sslcontext": sock.context,
            "ssl_object": sock, "peercert": sock.getpeercert(), "cipher": sock.cipher(), "compression": sock.compression(),
        })  # fmt: skip
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._read = cast("Callable[[int, memoryview], int]", sock.read)
        """Reads at most so many bytes to there and returns how many. `recv_into` comes down to it, by a detour."""
        self._buffer = memoryview(bytearray(AT_ONCE))
        """For what comes, unless the protocol has one."""
        self._unsent = bytearray()
        self._is_closing = False
        self._is_over = False
        self._is_paused = False
        self._has_piled_up = False
        """Reading was paused, so there may be many records; else there is one in most cases, and to look for another costs."""
        self._has_paused_writing = False
        self.set_write_buffer_limits()
        self.set_protocol(protocol)
        protocol.connection_made(self)
        if self.is_reading():
            self._loop.add_reader(sock, self._on_readable)

    # What protocols call.

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand on to another protocol what comes from now on."""
        self._protocol = cast("asyncio.Protocol", protocol)
        self._get_buffer: Callable[[int], memoryview] = self._own_buffer
        self._hand_on: Callable[[int], None] = self._hand_on_bytes
        if isinstance(protocol, asyncio.BufferedProtocol):
            self._get_buffer = cast("Callable[[int], memoryview]", protocol.get_buffer)
            self._hand_on = protocol.buffer_updated

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who is handed what comes."""
        return self._protocol

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._is_closing

    def is_reading(self) -> bool:
        """Whether what comes is handed on."""
        return not (self._is_paused or self._is_closing)

    def pause_reading(self) -> None:
        """Leave what comes where it is."""
        if self.is_reading():
            self._is_paused = True
            self._loop.remove_reader(self._sock)

    def resume_reading(self) -> None:
        """Hand on what has come meanwhile, and what comes."""
        if self._is_paused and not self._is_closing:
            self._is_paused, self._has_piled_up = False, True
            self._loop.add_reader(self._sock, self._on_readable)
            self._loop.call_soon(self._on_readable)  # of what OpenSSL holds the socket tells nothing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send it, now if that is possible."""
        if self._is_closing or not data:
            return
        is_free = not self._unsent
        self._unsent += data
        if is_free:
            self._send()
        if len(self._unsent) > self._high and not self._has_paused_writing:
            self._has_paused_writing = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send them in one piece."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """TLS cannot."""
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Say above how many unsent bytes the protocol is to pause, and from how many on it goes on."""
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        self._high, self._low = high, high // 4 if low is None else low

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The lower and the upper limit."""
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        """How many bytes are unsent."""
        return len(self._unsent)

    def close(self) -> None:
        """Send what is unsent, and end."""
        if self._is_closing:
            return
        self._is_closing = True
        self._loop.remove_reader(self._sock)
        if self._unsent:
            self._loop.call_later(FLUSHED_WITHIN, self.abort)
        else:
            self._end(None)

    def abort(self) -> None:
        """End at once."""
        self._end(None)

    # What the event loop calls.

    def _on_readable(self) -> None:
        """Hand on what has come. Hot: in most cases it is one record, and each function on the way costs a microsecond."""
        if self._is_paused or self._is_closing:
            return
        try:
            view = self._get_buffer(-1)
            count = self._read(len(view), view)
            if self._has_piled_up or count == len(view):
                count = self._fill(memoryview(view), count)
            if count:
                self._hand_on(count)
            else:
                self._protocol.eof_received()
                self.close()
        except ssl.SSLWantReadError:
            self._has_piled_up = False
        except ssl.SSLWantWriteError:
            self._loop.add_writer(self._sock, self._on_writable)
        except OSError as error:
            self._end(error)
        except Exception as error:  # noqa: BLE001 - whatever a protocol raises, its connection is broken, and is told of it
            self._loop.call_exception_handler(
                {"message": "a protocol failed", "exception": error, "transport": self, "protocol": self._protocol}
            )
            self._end(error)
        if self._unsent:
            self._send()

    def _fill(self, view: memoryview, filled: int) -> int:
        """Read on after so many bytes; returns how many there are then. What ends the reading is left to the next call."""
        try:
            while self._has_piled_up and 0 < filled < len(view) and (count := self._read(len(view) - filled, view[filled:])):
                filled += count
        except ssl.SSLWantReadError:
            self._has_piled_up = False
            return filled
        except ssl.SSLWantWriteError:
            pass
        except OSError as error:
            self._loop.call_soon(self._end, error)
            return filled
        self._loop.call_soon(self._on_readable)  # for an end, or what OpenSSL holds, of which the socket tells nothing
        return filled

    def _own_buffer(self, _: int) -> memoryview:
        return self._buffer

    def _hand_on_bytes(self, count: int) -> None:
        self._protocol.data_received(bytes(self._buffer[:count]))

    def _on_writable(self) -> None:
        self._loop.remove_writer(self._sock)
        if self._unsent:
            self._send()
        self._on_readable()

    def _send(self) -> None:
        """Send what is unsent, as much as the socket takes."""
        if self._is_over:
            return
        try:
            while self._unsent:
                del self._unsent[: self._sock.send(self._unsent)]
        except ssl.SSLWantReadError:
            pass  # it goes on when something has been read
        except ssl.SSLWantWriteError:
            self._loop.add_writer(self._sock, self._on_writable)
        except OSError as error:
            self._end(error)
            return
        if self._has_paused_writing and len(self._unsent) <= self._low:
            self._has_paused_writing = False
            self._protocol.resume_writing()
        if self._is_closing and not self._unsent:
            self._end(None)

    def _end(self, error: Exception | None) -> None:
        if self._is_over:
            return
        self._is_over = self._is_closing = True
        self._unsent.clear()
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        if error is None:
            with suppress(OSError, ValueError):
                self._sock.unwrap()  # tells the peer; its answer is not waited for
        self._sock.close()
        self._loop.call_soon(self._protocol.connection_lost, error)
