"""Which instances a target's service has, and how few requests it takes to say so."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from registry_status.model import ServiceName, Target, Tenant
from registry_status.registry.base import TransientError
from registry_status.registry.devserver import NewInstance, NewService, RegistryState
from registry_status.sync.directory import SERVICES_AGE, VERSION_AGE, Directory
from tests.world import StateRegistry, on_virtual_time

TENANT, FOREIGN = Tenant(), Tenant(domain="acme", project="eu-1")


class World:
    """A registry with a directory before it."""

    def __init__(self) -> None:
        self.state = RegistryState(clock=_now)
        self.registry = StateRegistry(self.state)
        self.directory = Directory(self.registry)

    @property
    def calls(self) -> list[str]:
        return self.registry.calls

    def service(self, service_id: str, *ids: str, name: str = "cart", tenant: Tenant = TENANT, **more: Any) -> None:
        """Create a service with instances."""
        self.state.create_service(NewService(name=name, service_id=service_id, **more), tenant)
        for found in ids:
            self.state.register(service_id, NewInstance(host_name="h", instance_id=found, interval=1000), tenant)

    async def ids(self, target: Target, not_before: float | None = None) -> list[str]:
        """The ids of the instances listed."""
        listing = await self.directory.listing(target, _now() if not_before is None else not_before)
        return sorted(found.instance_id for found in listing.instances)


def _now() -> float:
    return asyncio.get_running_loop().time()


def by_id(service_id: str = "svc-1", tenant: Tenant = TENANT) -> Target:
    return Target(tenant, service_id=service_id)


def by_name(name: str = "cart", tenant: Tenant = TENANT, **more: Any) -> Target:
    return Target(tenant, service=ServiceName(name, **more))


# --- by id --------------------------------------------------------------------------------------


@on_virtual_time
async def test_a_service_by_its_id_takes_one_request() -> None:
    world = World()
    world.service("svc-1", "i-1", "i-2")
    world.service("svc-2", "i-3", version="2.0")
    assert await world.ids(by_id()) == ["i-1", "i-2"]
    assert world.calls == ["list-instances"]


@on_virtual_time
async def test_a_service_that_is_not_there_has_no_instances() -> None:
    world = World()
    assert await world.ids(by_id("gone")) == []


@on_virtual_time
async def test_tenants_are_told_apart() -> None:
    world = World()
    world.service("svc-1", "ours")
    world.service("svc-1", "theirs", tenant=FOREIGN)
    assert await world.ids(by_id()) == ["ours"]
    assert await world.ids(by_id(tenant=FOREIGN)) == ["theirs"]
    assert await world.ids(by_name(tenant=FOREIGN)) == ["theirs"]


@on_virtual_time
async def test_a_listing_is_shared_by_all_whom_it_is_new_enough_for() -> None:
    world = World()
    world.service("svc-1", "i-1")
    began = _now()
    await asyncio.gather(*(world.ids(by_id(), began) for _ in range(20)))
    await world.ids(by_id(), began)
    assert world.calls == ["list-instances"]
    await world.ids(by_id(), _now())
    assert world.calls == ["list-instances"] * 2


@on_virtual_time
async def test_a_listing_is_as_old_as_its_oldest_part() -> None:
    world = World()
    world.service("svc-1", "i-1", version="1.0")
    world.service("svc-2", "i-2", version="2.0")
    began = _now()
    await world.ids(by_id(), began)
    await asyncio.sleep(5)
    listing = await world.directory.listing(by_name(), began)
    assert listing.asked_at == began


@on_virtual_time
async def test_a_target_that_names_no_service_has_no_instances() -> None:
    world = World()
    assert await world.ids(Target(TENANT)) == []
    assert world.calls == []


# --- by name, any version -----------------------------------------------------------------------


@on_virtual_time
async def test_without_a_version_the_instances_of_all_versions_are_listed() -> None:
    world = World()
    world.service("svc-1", "i-1", version="1.0")
    world.service("svc-2", "i-2", version="2.0")
    assert await world.ids(by_name()) == ["i-1", "i-2"]
    assert sorted(world.calls) == ["list-instances", "list-instances", "list-services"]


@pytest.mark.parametrize(
    "other",
    [{"name": "cart2"}, {"app": "shop"}, {"environment": "production"}, {"name": "Cart"}],
)
@on_virtual_time
async def test_a_service_is_known_by_name_app_and_environment_together(other: dict[str, Any]) -> None:
    world = World()
    world.service("svc-1", "i-1")
    world.service("svc-2", "i-2", version="2.0", **other)
    assert await world.ids(by_name()) == ["i-1"]
    assert await world.ids(by_name(**other)) == ["i-2"]


@on_virtual_time
async def test_the_list_of_services_is_shared_by_targets_and_kept_for_less_than_a_second() -> None:
    world = World()
    world.service("svc-1", "i-1")
    world.service("svc-2", "i-2", name="wagon")
    await asyncio.gather(*(world.ids(by_name(name)) for name in ("cart", "wagon", "none") for _ in range(10)))
    assert world.calls.count("list-services") == 1
    await world.ids(by_name())
    assert world.calls.count("list-services") == 1
    await asyncio.sleep(SERVICES_AGE)
    await world.ids(by_name())
    assert world.calls.count("list-services") == 2


@on_virtual_time
async def test_a_version_that_appears_is_found_within_a_second() -> None:
    world = World()
    world.service("svc-1", "i-1", version="1.0")
    assert await world.ids(by_name()) == ["i-1"]
    world.service("svc-2", "i-2", version="2.0")
    await asyncio.sleep(1)
    assert await world.ids(by_name()) == ["i-1", "i-2"]


# --- by name and version ------------------------------------------------------------------------


@on_virtual_time
async def test_a_version_is_asked_for_by_existence_and_its_id_is_kept_for_ten_seconds() -> None:
    world = World()
    world.service("svc-1", "i-1", version="1.0")
    world.service("svc-2", "i-2", version="2.0")
    target = by_name(version="1.0")
    for _ in range(10):
        assert await world.ids(target) == ["i-1"]
        await asyncio.sleep(0.9)
    assert world.calls.count("find-service") == 1
    assert "list-services" not in world.calls
    await asyncio.sleep(VERSION_AGE)
    await world.ids(target)
    assert world.calls.count("find-service") == 2


@on_virtual_time
async def test_a_version_that_is_not_there_yet_is_asked_for_again_each_second() -> None:
    world = World()
    target = by_name(version="1.0")
    for _ in range(5):
        assert await world.ids(target) == []
        assert await world.ids(target) == []
        await asyncio.sleep(1)
    assert world.calls == ["find-service"] * 5
    world.service("svc-1", "i-1", version="1.0")
    assert await world.ids(target) == ["i-1"]


# --- failures -----------------------------------------------------------------------------------

BUSY = TransientError("http-503", "busy")
ASKS: dict[str, tuple[str, Callable[[World], Awaitable[object]]]] = {
    "instances": ("list-instances", lambda world: world.ids(by_id())),
    "services": ("list-services", lambda world: world.ids(by_name())),
    "version": ("find-service", lambda world: world.ids(by_name(version="0.0.1"))),
}


@pytest.mark.parametrize(("fails", "ask"), ASKS.values(), ids=ASKS)
@on_virtual_time
async def test_a_failure_is_shared_and_not_kept(fails: str, ask: Callable[[World], Awaitable[object]]) -> None:
    world = World()
    world.service("svc-1", "i-1")
    world.registry.fails = lambda what: BUSY if what == fails else None
    answers = await asyncio.gather(*(ask(world) for _ in range(5)), return_exceptions=True)
    assert answers == [BUSY] * 5
    assert world.calls.count(fails) == 1
    world.registry.fails = None
    assert await ask(world) == ["i-1"]


@on_virtual_time
async def test_one_version_that_cannot_be_listed_fails_the_whole_listing() -> None:
    world = World()
    world.service("svc-1", "i-1", version="1.0")
    world.service("svc-2", "i-2", version="2.0")
    fails = iter([None, BUSY, None])
    world.registry.fails = lambda what: next(fails) if what == "list-instances" else None
    with pytest.raises(TransientError):
        await world.ids(by_name())


@on_virtual_time
async def test_closing_ends_what_is_under_way() -> None:
    world = World()
    world.registry.delay = 1000
    asks = [asyncio.create_task(world.ids(target)) for target in (by_id(), by_name(), by_name(version="1.0"))]
    await asyncio.sleep(1)
    began = _now()
    await world.directory.aclose()
    answers = await asyncio.gather(*asks, return_exceptions=True)
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers)
    assert _now() == began
