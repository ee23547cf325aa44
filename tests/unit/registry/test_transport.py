"""httpx over aiohttp, on raw sockets: which failures can have reached the server, and what is never sent or taken."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress

import httpx
import pytest

from registry_status.registry.transport import AiohttpTransport, BodyTooLarge, Form

Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@asynccontextmanager
async def serving(speak: Speak) -> AsyncIterator[str]:
    """Serve connections with a function; the value is the base URL."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await speak(reader, writer)
        except (asyncio.CancelledError, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answering(*pieces: bytes) -> tuple[Speak, list[bytes]]:
    """Answer each request with these bytes and close; the list takes the requests."""
    requests: list[bytes] = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    return speak, requests


def answering_for_ever() -> tuple[Speak, list[int]]:
    """Answer every request of every connection; the list takes how many each of them brought."""
    connections: list[int] = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(connections)
        connections.append(0)
        while await reader.readuntil(b"\r\n\r\n"):
            connections[number] += 1
            writer.write(OK)

    return speak, connections


def client(
    transport: httpx.AsyncBaseTransport | None = None, *, seconds: float = 5.0, connect: float = 2.0
) -> httpx.AsyncClient:
    timeout = httpx.Timeout(seconds, connect=connect)
    return httpx.AsyncClient(transport=transport or AiohttpTransport(), timeout=timeout, trust_env=False)


async def test_an_answer_comes_back_whole() -> None:
    speak, _ = answering(b"HTTP/1.1 418 Odd\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 3\r\n\r\nabc")
    async with serving(speak) as url, client() as http:
        answer = await http.get(url)
    assert (answer.status_code, answer.content) == (418, b"abc")
    assert answer.headers.get_list("x-a") == ["1", "2"]


async def test_a_chunked_answer_comes_back_whole() -> None:
    speak, _ = answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n")
    async with serving(speak) as url, client() as http:
        assert (await http.get(url)).content == b"abcde"


async def test_an_answer_that_ends_with_its_connection_comes_back_whole() -> None:
    speak, _ = answering(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc")
    async with serving(speak) as url, client() as http:
        assert (await http.get(url)).content == b"abc"


async def test_a_connection_is_used_again() -> None:
    speak, connections = answering_for_ever()
    async with serving(speak) as url, client() as http:
        for _ in range(3):
            await http.get(url)
    assert connections == [3]


async def test_many_at_once_have_a_connection_each_and_these_are_used_again() -> None:
    connections, served = 0, 0
    all_there = asyncio.Event()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections, served
        connections += 1
        while await reader.readuntil(b"\r\n\r\n"):
            served += 1
            if served == 5:
                all_there.set()
            await all_there.wait()
            writer.write(OK)

    async with serving(speak) as url, client() as http:
        await asyncio.gather(*(http.put(url) for _ in range(5)))
        await asyncio.gather(*(http.put(url) for _ in range(5)))
        assert (connections, served) == (5, 10)


async def test_each_server_has_its_own_connection() -> None:
    async with AsyncExitStack() as stack:
        spoken = [answering_for_ever() for _ in range(2)]
        urls = [await stack.enter_async_context(serving(speak)) for speak, _ in spoken]
        http = await stack.enter_async_context(client())
        for url in urls * 3:
            await http.put(url)
        assert [len(connections) for _, connections in spoken] == [1, 1]
        assert [sum(connections) for _, connections in spoken] == [3, 3]


async def test_another_tls_context_means_another_connection() -> None:
    speak, connections = answering_for_ever()
    contexts = [ssl.create_default_context() for _ in range(2)]
    in_force = [contexts[0]]
    async with serving(speak) as url, client(AiohttpTransport(lambda: in_force[0])) as http:
        for context in (contexts[0], contexts[0], contexts[1], contexts[1]):
            in_force[0] = context
            await http.put(url)
        assert connections == [2, 2]


async def test_a_connection_is_known_by_the_tls_context_that_it_was_made_with() -> None:
    """Also where the context changes while the connection is in use."""
    contexts = [ssl.create_default_context() for _ in range(2)]
    in_force = [contexts[0]]
    connections = 0

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await reader.readuntil(b"\r\n\r\n"):
            in_force[0] = contexts[1]
            writer.write(OK)

    async with serving(speak) as url, client(AiohttpTransport(lambda: in_force[0])) as http:
        for _ in range(3):
            await http.put(url)
        assert connections == 2


async def test_a_connection_that_was_idle_for_too_long_is_closed_and_not_used() -> None:
    speak, connections = answering_for_ever()
    async with serving(speak) as url, client(AiohttpTransport(kept_for=0.0)) as http:
        for _ in range(3):
            await http.put(url)
            await asyncio.sleep(0.01)
        assert connections == [1, 1, 1]


async def test_closing_closes_every_connection() -> None:
    over = 0

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal over
        with suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(OK)
        over += 1

    async with serving(speak) as url:
        async with client() as http:
            await asyncio.gather(*(http.put(url) for _ in range(3)))
        await asyncio.sleep(0.05)
        assert over == 3


@pytest.mark.parametrize("body", [b"", b"body"])
@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
async def test_what_is_made_by_a_form_is_sent_as_what_httpx_makes(method: str, body: bytes) -> None:
    speak, requests = answering(OK)
    target, headers = b"/v4/a%2Fb?value=UP", {"x-domain-name": "d"}
    async with serving(speak) as url:
        like = httpx.Request(method, url, headers=headers, stream=httpx.ByteStream(b""))
        own = httpx.Request(method, url, headers=headers, stream=httpx.ByteStream(body), extensions={"target": target})
        filled = Form(like).fill(target, body)
        for request in (filled, own):
            transport = AiohttpTransport()
            await transport.handle_async_request(request)
            await transport.aclose()
    assert requests[0] == requests[1]
    assert requests[0] + body == filled.message
    assert filled.message.startswith(method.encode() + b" " + target + b" HTTP/1.1\r\n")


@pytest.mark.parametrize("text", ["a\rb", "a\nb", "a\0b"])
def test_a_form_refuses_what_would_end_its_line(text: str) -> None:
    url = "http://here"
    with pytest.raises(httpx.LocalProtocolError):
        Form(httpx.Request("PUT", url, headers={"x-domain-name": text}))
    with pytest.raises(httpx.LocalProtocolError):
        Form(httpx.Request("PUT", url)).fill(text.encode())


async def test_a_body_is_sent_with_its_length() -> None:
    got = b""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        got = await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(4)
        writer.write(OK)

    async with serving(speak) as url, client() as http:
        await http.post(url, content=b"body")
    assert got.lower().count(b"content-length: 4") == 1
    assert got.endswith(b"body")


async def test_a_target_stands_for_path_and_query() -> None:
    speak, requests = answering(OK)
    transport = AiohttpTransport()
    async with serving(speak) as url:
        target = b"/v4/a%2Fb?value=UP&noCache=1"
        await transport.handle_async_request(httpx.Request("GET", f"{url}/other?x=y", extensions={"target": target}))
        await transport.aclose()
    assert requests[0].startswith(b"GET " + target + b" HTTP/1.1\r\n")


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
async def test_a_request_without_a_body_says_so(method: str) -> None:
    """A server would wait for one, else."""
    speak, requests = answering(OK)
    async with serving(speak) as url, client() as http:
        await http.request(method, url)
    assert requests[0].lower().count(b"content-length: 0\r\n") == 1


async def test_a_request_names_its_host_once() -> None:
    speak, requests = answering(OK)
    transport = AiohttpTransport()
    async with serving(speak) as url:
        host = url.removeprefix("http://").encode()
        await transport.handle_async_request(httpx.Request("GET", url))
        await transport.handle_async_request(httpx.Request("GET", url, stream=httpx.ByteStream(b"")))
        await transport.aclose()
    assert [request.lower().count(b"host: " + host + b"\r\n") for request in requests] == [1, 1]


@pytest.mark.parametrize("character", ["\r", "\n", "\0"])
@pytest.mark.parametrize("place", ["name", "value", "target"])
async def test_what_would_end_its_line_is_not_sent(place: str, character: str) -> None:
    """It would smuggle in a header, or another request."""
    speak, requests = answering(OK)
    text = f"a{character}b"
    header = {text: "x"} if place == "name" else {"x-domain-name": text if place == "value" else "x"}
    extensions = {"target": text.encode()} if place == "target" else {}
    transport = AiohttpTransport()
    async with serving(speak) as url:
        with pytest.raises(httpx.LocalProtocolError):
            await transport.handle_async_request(httpx.Request("PUT", url, headers=header, extensions=extensions))
        await transport.aclose()
    assert requests == []


async def test_what_only_announces_an_answer_is_passed_over() -> None:
    speak, _ = answering(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)
    async with serving(speak) as url, client() as http:
        answer = await http.put(url)
    assert (answer.status_code, answer.content) == (200, b"{}")


async def test_cookies_are_not_kept() -> None:
    speak, requests = answering(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")
    transport = AiohttpTransport()
    async with serving(speak) as url:
        for _ in range(2):
            request = httpx.Request("GET", url)
            await transport.handle_async_request(request)
        await transport.aclose()
    assert len(requests) == 2
    assert b"cookie" not in requests[1].lower()


async def test_a_redirect_is_an_answer() -> None:
    speak, requests = answering(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")
    async with serving(speak) as url, client() as http:
        assert (await http.get(url)).status_code == 302
    assert len(requests) == 1


BROKEN: dict[str, tuple[tuple[bytes, ...], type[httpx.TransportError]]] = {
    "nothing": ((), httpx.ReadError),
    "another protocol": ((b"SSH-2.0-OpenSSH_9.2\r\n",), httpx.RemoteProtocolError),
    "half a head": ((b"HTTP/1.1 200 OK\r\nContent-",), httpx.ReadError),
    "a head too large": ((b"HTTP/1.1 200 OK\r\nX: ", b"x" * 100_000, b"\r\n\r\n"), httpx.RemoteProtocolError),
    "half a body": ((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",), httpx.ReadError),
    "half a chunk": ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",), httpx.ReadError),
    "no chunk": ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",), httpx.RemoteProtocolError),
    "a length that is none": ((b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",), httpx.RemoteProtocolError),
    "a compressed body": (
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",),
        httpx.RemoteProtocolError,
    ),
}


@pytest.mark.parametrize(("pieces", "kind"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_a_broken_answer_is_an_error(method: str, pieces: tuple[bytes, ...], kind: type[httpx.TransportError]) -> None:
    speak, _ = answering(*pieces)
    async with serving(speak) as url, client() as http:
        with pytest.raises(kind):
            await http.request(method, url)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("answered", [0, 1], ids=["new connection", "used connection"])
@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
async def test_a_write_whose_connection_breaks_is_never_sent_again(method: str, answered: int, reset: bool) -> None:
    writes = 0

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal writes
        for _ in range(answered):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)
        await reader.readuntil(b"\r\n\r\n")
        writes += 1
        if reset:
            writer.transport.abort()

    async with serving(speak) as url, client() as http:
        for _ in range(answered):
            await http.get(url)
        with pytest.raises(httpx.ReadError):
            await http.request(method, url)
    assert writes == 1


async def test_a_read_survives_a_connection_that_was_closed_while_idle() -> None:
    speak, requests = answering(OK)
    async with serving(speak) as url, client() as http:
        for _ in range(3):
            await http.get(url)
    assert len(requests) == 3


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_a_connection_that_is_seen_to_be_closed_is_not_used(method: str) -> None:
    speak, requests = answering(OK)
    async with serving(speak) as url, client() as http:
        for _ in range(3):
            await http.request(method, url)
            await asyncio.sleep(0.02)
    assert len(requests) == 3


@pytest.mark.parametrize("word", ["identity", "Identity"])
async def test_an_answer_may_say_that_it_is_not_compressed(word: str) -> None:
    speak, _ = answering(b"HTTP/1.1 200 OK\r\nContent-Encoding: " + word.encode() + b"\r\nContent-Length: 2\r\n\r\n{}")
    async with serving(speak) as url, client() as http:
        assert (await http.get(url)).json() == {}


@pytest.mark.parametrize(
    "head", [b"Content-Length: 1001\r\n\r\n", b"Connection: close\r\n\r\n"], ids=["announced", "without end"]
)
async def test_a_body_over_the_limit_is_not_read_to_its_end(head: bytes) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + head)
        while True:
            writer.write(b" " * 10)
            await writer.drain()
            await asyncio.sleep(0)

    async with serving(speak) as url, client(AiohttpTransport(max_body=1000)) as http:
        with pytest.raises(BodyTooLarge) as caught:
            await http.get(url)
    assert "1000 bytes" in str(caught.value)


async def test_a_body_of_just_the_limit_is_read() -> None:
    speak, _ = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b" " * 1000)
    async with serving(speak) as url, client(AiohttpTransport(max_body=1000)) as http:
        assert len((await http.get(url)).content) == 1000


# --- what cannot have been sent -----------------------------------------------------------------


@contextmanager
def full() -> Iterator[str]:
    """A port whose queue is full: who connects hears nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


async def test_no_connection_in_time_is_a_timeout_of_the_connection() -> None:
    with full() as url:
        async with client(connect=0.1) as http:
            with pytest.raises(httpx.ConnectTimeout):
                await http.put(url)


async def test_a_refused_connection_is_a_failure_to_connect() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with client() as http:
        with pytest.raises(httpx.ConnectError):
            await http.put(f"http://127.0.0.1:{port}")


async def test_a_server_that_speaks_no_tls_is_a_failure_to_connect() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(speak) as url, client(AiohttpTransport(ssl.create_default_context)) as http:
        with pytest.raises(httpx.ConnectError):
            await http.put(url.replace("http:", "https:"))


async def test_a_connection_that_is_not_made_within_the_limit_of_the_whole_is_none_in_time() -> None:
    with full() as url:
        async with client(seconds=0.1, connect=5) as http:
            with pytest.raises(httpx.ConnectTimeout):
                await http.put(url)


async def test_no_answer_in_time_is_a_timeout_of_reading() -> None:
    async def speak(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with serving(speak) as url, client(seconds=0.1) as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.put(url)


@pytest.mark.parametrize("pieces", [0, 1, 2], ids=["no byte", "half a head", "half a body"])
async def test_an_answer_that_is_no_longer_waited_for_is_not_taken_for_the_next(pieces: int) -> None:
    sent = b"", b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfor t"
    rest = OK, b"Length: 2\r\n\r\n{}", b"he first"
    asked = 0

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        if asked == 1:
            writer.write(sent[pieces])
            await asyncio.sleep(0.2)
            writer.write(rest[pieces])
        else:
            writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        await asyncio.sleep(10)

    async with serving(speak) as url, client(seconds=0.1) as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.put(url)
        await asyncio.sleep(0.2)
        assert (await http.put(url)).status_code == 201


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("late", [0.0, 0.02], ids=["with the first", "later"])
async def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next(late: float, at_once: int) -> None:
    """Some servers say 408 before they close a connection that is idle."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.02)  # for all of them to be under way at once
        writer.write(OK)
        await asyncio.sleep(late)
        writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async with serving(speak) as url, client() as http:
        for _ in range(2):
            answers = await asyncio.gather(*(http.put(url) for _ in range(at_once)))
            assert [answer.status_code for answer in answers] == [200] * at_once
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http:///"])
async def test_what_is_no_address_is_an_error_of_ours(url: str) -> None:
    transport = AiohttpTransport()
    with pytest.raises(httpx.UnsupportedProtocol):
        await transport.handle_async_request(httpx.Request("GET", url))
    await transport.aclose()


async def test_closing_what_was_never_used_is_fine() -> None:
    await AiohttpTransport().aclose()
