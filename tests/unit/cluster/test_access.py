"""How the API server is found, and that no secret shows anywhere on the way."""

import asyncio
import base64
import datetime as dt
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from registry_status.cluster import providers
from registry_status.cluster.access import (
    FETCH_AGAIN,
    TOKEN_READ_EVERY,
    Access,
    AccessError,
    Fetched,
    Grant,
    Tls,
    TokenFile,
    api_client,
    in_cluster,
    load_access,
    unverified_context,
)
from registry_status.cluster.api import ApiError, ApiServer
from registry_status.cluster.connection import open_session
from tests.cluster.pki import make_pki
from tests.unit.cluster.fake_api import FakeApi, access_to, answers, refuses, serving, until
from tests.unit.mounts import PEMS, swap
from tests.world import on_virtual_time

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


BROKEN_TOKENS = {"two lines": "one\ntwo", "carriage return": "one\rtwo", "control": "one\x00", "space": "a b", "foreign": "öne"}


@pytest.mark.parametrize("token", BROKEN_TOKENS.values(), ids=BROKEN_TOKENS)
async def test_a_token_that_no_header_can_carry_is_refused_and_not_shown(tmp_path: Path, write: Write, token: str) -> None:
    path = tmp_path / "token"
    path.write_text(token, "utf-8")
    loads = [
        lambda: load(write(user={"tokenFile": "token"})),
        lambda: load(write(user=plugin(tmp_path, credential(token=token)))),
    ]
    for place, read in zip((f"token file {path}", "exec plugin: token"), loads, strict=True):
        with pytest.raises(AccessError, match="is no bearer token; it must be one line of ASCII") as caught:
            await read()
        assert place in str(caught.value)
        assert token not in str(caught.value)


@pytest.mark.parametrize("token", BROKEN_TOKENS.values(), ids=BROKEN_TOKENS)
async def test_a_token_file_that_is_damaged_later_leaves_the_last_token_in_use(tmp_path: Path, token: str) -> None:
    path = tmp_path / "token"
    path.write_text("good")
    read = TokenFile(path)
    path.write_text(token, "utf-8")
    read.refused()
    assert await read.authorization() == "Bearer good"


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


FEW_FILES = """
import os, resource, ssl, sys, tempfile
from pathlib import Path
from registry_status.cluster.access import AccessError
from registry_status.cluster.kubeconfig import load_pair

certificate, key = (Path(name).read_bytes() for name in sys.argv[1:])
tempfile.gettempdir()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
opened = []
try:
    while True:
        opened.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
for _ in range(6):
    try:
        load_pair(context, certificate, key, "here")
        print("loaded")
    except AccessError as error:
        print(error)
    os.close(opened.pop())
"""


def test_a_key_is_left_nowhere_however_few_files_can_be_opened(tmp_path: Path, pki: Any) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FEW_FILES, str(pki.folder / "server.crt"), str(pki.folder / "server.key")],
        env=os.environ | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    attempts = ran.stdout.splitlines()
    assert attempts[0] == "here: the client certificate needs a temporary file: Too many open files"
    assert attempts[-1] == "loaded"
    assert list(tmp_path.iterdir()) == []


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


async def test_an_exec_plugin_that_fails_shows_no_secret_that_the_kubeconfig_gives_it(write: Write, tmp_path: Path) -> None:
    script = "import os, sys\nsys.exit(f\"{os.environ['PROFILE']}: {os.environ['CLIENT_SECRET']} is refused\")"
    user = plugin(tmp_path, script)
    user["exec"]["env"] = [{"name": "PROFILE", "value": "shop"}, {"name": "CLIENT_SECRET", "value": SECRET}]
    with pytest.raises(AccessError, match=r"process returned 1: shop: \[redacted\] is refused"):
        await load(write(user=user))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/secrets/token"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/etc/gcp/account.json"),
        ("AZURE_CLIENT_CERTIFICATE_KEY_PATH", "/etc/azure/client.pem"),
        ("CACHE_TOKENS", "1"),
    ],
)
async def test_an_exec_plugin_that_fails_says_which_file_it_is_about(
    write: Write, tmp_path: Path, name: str, value: str
) -> None:
    user = plugin(tmp_path, f"import os, sys\nsys.exit(f\"open {{os.environ['{name}']}}: error 112\")")
    user["exec"]["env"] = [{"name": name, "value": value}]
    with pytest.raises(AccessError, match=f"process returned 1: open {re.escape(value)}: error 112"):
        await load(write(user=user))


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
        (credential(clientCertificateData="\ud800", clientKeyData=SECRET), "clientKeyData must be PEM"),
        (credential(clientCertificateData="x", clientKeyData=SECRET + "\udc80"), "clientKeyData must be PEM"),
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


@pytest.mark.parametrize("where", ["command", "apiVersion"])
async def test_an_exec_plugin_that_is_not_described_says_what_lacks(write: Write, where: str) -> None:
    described: dict[str, Any] = {"apiVersion": "client.authentication.k8s.io/v1", "command": "plugin"}
    for wrong in ({key: text for key, text in described.items() if key != where}, described | {where: 5}):
        with pytest.raises(AccessError, match=f"exec plugin: {where} must be a text"):
            await load(write(user={"exec": wrong}))
    for more, said in (
        ({"args": [5]}, "args must be"),
        ({"env": [{"name": "A"}]}, "env must be"),
        ({"env": {}}, "No such file"),
    ):
        with pytest.raises(AccessError, match=said):
            await load(write(user={"exec": described | {"command": "/nowhere/plugin"} | more}))


async def test_an_exec_plugin_has_its_arguments_and_its_environment(write: Write, tmp_path: Path) -> None:
    script = """
import json, os, sys
info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
status = {"token": "-".join([sys.argv[1], os.environ["WHO"], info["kind"], os.environ["HOME"][:1]])}
print(json.dumps({"apiVersion": info["apiVersion"], "kind": "ExecCredential", "status": status}))
"""
    user = plugin(tmp_path, script)
    user["exec"] |= {"args": ["token"], "env": [{"name": "WHO", "value": "me"}]}
    assert await (await load(write(user=user))).credentials.authorization() == "Bearer token-me-ExecCredential-/"


HANGS = """
import os, subprocess, sys, time
with open({pids!r}, "a") as file:
    print(os.getpid(), file=file, flush=True)
    if {with_child}:
        print(subprocess.Popen(["sleep", "30"]).pid, file=file, flush=True)
time.sleep(30)
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.timeout(20)
@pytest.mark.parametrize("with_child", [False, True], ids=["alone", "whose own child holds its output open"])
@pytest.mark.parametrize("ended_by", ["patience", "the end of the program"])
async def test_an_exec_plugin_that_hangs_does_not_outlive_whoever_waits_for_it(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended_by: str, with_child: bool
) -> None:
    monkeypatch.setattr(providers, "PATIENCE", 1.0 if ended_by == "patience" else 30.0)
    monkeypatch.setattr(providers, "BURIED_WITHIN", 0.3)
    pids = tmp_path / "pids"
    access = await load(write(user=plugin(tmp_path, credential(token="one"))))
    (tmp_path / "plugin").write_text(f"#!{sys.executable}\n" + HANGS.format(pids=str(pids), with_child=with_child))
    access.credentials.refused()
    waiting = asyncio.create_task(access.credentials.authorization())
    await until(lambda: pids.exists() and len(pids.read_text().split()) == 1 + with_child)
    if ended_by == "patience":
        with pytest.raises(AccessError, match="gave no answer within 1 s"):
            await waiting
    else:
        await access.aclose()
    started, *children = map(int, pids.read_text().split())
    assert not is_running(started)
    for child in children:
        os.kill(child, signal.SIGKILL)
    await asyncio.gather(waiting, return_exceptions=True)


class Counter:
    """Where credentials are fetched: it takes its time, and gives what the script says."""

    def __init__(self, *script: float | Exception, takes: float = 3.0) -> None:
        """The script says for how many seconds each is good, or what goes wrong."""
        self.script = list(script)
        self.takes = takes
        self.begun = 0
        self.ended = 0

    async def __call__(self) -> Grant:
        self.begun += 1
        number = self.begun
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.ended += 1
        said = self.script.pop(0)
        if isinstance(said, Exception):
            raise said
        return Grant(f"Bearer {number}", now() + said - 10, now() + said)

    def fetched(self) -> Fetched:
        return Fetched(self, clock=now)


def now() -> float:
    return asyncio.get_running_loop().time()


@on_virtual_time
async def test_fetched_credentials_are_fetched_when_they_are_needed_and_not_again_while_they_are_good() -> None:
    counter = Counter(100)
    fetched = counter.fetched()
    assert [await fetched.authorization() for _ in range(3)] == ["Bearer 1"] * 3
    assert (counter.begun, now()) == (1, 1003)


@on_virtual_time
async def test_all_who_need_credentials_at_once_wait_for_one_fetch() -> None:
    counter = Counter(100)
    fetched = counter.fetched()
    assert set(await asyncio.gather(*(fetched.authorization() for _ in range(50)))) == {"Bearer 1"}
    assert counter.begun == 1


@on_virtual_time
async def test_a_request_that_gives_up_does_not_end_the_fetch_that_the_next_one_needs() -> None:
    """A Lease has two seconds: fetched for each of its requests anew, credentials that take three would never be there."""
    counter = Counter(100)
    fetched = counter.fetched()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(fetched.authorization(), 2)
    assert await asyncio.wait_for(fetched.authorization(), 2) == "Bearer 1"
    assert (counter.begun, now()) == (1, 1003)


@on_virtual_time
async def test_nobody_waits_for_new_credentials_while_the_old_ones_are_good() -> None:
    counter = Counter(100, 100)
    fetched = counter.fetched()
    await fetched.authorization()
    await asyncio.sleep(91)
    began = now()
    assert [await fetched.authorization() for _ in range(3)] == ["Bearer 1"] * 3
    assert (now(), counter.begun) == (began, 1)
    await asyncio.sleep(4)
    assert await fetched.authorization() == "Bearer 2"
    assert (counter.begun, counter.ended) == (2, 2)


@on_virtual_time
async def test_credentials_that_have_ended_or_were_refused_are_sent_no_more() -> None:
    counter = Counter(100, 100, 100)
    fetched = counter.fetched()
    await fetched.authorization()
    await asyncio.sleep(100)
    assert await fetched.authorization() == "Bearer 2"
    fetched.refused()
    assert await fetched.authorization() == "Bearer 3"


@on_virtual_time
async def test_credentials_that_are_refused_while_others_are_on_their_way_wait_for_these() -> None:
    counter = Counter(100, 100)
    fetched = counter.fetched()
    await fetched.authorization()
    await asyncio.sleep(91)
    await fetched.authorization()
    fetched.refused()
    assert await fetched.authorization() == "Bearer 2"
    assert counter.begun == 2


async def failed_to_renew(error: Exception) -> Fetched:
    """Good credentials whose renewal has failed once: they are in use, and not fetched with each request."""
    counter = Counter(100, error, 100, takes=0.1)
    fetched = counter.fetched()
    await fetched.authorization()
    await asyncio.sleep(90)
    for _ in range(8):
        assert await fetched.authorization() == "Bearer 1"
        await asyncio.sleep(1)
    assert counter.begun == 2
    return fetched


@on_virtual_time
async def test_a_renewal_that_fails_leaves_good_credentials_in_use_and_is_tried_again_but_not_with_each_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fetched = await failed_to_renew(AccessError("not now"))
    assert ["not now" in line for line in caplog.messages] == [True]
    await asyncio.sleep(FETCH_AGAIN)
    assert await fetched.authorization() == "Bearer 3"


@on_virtual_time
async def test_a_renewal_that_fails_for_an_error_of_ours_is_told_with_its_place_and_not_tried_with_each_request_either(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fetched = await failed_to_renew(RuntimeError("odd"))
    (told,) = caplog.records
    assert (told.levelname, told.getMessage()) == ("ERROR", "internal error while fetching credentials")
    assert told.exc_info is not None
    assert str(told.exc_info[1]) == "odd"
    await asyncio.sleep(FETCH_AGAIN)
    await fetched.authorization()
    await asyncio.sleep(1)
    assert await fetched.authorization() == "Bearer 3"


@on_virtual_time
async def test_a_fetch_that_fails_is_told_to_all_who_wait_and_to_nobody_else() -> None:
    counter = Counter(AccessError("not now"), AccessError("nor now"), 100)
    fetched = counter.fetched()
    told = await asyncio.gather(*(fetched.authorization() for _ in range(3)), return_exceptions=True)
    assert [str(error) for error in told] == ["not now"] * 3
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(fetched.authorization(), 1)
    await asyncio.sleep(5)
    assert await fetched.authorization() == "Bearer 3"


@on_virtual_time
async def test_closing_ends_a_fetch() -> None:
    counter = Counter(100)
    fetched = counter.fetched()
    waiting = asyncio.create_task(fetched.authorization())
    await asyncio.sleep(1)
    await Access(server="https://h", source="test", credentials=fetched).aclose()
    assert (counter.ended, now()) == (1, 1001)
    await asyncio.gather(waiting, return_exceptions=True)
    await fetched.aclose()


@pytest.mark.parametrize(("lasts", "renewed_after"), [(3600, 3540), (120, 60), (40, 20), (-5, -5)])
async def test_credentials_of_a_plugin_are_renewed_a_minute_before_their_end_or_after_half_their_time(
    lasts: float, renewed_after: float, tmp_path: Path
) -> None:
    began = time.time()
    end = dt.datetime.fromtimestamp(began + lasts, dt.UTC).isoformat()
    described = plugin(tmp_path, credential(token=SECRET, expirationTimestamp=end))["exec"]
    grant = await providers.plugin_of("user", described, Tls(unverified_context)).fetch()
    assert grant.ends_at == pytest.approx(began + lasts, abs=0.01)
    assert grant.renew_at == pytest.approx(began + renewed_after, abs=2)


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


class Strict(TlsApi):
    """Refuses who shows a certificate that has ended, on whatever connection."""

    def __init__(self, name: str, *ended: str) -> None:
        super().__init__(name)
        self.ended = set(ended)

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        answer = await super().__call__(request)
        refused = {"kind": "Status", "reason": "Unauthorized", "code": 401}
        return web.json_response(refused, status=401) if self.callers[-1] in self.ended else answer


def in_turns(folder: Path, **status: str) -> dict[str, Any]:
    """A plugin that hands out two certificates in turns."""
    first, second = (
        credential(
            clientCertificateData=(PEMS / f"{name}.pem").read_text(), clientKeyData=(PEMS / f"{name}-key.pem").read_text(),
            **status,
        ) for name in ("client", "rotated")
    )  # fmt: skip
    count = str(folder / "count")
    script = f"open({count!r}, 'a').write('x')\nif len(open({count!r}).read()) % 2:\n    {first}\nelse:\n    {second}\n"
    return plugin(folder, script)


def trusting(api: TlsApi) -> dict[str, Any]:
    return {"server": api.url, "certificate-authority": str(PEMS / "ca.pem")}


async def test_a_certificate_that_a_plugin_renews_is_shown_although_a_connection_was_kept(write: Write, tmp_path: Path) -> None:
    async with Strict("server").serving() as api:
        assert isinstance(api, Strict)
        async with ApiServer(await load(write(cluster=trusting(api), user=in_turns(tmp_path)))) as server:
            await server.get("/x")
            api.ended = {"client"}
            await server.get("/x")  # refused, and sent once more
            await server.get("/x")
    assert api.callers == ["client", "client", "rotated", "rotated"]


async def test_a_certificate_that_was_renewed_for_a_request_is_shown_by_that_request(write: Write, tmp_path: Path) -> None:
    async with TlsApi("server").serving() as api:
        user = in_turns(tmp_path, expirationTimestamp="2020-01-01T00:00:00Z")
        async with ApiServer(await load(write(cluster=trusting(api), user=user))) as server:
            for _ in range(3):
                await server.get("/x")
    assert api.callers == ["rotated", "client", "rotated"]


async def test_the_kubernetes_client_shows_a_renewed_certificate_too(write: Write, tmp_path: Path) -> None:
    async with Strict("server").serving() as api:
        assert isinstance(api, Strict)
        client = api_client(await load(write(cluster=trusting(api), user=in_turns(tmp_path))))
        try:
            assert (await client.rest_client.request("GET", api.url)).status == 200
            api.ended = {"client"}
            assert (await client.rest_client.request("GET", api.url)).status == 200
        finally:
            await client.close()
    assert api.callers == ["client", "client", "rotated"]


async def test_a_certificate_that_is_handed_out_once_more_makes_no_connection_anew(write: Write, tmp_path: Path) -> None:
    pem, key = ((PEMS / f"{name}.pem").read_text() for name in ("client", "client-key"))
    script = credential(clientCertificateData=pem, clientKeyData=key)
    async with Strict("server", "client").serving() as api:
        access = await load(write(cluster=trusting(api), user=plugin(tmp_path, script)))
        assert access.tls is not None
        before = access.tls()
        async with ApiServer(access) as server:
            with pytest.raises(ApiError, match="401"):
                await server.get("/x")
        assert access.tls() is before
    assert api.callers == ["client"]


async def test_a_401_that_comes_late_does_not_cost_another_fetch_of_what_others_have_fetched_meanwhile() -> None:
    counter = Counter(1000, 1000, takes=0.0)
    both_asked = asyncio.Event()

    class Slow(FakeApi):
        async def __call__(self, request: web.Request) -> web.StreamResponse:
            answer = refuses(401) if request.headers["Authorization"] == "Bearer 1" else answers({})
            if request.path == "/late":
                both_asked.set()
                await until(lambda: counter.begun == 2)
            else:
                await both_asked.wait()
            return await answer(request)

    async with serving(Slow()) as api, ApiServer(access_to(api, counter.fetched())) as server:
        await asyncio.gather(server.get("/late"), server.get("/soon"))
    assert counter.begun == 2


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
        with pytest.raises(aiohttp.ClientConnectionError, match="407") as raised:
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
