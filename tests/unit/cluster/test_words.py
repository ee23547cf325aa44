"""What goes wrong with a connection is said so that people understand it, and without Python's objects."""

import base64
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web

from registry_status.cluster.access import Access, Tls, tls_context
from registry_status.cluster.api import ApiError, ApiServer
from registry_status.cluster.lines import json_object
from registry_status.cluster.words import LONGEST, concealed, message, said
from tests.unit.cluster.fake_api import closed_port
from tests.unit.mounts import PEMS

OBJECTS = re.compile(r"<|0x|object at|Error\(|\(_ssl|ssl:")
"""What has no place in a message."""


@asynccontextmanager
async def server(name: str | None = None) -> AsyncIterator[int]:
    """A server that speaks TLS with this certificate, or does not; gives its port."""
    context = None
    if name is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(PEMS / f"{name}.pem", PEMS / f"{name}-key.pem")

    async def answer(_: web.BaseRequest) -> web.Response:
        return web.json_response({})

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def trouble_with(access: Access) -> str:
    """What is told of a server that cannot be asked."""
    async with ApiServer(access) as api:
        with pytest.raises(ApiError) as caught:
            await api.get("/version")
    assert caught.value.transient
    text = str(caught.value)
    assert text.startswith(f"{access.server}: ")
    assert not OBJECTS.search(text), text
    return text.removeprefix(f"{access.server}: ")


def access_at(port: int, scheme: str = "https") -> Access:
    tls = Tls(lambda: tls_context(ca_file=PEMS / "ca.pem", where="test"))
    return Access(server=f"{scheme}://127.0.0.1:{port}", source="test", tls=tls)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_port_where_nobody_listens(scheme: str) -> None:
    port = await closed_port()
    assert await trouble_with(access_at(port, scheme)) == f"cannot connect to 127.0.0.1:{port}: Connection refused"


async def test_a_name_of_several_addresses_where_nobody_listens() -> None:
    port = await closed_port()
    found = await trouble_with(replace(access_at(port), server=f"https://localhost:{port}"))
    assert re.fullmatch(rf"cannot connect to localhost:{port}: [\w.:, ]*Connection refused", found)


async def test_a_name_that_nobody_knows() -> None:
    found = await trouble_with(replace(access_at(1), server="https://nowhere.invalid:6443"))
    assert found.startswith("cannot connect to nowhere.invalid:6443: ")


async def test_a_certificate_that_is_not_trusted() -> None:
    async with server("foreign") as port:
        found = await trouble_with(access_at(port))
    assert found.startswith(f"cannot connect to 127.0.0.1:{port}: its certificate is not trusted: ")


async def test_a_certificate_of_another_name() -> None:
    async with server("server") as port:
        found = await trouble_with(replace(access_at(port), server_name="elsewhere.example"))
    assert found.startswith(f"cannot connect to 127.0.0.1:{port}: its certificate is not trusted: ")
    assert "elsewhere.example" in found


async def test_a_server_that_speaks_no_tls() -> None:
    async with server() as port:
        found = await trouble_with(access_at(port))
    assert found.startswith(f"cannot connect to 127.0.0.1:{port}: TLS failed: ")


async def test_a_proxy_that_is_not_there() -> None:
    port = await closed_port()
    found = await trouble_with(replace(access_at(6443), proxy=f"http://127.0.0.1:{port}"))
    assert found == f"cannot connect to the proxy 127.0.0.1:{port}: Connection refused"


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


PLAIN: list[tuple[Exception, str]] = [
    (ConnectionResetError(104, "whatever"), "Connection reset by peer"),
    (aiohttp.ServerDisconnectedError(), "Server disconnected"),
    (TimeoutError(), "nothing came in time"),
    (TimeoutError("nothing came for 70 s"), "nothing came for 70 s"),
    (OSError("odd\nthing"), "odd thing"),
    (OSError(), "OSError"),
    (
        caused(aiohttp.ClientPayloadError("not completed: <ConnectionResetError(104)>"), ConnectionResetError(104, "x")),
        "the answer broke off: Connection reset by peer",
    ),
    (aiohttp.ClientPayloadError("the list was refused"), "the list was refused"),
]


@pytest.mark.parametrize(("error", "words"), PLAIN, ids=[words for _, words in PLAIN])
def test_other_errors(error: Exception, words: str) -> None:
    assert said(error) == words


def test_of_several_addresses_each_is_told() -> None:
    key = aiohttp.client_reqrep.ConnectionKey("api", 6443, True, True, None, None, None)
    calls = ("[Errno 111] Connect call failed ('::1', 6443, 0, 0)", "[Errno 113] Connect call failed ('10.0.0.1', 6443)")
    both = f"Multiple exceptions: {', '.join(calls)}"
    for error in (OSError(both), OSError(111, both)):
        found = said(aiohttp.ClientConnectorError(key, error))
        assert found == "cannot connect to api:6443: ::1 Connection refused, 10.0.0.1 No route to host"


# --- what a server says of a refusal --------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"kind":"Status","message":"pods is forbidden:\\nUser \\"x\\""}', 'pods is forbidden: User "x"'),
        (b'{"kind":"Status","message":"\\u001b[31mred\\u2028"}', "[31mred"),
        (b'{"kind":"Status","message":"you sent 0paque"}', "you sent [redacted]"),
        (b'{"kind":"Status","message":"Authorization: Bearer abc"}', "Authorization: Bearer [redacted]"),
        (b'{"kind":"Status"}', ""),
        (b'{"kind":"Pod","message":"x"}', ""),
        (b'{"kind":"Status","message":["x"]}', ""),
        (b"<html>0paque</html>", ""),
        (b"[" * 100_000, ""),
        (b"\xff", ""),
        (b"", ""),
    ],
)
def test_a_servers_words_are_one_line_without_secrets(body: bytes, words: str) -> None:
    assert message(json_object(body), {"Authorization": "Bearer 0paque"}) == words


def test_basic_authentication_shows_neither_itself_nor_the_password_in_it_nor_does_a_proxys() -> None:
    for name in ("Authorization", "Proxy-Authorization"):
        sent = {name: "Basic " + base64.b64encode(b"me:0paque").decode()}
        assert concealed(f"{sent[name]} is me with 0paque", sent) == "Basic [redacted] is me with [redacted]"
    assert concealed("you sent !", {"Authorization": "Basic !"}) == "you sent [redacted]", "what is no base64 is a secret, too"


@pytest.mark.parametrize("sent", [{}, {"Authorization": "Bearer "}, {"Authorization": ""}])
def test_without_a_token_nothing_is_left_out(sent: dict[str, str]) -> None:
    assert message(json_object(b'{"kind":"Status","message":"a b"}'), sent) == "a b"


def test_a_servers_words_are_no_longer_than_fits() -> None:
    assert len(message(json_object(b'{"kind":"Status","message":"%s"}' % (b"x" * 100_000)), {}).encode()) == LONGEST


Ask = Callable[[ApiServer], Awaitable[object]]


@pytest.mark.parametrize(
    "ask",
    [lambda api: api.get("/x"), lambda api: api.put("/x", {}), lambda api: api.patch("/x", {})],
    ids=["get", "put", "patch"],
)
async def test_a_refused_request_is_told_in_one_line(ask: Ask) -> None:
    async def refuse(_: web.BaseRequest) -> web.Response:
        return web.json_response({"kind": "Status", "message": "no\nway " + "x" * 1000, "reason": "Invalid"}, status=422)

    runner = web.ServerRunner(web.Server(refuse))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with ApiServer(Access(server=f"http://127.0.0.1:{runner.addresses[0][1]}", source="test")) as api:
            with pytest.raises(ApiError) as caught:
                await ask(api)
    finally:
        await runner.cleanup()
    assert str(caught.value).startswith("422: no way xxx")
    assert len(str(caught.value)) < LONGEST + 10
