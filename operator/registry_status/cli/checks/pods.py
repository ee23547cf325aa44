"""What is wrong with pods: annotations that cannot be followed, names that nobody has registered, and annotations that lack."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeVar

from registry_status.cli.checks.finding import LISTED, Area, Finding, Findings, counted, failed, listed
from registry_status.cli.checks.workloads import bears
from registry_status.cli.judging import Candidates, Judged, State, judge
from registry_status.cli.reading import Place, RawPod, Register
from registry_status.cluster.api import BAD_REQUEST, ApiError, mapping
from registry_status.cluster.read import ShardingError
from registry_status.config import NotReady, Settings
from registry_status.model import Desired, InstanceStatus, PodRef, Reason
from registry_status.pods.annotations import KEYS, Asked, read
from registry_status.pods.observation import observe
from registry_status.pods.status import desired
from registry_status.registry.base import Instance, PermanentError

SERVICES = 300
"""A project with more services is not searched for instances of pods that lack annotations: it is one request each."""

CORRECT_NAMES = (
    "correct the annotations service, app, environment, version (or service-id) in the pod template, or start its SDK"
)
ALLOW = "give the account a role that may read the project's services and instances, or correct the pods' annotations"
REGISTER = (
    "see that the pod's SDK registers with the registry, and that its endpoint, host name or property podUid is the pod's"
)
OPEN_GATE = "switch it on: --readiness-gate true (pods.readinessGate in the chart); or take the gate out of the pod template"
Key = TypeVar("Key", bound=Hashable)

told = Findings(Area.PODS)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is kept of a pod."""

    desired: Desired
    asks_for: NotReady | None
    """The not-ready status that its annotations ask for."""
    strangers: tuple[str, ...]
    """Annotations and labels that look like ours, and are not."""
    bare: Desired | None
    """As if it were annotated, for a pod that is not: its evidence may tell that it should be."""

    @property
    def pod(self) -> PodRef:
        """Which pod."""
        return self.desired.pod


def see(pod: RawPod, settings: Settings) -> Seen:
    """Look at one pod."""
    found = desired(pod, settings)
    asked = read(observe(pod, settings.prefix).subject, settings)
    insists = asked.not_ready if isinstance(asked, Asked) and f"{settings.prefix}not-ready-status" in _metadata(pod) else None
    unmanaged = found.reason is Reason.NOT_MANAGED
    bare = desired(_annotated(pod, settings), settings) if unmanaged and not bears(pod, settings) else None
    return Seen(found, insists, tuple(_strangers(pod, settings)), bare)


def _annotated(pod: RawPod, settings: Settings) -> RawPod:
    """Return the pod with an annotation that makes it ours."""
    own = {f"{settings.prefix}service": "any"}
    if settings.operator_class:
        own[f"{settings.prefix}class"] = settings.operator_class
    return {**pod, "metadata": {**mapping(pod.get("metadata")), "annotations": own}}


def _metadata(pod: RawPod, part: str = "annotations") -> Mapping[str, object]:
    return mapping(mapping(pod.get("metadata")).get(part))


def _strangers(pod: RawPod, settings: Settings) -> Iterator[str]:
    """Find keys of ours with a misspelt prefix, and keys that were made labels."""
    for key in _metadata(pod):
        prefix, _, name = key.partition("/")
        if name in KEYS and prefix != settings.annotation_prefix and get_close_matches(prefix, [settings.annotation_prefix]):
            yield f"annotation {key}"
    for key in _metadata(pod, "labels"):
        if key.startswith(settings.prefix) and key.removeprefix(settings.prefix) in KEYS:
            yield f"label {key}"


def unlisted(error: ApiError, settings: Settings, found: Iterable[Finding]) -> Finding:
    """What to say where the API server does not list the pods; `found` is what was found before."""
    return told.error(f"the pods cannot be listed: {error}", _how_to_list(error, settings, found))


def _how_to_list(error: ApiError, settings: Settings, found: Iterable[Finding]) -> str:
    if isinstance(error, ShardingError):
        return "switch it on, or leave out --shard"
    if error.status == BAD_REQUEST and settings.label_selector:
        return f"correct --label-selector, which says {settings.label_selector!r}"
    if failed(one for one in found if one.area is Area.KUBERNETES):
        return "mend the errors of kubernetes above"
    if error.transient:
        return "check again in a moment; if it stays so, look at the API server's own log and at what lies before it"
    return "look at what it says and at the settings of Kubernetes (`registry-status run --help`); else at the API server's log"


def check_pods(seen: Sequence[Seen], settings: Settings) -> Iterator[Finding]:
    """Look at the pods alone."""
    managed = [one for one in seen if one.desired.reason is not Reason.NOT_MANAGED]
    where = f"in namespaces {', '.join(settings.namespaces)}" if settings.namespaces else "in all namespaces"
    selected = f" with labels {settings.label_selector}" if settings.label_selector else ""
    selected += f" of share {settings.shard}" if settings.shard else ""
    if managed:
        yield told.ok(f"annotated: {len(managed)} of {counted(len(seen), 'pod')} {where}{selected}")
    else:
        of_class = f" of class {settings.operator_class}" if settings.operator_class else ""
        yield told.warning(
            f"none of {counted(len(seen), 'pod')} {where}{selected} is annotated{of_class}",
            f"annotate the pod template (spec.template.metadata.annotations) with {settings.prefix}service: NAME",
        )
    for key, names in _grouped((text, str(one.pod)) for one in seen for text in one.strangers).items():
        fix = f"make it an annotation of the pod template that begins with {settings.prefix}"
        yield told.warning(f"{key} is not read: {listed(names)}", fix)
    for problem, names in _grouped((problem, str(one.pod)) for one in managed for problem in one.desired.problems).items():
        yield told.error(f"{listed(names)}: {problem}", f"correct the annotation {problem.key} in the pod template")
    waiting = [str(one.pod) for one in managed if one.desired.gated and one.desired.status is InstanceStatus.UP]
    if waiting and not settings.readiness_gate:
        yield told.error(f"ready but for the gate {settings.gate}, which nobody opens: {listed(waiting)}", OPEN_GATE)


def check_judged(judged: Sequence[Judged]) -> Iterator[Finding]:
    """Look at the pods beside what the registry says."""
    refused = [one for one in judged if one.refused and not one.desired.ended]
    for note, names in _grouped((one.note, str(one.pod)) for one in refused).items():
        yield told.error(f"{listed(names)}: {note}", ALLOW)
    unmatched = [one for one in judged if one.state is State.UNMATCHED and not one.refused]
    for (note, unregistered, ready), names in _grouped((_trouble(one), str(one.pod)) for one in unmatched).items():
        what = f"{'Ready: ' if ready else ''}{listed(names)}: {note}"
        yield told.error(what, CORRECT_NAMES) if unregistered else told.warning(what, REGISTER)
    conflicts = [one for one in judged if one.state is State.CONFLICT]
    for one in conflicts[:LISTED]:
        fix = f"registry-status explain {one.pod} shows the candidates; see docs/annotations.md, how the instance is found"
        yield told.warning(f"{one.pod}: {one.note}", fix)
    if len(conflicts) > LISTED:
        yield told.warning(
            f"{len(conflicts) - LISTED} more pods are in conflict", "registry-status plan --differences shows all"
        )
    changing = [str(one.pod) for one in judged if one.state is State.CHANGE]
    if changing:
        fix = "normal while no operator runs, or for a moment; else look at its log and Events; registry-status plan shows all"
        yield told.warning(f"the registry is not in step with {counted(len(changing), 'pod')}: {listed(changing)}", fix)
    in_step = sum(one.state is State.IN_STEP for one in judged)
    if in_step:
        yield told.ok(f"the registry is in step with {counted(in_step, 'pod')}")


def _trouble(one: Judged) -> tuple[str, bool, bool]:
    return one.note, one.unregistered, one.status is InstanceStatus.UP


async def check_forgotten(
    seen: Sequence[Seen], judged: Sequence[Judged], register: Register, settings: Settings, now: float
) -> AsyncIterator[Finding]:
    """Find pods without annotations whose instances are in the registry, and no annotated pod's. Raises `RegistryError`."""
    bare = [one.bare for one in seen if one.bare is not None and _tells_apart(one.bare)]
    services = await register.services(settings.tenant)
    if not bare or not services:
        return
    if len(services) > SERVICES:
        yield told.skipped(f"pods that lack annotations are not looked for in a project of {len(services)} services")
        return
    lists = await asyncio.gather(*(_readable(register, settings, service.service_id) for service in services))
    taken = {(step.instance.service_id, step.instance.instance_id) for one in judged for step in one.steps}
    found = [one for instances in lists for one in instances]
    candidates = Candidates([one for one in found if (one.service_id, one.instance_id) not in taken])
    names = {service.service_id: service.name for service in services}
    forgotten = [
        f"{pod.pod} (service {names.get(step.instance.service_id, '?')})"
        for pod in bare
        for step in judge(pod, candidates, lambda one: one.status, now).steps[:1]
    ]
    if forgotten:
        fix = f"annotate their pod templates with {settings.prefix}service: NAME, if their statuses are to be kept"
        yield told.warning(f"in the registry, but without annotations: {listed(forgotten)}", fix)


def _tells_apart(pod: Desired) -> bool:
    """Whether anything ties instances to this pod alone: on the host's network IP and host name are those of the node."""
    return pod.target is not None and pod.evidence is not None and pod.evidence.host_ports != frozenset()


async def _readable(register: Register, settings: Settings, service_id: str) -> Sequence[Instance]:
    """Return a service's instances; none where the registry refuses for good to list them."""
    try:
        return await register.instances(Place(settings.tenant, service_id, None))
    except PermanentError:
        return ()


def _grouped(pairs: Iterable[tuple[Key, str]]) -> Mapping[Key, list[str]]:
    groups: dict[Key, list[str]] = defaultdict(list)
    for key, name in pairs:
        groups[key].append(name)
    return groups
