"""Every setting of the operator, typed, in one place.

Each setting has a flag (`--registry-address`) and an environment variable (`REGISTRY_STATUS_REGISTRY_ADDRESS`): the flag wins
over the variable, and the variable over the default. Lists are given by repeating the flag, or with commas.
"""

import argparse
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from registry_status import labelselector
from registry_status.dns import LABEL, SUBDOMAIN
from registry_status.model import InstanceStatus, Tenant

ENVIRONMENT_PREFIX = "REGISTRY_STATUS_"


class SettingsError(Exception):
    """One or more settings are wrong; the message has a line for each: which, what it says, what is allowed."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class NotReady(StrEnum):
    """What an instance becomes whose pod has lost readiness.

    `auto` is OUTOFSERVICE, but DOWN where a Java Chassis 3 consumer would choke on it.
    """

    AUTO = "auto"
    OUTOFSERVICE = "OUTOFSERVICE"
    STARTING = "STARTING"
    DOWN = "DOWN"


class LogFormat(StrEnum):
    """How log lines look."""

    PLAIN = "plain"
    JSON = "json"


class LogLevel(StrEnum):
    """From which level on log lines are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _status(text: str) -> InstanceStatus:
    allowed = [status for status in InstanceStatus if status is not InstanceStatus.UP]
    if text not in allowed:
        raise ValueError(f"one of {', '.join(allowed)}")
    return InstanceStatus(text)


def _choice(kind: type[StrEnum]) -> Callable[[str], StrEnum]:
    def parse(text: str) -> StrEnum:
        if text not in list(kind):
            raise ValueError(f"one of {', '.join(kind)}")
        return kind(text)

    return parse


def _address(text: str) -> str:
    form = "a URL such as http://registry:30100, without path, query, user or password"
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError(form) from None
    bare = url.path in ("", "/") and not url.query and not url.fragment and url.username is None
    host = _url_host(url.netloc, url.hostname or "")
    if url.scheme not in ("http", "https") or host is None or not bare or port == 0 or re.search(r"[^!-~]", text):
        raise ValueError(form)
    return f"{url.scheme}://{host}" + (f":{port}" if port is not None else "")


HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?"
)


def _url_host(netloc: str, host: str) -> str | None:
    """The host as a URL has it; None for what no resolver and no HTTP client would take."""
    if "[" not in netloc:
        return host if HOST.fullmatch(host) else None
    try:
        return f"[{IPv6Address(host)}]"
    except ValueError:
        return None


def _listen(text: str) -> tuple[str, int]:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]]+)):([0-9]{1,5})", text)
    if found is None or int(found[3]) > 65535 or (found[2] and not HOST.fullmatch(found[2])):
        raise ValueError("HOST:PORT such as 0.0.0.0:8080 or [::]:8080")
    return found[1] or found[2], int(found[3])


def _prefix(text: str) -> str:
    if not SUBDOMAIN.fullmatch(text):
        raise ValueError("a DNS name such as registry-status.io, without a slash")
    return text


def _registry_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", text) or text in (".", ".."):
        raise ValueError("1 to 64 letters, digits, '_', '.' or '-'")
    return text


def _optional_project(text: str) -> str:
    return _registry_name(text) if text else ""


def _account(text: str) -> str:
    if not re.fullmatch(r"[!-~]{0,256}", text):
        raise ValueError("the name of an account, without spaces")
    return text


def _pattern(text: str) -> str:
    if not re.fullmatch(r"([A-Za-z0-9_.*?-]+/)?[A-Za-z0-9_.*?-]+", text):
        raise ValueError("a name, a shell pattern, or NAMESPACE-PATTERN/PATTERN")
    return text


def _namespace(text: str) -> str:
    if not LABEL.fullmatch(text):
        raise ValueError("the name of a namespace")
    return text


def _lease_name(text: str) -> str:
    if not SUBDOMAIN.fullmatch(text):
        raise ValueError("lower-case letters, digits, '-' and '.', at most 253")
    return text


def _optional_namespace(text: str) -> str:
    return _namespace(text) if text else ""


def _label_selector(text: str) -> str:
    labelselector.check(text)
    return text.strip()


def _context(text: str) -> str:
    if not text:
        raise ValueError("the name of a context")
    return text


def _path(text: str) -> Path:
    if not text:
        raise ValueError("the path of a file")
    return Path(text)


def _word(text: str) -> str:
    if text and not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", text):
        raise ValueError("letters, digits, '_', '.' or '-', at most 63")
    return text


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("true or false")
    return text.lower() == "true"


def _shard(text: str) -> str:
    found = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
    if text and (found is None or not 1 <= int(found[1]) <= int(found[2])):
        raise ValueError("NUMBER/COUNT such as 1/4, from 1/1 to 9999/9999")
    return text


def _between(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        form = f"a number of seconds from {low:g} to {high:g}"
        try:
            value = float(text)
        except ValueError:
            raise ValueError(form) from None
        if not low <= value <= high:
            raise ValueError(form)
        return value

    return parse


def _count(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return parse


def setting(parse: Callable[[str], Any], default: object, text: str, *, group: str, metavar: str = "") -> Any:  # noqa: ANN401 - as `field`
    """Describe one setting: how its text is read, its default, and what `--help` says of it."""
    metadata = {"parse": parse, "help": text, "group": group, "metavar": metavar}
    return dataclasses.field(default=default, metadata=metadata)  # type: ignore[call-overload, unused-ignore]  # any default


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the operator was told. Every value is checked when it is read, so the rest of the code can trust it."""

    kubeconfig: Path | None = setting(
        _path, None, "Kubeconfig file; default: the pod's service account, else $KUBECONFIG, else ~/.kube/config.",
        group="Kubernetes", metavar="FILE",
    )  # fmt: skip
    context: str | None = setting(
        _context, None, "Context of the kubeconfig; default: its current one.", group="Kubernetes", metavar="NAME"
    )
    namespaces: tuple[str, ...] = setting(
        _namespace, (), "Watch these namespaces only; default: the whole cluster.", group="Kubernetes", metavar="NAME"
    )
    label_selector: str = setting(
        _label_selector, "", "Watch only pods with these labels (the API server does the work).",
        group="Kubernetes", metavar="SELECTOR",
    )  # fmt: skip
    shard: str = setting(
        _shard, "", "Watch only this share of the pods, such as 1/4 (Kubernetes 1.36, feature gate ShardedListAndWatch).",
        group="Kubernetes", metavar="NUMBER/COUNT",
    )  # fmt: skip
    watch_filter: bool = setting(
        _boolean, True, "Drop other pods' events by their bytes, before anything is parsed; off: plain kopf, at its price.",
        group="Kubernetes", metavar="BOOL",
    )  # fmt: skip
    leader_elect: bool = setting(
        _boolean, False, "Share the work with other replicas: one writes, the others stand by.", group="Kubernetes",
        metavar="BOOL",
    )  # fmt: skip
    lease_name: str = setting(
        _lease_name, "registry-status-operator-leader", "Lease by which the replicas elect the one that writes.",
        group="Kubernetes", metavar="NAME",
    )  # fmt: skip
    lease_namespace: str = setting(
        _optional_namespace, "", "Namespace of the Lease; default: the operator's own.", group="Kubernetes", metavar="NAME"
    )
    registry_address: tuple[str, ...] = setting(
        _address, (), "Service Center's URL, such as http://registry:30100; several make a fail-over list.",
        group="Registry", metavar="URL",
    )  # fmt: skip
    registry_project: str = setting(
        _registry_name, "default", "Project whose data is read and written.", group="Registry", metavar="NAME"
    )
    registry_domain: str = setting(
        _registry_name, "default", "Tenant (x-domain-name) whose data is read and written.", group="Registry", metavar="NAME"
    )
    registry_username: str = setting(_account, "", "Account that logs in for a token (RBAC).", group="Registry", metavar="NAME")
    registry_password_file: Path | None = setting(
        _path, None, "File with its password; read again when it changes.", group="Registry", metavar="FILE"
    )
    registry_access_key_file: Path | None = setting(
        _path, None, "File with an access key (AK), for a registry that takes these.", group="Registry", metavar="FILE"
    )
    registry_secret_key_file: Path | None = setting(
        _path, None, "File with its secret key (SK).", group="Registry", metavar="FILE"
    )
    registry_access_key_project: str = setting(
        _optional_project, "", "The access key's project (X-Service-Project); default: the one whose data is meant.",
        group="Registry", metavar="NAME",
    )  # fmt: skip
    registry_ca_file: Path | None = setting(
        _path, None, "File with the authorities that sign the registry's certificate, PEM; default: the system's.",
        group="Registry", metavar="FILE",
    )  # fmt: skip
    registry_client_cert_file: Path | None = setting(
        _path, None, "File with our certificate and its chain, PEM, for a registry that asks for one.",
        group="Registry", metavar="FILE",
    )  # fmt: skip
    registry_client_key_file: Path | None = setting(
        _path, None, "File with its key, PEM, without passphrase.", group="Registry", metavar="FILE"
    )
    allowed_projects: tuple[str, ...] = setting(
        _pattern, (), "Projects that pods may name in the annotation `project`: patterns, or NAMESPACE/PROJECT patterns.",
        group="Registry", metavar="PATTERN",
    )  # fmt: skip
    allowed_domains: tuple[str, ...] = setting(
        _pattern, (), "Tenants that pods may name in the annotation `domain`: patterns, or NAMESPACE/DOMAIN patterns.",
        group="Registry", metavar="PATTERN",
    )  # fmt: skip
    request_timeout: float = setting(
        _between(0.1, 60), 5.0, "Seconds for a whole request to the registry.", group="Registry", metavar="SECONDS"
    )
    connect_timeout: float = setting(
        _between(0.1, 60), 2.0, "Seconds to connect to the registry.", group="Registry", metavar="SECONDS"
    )
    concurrency: int = setting(_count(1, 1000), 32, "Requests to the registry at once.", group="Registry", metavar="COUNT")
    annotation_prefix: str = setting(
        _prefix, "registry-status.io", "Domain of the annotations that are read.", group="Pods", metavar="DOMAIN"
    )
    operator_class: str = setting(
        _word, "", "Serve pods whose annotation `class` says this; default: pods without one.", group="Pods", metavar="NAME"
    )
    terminating_status: InstanceStatus = setting(
        _status, InstanceStatus.DOWN, "Status while a pod terminates.", group="Pods", metavar="STATUS"
    )
    starting_status: InstanceStatus = setting(
        _status, InstanceStatus.STARTING, "Status until a pod was first ready.", group="Pods", metavar="STATUS"
    )
    not_ready_status: NotReady = setting(
        _choice(NotReady), NotReady.AUTO, "Status when readiness is lost; `auto`: OUTOFSERVICE, or DOWN beside Java Chassis 3.",
        group="Pods", metavar="STATUS",
    )  # fmt: skip
    trust_instance_ids: bool = setting(
        _boolean, False, "Accept an annotated instance-id without evidence that the instance is the pod's.",
        group="Pods", metavar="BOOL",
    )  # fmt: skip
    readiness_gate: bool = setting(
        _boolean, False, "Set the condition DOMAIN/registered of pods with that readiness gate, once the registry says UP.",
        group="Pods", metavar="BOOL",
    )  # fmt: skip
    resync_interval: float = setting(
        _between(1, 3600), 30.0, "Seconds between two comparisons with the registry.", group="Delivery", metavar="SECONDS"
    )
    registration_window: float = setting(
        _between(0, 3600), 120.0, "Seconds after a container's start in which its registration is looked for each second.",
        group="Delivery", metavar="SECONDS",
    )  # fmt: skip
    dry_run: bool = setting(
        _boolean, False, "Write nothing to the registry, post no Events, take no Lease: log and count what would be written.",
        group="Delivery", metavar="BOOL",
    )  # fmt: skip
    listen: tuple[str, int] = setting(
        _listen, ("0.0.0.0", 8080), "Where /healthz, /readyz and /metrics are served.", group="Reports", metavar="HOST:PORT"
    )
    report_updates: bool = setting(
        _boolean, False, "Post a Normal event for each status written, too.", group="Reports", metavar="BOOL"
    )
    log_format: LogFormat = setting(_choice(LogFormat), LogFormat.PLAIN, "plain or json.", group="Reports", metavar="FORMAT")
    log_level: LogLevel = setting(
        _choice(LogLevel), LogLevel.INFO, "debug, info, warning or error.", group="Reports", metavar="LEVEL"
    )

    @property
    def tenant(self) -> Tenant:
        """The tenant of pods that name none."""
        return Tenant(domain=self.registry_domain, project=self.registry_project)

    @property
    def prefix(self) -> str:
        """How every annotation of ours begins."""
        return self.annotation_prefix + "/"

    @property
    def gate(self) -> str:
        """The condition of our readiness gate."""
        return f"{self.prefix}registered"

    @property
    def shard_selector(self) -> str:
        """The share of the pods that is watched, as the API server is asked for it: a range of hashes of their uids.

        The ranges of all shares of one count have neither gaps nor overlaps. Empty: all pods.
        """
        if not self.shard:
            return ""
        number, count = map(int, self.shard.split("/"))
        low, high = ((share << 64) // count for share in (number - 1, number))
        return f"shardRange(object.metadata.uid, '{low:#018x}', '{high:#018x}')"

    @property
    def selection(self) -> Mapping[str, str]:
        """Which pods of a namespace are meant, as the API server is asked for them."""
        asked = {"labelSelector": self.label_selector, "shardSelector": self.shard_selector}
        return {name: selector for name, selector in asked.items() if selector}


def allows(patterns: Sequence[str], namespace: str, name: str) -> bool:
    """Whether these patterns (`allowed_projects`, `allowed_domains`) let pods of the namespace name this project or tenant."""
    return any(_pattern_allows(pattern, namespace, name) for pattern in patterns)


def _pattern_allows(pattern: str, namespace: str, name: str) -> bool:
    namespaces, slash, names = pattern.rpartition("/")
    return fnmatchcase(name, names) and (not slash or fnmatchcase(namespace, namespaces))


def flag(name: str) -> str:
    """The command line's spelling of a setting's name."""
    return "--" + _singular(name).replace("_", "-")


def variable(name: str) -> str:
    """The environment's spelling of a setting's name."""
    return ENVIRONMENT_PREFIX + _singular(name).upper()


def _singular(name: str) -> str:
    renamed = {
        "operator_class": "class",
        "namespaces": "namespace",
        "allowed_projects": "allow_project",
        "allowed_domains": "allow_domain",
    }
    return renamed.get(name, name)


def add_arguments(parser: argparse.ArgumentParser, names: Sequence[str] | None = None) -> None:
    """Give the parser a flag for each setting, or for those named."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for field in dataclasses.fields(Settings):
        if names is not None and field.name not in names:
            continue
        title = field.metadata["group"]
        group = groups.setdefault(title, parser.add_argument_group(title))
        default = "" if field.default in (None, (), "") else f" Default: {_shown(field.default)}."
        group.add_argument(
            flag(field.name), dest=field.name, default=None, metavar=field.metadata["metavar"],
            **(_SWITCH if field.name == "dry_run" else {}),
            action="append" if isinstance(field.default, tuple) and field.name != "listen" else "store",
            help=f"{field.metadata['help']}{default} [{variable(field.name)}]".replace("%", "%%"),
        )  # fmt: skip


_SWITCH: Mapping[str, Any] = {"nargs": "?", "const": "true"}
"""A flag that may stand alone, as people expect of `--dry-run`."""


def _shown(default: object) -> str:
    if isinstance(default, tuple):
        return ":".join(map(str, default))
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


def read_settings(arguments: argparse.Namespace, environment: Mapping[str, str]) -> Settings:
    """Join flags, environment and defaults. Raises `SettingsError` naming every wrong setting and unknown variable."""
    values: dict[str, object] = {}
    problems: list[str] = []
    for field in dataclasses.fields(Settings):
        given = getattr(arguments, field.name, None)
        source = flag(field.name)
        if given is None and variable(field.name) in environment:
            given, source = environment[variable(field.name)], variable(field.name)
        if given is None:
            continue
        try:
            values[field.name] = _parsed(field, given)
        except ValueError as error:
            problems.append(f"{source}: {error}")
    problems += _unknown_variables(environment)
    settings = Settings(**values)  # type: ignore[arg-type]  # each was parsed by its own field
    problems = problems or _contradictions(settings)
    if problems:
        raise SettingsError(problems)
    return settings


NEEDS = (
    ("registry_username", "registry_password_file"),
    ("registry_password_file", "registry_username"),
    ("registry_access_key_file", "registry_secret_key_file"),
    ("registry_secret_key_file", "registry_access_key_file"),
    ("registry_access_key_project", "registry_access_key_file"),
    ("registry_client_cert_file", "registry_client_key_file"),
    ("registry_client_key_file", "registry_client_cert_file"),
)
"""Settings that are of no use without another one."""


def _contradictions(settings: Settings) -> list[str]:
    problems = [
        f"{flag(name)} needs {flag(other)} (or {variable(other)})"
        for name, other in NEEDS
        if getattr(settings, name) and not getattr(settings, other)
    ]
    if settings.registry_username and settings.registry_access_key_file:
        problems.append(f"{flag('registry_username')} and {flag('registry_access_key_file')}: only one of them can be used")
    addresses = settings.registry_address
    if addresses and not any(address.startswith("https:") for address in addresses):
        problems += [
            f"{flag(name)} is of use only with a {flag('registry_address')} that begins with https://"
            for name in ("registry_ca_file", "registry_client_cert_file")
            if getattr(settings, name)
        ]
    return problems


def require(settings: Settings, *names: str) -> None:
    """Raise `SettingsError` for each named setting that was not given."""
    missing = [name for name in names if not getattr(settings, name)]
    if missing:
        raise SettingsError([f"{flag(name)} is needed (or {variable(name)})" for name in missing])


def _parsed(field: "dataclasses.Field[Any]", given: str | list[str]) -> object:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(field.default, tuple) or field.name == "listen":
        return _parsed_one(field, texts[-1], texts[-1])
    parts = [_parsed_one(field, part.strip(), text) for text in texts for part in text.split(",") if part.strip()]
    return tuple(dict.fromkeys(parts))  # a namespace that is named twice is watched once


def _parsed_one(field: "dataclasses.Field[Any]", text: str, whole: str) -> object:
    try:
        return field.metadata["parse"](text)
    except ValueError as error:
        shown = _without_password(text, whole) if field.name == "registry_address" or "//" in whole else text
        raise ValueError(f"{shown!r} is not allowed; allowed: {error}") from None


def _without_password(text: str, whole: str) -> str:
    """A URL's user and password are for nobody's log; a comma in a password makes two parts of the whole."""
    if "@" not in whole:
        return text
    _, at, host = text.rpartition("@")
    scheme = re.match(r"((https?:)?//)?", text)
    return f"{scheme[0] if scheme else ''}***{at}{host if at else ''}"


SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)(_|$)|_PORT(_\d+_|$)")
"""What Kubernetes itself adds to a container's environment for each Service, also for one named registry-status-anything."""


def _unknown_variables(environment: Mapping[str, str]) -> list[str]:
    known = {variable(field.name) for field in dataclasses.fields(Settings)}
    return [
        f"{name}: there is no such setting; settings are listed by `registry-status run --help`"
        for name in sorted(environment)
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known and not SERVICE_LINK.search(name)
    ]
