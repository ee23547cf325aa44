"""Why a pod stands as it does: the rule and what it saw, what the registry says, each candidate, and the last Events."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from registry_status.cli.judging import Judged, State, circumstances
from registry_status.config import Settings
from registry_status.model import Desired, MatchMode, Reason
from registry_status.pods.annotations import Asked, read
from registry_status.pods.observation import Condition, ContainerState, Observation, RawPod, observe
from registry_status.pods.status import desired
from registry_status.registry.base import Instance
from registry_status.sync.matching import Circumstances, Grade, Signs, signs
from registry_status.times import timestamp

RULES: Mapping[Reason, int] = {
    Reason.NOT_MANAGED: 1, Reason.PAUSED: 1, Reason.INVALID: 1, Reason.POD_GONE: 2, Reason.POD_FINISHED: 2,
    Reason.POD_TERMINATING: 3, Reason.POD_READY: 4, Reason.NODE_LOST: 5, Reason.CONTAINER_EXITED: 6,
    Reason.CONTAINER_NOT_STARTED: 7, Reason.CONTAINER_STARTING: 8, Reason.READINESS_LOST: 9,
}  # fmt: skip
"""The rules of docs/statuses.md, by number; the first that fits decides."""
EVENTS = 10
"""How many Events are told."""
EVIDENCE: Mapping[Grade, str] = {
    Grade.POD_UID: "podUid", Grade.ENDPOINT: "endpoint", Grade.HOST_NAME: "host name", Grade.POD_NAME: "podName",
    Grade.NONE: "nothing",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """One instance of the service, and whether it is the pod's."""

    instance: Instance
    taken: bool
    why: str


@dataclass(frozen=True, slots=True)
class EventSeen:
    """One Event of the pod."""

    at: str
    type: str
    reason: str
    count: int
    message: str


@dataclass(frozen=True, slots=True)
class Explained:
    """A pod, explained. What was not asked is None, and `unasked` says why."""

    desired: Desired
    saw: Mapping[str, str]
    judged: Judged | None = None
    verdicts: Sequence[Verdict] | None = None
    events: Sequence[EventSeen] | None = None
    unasked: tuple[str, ...] = ()
    trouble: str = ""
    """Why the registry could not be asked, though it was to be."""

    @property
    def rule(self) -> int:
        """The number of the rule that decided."""
        return RULES[self.desired.reason]


def explain_offline(pod: RawPod, settings: Settings) -> Explained:
    """Explain what the pod itself says."""
    return Explained(desired(pod, settings), saw(pod, settings))


# --- what the rules saw -------------------------------------------------------------------------


def saw(pod: RawPod, settings: Settings) -> Mapping[str, str]:
    """Return the values that the rules look at."""
    seen = observe(pod, settings.prefix)
    asked = read(seen.subject, settings)
    if not isinstance(asked, Asked):
        return {}
    found = {"phase": seen.phase or "none"}
    if seen.deleting:
        found["deletion"] = f"asked for at {_time(seen.deleted_at)}"
    for name in ("Ready", "ContainersReady", *seen.gates):
        found[name] = _condition(seen.conditions.get(name))
    found[f"container {asked.container}"] = _container(seen.states.get(asked.container))
    return {**found, **_identity(seen)}


def _identity(seen: Observation) -> Mapping[str, str]:
    return {"IPs": ", ".join(seen.ips) or "none", "host name": seen.hostnames[0] if seen.hostnames else "none"}


def _condition(found: Condition | None) -> str:
    if found is None:
        return "not set"
    return f"{found.status} since {_time(found.changed_at)}" + (f" ({found.reason})" if found.reason else "")


def _container(found: ContainerState | None) -> str:
    if found is None:
        return "no status yet"
    why = f" ({found.why})" if found.why else ""
    if found.running:
        how = f"running since {_time(found.started_at)}" + ("" if found.startup_done else ", its startup probe not done")
    elif found.terminated:
        how = f"terminated at {_time(found.finished_at)}{why}"
    else:
        how = f"waiting{why}" + (", has run before" if found.ran_before else "")
    return how + (f", {found.restarts} restarts" if found.restarts else "")


def _time(seconds: float | None) -> str:
    return timestamp(seconds) if seconds is not None else "an unknown time"


# --- what the registry says ---------------------------------------------------------------------


async def explain_online(namespace: str, name: str, settings: Settings, *, now: float | None = None) -> Explained | None:
    """Explain a pod of the cluster, with what the registry says where one is named; None if there is no such pod.

    Raises `NoClusterError`, and `SettingsError` for files that the settings name.
    """
    from registry_status.cli.checks.operators import read_events  # noqa: PLC0415 - not needed offline
    from registry_status.cli.reading import NoClusterError, cluster, keep_quiet  # noqa: PLC0415 - not needed offline
    from registry_status.cluster.api import ApiError  # noqa: PLC0415 - not needed offline
    from registry_status.cluster.read import read_pod  # noqa: PLC0415 - not needed offline

    keep_quiet()
    async with cluster(settings, os.environ) as api:
        pod = await read_pod(api, namespace, name)
        if pod is None:
            return None
        if pod.get("kind") != "Pod":
            raise NoClusterError(f"{namespace}/{name}: the API server's answer is no Pod; its kind is {pod.get('kind')!r}")
        explained = explain_offline(pod, settings)
        try:
            listed = await read_events(api, namespace, f"involvedObject.uid={explained.desired.pod.events_uid}")
            explained = replace(explained, events=[_event(one) for one in listed[-EVENTS:]])
        except ApiError as error:
            explained = replace(explained, unasked=(f"its Events cannot be read: {error}",))
    return await _beside_registry(explained, settings, time.time() if now is None else now)


async def _beside_registry(explained: Explained, settings: Settings, now: float) -> Explained:
    from registry_status.cli.planning import judge_all  # noqa: PLC0415 - not needed offline
    from registry_status.cli.reading import Place, Register, Snapshot  # noqa: PLC0415 - not needed offline
    from registry_status.cli.show import Progress  # noqa: PLC0415 - not needed offline
    from registry_status.registry.base import RegistryError  # noqa: PLC0415 - not needed offline
    from registry_status.registry.connect import registry_client  # noqa: PLC0415 - not needed offline

    target = explained.desired.target
    if target is None:
        return explained
    if not settings.registry_address:
        return replace(explained, unasked=(*explained.unasked, "the registry is not asked: no --registry-address"))
    async with registry_client(settings) as client:
        register = Register(Snapshot(client, attempts=len(settings.registry_address)))
        try:
            (judged,) = await judge_all([explained.desired], register, settings, Progress(), now)
            instances = await register.instances(Place.of(target))
        except RegistryError as error:
            why = f"the registry cannot be asked: {error}"
            return replace(explained, unasked=(*explained.unasked, why), trouble=why)
        finally:
            await register.aclose()
    around = circumstances(explained.desired, now, trust_ids=settings.trust_instance_ids)
    return replace(explained, judged=judged, verdicts=verdicts(judged, instances, around))


def verdicts(judged: Judged, instances: Sequence[Instance], around: Circumstances) -> Sequence[Verdict]:
    """Say of each instance of the service whether it is the pod's, and why; those that are come first."""
    target, pod = judged.desired.target, judged.desired.evidence
    if target is None or pod is None:
        return ()
    seen = [(found, signs(target, pod, found, around)) for found in instances]
    best = max((sign.grade for _, sign in seen if not sign.ghost), default=Grade.NONE)
    found = [_verdict(one, sign, best, judged, around) for one, sign in seen]
    return sorted(found, key=lambda verdict: not verdict.taken)


def _verdict(found: Instance, sign: Signs, best: Grade, judged: Judged, around: Circumstances) -> Verdict:
    step = next((step for step in judged.steps if step.instance == found), None)
    agrees = f"agrees in {_listed(_agreeing(sign)) or 'its id alone'}"
    if step is not None:
        left = ", but it was registered before the container's present start: left over" if step.leftover else ""
        return Verdict(found, taken=True, why=agrees + left)
    return Verdict(found, taken=False, why=_why_not(found, sign, best, judged, around))


def _why_not(found: Instance, sign: Signs, best: Grade, judged: Judged, around: Circumstances) -> str:
    target = judged.desired.target
    if target is not None and target.instance_id not in (None, found.instance_id):
        return f"its id is not the annotated one, {target.instance_id}"
    against = _listed(_contradicting(sign))
    if sign.grade is Grade.NONE:
        mode = f" that counts under match: {target.match}" if target is not None and target.match is not MatchMode.AUTO else ""
        return f"differs in {against}: another pod's" if against else f"nothing{mode} ties it to the pod"
    if sign.ghost:
        return f"registered at {_time(found.registered_at)}, before the pod started: another pod's"
    if sign.grade < best:
        return f"agrees in {EVIDENCE[sign.grade]}, which is weaker than the {EVIDENCE[best]} of another"
    if judged.state is State.CONFLICT:
        return judged.note
    return "the pod has ended: endpoint and name must both agree" if around.gone else "not needed"


def _agreeing(sign: Signs) -> Iterator[str]:
    return (name for name, agrees in _named(sign) if agrees)


def _contradicting(sign: Signs) -> Iterator[str]:
    return (name for name, agrees in _named(sign) if agrees is False)


def _named(sign: Signs) -> Iterator[tuple[str, bool | None]]:
    yield "podUid", sign.pod_uid
    yield "endpoint", sign.endpoint
    yield "host name", sign.host_name
    yield "podName", sign.pod_name


def _listed(names: Iterator[str]) -> str:
    return " and ".join(names)


def _event(found: Mapping[str, object]) -> EventSeen:
    count = found.get("count")
    return EventSeen(
        at=str(found.get("lastTimestamp") or ""),
        type=str(found.get("type") or ""),
        reason=str(found.get("reason") or ""),
        count=count if isinstance(count, int) else 1,
        message=str(found.get("message") or ""),
    )
