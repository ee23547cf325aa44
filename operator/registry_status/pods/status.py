"""The status that a pod calls for: DESIGN section 3 as one pure function of the pod object.

It needs no memory, so a restarted operator says the same. The first rule that matches wins.
"""

from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain

from registry_status.config import NotReady, Settings
from registry_status.model import Desired, Evidence, InstanceStatus, Reason
from registry_status.pods.annotations import Answer, Asked, Invalid, NotOurs, Paused, read
from registry_status.pods.observation import Condition, ContainerState, Observation, RawPod, Subject, Truth, observe

REMEMBERED = 4096
LONGEST_REMEMBERED = 4096
"""So many pods' annotations are remembered, each of so many characters at most: some 4 MiB where they are as long as usual."""
RESTART_SLACK = 5.0
"""Seconds after a restart in place within which Ready=False still belongs to the life before: the kubelet kills and restarts in
one pass and writes the condition after the new start."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A rule's answer. `auto` tells that the not-ready status was left to the operator."""

    status: InstanceStatus
    reason: Reason
    message: str
    changed_at: float | None = None
    auto: bool = False


class Judge:
    """Says for one operator what the registry should say of pods, and remembers what their annotations ask for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._prefix, self._gate = settings.prefix, settings.gate
        self._remembered = lru_cache(REMEMBERED)(partial(read, settings=settings))

    def desired(self, pod: RawPod, *, deleted: bool = False) -> Desired:
        """What the registry should say of this pod; `deleted` for the last state of a pod that is gone from the API server."""
        prefix = self._prefix
        seen = observe(pod, prefix)
        asked = self._asked(seen.subject)
        match asked:
            case Asked():
                verdict = decide(seen, asked, self._gate, deleted=deleted)
                return _follow(seen, asked, verdict, gated=self._gate in seen.gates and not _holds(seen, self._gate))
            case NotOurs(why):
                return Desired(seen.subject.ref, None, Reason.NOT_MANAGED, why)
            case Paused():
                return Desired(seen.subject.ref, None, Reason.PAUSED, f'handed back by {prefix}paused: "true"')
            case Invalid(problems):
                return Desired(seen.subject.ref, None, Reason.INVALID, "; ".join(map(str, problems)), problems=problems)

    def _asked(self, pod: Subject) -> Answer:
        size = sum(map(len, chain.from_iterable(pod.annotations)))
        return self._remembered(pod) if size <= LONGEST_REMEMBERED else read(pod, self._settings)


def desired(pod: RawPod, settings: Settings, *, deleted: bool = False) -> Desired:
    """What a `Judge` says of one pod alone."""
    return Judge(settings).desired(pod, deleted=deleted)


def _follow(seen: Observation, asked: Asked, verdict: Verdict, *, gated: bool) -> Desired:
    return Desired(
        pod=seen.subject.ref,
        status=verdict.status,
        reason=verdict.reason,
        message=verdict.message,
        target=asked.target,
        evidence=_evidence(seen, asked.container),
        auto=verdict.auto,
        changed_at=verdict.changed_at,
        gated=gated,
    )


def decide(pod: Observation, asked: Asked, own_gate: str, *, deleted: bool) -> Verdict:
    """Rules 2 to 9 of DESIGN section 3; rule 1 (not ours, paused) has been settled by the annotations."""
    main = pod.states.get(asked.container)
    return (
        _ending(pod, asked, deleted=deleted)
        or _ready(pod, own_gate)
        or _node_lost(pod, asked)
        or _exited(asked.container, main)
        or _starting(pod, asked, main)
        or _readiness_lost(pod, asked)
    )


def _ending(pod: Observation, asked: Asked, *, deleted: bool) -> Verdict | None:
    if deleted:
        return Verdict(InstanceStatus.DOWN, Reason.POD_GONE, "the pod has been deleted", pod.deleted_at)
    if pod.finished:
        return Verdict(InstanceStatus.DOWN, Reason.POD_FINISHED, f"the pod has ended: phase {pod.phase}")
    if pod.deleting:
        return Verdict(asked.terminating, Reason.POD_TERMINATING, "the pod is being terminated", pod.deleted_at)
    return None


def _ready(pod: Observation, own_gate: str) -> Verdict | None:
    ready = pod.conditions.get("Ready")
    if ready is None:
        return None
    if ready.status is Truth.TRUE:
        return Verdict(InstanceStatus.UP, Reason.POD_READY, "the pod is Ready", ready.changed_at)
    if (
        own_gate in pod.gates
        and _waits_for_gates_only(pod, ready)
        and all(_holds(pod, gate) for gate in pod.gates if gate != own_gate)
    ):
        since = pod.conditions["ContainersReady"].changed_at
        return Verdict(InstanceStatus.UP, Reason.POD_READY, f"the pod is Ready but for its gate {own_gate}", since)
    return None


def _waits_for_gates_only(pod: Observation, ready: Condition) -> bool:
    return ready.status is Truth.FALSE and ready.reason == "ReadinessGatesNotReady" and _holds(pod, "ContainersReady")


def _holds(pod: Observation, condition: str) -> bool:
    found = pod.conditions.get(condition)
    return found is not None and found.status is Truth.TRUE


def _node_lost(pod: Observation, asked: Asked) -> Verdict | None:
    ready = pod.conditions.get("Ready")
    if ready is None:
        return None
    marked = ready.status is Truth.FALSE and _holds(pod, "ContainersReady") and ready.reason != "ReadinessGatesNotReady"
    if ready.status is not Truth.UNKNOWN and not marked:
        return None
    node = pod.subject.node or "of the pod"
    message = f"the node {node} does not report any more: Ready={ready.status} while its containers were ready"
    return _not_ready(asked, Reason.NODE_LOST, message, ready.changed_at)


def _exited(container: str, main: ContainerState | None) -> Verdict | None:
    if main is None or main.running or not (main.terminated or main.ran_before):
        return None
    how = f" ({main.why})" if main.why else ""
    if main.terminated:
        return Verdict(InstanceStatus.DOWN, Reason.CONTAINER_EXITED, f"container {container} has ended{how}", main.finished_at)
    return Verdict(
        InstanceStatus.DOWN, Reason.CONTAINER_EXITED, f"container {container} has ended and waits for its restart{how}"
    )


def _starting(pod: Observation, asked: Asked, main: ContainerState | None) -> Verdict | None:
    if main is None or not main.running:
        why = f" ({main.why})" if main is not None and main.why else ""
        return Verdict(asked.starting, Reason.CONTAINER_NOT_STARTED, f"container {asked.container} has not started yet{why}")
    if main.startup_done and _was_ready_in_this_life(pod.conditions.get("Ready"), main):
        return None
    message = f"container {asked.container} runs and has not been ready since its start"
    return Verdict(asked.starting, Reason.CONTAINER_STARTING, message, main.started_at)


def _was_ready_in_this_life(ready: Condition | None, main: ContainerState) -> bool:
    """Kubernetes sets Ready=False before a container first starts: a later transition tells that Ready was reached."""
    if ready is None or ready.changed_at is None or main.started_at is None:
        return False
    age = ready.changed_at - main.started_at
    return age > (RESTART_SLACK if main.restarts > 0 else 0)


def _readiness_lost(pod: Observation, asked: Asked) -> Verdict:
    ready = pod.conditions["Ready"]
    why = f" ({ready.reason})" if ready.reason else ""
    return _not_ready(asked, Reason.READINESS_LOST, f"the pod was ready and is not any more{why}", ready.changed_at)


def _not_ready(asked: Asked, reason: Reason, message: str, changed_at: float | None) -> Verdict:
    auto = asked.not_ready is NotReady.AUTO
    status = InstanceStatus.OUTOFSERVICE if auto else InstanceStatus(asked.not_ready)
    return Verdict(status, reason, message, changed_at, auto=auto)


def _evidence(pod: Observation, container: str) -> Evidence:
    main = pod.states.get(container, ContainerState())
    return Evidence(
        uid=pod.subject.real_uid,
        name=pod.subject.ref.name,
        hostnames=pod.hostnames,
        ips=pod.ips,
        host_ports=pod.host_ports,
        created_at=pod.created_at,
        started_at=pod.started_at,
        container_started_at=main.started_at,
        container_id=main.id,
        restarts=main.restarts,
        running=main.running,
        has_started=main.running or main.terminated or main.ran_before,
    )
