"""Taking the body of a response right from its connection."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from hypothesis import given
from hypothesis import strategies as st

from registry_status.cluster.tap import BATCH, BUFFER, LATEST, Tap, tap
from tests.world import on_virtual_time

HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n"
MANY = b"".join(b"%07d\n" % number for number in range(250_000))
"""More than all buffers on the way hold."""


@dataclass
class Tapped:
    """A response whose body is taken."""

    response: aiohttp.ClientResponse
    event: int
    """Bytes that an event has: none is taken before it is whole."""
    tap: Tap | None = None
    pieces: list[bytes] = field(default_factory=list)

    def take(self, data: bytearray, size: int, _: bool) -> tuple[int, bool]:
        whole = size - size % self.event
        self.pieces.append(bytes(data[:whole]))
        return whole, True

    async def read(self) -> bytes:
        assert self.tap is not None
        while not self.tap.over:
            await self.tap.news()
        return b"".join(self.pieces)


@asynccontextmanager
async def answered(*pieces: bytes, event: int = 1, late: float = 0.0, reset: bool = False) -> AsyncIterator[Tapped]:
    """Ask a server that sends these pieces one by one; `late`: the body is looked at only so much later."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)
        if reset:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, aiohttp.ClientSession() as session, session.get(url) as response:
        await asyncio.sleep(late)
        tapped = Tapped(response, event)
        tapped.tap = tap(response, tapped.take)
        yield tapped


@pytest.mark.parametrize(
    "pieces",
    [
        (HEAD, b"one", b"two"),
        (HEAD + b"one", b"two"),
        (HEAD[:20], HEAD[20:] + b"o", b"netwo"),
        (HEAD, b"o", b"n", b"e", b"t", b"w", b"o"),
    ],
    ids=["apart", "the first with the head", "a head in two", "byte by byte"],
)
@pytest.mark.parametrize("late", [0.0, 0.03], ids=["at once", "later"])
async def test_what_was_sent_arrives_however_it_was_cut(pieces: tuple[bytes, ...], late: float) -> None:
    async with answered(*pieces, late=late) as tapped:
        assert await tapped.read() == b"onetwo"
        assert tapped.tap is not None
        assert tapped.tap.error() is None


@pytest.mark.parametrize("late", [0.0, 0.3], ids=["at once", "when aiohttp has stopped reading"])
@pytest.mark.parametrize("event", [1, 7, 1000, BUFFER + 1, len(MANY)], ids=lambda size: f"events of {size} bytes")
async def test_nothing_is_lost_of_more_than_fits_into_buffers(late: float, event: int) -> None:
    async with answered(HEAD + MANY, late=late, event=event) as tapped:
        assert await tapped.read() == MANY[: len(MANY) - len(MANY) % event]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (b"Transfer-Encoding: chunked", b"6\r\nonetwo\r\n0\r\n\r\n"),
        (b"Content-Length: 6", b"onetwo"),
    ],
    ids=["chunks", "a length"],
)
async def test_a_body_that_is_more_than_bytes_until_the_end_is_left_to_aiohttp(headers: bytes, body: bytes) -> None:
    async with answered(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\n", body) as left:
        assert left.tap is None
        assert await left.response.read() == b"onetwo"


async def test_a_body_that_is_over_already_is_left_to_aiohttp() -> None:
    async with answered(HEAD + b"onetwo", late=0.2) as left:
        assert left.tap is None
        assert await left.response.read() == b"onetwo"


async def test_the_cause_of_a_broken_connection_is_known() -> None:
    async with answered(HEAD, b"one", reset=True) as tapped:
        assert await tapped.read() == b"one"
        assert tapped.tap is not None
        assert isinstance(tapped.tap.error(), aiohttp.ClientOSError)


async def test_what_comes_within_a_rest_is_one_piece_after_it() -> None:
    async with answered(HEAD, b"one", b"two", b"three") as tapped:
        assert tapped.tap is not None
        tapped.tap.rest(0.2)
        assert await tapped.read() == b"onetwothree"
        assert [piece for piece in tapped.pieces if piece] == [b"onetwothree"]


class Reads:
    """A tap without a connection, and what it hands on: events that end with a semicolon, urgent with an exclamation mark."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.tap = Tap(asyncio.Transport(), ResponseHandler(asyncio.get_running_loop()), self._take)
        self.tap.hurry_for(b"!!")

    def __call__(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.tap.get_buffer(len(piece))[: len(piece)] = piece
            self.tap.buffer_updated(len(piece))

    def _take(self, data: bytearray, size: int, may_be_urgent: bool) -> tuple[int, bool]:
        assert may_be_urgent or b"!!" not in data[:size]
        whole = data.rfind(b";", 0, size) + 1
        if whole:
            self.taken.append(bytes(data[:whole]))
        return whole, bool(whole)


@on_virtual_time
async def test_what_is_not_urgent_is_taken_together_so_long_after_the_first_of_it() -> None:
    reads = Reads()
    reads(b"one;")
    await asyncio.sleep(LATEST / 2)
    reads(b"two;")
    await asyncio.sleep(LATEST / 2 - 0.001)
    assert reads.taken == []
    await asyncio.sleep(0.002)
    assert reads.taken == [b"one;two;"]
    reads(b"three;")
    await asyncio.sleep(LATEST + 0.001)
    assert reads.taken == [b"one;two;", b"three;"]


@on_virtual_time
async def test_a_row_that_was_taken_leaves_no_timer_to_the_next_one() -> None:
    reads = Reads()
    reads(b"one;")
    await asyncio.sleep(LATEST / 2)
    reads(b"!!;", b"two;")
    await asyncio.sleep(LATEST * 0.9)
    assert reads.taken == [b"one;!!;"]
    await asyncio.sleep(LATEST * 0.2)
    assert reads.taken == [b"one;!!;", b"two;"]


@on_virtual_time
async def test_the_end_of_an_event_that_was_cut_is_urgent_only_if_its_beginning_may_be() -> None:
    reads = Reads()
    reads(b"one;tw")
    await asyncio.sleep(LATEST + 0.001)
    assert reads.taken == [b"one;"]
    reads(b"o;")
    assert reads.taken == [b"one;"]
    await asyncio.sleep(LATEST + 0.001)
    assert reads.taken == [b"one;", b"two;"]


@pytest.mark.parametrize(
    "pieces",
    [(b"one;two!!;",), (b"one;", b"two!!;"), (b"one;two!", b"!;"), (b"one;two!!", b";"), (b"one;", b"two!!", b"", b";")],
    ids=lambda pieces: b"|".join(pieces).decode(),
)
@on_virtual_time
async def test_what_is_urgent_is_taken_as_soon_as_it_is_whole_and_what_came_before_it_too(pieces: tuple[bytes, ...]) -> None:
    reads = Reads()
    reads(*pieces)
    assert b"".join(reads.taken) == b"one;two!!;"


@on_virtual_time
async def test_much_at_once_is_taken_though_it_is_not_urgent() -> None:
    reads = Reads()
    reads(*[b"x" * 1023 + b";"] * (BATCH // 1024))
    assert sum(map(len, reads.taken)) == BATCH


@on_virtual_time
async def test_what_was_still_waiting_is_taken_when_the_connection_ends() -> None:
    reads = Reads()
    reads(b"one;")
    reads.tap.connection_lost(None)
    assert (reads.taken, reads.tap.over) == ([b"one;"], True)
    await asyncio.sleep(1)
    assert reads.taken == [b"one;"]


@on_virtual_time
async def test_nothing_is_taken_of_what_comes_or_waits_after_the_stop() -> None:
    """Another watch has begun by then, and what comes here would be older than what comes there."""
    reads = Reads()
    reads(b"one;")
    reads.tap.stop()
    reads(b"two!!;", b"three;")
    await asyncio.sleep(2 * LATEST)
    reads.tap.connection_lost(None)
    assert reads.taken == []


PIECES = st.lists(st.tuples(st.text("x!;", max_size=6), st.sampled_from([0.0, 0.0, LATEST / 2, LATEST * 2])), max_size=12)


@given(pieces=PIECES)
@on_virtual_time
async def test_nothing_urgent_waits_and_nothing_is_lost_wherever_it_is_cut(pieces: list[tuple[str, float]]) -> None:
    reads, sent = Reads(), b""
    for text, pause in pieces:
        reads(text.encode())
        sent += text.encode()
        whole = sent[: sent.rfind(b";") + 1]
        urgent = whole.rfind(b"!!")
        assert b"".join(reads.taken).startswith(whole[: whole.find(b";", urgent) + 1] if urgent >= 0 else b"")
        if pause:
            await asyncio.sleep(pause)
    await asyncio.sleep(LATEST * 2)
    assert b"".join(reads.taken) == sent[: sent.rfind(b";") + 1]
