"""What a kubelet writes about a pod, step by step: pure functions from a pod's status and the time to the next status.

Modelled on histories recorded from a real kubelet (v1.36 with containerd): the same steps, conditions, reasons and transition
times. A condition's transition time changes with its status only, and all times have whole seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from registry_status.demo.kinds import KubeObject
from registry_status.times import timestamp

CONTAINER: Final = "main"
NODE: Final = "node-1"
NODE_IP: Final = "10.99.0.1"
IMAGE: Final = "registry.example/shop/service:1.0.0"

CONDITION_ORDER: Final = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
NOT_READY: Final = ("False", "ContainersNotReady", f"containers with unready status: [{CONTAINER}]")


@dataclass(frozen=True, slots=True)
class PodPlan:
    """What a pod is to be before any node has seen it."""

    namespace: str
    name: str
    ip: str
    annotations: Mapping[str, str]
    labels: Mapping[str, str]
    grace_seconds: int = 30
    restart_policy: str = "Always"


def manifest(plan: PodPlan) -> KubeObject:
    """Write the pod as its controller does."""
    container = {
        "name": CONTAINER,
        "image": IMAGE,
        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1, "failureThreshold": 1},
    }
    spec = {
        "containers": [container],
        "restartPolicy": plan.restart_policy,
        "terminationGracePeriodSeconds": plan.grace_seconds,
    }
    metadata = {
        "name": plan.name,
        "namespace": plan.namespace,
        "labels": dict(plan.labels),
        "annotations": dict(plan.annotations),
    }
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec}


def accepted(status: KubeObject, now: float) -> KubeObject:
    """The kubelet has seen the pod."""
    conditions = {
        "PodReadyToStartContainers": ("False",),
        "Initialized": ("True",),
        "Ready": NOT_READY,
        "ContainersReady": NOT_READY,
    }
    seen = _with_conditions(status, conditions, now)
    container = _container({"waiting": {"reason": "ContainerCreating"}}, {}, restarts=0)
    return seen | {
        "hostIP": NODE_IP,
        "hostIPs": [{"ip": NODE_IP}],
        "startTime": timestamp(now),
        "containerStatuses": [container],
    }


def sandboxed(status: KubeObject, now: float) -> KubeObject:
    """The pod's network is there."""
    return _with_conditions(status, {"PodReadyToStartContainers": ("True",)}, now)


def started(status: KubeObject, now: float, ip: str) -> KubeObject:
    """The container runs: for the first time, or again in place of one that ended."""
    before = status["containerStatuses"][0]
    ended = before["state"].get("terminated") or before["lastState"].get("terminated")
    running = _container(
        {"running": {"startedAt": timestamp(now)}},
        {"terminated": ended} if ended else {},
        restarts=before["restartCount"] + (1 if ended else 0),
        started=True,
    )
    return status | {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "containerStatuses": [running]}


def ready(status: KubeObject, now: float) -> KubeObject:
    """The readiness probe succeeds."""
    return _with_readiness(status, ("True",), now, ready=True)


def unready(status: KubeObject, now: float) -> KubeObject:
    """The readiness probe fails."""
    return _with_readiness(status, NOT_READY, now, ready=False)


def exited(status: KubeObject, now: float, exit_code: int) -> KubeObject:
    """The container has ended, and is to be started again."""
    return _ended(status, now, exit_code, NOT_READY)


def backing_off(status: KubeObject, seconds: int) -> KubeObject:
    """The container has ended too often: the kubelet waits before it starts it again."""
    before = status["containerStatuses"][0]
    message = f"back-off {seconds}s restarting failed container={CONTAINER}"
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
    container = _container(waiting, {"terminated": before["state"]["terminated"]}, restarts=before["restartCount"])
    return status | {"containerStatuses": [container]}


def completed(status: KubeObject, now: float) -> KubeObject:
    """The container has ended well, and will not be started again."""
    initialized = _with_conditions(status, {"Initialized": ("True", "PodCompleted")}, now)
    return _ended(initialized, now, 0, ("False", "PodCompleted"))


def finished(status: KubeObject, now: float, phase: str) -> KubeObject:
    """Nothing of the pod is left on the node."""
    return _with_conditions(status, {"PodReadyToStartContainers": ("False",)}, now) | {"phase": phase}


def _ended(status: KubeObject, now: float, exit_code: int, readiness: tuple[str, ...]) -> KubeObject:
    before = status["containerStatuses"][0]
    life = {
        "exitCode": exit_code,
        "reason": "Error" if exit_code else "Completed",
        "startedAt": before["state"]["running"]["startedAt"],
        "finishedAt": timestamp(now),
    }
    container = _container({"terminated": life}, before["lastState"], restarts=before["restartCount"])
    conditions = {"Ready": readiness, "ContainersReady": readiness}
    return _with_conditions(status, conditions, now) | {"containerStatuses": [container]}


def _with_readiness(status: KubeObject, condition: tuple[str, ...], now: float, *, ready: bool) -> KubeObject:
    container = status["containerStatuses"][0] | {"ready": ready}
    conditions = {"Ready": condition, "ContainersReady": condition}
    return _with_conditions(status, conditions, now) | {"containerStatuses": [container]}


def _container(state: KubeObject, last: KubeObject, *, restarts: int, started: bool = False) -> KubeObject:
    return {
        "name": CONTAINER,
        "state": state,
        "lastState": last,
        "ready": False,
        "restartCount": restarts,
        "image": IMAGE,
        "imageID": f"{IMAGE}@sha256:{'0' * 64}",
        "started": started,
    }


def _with_conditions(status: KubeObject, changes: Mapping[str, tuple[str, ...]], now: float) -> KubeObject:
    """Set conditions given as (status, reason, message)."""
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    for kind, (value, *why) in changes.items():
        before = conditions.get(kind, {})
        since = before["lastTransitionTime"] if before.get("status") == value else timestamp(now)
        said = dict(zip(("reason", "message"), why, strict=False))
        conditions[kind] = {"type": kind, "status": value, "lastProbeTime": None, "lastTransitionTime": since} | said
    return status | {"conditions": [conditions[kind] for kind in CONDITION_ORDER if kind in conditions]}
