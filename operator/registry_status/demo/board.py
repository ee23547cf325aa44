"""What the demo's table shows: for each pod what Kubernetes says, what that calls for, and what the registry says."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from registry_status.config import Settings
from registry_status.demo.kinds import KubeObject
from registry_status.demo.stage import Actor, Stage
from registry_status.model import InstanceStatus
from registry_status.pods.status import desired

NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Row:
    """One pod's line."""

    pod: str
    kubernetes: str
    desired: str
    registry: str
    latency: str
    event: str

    @property
    def settled(self) -> bool:
        """The registry says what it should, or nothing is asked of it."""
        return NOTHING in (self.desired, self.registry) or self.desired == self.registry


def rows(stage: Stage, settings: Settings) -> Sequence[Row]:
    """Look at every pod that has appeared."""
    events = stage.emulator.events
    return [row for actor in stage.actors if (row := _row(stage, actor, events, settings)) is not None]


def _row(stage: Stage, actor: Actor, events: Iterable[KubeObject], settings: Settings) -> Row | None:
    pod = actor.pod
    if pod is None and actor.life is None:
        return None
    name = actor.plan.name
    arrival = stage.ledger.last_arrival(name)
    return Row(
        pod=name,
        kubernetes=_kubernetes(pod),
        desired=_desired(pod, settings),
        registry=actor.registry_status or NOTHING,
        latency=NOTHING if arrival is None or arrival.seconds is None else f"{arrival.seconds * 1000:.0f} ms",
        event=next((str(event["reason"]) for event in reversed([*events]) if event["involvedObject"]["name"] == name), NOTHING),
    )


def _desired(pod: KubeObject | None, settings: Settings) -> str:
    if pod is None:
        return InstanceStatus.DOWN
    return desired(pod, settings).status or NOTHING


def _kubernetes(pod: KubeObject | None) -> str:
    """Phase, readiness and the most telling reason, as `kubectl get pods` would put it."""
    if pod is None:
        return "deleted"
    status = pod["status"]
    conditions = {condition["type"]: condition["status"] for condition in status.get("conditions", [])}
    ready = {"True": "ready", "False": "not ready"}.get(conditions.get("Ready", ""), "readiness unknown")
    return ", ".join(part for part in (status["phase"], ready, _reason(pod)) if part)


def _reason(pod: KubeObject) -> str:
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    for container in pod["status"].get("containerStatuses", []):
        for how in ("waiting", "terminated"):
            if how in container["state"]:
                return str(container["state"][how]["reason"])
    return ""
