"""The few types that every room of the operator speaks.

Data flows one way: pod event -> observation -> `Desired` -> keyed worker -> registry -> `Outcome` -> report. All types here are
immutable values, so they can be shared between tasks and compared.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum


class InstanceStatus(StrEnum):
    """The statuses that the operator writes; the registry knows `TESTING` too, which is never ours to set."""

    UP = "UP"
    STARTING = "STARTING"
    OUTOFSERVICE = "OUTOFSERVICE"
    DOWN = "DOWN"


class Reason(StrEnum):
    """Why a pod has the desired status that it has: the rule of DESIGN section 3 that fired."""

    NOT_MANAGED = "NotManaged"
    PAUSED = "Paused"
    INVALID = "InvalidRegistryAnnotation"
    POD_GONE = "PodGone"
    POD_FINISHED = "PodFinished"
    POD_TERMINATING = "PodTerminating"
    POD_READY = "PodReady"
    NODE_LOST = "NodeLost"
    CONTAINER_EXITED = "ContainerExited"
    CONTAINER_NOT_STARTED = "ContainerNotStarted"
    CONTAINER_STARTING = "ContainerStarting"
    READINESS_LOST = "ReadinessLost"


class MatchMode(StrEnum):
    """Which evidence may tie an instance to a pod that names no instance id (annotation `match`)."""

    AUTO = "auto"
    PROPERTY = "property"
    ENDPOINT = "endpoint"
    HOSTNAME = "hostname"


@dataclass(frozen=True, slots=True)
class PodRef:
    """A pod's identity. The uid alone tells two pods apart that followed each other under one name."""

    uid: str
    namespace: str
    name: str
    static: str = ""
    """Of a static pod's mirror: what its kubelet takes for its uid."""

    @property
    def events_uid(self) -> str:
        """The uid that Events of the pod bear: kubelets give it to theirs, and `kubectl describe` looks for it."""
        return self.static or self.uid

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whose registry data: `domain` goes into the `x-domain-name` header, `project` into the path."""

    domain: str = "default"
    project: str = "default"


@dataclass(frozen=True, slots=True)
class ServiceName:
    """A microservice by its names; `version` None means every version of it."""

    name: str
    app: str = "default"
    environment: str = ""
    version: str | None = None

    def __str__(self) -> str:
        tail = f" version {self.version}" if self.version else ""
        where = f" in environment {self.environment}" if self.environment else ""
        return f"{self.app}/{self.name}{tail}{where}"


@dataclass(frozen=True, slots=True)
class Target:
    """Where in the registry a pod's instance is to be found: read from the pod's annotations."""

    tenant: Tenant
    service_id: str | None = None
    service: ServiceName | None = None
    instance_id: str | None = None
    match: MatchMode = MatchMode.AUTO
    pending: bool = False
    """The id is a template whose field has no value (yet), such as the IP of a pod that has none."""

    def same_place(self, other: "Target | None") -> bool:
        """Whether both name the same instance; a template that waits for its value is as good as filled."""
        if other is None:
            return False
        if self is other or self == other:
            return True
        ids_agree = self.instance_id == other.instance_id or self.pending or other.pending
        return ids_agree and replace(self, instance_id=None, pending=False) == replace(other, instance_id=None, pending=False)

    @property
    def where(self) -> str:
        """The service, as people call it."""
        return self.service_id or str(self.service)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with an annotation: which key, what it says, and what it may say."""

    key: str
    value: str
    allowed: str
    wrong: str = ""
    """What is wrong, where it is not the value."""

    def __str__(self) -> str:
        return f"{self.key}: {self.wrong or f'{self.value!r} is not allowed'}; allowed: {self.allowed}"


Life = tuple[int, str | float | None]
"""Restarts, and the container's id or else the time of its start."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What can tie a registered instance to a pod (DESIGN section 4), and when the pod's present life began.

    Times are epoch seconds of the pod's node; None while the pod does not say. They are compared with each other and with the
    registry's registration times only, never with this process's clock.
    """

    uid: str
    name: str
    hostnames: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()
    host_ports: frozenset[int] | None = None
    """On the host's network: the ports that the pod declares, since its IP is the node's and shared. None elsewhere."""
    created_at: float | None = None
    started_at: float | None = None
    container_started_at: float | None = None
    container_id: str = ""
    """Names this life of the main container; empty where no runtime does."""
    restarts: int = 0
    running: bool = False
    """The main container runs now."""
    has_started: bool = False
    """The main container has run at least once: before that nothing of this pod can be registered."""

    @property
    def life(self) -> Life:
        """Tells one life of the main container from the next."""
        return self.restarts, self.container_id or self.container_started_at


@dataclass(frozen=True, slots=True)
class Desired:
    """What the registry should say of one pod's instance, as of one observation of the pod."""

    pod: PodRef
    status: InstanceStatus | None
    """None: nothing is to be written (not managed, paused, or the annotations are invalid)."""
    reason: Reason
    message: str
    target: Target | None = None
    evidence: Evidence | None = None
    problems: tuple[Problem, ...] = ()
    auto: bool = False
    """The not-ready status was left to the operator, which may write DOWN in place of OUTOFSERVICE (DESIGN section 3)."""
    changed_at: float | None = None
    """Epoch seconds of the pod's own transition, for the latency histogram only."""
    gated: bool = False
    """The pod lists our readiness gate, whose condition does not hold yet."""

    @property
    def managed(self) -> bool:
        """Whether there is something for us to write."""
        return self.status is not None and self.target is not None

    @property
    def may_be_registered(self) -> bool:
        """The pod lives, and has come so far that an instance may be its own."""
        if not self.managed or self.ended or self.evidence is None:
            return False
        return self.evidence.has_started or self.status is InstanceStatus.UP

    def calls_for_the_same(self, other: "Desired") -> bool:
        """Whether nothing differs that finding the pod's instance or writing its status goes by."""
        if self is other:
            return True
        return (self.status, self.ended, self.gone, self.target, self.evidence) == (
            other.status, other.ended, other.gone, other.target, other.evidence
        )  # fmt: skip

    @property
    def restarted(self) -> bool:
        """The main container is not in its first life."""
        return self.evidence is not None and self.evidence.restarts > 0

    @property
    def gone(self) -> bool:
        """The pod does not exist any more: its instance's last status is due."""
        return self.reason is Reason.POD_GONE

    @property
    def ended(self) -> bool:
        """No container of the pod will run again."""
        return self.reason in (Reason.POD_GONE, Reason.POD_FINISHED)


class OutcomeKind(StrEnum):
    """How the delivery of a status stands. Each change of it is reported once."""

    DELIVERED = "delivered"
    FAILING = "failing"
    REJECTED = "rejected"
    NOT_FOUND = "not-found"
    CONFLICT = "conflict"
    AUTH_FAILED = "auth-failed"
    INVALID = "invalid"
    DRIFTED = "drifted"
    HARMFUL = "harmful"
    ABANDONED = "abandoned"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one desired status: the material of Events, logs and metrics.

    `message` is a sentence for people: what happened, where, why and what to do. It never holds a secret.
    """

    pod: PodRef
    kind: OutcomeKind
    status: InstanceStatus | None
    message: str
    instances: tuple[str, ...] = ()
    code: str = ""
    latency: float | None = None
    """Seconds from the pod's own transition to the registry's acknowledgement; for DELIVERED by a write only."""
    written: int = field(default=0, compare=False)
    """How many status writes it took."""
