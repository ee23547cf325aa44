"""How the API server is found, and that no secret shows anywhere on the way."""

import asyncio
import base64
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from registry_status.cluster.access import (
    TOKEN_READ_EVERY,
    Access,
    AccessError,
    Fetched,
    TokenFile,
    api_client,
    in_cluster,
    load_access,
)
from registry_status.cluster.api import ApiError, ApiServer
from registry_status.cluster.connection import open_session
from tests.cluster.pki import make_pki
from tests.unit.cluster.fake_api import FakeApi, access_to, answers, serving
from tests.unit.mounts import PEMS, swap

SECRET = "s3cr3t-t0ken"
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_pki(tmp_path_factory.mktemp("pki"), ["127.0.0.1"], ["localhost"])


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a kubeconfig with one context, `c`."""

    def write(
        *, name: str = "config", cluster: Mapping[str, Any] | None = None, user: Mapping[str, Any] | None = None, **more: Any
    ) -> Path:
        document = {
            "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443"} if cluster is None else cluster}],
            "users": [{"name": "u", "user": user or {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "apps"}}],
            "current-context": "c",
        } | more
        path = tmp_path / name
        path.write_text(yaml.safe_dump(document))
        return path

    return write


async def load(path: Path, context: str | None = None) -> Access:
    return await load_access(path, context, {})


# --- in a cluster ----------------------------------------------------------------------------------


@pytest.fixture
def account(tmp_path: Path, pki: Any) -> Path:
    folder = tmp_path / "account"
    folder.mkdir()
    (folder / "token").write_text(SECRET + "\n")
    (folder / "namespace").write_text("operators")
    (folder / "ca.crt").write_bytes(pki.ca.read_bytes())
    return folder


IN_CLUSTER = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443", "HOME": "/nowhere"}


async def test_a_pod_uses_its_service_account(account: Path) -> None:
    access = await load_access(None, None, IN_CLUSTER, service_account=account)
    assert (access.server, access.namespace, access.source) == ("https://10.96.0.1:443", "operators", "service account")
    assert await access.credentials.authorization() == f"Bearer {SECRET}"
    assert access.tls is not None
    assert access.tls().verify_mode is ssl.CERT_REQUIRED


async def test_an_ipv6_service_address_is_bracketed(account: Path) -> None:
    access = await load_access(None, None, IN_CLUSTER | {"KUBERNETES_SERVICE_HOST": "fd00::1"}, service_account=account)
    assert access.server == "https://[fd00::1]:443"


async def test_a_named_context_passes_over_the_service_account(account: Path, write: Write) -> None:
    access = await load_access(None, "c", IN_CLUSTER | {"KUBECONFIG": str(write())}, service_account=account)
    assert access.server == "https://127.0.0.1:6443"


@pytest.mark.parametrize("missing", ["token", "ca.crt"])
async def test_a_service_account_that_is_not_mounted_is_named(account: Path, missing: str) -> None:
    (account / missing).unlink()
    with pytest.raises(AccessError, match=missing):
        await load_access(None, None, IN_CLUSTER, service_account=account)


async def test_a_rotated_token_is_read_again_after_a_while_or_when_refused(tmp_path: Path) -> None:
    path, now = tmp_path / "token", 0.0
    path.write_text("one")
    token = TokenFile(path, clock=lambda: now)
    path.write_text("two")
    assert await token.authorization() == "Bearer one"
    now = TOKEN_READ_EVERY
    assert await token.authorization() == "Bearer two"
    path.write_text("three")
    token.refused()
    assert await token.authorization() == "Bearer three"


@pytest.mark.parametrize(
    "harm", [lambda path: path.unlink(), lambda path: path.write_text(""), lambda path: path.write_bytes(b"\xff")]
)
async def test_a_token_file_that_is_away_for_a_moment_leaves_the_last_token_in_use(tmp_path: Path, harm: Any) -> None:
    path = tmp_path / "token"
    path.write_text("one")
    token = TokenFile(path)
    harm(path)
    token.refused()
    assert await token.authorization() == "Bearer one"


# --- kubeconfigs -----------------------------------------------------------------------------------


async def test_a_kubeconfig_is_read_without_the_kubernetes_package(write: Write) -> None:
    code = f"""
import asyncio, sys
from pathlib import Path
from registry_status.cluster.access import load_access
access = asyncio.run(load_access(Path({str(write(user={"token": SECRET}))!r}), None, {{}}))
assert access.namespace == "apps"
assert not [name for name in sys.modules if name.partition(".")[0] in ("kubernetes", "kopf")]
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stderr=asyncio.subprocess.PIPE)
    _, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()


@pytest.mark.parametrize(
    ("user", "header"),
    [
        ({"token": SECRET}, f"Bearer {SECRET}"),
        ({"username": "me", "password": SECRET}, "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()),
        ({}, None),
    ],
)
async def test_simple_users(write: Write, user: Mapping[str, str], header: str | None) -> None:
    access = await load(write(user=user))
    assert await access.credentials.authorization() == header


async def test_a_token_file_lies_beside_the_kubeconfig(write: Write, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(SECRET)
    access = await load(write(user={"tokenFile": "token", "token": "another"}))
    assert await access.credentials.authorization() == f"Bearer {SECRET}"


async def test_certificates_by_file_and_by_data(write: Write, pki: Any) -> None:
    ca, pem, key = pki.ca.read_bytes(), (pki.folder / "server.crt").read_bytes(), (pki.folder / "server.key").read_bytes()
    encoded = {name: base64.b64encode(content).decode() for name, content in (("ca", ca), ("pem", pem), ("key", key))}
    server = {"server": "https://127.0.0.1:6443"}
    by_data = write(
        cluster=server | {"certificate-authority-data": encoded["ca"]},
        user={"client-certificate-data": encoded["pem"], "client-key-data": encoded["key"]},
    )
    by_file = write(
        name="files",
        cluster=server | {"certificate-authority": str(pki.ca)},
        user={"client-certificate": str(pki.folder / "server.crt"), "client-key": str(pki.folder / "server.key")},
    )
    for path in (by_data, by_file):
        contexts = (await load(path)).tls
        assert contexts is not None
        tls = contexts()
        assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert len(tls.get_ca_certs()) == 1


async def test_an_insecure_cluster(write: Write) -> None:
    contexts = (await load(write(cluster={"server": "https://127.0.0.1:6443", "insecure-skip-tls-verify": True}))).tls
    assert contexts is not None
    tls = contexts()
    assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_NONE, False)


async def test_server_name_and_proxy(write: Write) -> None:
    cluster = {"server": "https://127.0.0.1:6443/base/", "tls-server-name": "api", "proxy-url": "http://proxy:3128"}
    access = await load(write(cluster=cluster))
    assert (access.server, access.server_name, access.proxy) == ("https://127.0.0.1:6443/base", "api", "http://proxy:3128")


async def test_several_files_are_read_as_one_and_the_first_of_a_name_counts(write: Write) -> None:
    first = write(name="first", **{"current-context": "", "users": None, "contexts": []})
    second = write(name="second", cluster={"server": "https://second"}, user={"token": "two"})
    access = await load_access(None, None, {"KUBECONFIG": f"/nowhere/at-all:{first}:{second}"})
    assert access.server == "https://127.0.0.1:6443"
    assert await access.credentials.authorization() == "Bearer two"


async def test_without_any_hint_the_home_folder_is_looked_at(write: Write, tmp_path: Path) -> None:
    (tmp_path / ".kube").mkdir()
    write().rename(tmp_path / ".kube" / "config")
    assert (await load_access(None, None, {"HOME": str(tmp_path)})).server == "https://127.0.0.1:6443"


# --- what is wrong, where, and what is allowed -----------------------------------------------------


async def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(AccessError, match=said) as caught:
            await load(path)
        assert str(path) in str(caught.value)


async def test_no_hint_at_all_names_what_was_looked_at(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match=r"--kubeconfig"):
        await load_access(None, None, {"HOME": str(tmp_path)})
    with pytest.raises(AccessError, match=r"\$KUBECONFIG names no existing file: /nowhere/a, /nowhere/b"):
        await load_access(None, None, {"KUBECONFIG": "/nowhere/a:/nowhere/b"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"users: [{{user: {{token: {SECRET}", "is not YAML at line [12]"),
        (f"a: 1\n\ttoken: {SECRET}", "is not YAML at line 2"),
        ("[" * 5000, "is not YAML"),
        (f"- {SECRET}", "must be a mapping"),
        ("", "must be a mapping"),
        (b"\xff\xfe\x00", "is not a text file"),
        ("clusters: []", "no current-context"),
        ("current-context: x\ncontexts: 5", "contexts must be a list"),
        ("current-context: 5", "current-context must be a text"),
        ("current-context: x\ncontexts: [{name: a}, {name: b}]", "there is no context 'x'; it has: a, b"),
        ("current-context: x\ncontexts: [{name: x}]", "names no cluster"),
        ("current-context: x\ncontexts: [{name: x, context: 5}]", "context must be a mapping"),
        ("current-context: x\ncontexts: [{name: x, context: {cluster: y}}]", "there is no cluster 'y'; it has: none"),
    ],
)
async def test_a_file_that_is_no_kubeconfig(tmp_path: Path, text: str | bytes, said: str) -> None:
    path = tmp_path / "config"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(AccessError, match=said) as caught:
        await load(path)
    assert str(path) in str(caught.value)
    assert SECRET not in str(caught.value)


async def test_an_unknown_context_lists_those_there_are(write: Write) -> None:
    with pytest.raises(AccessError, match="there is no context 'x'; it has: c"):
        await load(write(), "x")


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        ({}, "has no server"),
        ({"server": 5}, "server must be a text"),
        ({"server": "10.0.0.1:6443"}, "server must be a URL"),
        ({"server": f"https://me:{SECRET}@h"}, "without user or password"),
        ({"server": "https://h:port"}, "server must be a URL"),
        ({"server": "https://h", "certificate-authority": "none.crt"}, "none.crt is no file"),
        ({"server": "https://h", "certificate-authority-data": "%%%"}, "must be base64"),
        ({"server": "https://h", "certificate-authority-data": "c2VjcmV0"}, "must be a PEM file"),
        ({"server": "https://h", "certificate-authority-data": "/////w=="}, "must hold PEM"),
        ({"server": "https://h", "insecure-skip-tls-verify": "yes"}, "must be true or false"),
        ({"server": "https://h", "proxy-url": "socks5://proxy"}, "proxy-url must begin with http"),
    ],
)
async def test_a_cluster_that_cannot_be_used(write: Write, cluster: Mapping[str, Any], said: str) -> None:
    with pytest.raises(AccessError, match=said) as caught:
        await load(write(cluster=cluster))
    assert "cluster 'c'" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ({"token": [SECRET]}, "token must be a text"),
        ({"tokenFile": "none"}, "none is no file"),
        ({"client-certificate": "none.crt", "client-key": "none.key"}, "none.crt is no file"),
        ({"client-certificate-data": "c2VjcmV0"}, "must be given together"),
        ({"client-certificate-data": "c2VjcmV0", "client-key-data": "c2VjcmV0"}, "must be PEM files that belong together"),
        ({"exec": {"apiVersion": "client.authentication.k8s.io/v1"}}, "exec plugin: .*command"),
        ({"exec": 5}, "exec plugin"),
        ({"auth-provider": {"name": "azure"}}, "oidc and gcp are supported"),
        ({"auth-provider": {"name": "oidc", "config": {"id-token": SECRET}}}, "auth-provider"),
    ],
)
async def test_a_user_that_cannot_be_used(write: Write, user: Mapping[str, Any], said: str) -> None:
    with pytest.raises(AccessError, match=said) as caught:
        await load(write(user=user))
    assert "user 'u'" in str(caught.value)
    assert SECRET not in str(caught.value)


async def test_a_user_that_is_missing(write: Write) -> None:
    with pytest.raises(AccessError, match="there is no user 'u'"):
        await load(write(users=[]))


async def test_a_context_without_a_user_is_anonymous(write: Write) -> None:
    access = await load(write(contexts=[{"name": "c", "context": {"cluster": "c"}}]))
    assert await access.credentials.authorization() is None
    assert access.namespace == "default"


# --- plugins ---------------------------------------------------------------------------------------


def plugin(folder: Path, script: str) -> dict[str, Any]:
    path = folder / "plugin"
    path.write_text(f"#!{sys.executable}\n{script}")
    path.chmod(0o700)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path)}}


def credential(**status: Any) -> str:
    document = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    return f"print({json.dumps(json.dumps(document))})"


async def test_an_exec_plugin_is_asked_once_and_again_when_refused(write: Write, tmp_path: Path) -> None:
    count = tmp_path / "count"
    script = f"open({str(count)!r}, 'a').write('x')\n" + credential(token=SECRET, expirationTimestamp="2999-01-01T00:00:00Z")
    access = await load(write(user=plugin(tmp_path, script)))
    for _ in range(3):
        assert await access.credentials.authorization() == f"Bearer {SECRET}"
    assert count.read_text() == "x"
    access.credentials.refused()
    await access.credentials.authorization()
    assert count.read_text() == "xx"


async def test_an_exec_plugin_may_hand_out_a_certificate(write: Write, tmp_path: Path, pki: Any) -> None:
    pem, key = ((pki.folder / name).read_text() for name in ("server.crt", "server.key"))
    access = await load(write(user=plugin(tmp_path, credential(clientCertificateData=pem, clientKeyData=key))))
    assert await access.credentials.authorization() is None


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("raise SystemExit('not logged in')", "process returned 1.*not logged in"),
        ("print('no json')", "failed to decode"),
        ("print('[]')", "exec plugin"),
        (credential(), "neither a token nor a client certificate"),
        (credential(token=SECRET, expirationTimestamp="soon"), "expirationTimestamp must be a time"),
        (credential(clientCertificateData="x", clientKeyData="y"), "PEM files that belong together"),
    ],
)
async def test_an_exec_plugin_that_fails(write: Write, tmp_path: Path, script: str, said: str) -> None:
    with pytest.raises(AccessError, match=said) as caught:
        await load(write(user=plugin(tmp_path, script)))
    assert "exec plugin" in str(caught.value)
    assert SECRET not in str(caught.value)


async def test_an_exec_plugin_that_is_not_installed(write: Write) -> None:
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/nowhere/plugin"}}
    with pytest.raises(AccessError, match=r"exec plugin: .*No such file"):
        await load(write(user=user))


async def test_fetched_credentials_are_fetched_again_when_they_expire() -> None:
    now, given = 0.0, iter([("one", 10.0), ("two", 20.0)])

    async def fetch() -> tuple[str | None, float]:
        return next(given)

    fetched = Fetched(fetch, clock=lambda: now)
    now = 1.0
    assert [await fetched.authorization(), await fetched.authorization()] == ["one", "one"]
    now = 10.0
    assert await fetched.authorization() == "two"


# --- rotation --------------------------------------------------------------------------------------


class TlsApi:
    """An API server that speaks TLS, asks for a client certificate, and remembers whose it was shown."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.callers: list[str | None] = []
        self.url = ""

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        shown = request.get_extra_info("peercert")
        self.callers.append(shown["subject"][0][0][1] if shown else None)
        return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": []})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["TlsApi"]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=PEMS / "ca.pem")
        context.load_cert_chain(PEMS / f"{self.name}.pem", PEMS / f"{self.name}-key.pem")
        context.verify_mode = ssl.CERT_OPTIONAL
        runner = web.ServerRunner(web.Server(self), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        self.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


async def trusts(session: aiohttp.ClientSession, api: TlsApi) -> bool:
    """Whether a request over a new connection gets an answer."""
    try:
        async with session.get(api.url, headers={"Connection": "close"}) as response:
            return response.status == 200
    except aiohttp.ClientConnectorCertificateError:
        return False


@pytest.mark.usefixtures("looks_at_once")
async def test_a_rotated_authority_is_trusted_from_the_next_connection_on_and_the_old_one_is_not(tmp_path: Path) -> None:
    swap(tmp_path, **{"ca.crt": "ca"})
    (tmp_path / "token").write_text(SECRET)
    async with TlsApi("server").serving() as old, TlsApi("foreign").serving() as new:
        address = new.url.removeprefix("https://127.0.0.1:")
        access = in_cluster({"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": address}, tmp_path)
        async with (
            open_session(access) as session,
            open_session(replace(access, server=old.url)) as session_to_old,
        ):
            assert [await trusts(session_to_old, old), await trusts(session, new)] == [True, False]
            swap(tmp_path, **{"ca.crt": "other-ca"})
            assert [await trusts(session_to_old, old), await trusts(session, new)] == [False, True]
        client = api_client(access)
        try:
            assert (await client.rest_client.request("GET", new.url)).status == 200
        finally:
            await client.close()


@pytest.mark.usefixtures("looks_at_once")
@pytest.mark.parametrize(
    "harm", ["", "-----BEGIN CERTIFICATE-----\nMIIB", "no PEM", None], ids=["empty", "half", "text", "gone"]
)
async def test_an_authority_that_is_half_written_or_gone_leaves_the_one_before(
    tmp_path: Path, harm: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "ca.crt"
    file.write_bytes((PEMS / "ca.pem").read_bytes())
    (tmp_path / "token").write_text(SECRET)
    async with TlsApi("server").serving() as api:
        port = api.url.rpartition(":")[2]
        access = in_cluster({"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": port}, tmp_path)
        async with open_session(access) as session:
            if harm is None:
                file.unlink()
            else:
                file.write_text(harm)
            assert [await trusts(session, api) for _ in range(3)] == [True] * 3
            file.write_bytes((PEMS / "other-ca.pem").read_bytes())
            assert not await trusts(session, api)
    assert sum("cannot be used" in line for line in caplog.messages) == 1


@pytest.mark.usefixtures("looks_at_once")
async def test_a_rotated_client_certificate_is_shown_on_the_next_connection(write: Write, tmp_path: Path) -> None:
    swap(tmp_path, **{"tls.crt": "client", "tls.key": "client-key"})
    async with TlsApi("server").serving() as api:
        path = write(
            cluster={"server": api.url, "certificate-authority": str(PEMS / "ca.pem")},
            user={"client-certificate": "tls.crt", "client-key": "tls.key"},
        )
        async with open_session(await load(path)) as session:
            assert await trusts(session, api)
            swap(tmp_path, **{"tls.crt": "rotated", "tls.key": "client-key"})  # no pair: the one before stays
            assert await trusts(session, api)
            swap(tmp_path, **{"tls.crt": "rotated", "tls.key": "rotated-key"})
            assert await trusts(session, api)
    assert api.callers == ["client", "client", "rotated"]


@pytest.mark.usefixtures("looks_at_once")
async def test_a_certificate_of_a_plugin_outlives_a_rotated_authority(write: Write, tmp_path: Path) -> None:
    authority = tmp_path / "ca.crt"
    authority.write_bytes((PEMS / "ca.pem").read_bytes())
    pem, key = ((PEMS / f"{name}.pem").read_text() for name in ("client", "client-key"))
    script = credential(clientCertificateData=pem, clientKeyData=key)
    async with TlsApi("server").serving() as api:
        path = write(cluster={"server": api.url, "certificate-authority": "ca.crt"}, user=plugin(tmp_path, script))
        async with open_session(await load(path)) as session:
            assert await trusts(session, api)
            authority.write_bytes((PEMS / "other-ca.pem").read_bytes() + (PEMS / "ca.pem").read_bytes())
            assert await trusts(session, api)
    assert api.callers == ["client", "client"]


async def test_a_proxy_gets_its_password_and_errors_do_not_show_it(write: Write) -> None:
    asked: list[str | None] = []

    async def refuse(request: web.BaseRequest) -> web.Response:
        asked.append(request.headers.get("Proxy-Authorization"))
        return web.Response(status=407)

    runner = web.ServerRunner(web.Server(refuse))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    proxy = f"http://me:{SECRET}@127.0.0.1:{runner.addresses[0][1]}"
    access = await load(write(cluster={"server": "https://127.0.0.1:1", "proxy-url": proxy}))
    client = api_client(access)
    async with ApiServer(access) as api:
        with pytest.raises(ApiError) as caught:
            await api.get("/version")
        with pytest.raises(aiohttp.ClientHttpProxyError) as raised:
            await client.rest_client.request("GET", "https://127.0.0.1:1/version")
    await client.close()
    await runner.cleanup()
    assert asked == ["Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()] * 2
    assert "407" in str(caught.value)
    assert SECRET not in str(caught.value) + str(raised.value) + repr(raised.value)


# --- secrets, and the client -----------------------------------------------------------------------


async def test_no_secret_shows_in_a_repr(write: Write) -> None:
    access = await load(
        write(user={"token": SECRET}, cluster={"server": "https://h", "proxy-url": f"http://me:{SECRET}@proxy"})
    )
    assert SECRET not in repr(access) + repr(access.credentials)


async def test_the_kubernetes_client_shares_the_fresh_token(tmp_path: Path) -> None:
    from kubernetes.aio.client import CoreV1Api

    token = tmp_path / "token"
    token.write_text("one")
    seen: list[str | None] = []
    async with serving(FakeApi()) as api:

        def authorize(header: str | None) -> bool:
            seen.append(header)
            return header == f"Bearer {token.read_text()}"

        api.authorize = authorize
        api.play(answers({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": []}), namespace="default")
        api.play(answers({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": []}), namespace="default")
        client = api_client(access_to(api, TokenFile(token)))
        try:
            core = CoreV1Api(client)
            await core.list_namespaced_pod("default")
            token.write_text("two")
            await core.list_namespaced_pod("default")
        finally:
            await client.close()
    assert seen == ["Bearer one", "Bearer one", "Bearer two"]


def test_importing_access_is_cheap() -> None:
    code = "import sys, registry_status.cluster.access; assert not {'kubernetes', 'kopf', 'yaml'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
