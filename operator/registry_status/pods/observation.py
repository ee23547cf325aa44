"""What one pod object says, read once into plain typed values.

The API server checks what it stores, but an operator that meets a half-written or foreign object must not fall: whatever
is missing or of another type reads as absent.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache

from registry_status.model import PodRef

RawPod = Mapping[str, object]
MIRROR = "kubernetes.io/config.mirror"
CONFIG_HASH = "kubernetes.io/config.hash"
UID = re.compile(r"[A-Za-z0-9._-]{1,64}")
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
REMEMBERED = 1024
"""So many times are not read again when they come again: most of a pod says what it said before."""
ALIVE_PHASES = frozenset({"", "Pending", "Running", "Unknown"})


class Truth(StrEnum):
    """A condition's status."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


TRUTHS: Mapping[str, Truth] = {truth.value: truth for truth in Truth}
"""Each by its word. To call the enumeration takes ten times as long."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One of a pod's conditions; times are epoch seconds."""

    status: Truth
    reason: str = ""
    changed_at: float | None = None


@dataclass(frozen=True, slots=True)
class ContainerState:
    """The main container's state; times are epoch seconds of the node."""

    restarts: int = 0
    running: bool = False
    startup_done: bool = True
    """False while a startup probe has not succeeded yet."""
    started_at: float | None = None
    id: str = ""
    """The runtime's name for this life of the container: another life has another."""
    terminated: bool = False
    finished_at: float | None = None
    ran_before: bool = False
    why: str = ""
    """The kubelet's word for waiting or having ended, such as CrashLoopBackOff."""


@dataclass(frozen=True, slots=True)
class Subject:
    """All of a pod that its annotations are read against. It stays the same while a pod becomes ready, fails or ends."""

    ref: PodRef
    annotations: tuple[tuple[str, str], ...]
    """The operator's own, and the one that names the main container to all tools."""
    real_uid: str
    """What the pod itself believes to be its uid: for a static pod's mirror it is the config hash."""
    containers: tuple[str, ...]
    """Names that may be a main container: regular ones first, then restartable init containers."""
    ip: str
    """The first IP; empty while there is none."""
    node: str


@dataclass(frozen=True, slots=True)
class Observation:
    """All of a pod that matters to us."""

    subject: Subject
    states: Mapping[str, ContainerState]
    conditions: Mapping[str, Condition]
    gates: tuple[str, ...]
    phase: str
    ips: tuple[str, ...]
    hostnames: tuple[str, ...]
    host_ports: frozenset[int] | None
    created_at: float | None
    started_at: float | None
    deleted_at: float | None
    """When deletion was asked for (not when the grace period ends); None if it was not."""
    deleting: bool

    @property
    def finished(self) -> bool:
        """All containers have ended for good."""
        return self.phase not in ALIVE_PHASES


def observe(pod: RawPod, prefix: str) -> Observation:
    """Read a pod object as the API server gives it; `prefix` is that of our annotations."""
    metadata, spec, status = _map(pod.get("metadata")), _map(pod.get("spec")), _map(pod.get("status"))
    annotations = {key: value for key, value in _map(metadata.get("annotations")).items() if isinstance(value, str)}
    ref = PodRef(
        uid=_text(metadata.get("uid")),
        namespace=_text(metadata.get("namespace")),
        name=_text(metadata.get("name")),
        static=_static_uid(annotations[MIRROR]) if MIRROR in annotations else "",
    )
    ips = _ips(status)
    subject = Subject(
        ref=ref,
        annotations=tuple(
            entry for entry in annotations.items() if entry[0].startswith(prefix) or entry[0] == DEFAULT_CONTAINER
        ),
        real_uid=annotations.get(CONFIG_HASH, ref.uid) if MIRROR in annotations else ref.uid,
        containers=tuple(_container_names(spec)),
        ip=ips[0] if ips else "",
        node=_text(spec.get("nodeName")),
    )
    return Observation(
        subject=subject,
        states=_container_states(status),
        conditions=_conditions(status),
        gates=tuple(_text(gate.get("conditionType")) for gate in _maps(spec.get("readinessGates"))),
        phase=_text(status.get("phase")),
        ips=ips,
        hostnames=_hostnames(ref.name, spec),
        host_ports=_host_ports(spec),
        created_at=_time(metadata.get("creationTimestamp")),
        started_at=_time(status.get("startTime")),
        deleted_at=_deletion_asked_at(metadata),
        deleting=bool(metadata.get("deletionTimestamp")),
    )


def _static_uid(mirror: str) -> str:
    """The static pod's uid that a mirror pod's annotation says; empty for what no kubelet writes."""
    return mirror if UID.fullmatch(mirror) else ""


def _container_names(spec: Mapping[str, object]) -> Iterator[str]:
    for container in _maps(spec.get("containers")):
        yield _text(container.get("name"))
    for container in _maps(spec.get("initContainers")):
        if container.get("restartPolicy") == "Always":
            yield _text(container.get("name"))


def _container_states(status: Mapping[str, object]) -> dict[str, ContainerState]:
    listed = [*_maps(status.get("containerStatuses")), *_maps(status.get("initContainerStatuses"))]
    return {_text(entry.get("name")): _container_state(entry) for entry in listed}


def _container_state(entry: Mapping[str, object]) -> ContainerState:
    state, restarts = _map(entry.get("state")), entry.get("restartCount")
    running, ended, waiting = _map(state.get("running")), _map(state.get("terminated")), _map(state.get("waiting"))
    restarts = restarts if isinstance(restarts, int) else 0
    return ContainerState(
        restarts=restarts,
        running="running" in state,
        startup_done=entry.get("started") is not False,
        started_at=_time(running.get("startedAt")),
        id=_text(entry.get("containerID")),
        terminated="terminated" in state,
        finished_at=_time(ended.get("finishedAt")),
        ran_before=restarts > 0 or "terminated" in _map(entry.get("lastState")),
        why=_text(ended.get("reason")) or _text(waiting.get("reason")),
    )


def _conditions(status: Mapping[str, object]) -> dict[str, Condition]:
    found = {}
    for entry in _maps(status.get("conditions")):
        truth = TRUTHS.get(_text(entry.get("status")))
        if truth is not None:
            found[_text(entry.get("type"))] = Condition(
                status=truth, reason=_text(entry.get("reason")), changed_at=_time(entry.get("lastTransitionTime"))
            )
    return found


def _ips(status: Mapping[str, object]) -> tuple[str, ...]:
    listed = [_text(entry.get("ip")) for entry in _maps(status.get("podIPs"))]
    return tuple(dict.fromkeys(filter(None, [_text(status.get("podIP")), *listed])))


def _hostnames(name: str, spec: Mapping[str, object]) -> tuple[str, ...]:
    """What the pod may call itself: `spec.hostname`, or its name, cut as kubelets (63) and Linux (64) cut it.

    On the host's network it is called as the node is.
    """
    own = _text(spec.get("hostname")) or name
    node = [_text(spec.get("nodeName"))] if spec.get("hostNetwork") is True else []
    return tuple(dict.fromkeys(filter(None, [own, own[:64], own[:63].rstrip("-."), *node])))


def _host_ports(spec: Mapping[str, object]) -> frozenset[int] | None:
    if spec.get("hostNetwork") is not True:
        return None
    containers = [*_maps(spec.get("containers")), *_maps(spec.get("initContainers"))]
    ports = [port.get("containerPort") for container in containers for port in _maps(container.get("ports"))]
    return frozenset(port for port in ports if isinstance(port, int))


def _deletion_asked_at(metadata: Mapping[str, object]) -> float | None:
    """`deletionTimestamp` is when the grace period ends."""
    ends, grace = _time(metadata.get("deletionTimestamp")), metadata.get("deletionGracePeriodSeconds")
    return ends - (grace if isinstance(grace, int) else 0) if ends is not None else None


def _map(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _maps(value: object) -> list[Mapping[str, object]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _time(value: object) -> float | None:
    return _epoch(_text(value))


@lru_cache(REMEMBERED)
def _epoch(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
