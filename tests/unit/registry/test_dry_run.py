"""A dry run's registry: nothing is written, and it looks to the operator as if it were."""

import logging
from dataclasses import replace

import pytest

from registry_status.model import InstanceStatus, ServiceName, Tenant
from registry_status.registry.base import Instance, NotFoundError, Service
from registry_status.registry.dry_run import DryRunRegistry

TENANT = Tenant()
UP, DOWN = InstanceStatus.UP, InstanceStatus.DOWN


class Real:
    """The registry behind it."""

    def __init__(self) -> None:
        self.instances = [Instance("i-1", "svc-1", "STARTING", registered_at=1)]

    async def list_services(self, tenant: Tenant) -> list[Service]:
        return [Service("svc-1", "cart", "shop", "1", "")]

    async def find_service(self, tenant: Tenant, service: ServiceName, version: str) -> str:
        return "svc-1"

    async def list_instances(self, tenant: Tenant, service_id: str) -> list[Instance]:
        return self.instances

    async def write_status(self, tenant: Tenant, service_id: str, instance_id: str, status: InstanceStatus) -> None:
        raise AssertionError("a dry run has written")

    def on_available(self, wake: object) -> None:
        pass


class Dry:
    def __init__(self) -> None:
        self.real = Real()
        self.counted: list[InstanceStatus] = []
        self.registry = DryRunRegistry(self.real, self.counted.append)

    async def statuses(self) -> list[str]:
        return [found.status for found in await self.registry.list_instances(TENANT, "svc-1")]

    async def write(self, status: InstanceStatus) -> None:
        await self.registry.write_status(TENANT, "svc-1", "i-1", status)


@pytest.fixture
def dry() -> Dry:
    return Dry()


async def test_a_write_is_said_counted_and_shown_but_not_sent(dry: Dry, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert await dry.statuses() == ["STARTING"]
    await dry.write(UP)
    assert caplog.messages == ["would set i-1 of service svc-1 from STARTING to UP"]
    assert dry.counted == [UP]
    assert await dry.statuses() == ["UP"]
    await dry.write(DOWN)
    assert caplog.messages[1:] == ["would set i-1 of service svc-1 from UP to DOWN"]
    assert await dry.statuses() == ["DOWN"]


@pytest.mark.parametrize("change", [{"status": "TESTING"}, {"registered_at": 9}], ids=["a new status", "registered anew"])
async def test_what_others_change_is_seen(dry: Dry, change: dict[str, object]) -> None:
    await dry.statuses()
    await dry.write(UP)
    dry.real.instances = [replace(dry.real.instances[0], **change)]  # type: ignore[arg-type]
    now = dry.real.instances[0].status
    assert await dry.statuses() == [now]
    assert await dry.statuses() == [now]


async def test_an_instance_that_went_is_forgotten(dry: Dry) -> None:
    await dry.statuses()
    await dry.write(UP)
    back, dry.real.instances = dry.real.instances, []
    assert await dry.statuses() == []
    dry.real.instances = back
    assert await dry.statuses() == ["STARTING"]


async def test_an_instance_that_is_not_there_cannot_be_written_to(dry: Dry) -> None:
    with pytest.raises(NotFoundError):
        await dry.write(UP)
    assert dry.counted == []


async def test_reads_are_the_registrys(dry: Dry) -> None:
    assert [found.name for found in await dry.registry.list_services(TENANT)] == ["cart"]
    assert await dry.registry.find_service(TENANT, ServiceName("cart"), "1") == "svc-1"
