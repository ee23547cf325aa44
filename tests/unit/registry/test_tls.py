"""TLS to the registry, against a real server on the loopback: who is trusted, what is shown, and what is told when it fails."""

import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from registry_status.config import Settings, SettingsError
from registry_status.model import Tenant
from registry_status.registry.base import TransientError
from registry_status.registry.connect import registry_client
from registry_status.registry.devserver import DevServer
from registry_status.registry.servicecomb import ServiceComb
from registry_status.registry.tls import CLIENT_REFUSED, CLIENT_WANTED, TlsFiles
from tests.unit.mounts import PEMS, swap

CA = PEMS / "ca.pem"
TENANT = Tenant()


def server_context(name: str = "server", *, clients: str | None = None) -> ssl.SSLContext:
    """A server's side of TLS; `clients` is the authority whose certificates it asks clients for."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(PEMS / f"{name}.pem", PEMS / f"{name}-key.pem")
    if clients is not None:
        context.load_verify_locations(PEMS / f"{clients}.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def old_version() -> ssl.SSLContext:
    context = server_context()
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


@asynccontextmanager
async def client_of(context: ssl.SSLContext | None, ca: Path | None = CA) -> AsyncIterator[ServiceComb]:
    """A client of a server that speaks so."""
    async with DevServer().listening(ssl_context=context) as url:
        settings = Settings(registry_address=(url.replace("http:", "https:"),), registry_ca_file=ca)
        async with registry_client(settings) as client:
            yield client


def answer(plain: socket.socket, context: ssl.SSLContext) -> None:
    """Serve one connection; one that is refused is ended in peace, so that the alert is not lost to a reset."""
    body = b'{"services":[]}'
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    connection = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
    try:
        connection.do_handshake()
    except ssl.SSLError:
        with socket.socket(fileno=connection.detach()) as rest:
            rest.settimeout(5)
            rest.shutdown(socket.SHUT_WR)
            while rest.recv(65536):
                pass
        return
    with connection:
        connection.recv(65536)
        connection.sendall(head + body)


@contextmanager
def alerting(context: ssl.SSLContext) -> Iterator[str]:
    """A registry that tells by an alert why it ends a handshake, as those in Go do and asyncio's servers do not."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            with suppress(OSError):
                answer(plain, context)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def with_pair(url: str, certificate: Path | None, key: Path | None) -> Settings:
    return Settings(
        registry_address=(url,), registry_ca_file=CA, registry_client_cert_file=certificate, registry_client_key_file=key
    )


async def works(client: ServiceComb) -> bool:
    """Whether the registry answers; if not, TLS is the reason."""
    code = "ok"
    try:
        await client.list_services(TENANT)
    except TransientError as error:
        code = error.code
    assert code in ("ok", "tls")
    return code == "ok"


async def test_a_server_of_the_named_authority_is_trusted() -> None:
    async with client_of(server_context()) as client:
        assert await works(client)


@pytest.mark.parametrize(
    ("name", "ca", "said"),
    [
        ("foreign", CA, "authority that is not trusted"),
        ("server", PEMS / "other-ca.pem", "authority that is not trusted"),
        ("server", None, "authority that is not trusted"),
        ("expired", CA, "has expired"),
        ("elsewhere", CA, "not valid for '127.0.0.1'"),
    ],
)
async def test_a_server_that_cannot_be_trusted_gets_no_request_and_is_told_why(name: str, ca: Path | None, said: str) -> None:
    server = DevServer()
    async with server.listening(ssl_context=server_context(name)) as url:
        settings = Settings(registry_address=(url,), registry_ca_file=ca)
        async with registry_client(settings) as client:
            with pytest.raises(TransientError, match=said) as caught:
                await client.list_services(TENANT)
    assert caught.value.code == "tls"
    assert server.requests == []


async def test_versions_of_tls_that_are_not_safe_any_more_are_not_spoken() -> None:
    with alerting(old_version()) as url:
        async with registry_client(with_pair(url, None, None)) as client:
            with pytest.raises(TransientError, match="version") as caught:
                await client.list_services(TENANT)
    assert caught.value.code == "tls"


def test_certificate_host_name_and_version_are_checked_whatever_files_there_are() -> None:
    for files in ((None, None, None), (CA, None, None), (None, PEMS / "client.pem", PEMS / "client-key.pem")):
        context = TlsFiles(*files, clock=lambda: 0.0)()
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_a_named_authority_need_not_be_as_strict_as_python_3_13_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those made by plain openssl lack extensions; with the system's own authorities Python's defaults stay."""
    make = ssl.create_default_context

    def strict(*, cafile: Path | None, cadata: str | None) -> ssl.SSLContext:
        context = make(cafile=cafile, cadata=cadata)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    is_strict = [bool(TlsFiles(ca, None, None, clock=lambda: 0.0)().verify_flags & ssl.VERIFY_X509_STRICT) for ca in (CA, None)]
    assert is_strict == [False, True]


async def test_a_server_that_speaks_no_tls_is_told() -> None:
    async with client_of(None) as client:
        with pytest.raises(TransientError, match="does not speak TLS on this port"):
            await client.list_services(TENANT)


@pytest.mark.parametrize(
    ("clients", "pair", "said"),
    [
        ("ca", ("client", "client-key"), None),
        ("ca", None, CLIENT_WANTED),
        ("other-ca", ("client", "client-key"), CLIENT_REFUSED),
        ("ca", ("expired", "expired-key"), CLIENT_REFUSED),
    ],
)
async def test_a_client_certificate_is_shown_where_one_is_asked_for(
    clients: str, pair: tuple[str, str] | None, said: str | None
) -> None:
    certificate, key = (PEMS / f"{name}.pem" for name in pair) if pair else (None, None)
    with alerting(server_context(clients=clients)) as url:
        async with registry_client(with_pair(url, certificate, key)) as client:
            if said is None:
                assert await works(client)
                return
            with pytest.raises(TransientError) as caught:
                await client.list_services(TENANT)
    assert said in caught.value.message
    assert caught.value.code == "tls"


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ca", "pair", "said"),
    [
        ("nowhere", None, "--registry-ca-file: .*nowhere.pem cannot be read"),
        ("client-key", None, "--registry-ca-file: .*holds no certificate in the form PEM"),
        ("ca", ("nowhere", "client-key"), "--registry-client-cert-file: .*cannot be read"),
        ("ca", ("client", "nowhere"), "--registry-client-key-file: .*cannot be read"),
        ("ca", ("client", "rotated-key"), "--registry-client-key-file: .*is not the key of the certificate"),
        ("ca", ("client-key", "client-key"), "--registry-client-cert-file: .*holds no certificate"),
        ("ca", ("client", "client"), "--registry-client-key-file: .*holds no key"),
        ("ca", ("client", "encrypted-key"), "--registry-client-key-file: .*without passphrase"),
    ],
)
def test_files_that_cannot_be_used_are_told_by_setting_and_name_without_what_is_in_them(
    ca: str, pair: tuple[str, str] | None, said: str
) -> None:
    cert, key = (PEMS / f"{name}.pem" for name in pair) if pair else (None, None)
    with pytest.raises(SettingsError, match=said) as caught:
        TlsFiles(PEMS / f"{ca}.pem", cert, key, clock=lambda: 0.0)
    assert "BEGIN" not in str(caught.value)


@pytest.mark.usefixtures("looks_at_once")
async def test_a_rotated_authority_is_trusted_on_the_next_request_and_the_old_one_is_not(tmp_path: Path) -> None:
    swap(tmp_path, ca="ca")
    async with (
        client_of(server_context(), tmp_path / "ca") as old,
        client_of(server_context("foreign"), tmp_path / "ca") as new,
    ):
        assert [await works(old), await works(new)] == [True, False]
        swap(tmp_path, ca="other-ca")
        assert [await works(old), await works(new)] == [False, True]


@pytest.mark.usefixtures("looks_at_once")
@pytest.mark.parametrize(
    "harm", ["", "-----BEGIN CERTIFICATE-----\nMIIB", "no PEM", None], ids=["empty", "half", "text", "gone"]
)
async def test_a_file_that_is_half_written_or_gone_leaves_the_one_before(
    tmp_path: Path, harm: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "ca"
    file.write_bytes(CA.read_bytes())
    async with client_of(server_context(), file) as client:
        if harm is None:
            file.unlink()
        else:
            file.write_text(harm)
        assert [await works(client) for _ in range(3)] == [True] * 3
        file.write_bytes((PEMS / "other-ca.pem").read_bytes())
        assert not await works(client)
    assert sum("cannot be used" in line for line in caplog.messages) == 1


@pytest.mark.usefixtures("looks_at_once")
async def test_a_rotated_client_certificate_is_used_once_both_its_files_are_there(tmp_path: Path) -> None:
    swap(tmp_path, crt="expired", key="expired-key")
    with alerting(server_context(clients="ca")) as url:
        async with registry_client(with_pair(url, tmp_path / "crt", tmp_path / "key")) as client:
            assert not await works(client)
            swap(tmp_path, crt="rotated", key="expired-key")
            assert not await works(client)
            swap(tmp_path, crt="rotated", key="rotated-key")
            assert await works(client)
