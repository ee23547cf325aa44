"""`auto` for lost readiness: OUTOFSERVICE, but DOWN beside consumers that fail on it."""

import pytest

from registry_status.model import OutcomeKind
from registry_status.registry.base import PermanentError
from registry_status.registry.devserver import NewInstance, NewService
from tests.world import ASKED, World, on_virtual_time

LOST = {"ready": "False", "ready_since": 9}
CHASSIS_3 = {"framework_name": "ServiceComb", "framework_version": "3.4.0"}


def other_service(world: World, *, live: bool = True, **framework: str) -> str | None:
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
async def test_what_lives_in_the_project_decides(framework: dict[str, str], live: bool, status: str) -> None:
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


@on_virtual_time
async def test_where_services_may_not_be_read_it_is_down() -> None:
    world = World()
    instance = world.register()
    world.registry.fails = lambda what: PermanentError("403001", "no right") if what == "list-services" else None
    world.see(**LOST)
    await world.pass_time()
    assert world.status(instance) == "DOWN"
    assert world.kinds() == [OutcomeKind.DELIVERED]
