"""Pods as the API server gives them, for tests: a running, Ready one unless told otherwise."""

from datetime import UTC, datetime
from typing import Any

GATE = "registry-status.io/registered"
"""The condition of our readiness gate."""
GATED: dict[str, Any] = {
    "readinessGates": [{"conditionType": GATE}],
    "ready": "False",
    "ready_reason": "ReadinessGatesNotReady",
    "containers_ready": "True",
}
"""What makes `pod` one that waits for that gate alone."""
START = datetime(2026, 1, 5, 10, 0, 0, tzinfo=UTC).timestamp()
"""When test pods start, epoch seconds."""


def at(seconds: float) -> str:
    """A time on the pod's clock: so many seconds after its start."""
    return datetime.fromtimestamp(START + seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(kind: str, status: str, since: float | None, reason: str = "") -> dict[str, Any]:
    entry: dict[str, Any] = {"type": kind, "status": status}
    if since is not None:
        entry["lastTransitionTime"] = at(since)
    return entry | ({"reason": reason} if reason else {})


def running(started: float = 2, *, restarts: int = 0, startup_done: bool = True, name: str = "main") -> dict[str, Any]:
    return {
        "name": name,
        "restartCount": restarts,
        "started": startup_done,
        "state": {"running": {"startedAt": at(started)}},
    }


def waiting(reason: str = "ContainerCreating", *, restarts: int = 0, name: str = "main") -> dict[str, Any]:
    return {"name": name, "restartCount": restarts, "started": False, "state": {"waiting": {"reason": reason}}}


def terminated(finished: float = 9, *, restarts: int = 0, reason: str = "Error", name: str = "main") -> dict[str, Any]:
    ended = {"reason": reason, "finishedAt": at(finished)}
    return {"name": name, "restartCount": restarts, "started": False, "state": {"terminated": ended}}


def pod(
    annotations: dict[str, str] | None = None,
    *,
    name: str = "cart-1",
    uid: str = "uid-1",
    namespace: str = "shop",
    ready: str | None = "True",
    ready_since: float | None = 5,
    ready_reason: str = "",
    containers_ready: str | None = None,
    conditions: list[dict[str, Any]] | None = None,
    statuses: list[dict[str, Any]] | None = None,
    containers: tuple[str, ...] = ("main",),
    phase: str = "Running",
    ip: str = "10.244.0.7",
    deleting: bool = False,
    **spec: Any,
) -> dict[str, Any]:
    """A pod; annotations may leave out the prefix."""
    full = {key if "/" in key else f"registry-status.io/{key}": value for key, value in (annotations or {}).items()}
    listed = list(conditions or [])
    if ready is not None:
        listed.append(condition("Ready", ready, ready_since, ready_reason))
    if containers_ready is not None:
        listed.append(condition("ContainersReady", containers_ready, ready_since))
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "uid": uid,
        "annotations": full,
        "creationTimestamp": at(-1),
    }
    if deleting:
        metadata |= {"deletionTimestamp": at(60), "deletionGracePeriodSeconds": 30}
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": metadata,
        "spec": {"containers": [{"name": each} for each in containers], "nodeName": "node-1", **spec},
        "status": {
            "phase": phase,
            "conditions": listed,
            "startTime": at(0),
            "podIP": ip,
            "podIPs": [{"ip": ip}] if ip else [],
            "containerStatuses": [running()] if statuses is None else statuses,
        },
    }
