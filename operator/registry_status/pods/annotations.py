"""What a pod's annotations ask for (DESIGN section 4): the target in the registry, and the pod's own settings.

Annotations are written by strangers. Whatever goes into a URL is checked here against a closed form, and every fault is
told with the key, the value and the allowed form.
"""

import heapq
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from registry_status.config import NotReady, Settings, allows
from registry_status.model import InstanceStatus, MatchMode, Problem, ServiceName, Target, Tenant
from registry_status.pods.observation import DEFAULT_CONTAINER, Subject

KEYS = (
    "service-id", "service", "app", "environment", "version", "instance-id", "match", "project", "domain", "container",
    "starting-status", "not-ready-status", "terminating-status", "paused", "class",
)  # fmt: skip
KNOWN = frozenset(KEYS)
TEMPLATE_FIELDS: Mapping[str, Callable[[Subject], str]] = {
    "pod.name": lambda pod: pod.ref.name,
    "pod.namespace": lambda pod: pod.ref.namespace,
    "pod.uid": lambda pod: pod.real_uid,
    "pod.ip": lambda pod: pod.ip,
    "node.name": lambda pod: pod.node,
}
WRITABLE = tuple(status.value for status in InstanceStatus if status is not InstanceStatus.UP)
"""The statuses that a pod may choose for when it is not Ready."""
NOT_READY = (*WRITABLE, NotReady.AUTO.value)
MATCHES = tuple(mode.value for mode in MatchMode)
FIELD = re.compile(r"\{([^{}]*)\}")
"""A field of a template."""
ID = re.compile(r"(?!\.+$)[A-Za-z0-9_.-]{1,64}")
ID_FORM = "1 to 64 letters, digits, '_', '.' or '-', not dots alone"
SERVICE_ID = re.compile(r"(?!\.+$)[A-Za-z0-9_.:@-]{1,64}")
SERVICE_ID_FORM = "1 to 64 letters, digits, '_', '.', ':', '@' or '-', not dots alone"
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,158}[A-Za-z0-9])?")
NAME_FORM = "letters, digits, '_', '.' or '-', a letter or digit first and last, at most 160"
ENVIRONMENT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,126}[A-Za-z0-9])?")
ENVIRONMENT_FORM = "letters, digits, '_', '.' or '-', a letter or digit first and last, at most 128"
VERSION = re.compile(r"[0-9]{1,5}(\.[0-9]{1,5}){0,3}")
MAX_VERSION_PART = 32767
"""The registry keeps each number of a version in 16 bits, and refuses greater ones."""
LONGEST_TEMPLATE = 256
"""Characters of an `instance-id` before its fields are filled in."""
PROBLEMS_TOLD = 8
"""Problems of one pod that are kept: annotations may be 256 KiB, and thousands of them wrong."""
LISTED = 10
"""Names of containers that a problem lists."""
VERSION_FORM = "1 to 4 numbers with dots, such as 1.0.0"


@dataclass(frozen=True, slots=True)
class Asked:
    """What valid annotations ask for."""

    target: Target
    container: str
    starting: InstanceStatus
    not_ready: NotReady
    terminating: InstanceStatus


@dataclass(frozen=True, slots=True)
class Invalid:
    """The annotations cannot be followed: every fault that was found."""

    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class NotOurs:
    """The pod is not annotated, or is another operator's."""

    why: str


class Paused:
    """The pod has been handed back by `paused: "true"`."""


Answer = Asked | Invalid | NotOurs | Paused


def read(pod: Subject, settings: Settings) -> Answer:
    """Read the annotations of a pod. The class comes first, then `paused`: neither a stranger's nor a paused pod is judged."""
    prefix = settings.prefix
    own = {key.removeprefix(prefix): value for key, value in pod.annotations if key.startswith(prefix)}
    if not own:
        return NotOurs(f"no annotations {prefix}*")
    if (found := own.get("class", "")) != settings.operator_class:
        served = f"of class {settings.operator_class!r}" if settings.operator_class else "without a class"
        return NotOurs(f"annotation {prefix}class says {_shown(found)!r}, and this operator serves pods {served}")
    if own.get("paused") == "true":
        return Paused()
    return _Reader(own, pod, settings).read()


class _Reader:
    """Reads one pod's annotations and gathers the problems on the way."""

    def __init__(self, own: Mapping[str, str], pod: Subject, settings: Settings) -> None:
        self._own = own
        self._pod = pod
        self._settings = settings
        self._problems: list[Problem] = []

    def read(self) -> Asked | Invalid:
        for key in heapq.nsmallest(PROBLEMS_TOLD, self._own.keys() - KNOWN):
            # Its value is not shown: it may be anything, a password too.
            self._problem(key, "", f"the keys {', '.join(KEYS)}", "there is no such key")
        self._choice("paused", ("true", "false"), "false")
        asked = Asked(
            target=self._target(),
            container=self._container(),
            starting=InstanceStatus(self._choice("starting-status", WRITABLE, self._settings.starting_status)),
            not_ready=NotReady(self._choice("not-ready-status", NOT_READY, self._settings.not_ready_status)),
            terminating=InstanceStatus(self._choice("terminating-status", WRITABLE, self._settings.terminating_status)),
        )
        return Invalid(tuple(self._problems)) if self._problems else asked

    def _target(self) -> Target:
        instance_id, pending = self._instance_id()
        match = self._choice("match", MATCHES, MatchMode.AUTO)
        if "match" in self._own and "instance-id" in self._own:
            self._problem("match", self._own["match"], "no `match` beside `instance-id`")
        return Target(
            tenant=Tenant(
                domain=self._foreign("domain", self._settings.registry_domain, self._settings.allowed_domains),
                project=self._foreign("project", self._settings.registry_project, self._settings.allowed_projects),
            ),
            service_id=self._formed("service-id", SERVICE_ID, SERVICE_ID_FORM) if "service-id" in self._own else None,
            service=self._service(),
            instance_id=instance_id,
            pending=pending,
            match=MatchMode(match),
        )

    def _service(self) -> ServiceName | None:
        own = self._own
        if "service" not in own and "service-id" not in own:
            allowed = f"`service` with {NAME_FORM}; or `service-id` with {SERVICE_ID_FORM}"
            self._problem("service", "", allowed, "it is missing")
            return None
        if "service-id" in own:
            for key in ("service", "app", "environment", "version"):
                if key in own:
                    self._problem(key, own[key], f"no `{key}` beside `service-id`")
            return None
        return ServiceName(
            name=self._formed("service", NAME, NAME_FORM),
            app=self._formed("app", NAME, NAME_FORM) if "app" in own else "default",
            environment=self._formed("environment", ENVIRONMENT, ENVIRONMENT_FORM) if own.get("environment") else "",
            version=self._version() if "version" in own else None,
        )

    def _version(self) -> str:
        version = self._formed("version", VERSION, VERSION_FORM)
        if VERSION.fullmatch(version) and any(int(part) > MAX_VERSION_PART for part in version.split(".")):
            self._problem("version", version, f"{VERSION_FORM}, each at most {MAX_VERSION_PART}")
        return version

    def _instance_id(self) -> tuple[str | None, bool]:
        """The id, and whether it waits for something that the pod does not have yet (an IP, a node)."""
        if "instance-id" not in self._own:
            return None, False
        template = self._own["instance-id"]
        if len(template) > LONGEST_TEMPLATE:
            self._problem("instance-id", template, ID_FORM)
            return None, False
        fields = set(FIELD.findall(template))
        if unknown := fields - TEMPLATE_FIELDS.keys():
            allowed = ", ".join(f"{{{name}}}" for name in TEMPLATE_FIELDS)
            self._problem("instance-id", template, f"the fields {allowed}, not {{{min(unknown)}}}")
            return None, False
        values = {name: TEMPLATE_FIELDS[name](self._pod) for name in fields}
        if not all(values.values()):
            return None, True
        text = FIELD.sub(lambda match: values[match[1]], template)
        if not ID.fullmatch(text):
            shown = template if text == template else f"{template} = {text}"
            self._problem("instance-id", shown, ID_FORM)
        return text, False

    def _foreign(self, key: str, own: str, allowed: tuple[str, ...]) -> str:
        """A project or tenant: the operator's own, or another that its settings allow to the pod's namespace."""
        if key not in self._own:
            return own
        value = self._formed(key, ID, ID_FORM)
        if value != own and not allows(allowed, self._pod.ref.namespace, value):
            patterns = "".join(f", {pattern}" for pattern in allowed)
            self._problem(
                key, value, f"{own}{patterns} (the operator's settings allow no other to namespace {self._pod.ref.namespace})"
            )
        return value

    def _container(self) -> str:
        names = self._pod.containers
        for key, name in (
            ("container", self._own.get("container")),
            (DEFAULT_CONTAINER, dict(self._pod.annotations).get(DEFAULT_CONTAINER)),
        ):
            if name is not None:
                if name not in names:
                    self._problem(key, name, f"one of the pod's containers: {_listed(names)}")
                return name
        return names[0] if names else ""

    def _choice(self, key: str, allowed: tuple[str, ...], default: str) -> str:
        value = self._own.get(key, default)
        if value not in allowed:
            self._problem(key, value, ", ".join(allowed))
            return default
        return value

    def _formed(self, key: str, form: re.Pattern[str], allowed: str) -> str:
        value = self._own[key]
        if not form.fullmatch(value):
            self._problem(key, value, allowed)
        return value

    def _problem(self, key: str, value: str, allowed: str, wrong: str = "") -> None:
        full = key if "/" in key else self._settings.prefix + key
        if len(self._problems) < PROBLEMS_TOLD:
            self._problems.append(Problem(key=full, value=_shown(value), allowed=allowed, wrong=wrong))


def _shown(value: str) -> str:
    return value if len(value) <= 100 else value[:100] + "..."


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
