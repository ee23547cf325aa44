"""Reading kubeconfigs: as kubectl reads them, and with errors that say which file, which entry and what would be right."""

import base64
import binascii
import os
import re
import ssl
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import yaml
from yarl import URL

from registry_status.cluster.access import (
    Access,
    AccessError,
    Credentials,
    Fixed,
    Tls,
    TokenFile,
    bearer,
    reason,
    tls_context,
    unverified_context,
)
from registry_status.config import HOST
from registry_status.kubeyaml import NOT_YAML, Loader

Node = Mapping[str, object]
Kind = Literal["cluster", "user", "context"]
IMPERSONATION = ("as", "as-uid", "as-groups", "as-user-extra")
UNSENDABLE = re.compile(r"[\s\x00-\x1f\x7f]")
"""What no URL has: parsers leave some of it out, and ask another host than the one written."""
HALF_CHARACTER = re.compile(r"[\ud800-\udfff]")
"""What YAML and JSON can escape, and nothing can be sent or opened with."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A named part of a kubeconfig, and where it stands: relative file names start from that file's folder."""

    where: str
    folder: Path
    node: Node = field(repr=False)

    def text(self, key: str) -> str | None:
        """Return the value of a key; None if it is missing or empty. The value never shows in an error."""
        value = self.node.get(key)
        if value is None or value == "":
            return None
        if not isinstance(value, str) or HALF_CHARACTER.search(value):
            raise AccessError(f"{self.where}: {key} must be a text")
        return value

    def flag(self, key: str) -> bool:
        """Return the value of a key that is true or false."""
        value = self.node.get(key) or False
        if not isinstance(value, bool):
            raise AccessError(f"{self.where}: {key} must be true or false")
        return value

    def path(self, key: str) -> Path | None:
        """Return the file that a key names; it must exist."""
        text = self.text(key)
        if text is None:
            return None
        path = self.folder / text
        try:
            found = path.is_file()
        except OSError as error:
            raise AccessError(f"{self.where}: {key}: {path}: {reason(error)}") from None
        if not found:
            raise AccessError(f"{self.where}: {key}: {path} is no file")
        return path

    def data(self, key: str) -> bytes | None:
        """Return what a key holds in base64."""
        text = self.text(key)
        if text is None:
            return None
        try:
            return base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            raise AccessError(f"{self.where}: {key} must be base64") from None


class Kubeconfig:
    """One or several files, read as one: of two entries of a name the first counts, as with kubectl.

    One of several may be empty, as one is that kubectl is yet to fill; the only one may not.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.label = f"kubeconfig {os.pathsep.join(map(str, paths))}"
        self._files = [(path, _read(path, empty=len(paths) > 1)) for path in paths]

    def current_context(self) -> str:
        """Return the name of the context to use where none was asked for."""
        for path, document in self._files:
            name = Entry(f"kubeconfig {path}", path.parent, document).text("current-context")
            if name is not None:
                return name
        known = ", ".join(self._names("context"))
        if not known:
            raise AccessError(f"{self.label}: has no current-context, and no contexts at all: nothing is configured there")
        raise AccessError(f"{self.label}: has no current-context; name one of its contexts: {known}")

    def find(self, kind: Kind, name: str) -> Entry:
        """Return the entry of that name."""
        for path, document in self._files:
            for item in _items(path, document, kind):
                if item.get("name") == name:
                    where = f"kubeconfig {path}: {kind} {name!r}"
                    node = item.get(kind)
                    if node is not None and not isinstance(node, dict):
                        raise AccessError(f"{where}: {kind} must be a mapping")
                    return Entry(where, path.parent, node or {})
        known = ", ".join(self._names(kind)) or "none"
        raise AccessError(f"{self.label}: there is no {kind} {name!r}; it has: {known}")

    def _names(self, kind: Kind) -> list[str]:
        return [str(item.get("name")) for path, document in self._files for item in _items(path, document, kind)]


def _items(path: Path, document: Node, kind: Kind) -> list[Node]:
    items = document.get(f"{kind}s") or []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise AccessError(f"kubeconfig {path}: {kind}s must be a list of mappings")
    return items


def _read(path: Path, *, empty: bool) -> Node:
    where = f"kubeconfig {path}"
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AccessError(f"{where}: {reason(error)}") from None
    document = _parsed(text, where)
    if document is None and empty:
        return {}
    if not isinstance(document, dict):
        raise AccessError(f"{where}: is no kubeconfig; it must be a mapping with clusters, users and contexts")
    return document


def _parsed(text: str, where: str) -> object:
    try:
        return yaml.load(text, Loader)  # noqa: S506 - a safe loader
    except NOT_YAML as error:
        # Only where, never what: the line may hold a token.
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        at = f" at line {mark.line + 1}" if mark is not None else ""
        raise AccessError(f"{where}: is not YAML{at}") from None


async def load(paths: Sequence[Path], context: str | None) -> Access:
    """Read how the context (default: the current one) reaches its API server. Raises `AccessError`."""
    config = Kubeconfig(paths)
    name = context or config.current_context()
    chosen = config.find("context", name)
    cluster_name, user_name = chosen.text("cluster"), chosen.text("user")
    if cluster_name is None:
        raise AccessError(f"{chosen.where}: names no cluster")
    cluster = config.find("cluster", cluster_name)
    user = config.find("user", user_name) if user_name is not None else Entry(chosen.where, chosen.folder, {})
    tls = _tls(cluster, user)
    access = Access(
        server=_server(cluster),
        source=f"{config.label}, context {name!r}",
        namespace=chosen.text("namespace") or "default",
        tls=tls,
        credentials=_credentials(user, tls),
        server_name=_server_name(cluster),
        proxy=_proxy(cluster),
    )
    await access.credentials.authorization()  # so that a plugin that fails is known before anything starts
    return access


def _server(cluster: Entry) -> str:
    form = "a URL such as https://10.0.0.1:6443, without user or password, query or fragment"
    text = cluster.text("server")
    if text is None:
        raise AccessError(f"{cluster.where}: has no server; it must be {form}")
    url = _url(text)
    if url is None or url.user is not None or url.password is not None or "?" in text or "#" in text:
        raise AccessError(f"{cluster.where}: server must be {form}")
    return text.rstrip("/")


def _server_name(cluster: Entry) -> str | None:
    text = cluster.text("tls-server-name")
    if text is not None and not _is_host(text):
        raise AccessError(f"{cluster.where}: tls-server-name must be a host name such as kubernetes.default.svc, or an address")
    return text


def _proxy(cluster: Entry) -> str | None:
    text = cluster.text("proxy-url")
    if text is None:
        return None
    url = _url(text)
    if url is None:
        raise AccessError(f"{cluster.where}: proxy-url must begin with http:// or https:// and be a URL like http://proxy:3128")
    if not _sendable(url):
        raise AccessError(
            f"{cluster.where}: proxy-url: user and password must be Latin letters and signs, the user without ':'"
        )
    return text


def _url(text: str) -> URL | None:
    """Parse a URL as whoever connects will; None for one that leads nowhere."""
    try:
        # Both: each lets through what the other does not, and a part is only checked when it is asked for.
        split, url = urlsplit(text), URL(text)
        port, host = split.port, url.host or ""
    except ValueError:
        return None
    named = _is_host(host) and (":" in host) == ("[" in split.netloc)
    usable = named and url.scheme in ("http", "https") and port != 0 and not UNSENDABLE.search(text)
    return url if usable else None


def _is_host(text: str) -> bool:
    """Whether it is an address, or a name that a resolver or a certificate can have."""
    try:
        if ":" not in text:
            return HOST.fullmatch(text.encode("idna").decode()) is not None
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _sendable(url: URL) -> bool:
    """Whether Basic authentication, as `aiohttp` has it, can carry the user and password."""
    user, password = url.user or "", url.password or ""
    try:
        f"{user}{password}".encode("latin-1")
    except UnicodeEncodeError:
        return False
    return ":" not in user


def _tls(cluster: Entry, user: Entry) -> Tls:
    """What stands in files is read again when they change; the kubeconfig itself is not."""
    authority = None if cluster.flag("insecure-skip-tls-verify") else _file(cluster, "certificate-authority")
    return Tls(lambda: _context(cluster, user), authority, _file(user, "client-certificate"), _file(user, "client-key"))


def _context(cluster: Entry, user: Entry) -> ssl.SSLContext:
    context = unverified_context() if cluster.flag("insecure-skip-tls-verify") else _verified(cluster)
    certificate, key = _pem(user, "client-certificate"), _pem(user, "client-key")
    if (certificate is None) != (key is None):
        raise AccessError(f"{user.where}: client-certificate and client-key must be given together")
    if certificate is not None and key is not None:
        load_pair(context, certificate, key, user.where)
    return context


def _verified(cluster: Entry) -> ssl.SSLContext:
    authority = cluster.data("certificate-authority-data")
    try:
        text = authority.decode("ascii") if authority is not None else None
    except UnicodeDecodeError:
        raise AccessError(f"{cluster.where}: certificate-authority-data must hold PEM certificates") from None
    file = cluster.path("certificate-authority") if text is None else None
    return tls_context(ca_file=file, ca_text=text, where=cluster.where)


def _file(entry: Entry, key: str) -> Path | None:
    """The file that is named for want of the data itself."""
    return entry.path(key) if entry.data(f"{key}-data") is None else None


def _pem(user: Entry, key: str) -> bytes | None:
    path = _file(user, key)
    if path is None:
        return user.data(f"{key}-data")
    try:
        return path.read_bytes()
    except OSError as error:
        raise AccessError(f"{user.where}: {key}: {path}: {reason(error)}") from None


def load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes, where: str) -> None:
    """Use a client certificate. Python reads one from files only: two that nobody else may read, for that moment.

    To remove them takes no file descriptor: the key must not stay where one too few was free.
    """
    try:
        with _temporary(certificate) as certificate_file, _temporary(key) as key_file:
            context.load_cert_chain(certificate_file, key_file, password="")
    except ssl.SSLError:
        raise AccessError(
            f"{where}: client-certificate and client-key must be PEM files that belong together, the key without a password"
        ) from None
    except OSError as error:
        raise AccessError(f"{where}: the client certificate needs a temporary file: {reason(error)}") from None


@contextmanager
def _temporary(content: bytes) -> Iterator[str]:
    with tempfile.NamedTemporaryFile(prefix="registry-status-") as file:
        file.write(content)
        file.flush()
        yield file.name


def _credentials(user: Entry, tls: Tls) -> Credentials:
    """Choose as kubectl does: what is written in the kubeconfig before what a program or provider would hand out."""
    _refuse_impersonation(user)
    token, token_file = user.text("token"), user.path("tokenFile")
    if token_file is not None:
        return TokenFile(token_file)
    if token is not None:
        return Fixed(bearer(token, f"{user.where}: token"))
    name, password = user.text("username"), user.text("password")
    if name is not None and password is not None:
        return Fixed("Basic " + base64.b64encode(f"{name}:{password}".encode()).decode())
    if not user.node.get("exec") and not user.node.get("auth-provider"):
        return Fixed()
    from registry_status.cluster import providers  # noqa: PLC0415 - it imports this module

    where, node = user.where, user.node
    if node.get("exec"):
        return providers.plugin(where, _located(user.folder, node["exec"]), tls)
    return providers.provider(where, user.folder, node)


def _refuse_impersonation(user: Entry) -> None:
    """Whoever asks to act as somebody else asks for other rights than the user's own, mostly fewer; so not with these."""
    for key in IMPERSONATION:
        if user.node.get(key) not in (None, "", [], {}):
            raise AccessError(
                f"{user.where}: {key}: this program cannot impersonate; use a user without {', '.join(IMPERSONATION)}"
            )


def _located(folder: Path, settings: object) -> object:
    """Find an exec plugin as kubectl does: one named by a path lies from the kubeconfig's folder on, any other on the PATH."""
    command = settings.get("command") if isinstance(settings, dict) else None
    if not isinstance(settings, dict) or not isinstance(command, str) or "/" not in command:
        return settings
    return {**settings, "command": str((folder / command).absolute())}
