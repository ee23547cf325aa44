"""`auto` for lost readiness: OUTOFSERVICE, but DOWN beside consumers that fail on it."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypedDict, Unpack

import pytest

from registry_status.model import Desired, InstanceStatus, OutcomeKind, PodRef, Reason, Target, Tenant
from registry_status.registry.base import Instance, PermanentError, RegistryError, Service, TransientError
from registry_status.registry.devserver import NewInstance, NewService
from registry_status.sync.consumers import GLANCE, PATIENCE, QUIET, Consumers
from registry_status.sync.fresh import Reading
from tests.world import ASKED, SERVICE, StateRegistry, World, on_virtual_time

LOST: dict[str, Any] = {"ready": "False", "ready_since": 9}


class Framework(TypedDict, total=False):
    """What a service says it is built with."""

    framework_name: str
    framework_version: str


CHASSIS_3: Framework = {"framework_name": "ServiceComb", "framework_version": "3.4.0"}


def other_service(world: World, *, live: bool = True, **framework: Unpack[Framework]) -> str | None:
    """Another service of the project, with or without an instance."""
    service = world.state.create_service(NewService(name="web", service_id="svc-web", **framework))
    if not live:
        return None
    new = NewInstance(host_name="web-1", endpoints=("rest://10.244.9.9:8080",), status="UP", interval=3600, times=100)
    return world.state.register(service, new)


@pytest.mark.parametrize(
    ("framework", "live", "status"),
    [
        (CHASSIS_3, True, "DOWN"),
        (CHASSIS_3, False, "OUTOFSERVICE"),
        (CHASSIS_3 | {"framework_version": "3"}, True, "DOWN"),
        (CHASSIS_3 | {"framework_version": "2.8.24"}, True, "OUTOFSERVICE"),
        (CHASSIS_3 | {"framework_version": "30.1"}, True, "OUTOFSERVICE"),
        ({"framework_name": "SPRING_CLOUD", "framework_version": "3.1.0"}, True, "OUTOFSERVICE"),
        ({}, True, "OUTOFSERVICE"),
    ],
)
@on_virtual_time
async def test_what_lives_in_the_project_decides(framework: Framework, live: bool, status: str) -> None:
    world = World()
    other_service(world, live=live, **framework)
    instance = world.register()
    world.see(**LOST)
    await world.pass_time()
    assert world.status(instance) == status
    assert world.outcomes[-1].status == status


@on_virtual_time
async def test_an_explicit_status_is_written_whatever_lives_there() -> None:
    world = World()
    other_service(world, **CHASSIS_3)
    instance = world.register()
    world.see(ASKED | {"not-ready-status": "OUTOFSERVICE"}, **LOST)
    await world.pass_time()
    assert world.status(instance) == "OUTOFSERVICE"


@on_virtual_time
async def test_an_annotation_that_is_taken_back_leaves_it_to_what_lives_there_at_once() -> None:
    world = World()
    other_service(world, **CHASSIS_3)
    instance = world.register()
    world.see(ASKED | {"not-ready-status": "OUTOFSERVICE"}, **LOST)
    await world.pass_time()
    world.see(**LOST)
    await world.pass_time()
    assert world.status(instance) == "DOWN"


@on_virtual_time
async def test_a_new_consumer_turns_every_such_pod_down_and_three_quiet_rounds_turn_it_back() -> None:
    world = World()
    instance = world.register()
    world.see(**LOST)
    await world.pass_time()
    assert world.status(instance) == "OUTOFSERVICE"
    web = other_service(world, **CHASSIS_3)
    assert web is not None
    await world.pass_time(40)
    assert world.status(instance) == "DOWN"
    world.state.delete_instance("svc-web", web)
    await world.pass_time(50)
    assert world.status(instance) == "DOWN"
    await world.pass_time(70)
    assert world.status(instance) == "OUTOFSERVICE"
    assert world.redundant() == []
    assert world.not_ready == ["DOWN", "OUTOFSERVICE"]


EXPLICIT = ASKED | {"not-ready-status": "OUTOFSERVICE"}


def warnings(world: World) -> list[str]:
    """What was said of harmful statuses."""
    return [outcome.message for outcome in world.outcomes if outcome.kind is OutcomeKind.HARMFUL]


@pytest.mark.parametrize("wait", [0, 40], ids=["as soon as it is known", "when it is written"])
@on_virtual_time
async def test_whoever_insists_on_a_harmful_status_is_told_once(wait: float) -> None:
    world = World()
    other_service(world, **CHASSIS_3)
    world.register()
    world.see(EXPLICIT, ready="True", ready_since=5)
    await world.pass_time(wait)
    world.see(EXPLICIT, **LOST)
    await world.pass_time(200)
    [message] = warnings(world)
    assert "service web" in message
    assert "take `auto` or DOWN" in message
    world.see(EXPLICIT, ready="True", ready_since=300)
    await world.pass_time()
    world.see(EXPLICIT, ready="False", ready_since=310)
    await world.pass_time()
    assert len(warnings(world)) == 2, "it was done again"


@pytest.mark.parametrize(
    ("annotations", "framework"),
    [(ASKED, CHASSIS_3), (ASKED | {"not-ready-status": "DOWN"}, CHASSIS_3), (EXPLICIT, {})],
    ids=["auto", "DOWN", "no Java Chassis 3"],
)
@on_virtual_time
async def test_a_status_that_does_no_harm_earns_no_warning(annotations: dict[str, str], framework: Framework) -> None:
    world = World()
    other_service(world, **framework)
    world.register()
    world.see(annotations, **LOST)
    await world.pass_time(100)
    assert warnings(world) == []


@on_virtual_time
async def test_a_service_that_starts_on_java_chassis_3_later_makes_an_explicit_status_worth_a_warning() -> None:
    world = World()
    world.register()
    world.see(EXPLICIT, **LOST)
    await world.pass_time(40)
    assert warnings(world) == []
    other_service(world, **CHASSIS_3)
    await world.pass_time(40)
    assert len(warnings(world)) == 1
    assert world.written() == ["OUTOFSERVICE"], "it is written as asked"


@on_virtual_time
async def test_where_services_may_not_be_read_it_is_down() -> None:
    world = World()
    instance = world.register()
    world.registry.fails = lambda what: PermanentError("403001", "no right") if what == "list-services" else None
    world.see(**LOST)
    await world.pass_time()
    assert world.status(instance) == "DOWN"
    assert world.kinds() == [OutcomeKind.DELIVERED]


class OneUnreadable(StateRegistry):
    """It stumbles over the instances of one service, whoever asks for them."""

    async def list_instances(self, tenant: Tenant, service_id: str) -> Sequence[Instance]:
        if service_id == "broken":
            raise TransientError("500003", "cannot read it")
        return await super().list_instances(tenant, service_id)


def broken_service(world: World) -> None:
    world.state.create_service(NewService(name="broken", service_id="broken", **CHASSIS_3))


@on_virtual_time
async def test_one_service_that_can_never_be_read_does_not_leave_pods_up_that_are_not_ready() -> None:
    world = World(registry=OneUnreadable)
    broken_service(world)
    instance = world.register()
    world.see(**LOST)
    await world.pass_time(PATIENCE + 3)
    assert world.status(instance) == "DOWN"
    assert world.kinds()[-1] is OutcomeKind.DELIVERED
    world.state.delete_service("broken")
    await world.pass_time(40)
    assert world.status(instance) == "OUTOFSERVICE"


class SomeHang(StateRegistry):
    """It never answers when it is asked for the instances of some services, until the request's timeout."""

    async def list_instances(self, tenant: Tenant, service_id: str) -> Sequence[Instance]:
        if service_id.startswith("hangs"):
            await asyncio.sleep(5.0)
            raise TransientError("timeout", "no answer")
        return await super().list_instances(tenant, service_id)


@on_virtual_time
async def test_services_that_hang_one_after_the_other_do_not_add_up_while_pods_are_up_that_are_not_ready() -> None:
    world = World(registry=SomeHang)
    for number in range(4):
        world.state.create_service(NewService(name=f"hangs-{number}", service_id=f"hangs-{number}", **CHASSIS_3))
    first, second = world.register(), world.register(ip="10.244.0.8", host="cart-2")
    world.see(**LOST)
    world.see(uid="uid-2", name="cart-2", ip="10.244.0.8")
    await world.pass_time(PATIENCE + 1)
    assert world.status(first) == "DOWN"
    world.see(uid="uid-2", name="cart-2", ip="10.244.0.8", **LOST)
    await world.pass_time(GLANCE + 1)
    assert world.status(second) == "DOWN"


@on_virtual_time
async def test_services_that_can_never_be_listed_do_not_leave_pods_up_that_are_not_ready() -> None:
    world = World()
    world.registry.fails = lambda what: TransientError("timeout", "too many") if what == "list-services" else None
    instance = world.register()
    world.see(**LOST)
    await world.pass_time(PATIENCE + 3)
    assert world.status(instance) == "DOWN"


@on_virtual_time
async def test_services_that_cannot_be_read_for_a_moment_are_waited_for() -> None:
    world = World()
    world.registry.fails = lambda what: TransientError("http-503", "a moment") if what == "list-services" else None
    instance = world.register()
    world.see(**LOST)
    await world.pass_time(PATIENCE - 1)
    assert world.status(instance) == "UP"
    world.registry.fails = None
    await world.pass_time(3)
    assert world.written() == ["OUTOFSERVICE"]


@on_virtual_time
async def test_a_service_that_cannot_be_read_hides_no_other_that_is_harmed() -> None:
    world = World(registry=OneUnreadable)
    instance = world.register()
    world.see(**LOST)
    await world.pass_time(1)
    assert world.status(instance) == "OUTOFSERVICE"
    broken_service(world)
    other_service(world, **CHASSIS_3)
    await world.pass_time(70)
    assert world.status(instance) == "DOWN"


@on_virtual_time
async def test_a_replica_that_leads_again_does_not_go_by_what_it_knew_before() -> None:
    world = World()
    instance = world.register()
    world.see()
    await world.pass_time(40)
    world.engine.stand_by()
    await world.pass_time(86_400)
    world.state.create_service(
        NewService(name="old", service_id="old", framework_name="ServiceComb", framework_version="3.4.0")
    )
    world.register(service_id="old", host="other", ip="10.1.1.1")
    world.see(ready="False", ready_since=50_000)
    world.state.put_status(SERVICE, instance, "DOWN")
    world.engine.start_writing()
    await world.pass_time(60)
    assert (world.status(instance), world.written()) == ("DOWN", [])


@on_virtual_time
async def test_what_a_pod_calls_for_is_counted_as_it_is_resolved() -> None:
    """Else the counts of what is called for and what is acknowledged differ for as long as all is well."""
    world = World()
    world.state.create_service(
        NewService(name="old", service_id="old", framework_name="ServiceComb", framework_version="3.4.0")
    )
    world.register(service_id="old", host="other", ip="10.1.1.1")
    world.register()
    world.see()
    await world.pass_time(1)
    world.see(ready="False", ready_since=30)
    await world.pass_time(100)
    assert world.engine.desired_counts() == world.engine.acknowledged_counts() == {InstanceStatus.DOWN: 1}


# --- what is known of a tenant ------------------------------------------------------------------

TENANT = Tenant()
AUTO = Desired(
    PodRef("uid-1", "shop", "cart-1"), InstanceStatus.OUTOFSERVICE, Reason.READINESS_LOST, "", target=Target(TENANT), auto=True
)
INSISTING = replace(AUTO, auto=False)
OLD = Service("svc-old", "old", "shop", "1.0.0", "", "ServiceComb", "3.4.0")


class Reader:
    """Tells of one service on Java Chassis 3, with or without an instance, or fails."""

    def __init__(self, *, live: bool = False) -> None:
        self.live = live
        self.error: RegistryError | None = None
        self.reads = 0
        self.changed: list[Tenant] = []
        self.consumers = Consumers(self, self.changed.append)

    async def services(self, tenant: Tenant, not_before: float) -> Reading[Sequence[Service]]:
        self.reads += 1
        if self.error is not None:
            raise self.error
        return Reading([OLD], not_before)

    async def instances(self, tenant: Tenant, service_id: str, not_before: float) -> Reading[Sequence[Instance]]:
        return Reading([Instance("i-1", service_id, "UP")] if self.live else [], not_before)


async def test_a_tenants_services_are_read_once_before_auto_is_decided() -> None:
    reader = Reader()
    for _ in range(3):
        await reader.consumers.learn(AUTO, 0.0)
    assert reader.reads == 1
    assert reader.consumers.resolved(AUTO) is InstanceStatus.OUTOFSERVICE


@pytest.mark.parametrize("pod", [INSISTING, replace(AUTO, target=None)], ids=["a status by name", "no target"])
async def test_nothing_is_read_for_a_pod_that_leaves_nothing_to_decide(pod: Desired) -> None:
    reader = Reader()
    await reader.consumers.learn(pod, 0.0)
    assert reader.reads == 0


async def test_a_registry_that_is_away_decides_nothing_and_is_asked_again() -> None:
    reader = Reader()
    reader.error = TransientError("timeout", "no answer")
    with pytest.raises(TransientError):
        await reader.consumers.learn(AUTO, 0.0)
    reader.error = None
    await reader.consumers.learn(AUTO, 1.0)
    assert (reader.reads, reader.changed) == (2, [])


async def test_services_that_may_not_be_read_are_told_of_once_and_asked_for_again(caplog: pytest.LogCaptureFixture) -> None:
    reader = Reader()
    reader.error = PermanentError("403001", "no right")
    for _ in range(3):
        await reader.consumers.learn(AUTO, 0.0)
    assert reader.consumers.resolved(AUTO) is InstanceStatus.DOWN
    assert reader.reads == 3
    assert [record.getMessage() for record in caplog.records] == [
        "cannot read the services of project default: no right (403001)"
    ]


async def test_what_was_a_guess_is_reconsidered_once_it_is_known() -> None:
    reader = Reader()
    reader.error = PermanentError("403001", "no right")
    await reader.consumers.learn(AUTO, 0.0)
    reader.error = None
    for _ in range(3):
        await reader.consumers.read(TENANT, 1.0)
    assert reader.changed == [TENANT]
    assert reader.consumers.resolved(AUTO) is InstanceStatus.OUTOFSERVICE


async def test_a_change_is_told_once_each_way() -> None:
    reader = Reader()
    await reader.consumers.read(TENANT, 0.0)
    reader.live = True
    for _ in range(3):
        await reader.consumers.read(TENANT, 1.0)
    assert reader.changed == [TENANT]
    reader.live = False
    for _ in range(QUIET + 2):
        await reader.consumers.read(TENANT, 2.0)
    assert reader.changed == [TENANT] * 2


async def test_in_doubt_nothing_is_known_any_more() -> None:
    reader = Reader(live=True)
    await reader.consumers.read(TENANT, 0.0)
    assert reader.consumers.harmed_by(INSISTING) == "old"
    reader.consumers.doubt()
    assert reader.consumers.harmed_by(INSISTING) is None
    assert reader.consumers.lost_readiness(TENANT) is InstanceStatus.DOWN
    await reader.consumers.learn(AUTO, 1.0)
    assert reader.reads == 2


async def test_in_doubt_there_is_no_guess_to_reconsider() -> None:
    reader = Reader()
    reader.error = PermanentError("403001", "no right")
    await reader.consumers.learn(AUTO, 0.0)
    reader.consumers.doubt()
    reader.error = None
    await reader.consumers.read(TENANT, 1.0)
    assert reader.changed == []
