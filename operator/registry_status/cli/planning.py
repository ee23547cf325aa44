"""Reads the cluster and the registry once, and judges every pod."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from registry_status.cli.judging import Candidates, Judged, State, judge, settle
from registry_status.cli.names import missing_service
from registry_status.cli.reading import CannotTellError, Place, Register, Snapshot, cluster, keep_quiet, read_pods
from registry_status.cli.show import Progress
from registry_status.config import Settings
from registry_status.model import Desired, Reason, Tenant
from registry_status.pods.status import desired
from registry_status.registry.base import NotFoundError, PermanentError, RegistryError
from registry_status.registry.connect import registry_client
from registry_status.sync.clock import loop_time
from registry_status.sync.consumers import Consumers


@dataclass(frozen=True, slots=True)
class Plan:
    """Every annotated pod, judged, and how many there are beside them."""

    judged: Sequence[Judged]
    unmanaged: int

    @property
    def in_step(self) -> bool:
        """Nothing is to be done."""
        return not any(one.state.out_of_step for one in self.judged)

    @property
    def counts(self) -> Mapping[State, int]:
        """How many pods are in which state."""
        return Counter(one.state for one in self.judged)


async def make_plan(settings: Settings, environment: Mapping[str, str], progress: Progress) -> Plan:
    """Read and judge. Raises `CannotTellError`, and `SettingsError` for files that the settings name."""
    keep_quiet()
    async with cluster(settings, environment) as api:
        pods = await read_pods(
            api, settings, lambda pod: desired(pod, settings), lambda count: progress.at("pods listed", count)
        )
    managed = [pod for pod in pods if pod.reason is not Reason.NOT_MANAGED]
    async with registry_client(settings) as client:
        register = Register(Snapshot(client, attempts=len(settings.registry_address)))
        try:
            judged = await judge_all(managed, register, settings, progress, time.time())
        except RegistryError as error:
            raise CannotTellError(f"the registry cannot be asked: {error}") from error
        finally:
            await register.aclose()
    asked = [one for one in judged if one.desired.target is not None]
    if asked and all(one.refused for one in asked):
        raise CannotTellError(f"the registry refuses to tell of any service that pods name; {asked[0].pod}: {asked[0].note}")
    return Plan(judged, unmanaged=len(pods) - len(managed))


async def judge_all(
    pods: Sequence[Desired], register: Register, settings: Settings, progress: Progress, now: float
) -> Sequence[Judged]:
    """Judge pods against the registry; `now` is epoch seconds. Raises `RegistryError`.

    What it refuses for good for one place or tenant is noted with the pods of that place, and is no error.
    """
    consumers = Consumers(register.directory, lambda _: None)
    for tenant in dict.fromkeys(pod.target.tenant for pod in pods if pod.target is not None):
        await register.services(tenant)  # one after the other: whether we are let in is known after the first
        await _learn(consumers, tenant)
    candidates = await read_candidates(pods, register, progress)
    alive = Counter(_name(pod) for pod in pods if not pod.ended)
    judged = [
        judge(
            pod,
            candidates.get(Place.of(pod.target)) if pod.target is not None else None,
            consumers.resolved,
            now,
            trust_ids=settings.trust_instance_ids,
            namesake=alive[_name(pod)] > 0,
        )
        for pod in pods
    ]
    judged = [_refused(one, candidates) for one in settle(judged)]
    missing = await _missing(judged, register)
    return [_noted(one, consumers, missing) for one in judged]


async def read_candidates(pods: Sequence[Desired], register: Register, progress: Progress) -> Mapping[Place, Candidates]:
    """List the instances of every service that the pods name, each once; a refusal for good is an answer too."""
    places = list(dict.fromkeys(Place.of(pod.target) for pod in pods if pod.target is not None))
    step = progress.stepper("services read", len(places))

    async def read(place: Place) -> Candidates:
        try:
            found = Candidates(await register.instances(place))
        except PermanentError as error:
            found = Candidates((), refusal=str(error))
        step()
        return found

    return dict(zip(places, await asyncio.gather(*map(read, places)), strict=True))


async def _learn(consumers: Consumers, tenant: Tenant) -> None:
    try:
        await consumers.read(tenant, loop_time())
    except (NotFoundError, PermanentError):
        return  # a tenant without services has no consumers either; unknown ones are guessed as the operator does


async def _missing(judged: Sequence[Judged], register: Register) -> Mapping[Place, str]:
    """What is wrong with the services that unmatched pods name and the registry does not have."""
    unmatched = {
        Place.of(one.desired.target)
        for one in judged
        if one.state is State.UNMATCHED and one.desired.target and not one.refused
    }
    return {
        place: missing_service(place, await register.services(place.tenant))
        for place in unmatched
        if not await register.knows(place)
    }


def _refused(one: Judged, candidates: Mapping[Place, Candidates]) -> Judged:
    target = one.desired.target
    refusal = candidates[Place.of(target)].refusal if target is not None else ""
    return replace(one, note=f"the registry refuses to list its instances: {refusal}", refused=True) if refusal else one


def _noted(one: Judged, consumers: Consumers, missing: Mapping[Place, str]) -> Judged:
    target = one.desired.target
    if one.state is State.UNMATCHED and target is not None and Place.of(target) in missing:
        return replace(one, note=missing[Place.of(target)], unregistered=True)
    harmed = consumers.harmed_by(one.desired) if one.steps else None
    if harmed is not None and not one.note:
        return replace(one, note=f"OUTOFSERVICE harms the consumers of service {harmed}, which runs on Java Chassis 3")
    return one


def _name(pod: Desired) -> tuple[str, str]:
    return pod.pod.namespace, pod.pod.name
