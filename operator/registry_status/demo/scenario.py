"""The demo's story: two services of a shop, a rollout, a crash loop, a finished import, a typo, and a registry that fails.

Each story is a coroutine that reads like what an operations team would tell afterwards: what happened to a pod, and what the
registry had to say then. Times are chosen by what real pods do: a container's lives are more than five seconds apart, since the
operator allows registry and node clocks that much difference.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Final

from registry_status.demo.kubelet import PodPlan
from registry_status.demo.sdk import Sdk, ServiceInfo
from registry_status.demo.stage import Actor, MissedError, Stage
from registry_status.model import InstanceStatus

UP, STARTING = InstanceStatus.UP, InstanceStatus.STARTING
OUTOFSERVICE, DOWN = InstanceStatus.OUTOFSERVICE, InstanceStatus.DOWN

NAMESPACE: Final = "shop"
CHECKOUT: Final = ServiceInfo("checkout", "shop")
INVENTORY: Final = ServiceInfo("inventory", "shop")
PREFIX: Final = "registry-status.io/"
PROLOGUE_SECONDS: Final = 60.0
"""So long before the operator's start the story begins."""


@dataclass(frozen=True, slots=True)
class Cast:
    """The pods of the story."""

    old: Actor
    new: Actor
    typo: Actor
    crashing: Actor
    unlucky: Actor
    neglected: Actor
    importer: Actor


async def assemble(stage: Stage, sdk: Sdk) -> Cast:
    """Announce the services, as their builds do, and plan the pods. None of them exists yet."""
    checkout, inventory = await sdk.create_service(CHECKOUT), await sdk.create_service(INVENTORY)
    by_name = {f"{PREFIX}service": CHECKOUT.name, f"{PREFIX}app": CHECKOUT.app}
    by_id = {f"{PREFIX}service-id": inventory}

    def actor(name: str, number: int, service_id: str, annotations: Mapping[str, str], restart: str = "Always") -> Actor:
        plan = PodPlan(
            namespace=NAMESPACE,
            name=name,
            ip=f"10.244.0.{number}",
            annotations=annotations,
            labels={"app": name.partition("-")[0]},
            grace_seconds=5,
            restart_policy=restart,
        )
        return Actor(stage, plan, service_id, sdk)

    return Cast(
        old=actor("checkout-6b7f9d-x4kq2", 11, checkout, by_name),
        new=actor("checkout-84c5d6-m9z7t", 12, checkout, by_name),
        typo=actor("checkout-canary-7hw2p", 13, checkout, by_name | {f"{PREFIX}not-ready-status": "SLEEPING"}),
        crashing=actor("inventory-0", 21, inventory, by_id),
        unlucky=actor("inventory-1", 22, inventory, by_id),
        neglected=actor("inventory-2", 23, inventory, by_id | {f"{PREFIX}not-ready-status": OUTOFSERVICE}),
        importer=actor("inventory-import-c2v8s", 24, inventory, by_id, "Never"),
    )


async def prologue(stage: Stage, cast: Cast) -> None:
    """Before the operator: two pods run, and one has lost its readiness without the registry knowing."""
    for actor in (cast.old, cast.neglected):
        actor.appears()
        stage.clock.skip(3)
        await actor.starts()
        stage.clock.skip(4)
        actor.becomes_ready()
    stage.clock.skip(10)
    cast.neglected.loses_readiness()


async def story(stage: Stage, cast: Cast) -> None:
    """Everything that happens once the operator runs."""
    async with asyncio.TaskGroup() as tales:
        for tale in (_repair, _rollout, _typo, _crash_loop, _import, _calm):
            tales.create_task(_told(stage, tale(stage, cast)))
    await _told(stage, _outage(stage, cast))
    await stage.clock.sleep(1)


async def _told(stage: Stage, tale: Awaitable[None]) -> None:
    """Tell one tale to its end, or until something that was due is missing: the others go on."""
    try:
        await tale
    except MissedError as error:
        stage.ledger.faults.append(str(error))


async def _repair(stage: Stage, cast: Cast) -> None:
    """What nobody told the registry before is told now, and what it knew already is left alone."""
    await cast.old.shows(UP)
    await cast.neglected.shows(OUTOFSERVICE)
    await stage.clock.sleep(3)
    cast.neglected.becomes_ready()
    await cast.neglected.shows(UP)


async def _rollout(stage: Stage, cast: Cast) -> None:
    """A new pod takes over from an old one; later a dependency of it is away for a moment."""
    await _comes_up(stage, cast.new)
    await stage.clock.sleep(1)
    cast.old.is_deleted()
    await cast.old.shows(DOWN)
    await stage.clock.sleep(2)
    await cast.old.ends()
    await stage.clock.sleep(1)
    cast.new.loses_readiness()
    await cast.new.shows(OUTOFSERVICE)
    await stage.clock.sleep(2)
    cast.new.becomes_ready()
    await cast.new.shows(UP)


async def _typo(stage: Stage, cast: Cast) -> None:
    """A pod with an annotation that means nothing: it is told so, and its instance is left alone whatever happens."""
    await stage.clock.sleep(2)
    cast.typo.appears()
    await cast.typo.starts()
    await cast.typo.is_reported("InvalidRegistryAnnotation")
    await stage.clock.sleep(2)
    cast.typo.becomes_ready()
    await stage.clock.sleep(4)
    cast.typo.loses_readiness()
    await stage.clock.sleep(1)
    await cast.typo.shows(UP)


async def _crash_loop(stage: Stage, cast: Cast) -> None:
    """A container dies, is restarted in place, dies again before it was ready, and backs off before it recovers."""
    pod = cast.crashing
    await _comes_up(stage, pod)
    await stage.clock.sleep(4)
    await pod.crashes()
    await pod.shows(DOWN)
    await stage.clock.sleep(1)
    await pod.starts()
    await pod.shows(STARTING)
    await stage.clock.sleep(1)
    await pod.crashes()
    await pod.shows(DOWN)
    pod.backs_off(5)
    await stage.clock.sleep(5)
    await pod.starts()
    await pod.shows(STARTING)
    await stage.clock.sleep(1)
    pod.becomes_ready()
    await pod.shows(UP)


async def _import(stage: Stage, cast: Cast) -> None:
    """A job without a readiness probe: ready as it starts, finished when it ends."""
    await stage.clock.sleep(1)
    cast.importer.appears()
    await stage.clock.sleep(1)
    await cast.importer.starts(ready=True)
    await cast.importer.shows(UP)
    await stage.clock.sleep(4)
    await cast.importer.completes()
    await cast.importer.shows(DOWN)


async def _calm(stage: Stage, cast: Cast) -> None:
    """Nothing happens yet to the pod that the outage will hit."""
    await stage.clock.sleep(3)
    await _comes_up(stage, cast.unlucky)


async def _outage(stage: Stage, cast: Cast) -> None:
    """The registry is away just when a pod loses readiness: an Event says so, and the status comes as soon as it can."""
    pod = cast.unlucky
    async with stage.outage():
        pod.loses_readiness()
        await pod.is_reported("RegistryUpdateFailed")
        await asyncio.sleep(1)
    await pod.shows(OUTOFSERVICE)
    await pod.is_reported("RegistryUpdateRecovered")
    pod.becomes_ready()
    await pod.shows(UP)


async def _comes_up(stage: Stage, pod: Actor) -> None:
    """Every pod begins so: it starts, its SDK calls it UP too early, and it becomes ready a while later."""
    pod.appears()
    await stage.clock.sleep(1)
    await pod.starts()
    await pod.shows(STARTING)
    await stage.clock.sleep(2)
    pod.becomes_ready()
    await pod.shows(UP)
