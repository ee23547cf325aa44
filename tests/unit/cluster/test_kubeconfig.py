"""Kubeconfigs that kubectl takes are taken alike, and what cannot be used is told: which entry, what is allowed, no secret."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry_status.cluster import kubeconfig
from registry_status.cluster.access import Access, AccessError, load_access
from registry_status.cluster.connection import open_session

SECRET = "s3cr3t-t0ken"
SERVER = "http://127.0.0.1:1"
EXEC = "client.authentication.k8s.io/v1"
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a kubeconfig with one context, `c`, of the cluster `c` and the user `u`."""

    def write(cluster: Mapping[str, Any] | None = None, user: Mapping[str, Any] | None = None, name: str = "config") -> Path:
        path = tmp_path / name
        document = {
            "clusters": [{"name": "c", "cluster": {"server": SERVER, **(cluster or {})}}],
            "users": [{"name": "u", "user": user or {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(document))  # JSON is YAML, and escapes what YAML's own writer refuses
        return path

    return write


async def load(path: Path) -> Access:
    return await load_access(path, None, {})


async def complaint(path: Path) -> str:
    """What is told of a kubeconfig that cannot be used; never a secret."""
    with pytest.raises(AccessError) as caught:
        await load(path)
    told = str(caught.value)
    assert str(path) in told
    assert SECRET not in told
    return told


# --- URLs and names -----------------------------------------------------------------------------

HOSTS = {
    "an empty label": "a..b", "a leading dot": ".a", "a long label": "a" * 64, "a long name": "a." * 130 + "a", "nothing": "",
    "a space": "a b", "a line end": "a\nb", "a tab": "a\tb", "a control character": "a\x01b", "a percent sign": "%41",
    "a backslash": "a\\b", "a sign that splits": "a\u2100b", "punycode that is none": "xn--a", "no IPv6 address": "[zz]",
    "an address of the future": "[v1.a]", "more than an IPv6 address": "[::1]a", "an open bracket": "[::1",
}  # fmt: skip
PORTS = {
    "a large port": "99999",
    "port 0": "0",
    "a word for a port": "http",
    "a signed port": "+1",
    "a port of other digits": "٣",
}
NO_URLS = {what: f"http://{host}" for what, host in HOSTS.items()} | {what: f"http://h:{port}" for what, port in PORTS.items()}


@pytest.mark.parametrize("url", NO_URLS.values(), ids=NO_URLS)
@pytest.mark.parametrize("key", ["server", "proxy-url"])
async def test_a_url_that_no_connection_could_use_is_told(write: Write, key: str, url: str) -> None:
    assert f"cluster 'c': {key} must b" in await complaint(write({key: url}))


@pytest.mark.parametrize("rest", ["?a=1", "?", "#a", "/base?a=1"])
async def test_a_server_has_no_query(write: Write, rest: str) -> None:
    assert "cluster 'c': server must be a URL" in await complaint(write({"server": f"http://h{rest}"}))


PROXIES = {
    "a colon in the user": f"http://a%3Ab:{SECRET}@h",
    "a user that Basic authentication cannot carry": f"http://€:{SECRET}@h",
    "a password that it cannot carry": f"http://u:€{SECRET}@h",
}


@pytest.mark.parametrize("url", PROXIES.values(), ids=PROXIES)
async def test_a_proxys_user_that_cannot_be_sent_is_told(write: Write, url: str) -> None:
    assert "cluster 'c': proxy-url" in await complaint(write({"proxy-url": url}))


@pytest.mark.parametrize("name", [name for name in HOSTS.values() if name not in ("", "xn--a")], ids=ascii)
async def test_a_tls_server_name_that_no_certificate_has_is_told(write: Write, name: str) -> None:
    told = await complaint(write({"tls-server-name": name}))
    assert "cluster 'c': tls-server-name must be a" in told


USABLE: list[Mapping[str, str]] = [
    {"server": "https://10.0.0.1:6443"},
    {"server": "https://[::1]:6443/base/"},
    {"server": "https://[fe80::1%25eth0]:6443"},
    {"server": "https://api.example.:6443"},
    {"server": "https://API_1.example"},
    {"server": "https://münchen.example"},
    {"proxy-url": f"http://user%40corp:{SECRET}@proxy:3128/"},
    {"proxy-url": "https://[::1]:3128"},
    {"tls-server-name": "kubernetes.default.svc"},
    {"tls-server-name": "10.0.0.1"},
    {"tls-server-name": "::1"},
    {"tls-server-name": "münchen.example"},
]


@pytest.mark.parametrize("cluster", USABLE, ids=lambda cluster: next(iter(cluster.values())))
async def test_urls_and_names_as_people_have_them_are_taken(write: Write, cluster: Mapping[str, str]) -> None:
    access = await load(write(cluster))
    async with open_session(access):
        pass


# --- YAML ---------------------------------------------------------------------------------------

VALUES = {
    "a number that is none": f"!!int {SECRET}",
    "an empty number": "!!int ''",
    "a broken number that is none": f"!!float {SECRET}",
    "a truth that is none": f"!!bool {SECRET}",
    "a time that is none": f"!!timestamp {SECRET}",
    "a time of a list": "!!timestamp {=: 2024-01-01}",
    "a number without end": "9" * 5000,
    "a number of base 16 without end": "0x" + "f" * 5000,
    "a number of base 60 without end": ":".join(["1"] * 300) + ".0",
    "bytes that are none": f"!!binary {SECRET}ä",
    "a list as a key": "{[a]: b}",
    "a Python object": "!!python/object/apply:os.system [echo]",
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
async def test_a_value_that_is_not_what_it_says_is_told_without_showing_it(write: Write, value: str) -> None:
    path = write()
    path.write_text(f"{path.read_text()[:-1]}, extensions: {value}}}")
    assert "is not YAML" in await complaint(path)


@pytest.mark.parametrize("token", ["2024-01-31", "2024-99-99", "2024-01-31T12:00:00Z"])
async def test_what_looks_like_a_time_is_a_text_as_kubectl_has_it(write: Write, token: str) -> None:
    path = write()
    path.write_text(yaml.safe_dump(json.loads(path.read_text())).replace("user: {}", f"user: {{token: {token}}}"))
    assert await (await load(path)).credentials.authorization() == f"Bearer {token}"


# --- credentials --------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", ["\n", "\r\n", "\x00", "\t", "\x1b", "\x7f", "\x85", "\u2028", " ", "ä"], ids=ascii)
@pytest.mark.parametrize("form", ["{sign}{secret}", "a{sign}{secret}", "{secret}{sign}"], ids=["first", "inner", "last"])
async def test_a_token_that_no_header_can_carry_is_told_without_showing_it(write: Write, form: str, sign: str) -> None:
    assert "user 'u': token: is no bearer token" in await complaint(
        write(user={"token": form.format(sign=sign, secret=SECRET)})
    )


@pytest.mark.parametrize("key", ["token", "username", "password"])
async def test_half_a_character_is_told_without_showing_it(write: Write, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeconfig, "Loader", yaml.SafeLoader)  # libyaml would refuse it itself
    user = {"username": "me", "password": SECRET} | {key: f"{SECRET}\ud800"}
    assert f"user 'u': {key} must be a text" in await complaint(write(user=user))


IMPERSONATION = {"as": "viewer", "as-uid": "1", "as-groups": ["readers"], "as-user-extra": {"scopes": ["view"]}}
OTHER_USERS: list[Mapping[str, Any]] = [
    {}, {"token": SECRET}, {"username": "me", "password": SECRET}, {"exec": {"apiVersion": EXEC, "command": "true"}},
]  # fmt: skip


@pytest.mark.parametrize("user", OTHER_USERS, ids=lambda user: ",".join(user) or "anonymous")
@pytest.mark.parametrize("key", IMPERSONATION)
async def test_nobody_acts_with_more_rights_than_the_kubeconfig_asks_for(
    write: Write, key: str, user: Mapping[str, Any]
) -> None:
    told = await complaint(write(user={**user, key: IMPERSONATION[key]}))
    assert f"user 'u': {key}: " in told
    assert "impersonat" in told


async def test_an_empty_impersonation_is_none(write: Write) -> None:
    user: dict[str, Any] = {"token": "t", "as": "", "as-uid": None, "as-groups": [], "as-user-extra": {}}
    assert await (await load(write(user=user))).credentials.authorization() == "Bearer t"


def plugin(path: Path, token: str) -> None:
    status = {"apiVersion": EXEC, "kind": "ExecCredential", "status": {"token": token}}
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!{sys.executable}\nprint({json.dumps(status)!r})\n")
    path.chmod(0o755)


@pytest.mark.parametrize("command", ["./plugin", "bin/plugin", "../plugin", "{folder}/plugin", "plugin"])
async def test_a_plugin_is_found_where_kubectl_finds_it(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """By a path from the kubeconfig's folder; by a bare name on the PATH, and there alone."""
    places = {
        "./plugin": "kube/plugin", "bin/plugin": "kube/bin/plugin", "../plugin": "plugin", "{folder}/plugin": "any/plugin",
        "plugin": "path/plugin",
    }  # fmt: skip
    for place in {*places.values(), "work/plugin", "work/bin/plugin"}:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        plugin(tmp_path / place, token=place)
    (tmp_path / "work").mkdir(exist_ok=True)
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}{os.pathsep}{os.environ['PATH']}")
    user = {"exec": {"apiVersion": EXEC, "command": command.format(folder=tmp_path / "any")}}
    path = write(user=user, name="kube/config")
    monkeypatch.chdir(tmp_path / "work")
    assert await (await load(path)).credentials.authorization() == f"Bearer {places[command]}"
    monkeypatch.chdir(path.parent)
    assert await (await load(Path("config"))).credentials.authorization() == f"Bearer {places[command]}"


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", "\n\n", "# nothing\n", "---\n", "null"], ids=repr)
async def test_one_of_several_files_may_be_empty(write: Write, tmp_path: Path, content: str) -> None:
    (tmp_path / "empty").write_text(content)
    for files in (f"{tmp_path / 'empty'}:{write()}", f"{write()}:{tmp_path / 'empty'}"):
        assert (await load_access(None, None, {"KUBECONFIG": files})).server == SERVER


async def test_several_files_with_nothing_in_them_are_told(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text("")
    files = f"{tmp_path / 'a'}:{tmp_path / 'b'}"
    with pytest.raises(AccessError, match="has no current-context, and no contexts at all") as caught:
        await load_access(None, None, {"KUBECONFIG": files})
    assert files in str(caught.value)


PATHS = {"a user who is not there": "~nouser-at-all/config", "a name that is too long": "/" + "x" * 300}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("source", ["KUBECONFIG", "HOME"])
async def test_a_path_that_cannot_be_followed_is_told(source: str, path: str) -> None:
    with pytest.raises(AccessError) as caught:
        await load_access(None, None, {source: path})
    assert path in str(caught.value)


@pytest.mark.parametrize("key", ["certificate-authority", "client-certificate", "client-key", "tokenFile"])
async def test_a_file_that_cannot_be_looked_at_is_told(write: Write, key: str) -> None:
    name = "x" * 300
    path = write({key: name}) if key == "certificate-authority" else write(user={key: name})
    told = await complaint(path)
    assert f"{key}: " in told
    assert "File name too long" in told
