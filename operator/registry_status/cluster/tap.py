"""The body of a watch right from its connection, past aiohttp's HTTP parser and stream reader.

In a busy cluster a watch brings thousands of small chunks a second, nearly all of them of other pods. aiohttp asks for each of
them to be parsed, buffered and awaited, and for the transport to be resumed: more work than TLS and the sifting together. So
once aiohttp has read a response's head, another protocol takes over the transport, as asyncio means it to be done, and tells
aiohttp's only of the end.

It goes for bodies that are nothing but bytes until the connection ends: what a server sends in answer to HTTP/1.0. A chunked
body has the parser's state in it, and is left to aiohttp.
"""

import asyncio
from collections.abc import Callable

import aiohttp
from aiohttp.client_proto import ResponseHandler

ENCODED = ("Transfer-Encoding", "Content-Encoding", "Content-Length")
"""A body with one of these headers is more than bytes until the end."""
BUFFER = 256 * 1024
"""Bytes read at once at most, as many as uvloop takes from a socket."""
BATCH = 192 * 1024
LATEST = 0.2
"""Bytes that are not urgent are taken when so many have come, or so many seconds after the first of them at the latest. In a
busy cluster it is their number that counts, and no timer wakes the process."""

TakeBytes = Callable[[bytearray, int, bool], tuple[int, bool]]
"""Takes what it can of so many bytes of a buffer, in which what is urgent may be found or is known not to be; returns how many
that were, and whether to wake the reader."""


class Tap(asyncio.BufferedProtocol):
    """Hands on what arrives as it arrives, and wakes a reader when that is worth it."""

    def __init__(self, transport: asyncio.Transport, before: ResponseHandler, take: TakeBytes) -> None:
        """`take` is called within the event loop's read of the socket. What it leaves is offered again with what comes next."""
        self.over = False
        """Nothing more will come."""
        self._urgent: bytes | None = None
        """Only what holds these bytes is handed on at once; None: all is."""
        self._overlap = 0
        """So many bytes of them may have come before."""
        self._loop = asyncio.get_running_loop()
        self._due: asyncio.TimerHandle | None = None
        self._transport = transport
        self._before = before
        self._take = take
        self._news = asyncio.Event()
        self._set_buffer(bytearray(BUFFER))
        self._filled = 0
        self._is_cut = False
        """What is left of the last offer may be the beginning of an urgent event."""

    def _set_buffer(self, buffer: bytearray) -> None:
        self._buffer = buffer
        self._view = memoryview(buffer)

    def hurry_for(self, urgent: bytes) -> None:
        """From now on hand on at once only what holds these bytes.

        At some hundred events a second each finds the caches cold, and to judge it costs ten times as much as to judge it in
        a row with others.
        """
        self._urgent, self._overlap = urgent, len(urgent) - 1

    async def news(self) -> None:
        """Wait until `take` has taken something worth it, or the connection is over."""
        await self._news.wait()
        self._news.clear()

    def error(self) -> BaseException | None:
        """Why the connection is over; None if its server closed it."""
        error = self._before.exception()
        return None if isinstance(error, aiohttp.ServerDisconnectedError) else error

    def rest(self, seconds: float) -> None:
        """Read nothing for so long: bytes pile up, and are one piece then."""
        self._transport.pause_reading()
        self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def stop(self) -> None:
        """Hand on nothing any more: a connection that is being closed may still bring something."""
        self._take = _take_nothing
        self._cancel_late_offer()

    def begin_with(self, data: bytes) -> None:
        """Take what was read before."""
        self._set_buffer(bytearray(data) + bytes(BUFFER))
        self.buffer_updated(len(data))

    # What the transport calls.

    def get_buffer(self, _: int) -> memoryview:
        """Where to read to; it grows with an event that does not fit."""
        if self._filled == len(self._buffer):
            self._set_buffer(self._buffer + bytes(self._filled))
        return self._view[self._filled :] if self._filled else self._view

    def buffer_updated(self, count: int) -> None:
        """So many bytes were read. Hot, each call costs a microsecond: in most cases they are one event, which can wait."""
        start, self._filled = self._filled, self._filled + count
        if (
            self._urgent is None or self._is_cut
            or self._buffer.find(self._urgent, start - self._overlap if start > self._overlap else 0, self._filled) >= 0
        ):  # fmt: skip
            self._offer()
        elif self._filled >= BATCH:
            self._offer_late()
        elif self._due is None:
            self._due = self._loop.call_later(LATEST, self._offer_late)

    def _cancel_late_offer(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _offer_late(self) -> None:
        self._offer(may_be_urgent=self._is_cut)

    def _offer(self, *, may_be_urgent: bool = True) -> None:
        self._cancel_late_offer()
        taken, wakes = self._take(self._buffer, self._filled, may_be_urgent)
        if taken == self._filled:
            self._filled = 0
        elif taken:
            rest = self._buffer[taken : self._filled]
            self._filled = len(rest)
            self._buffer[: len(rest)] = rest
        self._is_cut = may_be_urgent and self._filled > 0
        if wakes:
            self._news.set()

    def eof_received(self) -> None:
        """The server sends no more; the transport closes itself."""
        self._before.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is over."""
        self._offer_late()
        self._before.connection_lost(error)
        self.over = True
        self._news.set()


def _take_nothing(_: bytearray, size: int, _may_be_urgent: bool) -> tuple[int, bool]:
    return size, False


def tap(response: aiohttp.ClientResponse, take: TakeBytes) -> Tap | None:
    """Take over the body of a response whose head has just been read; None if that is not possible."""
    connection, content = response.connection, response.content
    if any(name in response.headers for name in ENCODED) or content.is_eof() or content.exception() is not None:
        return None
    if connection is None or connection.transport is None or connection.protocol is None:
        return None  # over already: aiohttp has all of it
    made = Tap(connection.transport, connection.protocol, take)
    if read := b"".join(iter(content.read_nowait, b"")):
        made.begin_with(read)
    connection.transport.set_protocol(made)
    return made
