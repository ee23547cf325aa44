"""Pods on the stage, with a real registry beside them, but no operator: the tests play it."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from registry_status.config import Settings
from registry_status.demo.board import rows
from registry_status.demo.clock import StoryClock
from registry_status.demo.kubelet import PodPlan
from registry_status.demo.ledger import Cause
from registry_status.demo.sdk import Sdk, ServiceInfo
from registry_status.demo.stage import Actor, MissedError, Stage
from registry_status.model import InstanceStatus

UP, STARTING, DOWN = InstanceStatus.UP, InstanceStatus.STARTING, InstanceStatus.DOWN


@pytest.fixture
def stage() -> Stage:
    return Stage(StoryClock.started(4.0), patience=0.3)


@pytest.fixture
async def cart(stage: Stage) -> AsyncIterator[Actor]:
    async with stage.registry.listening() as url, aiohttp.ClientSession() as http:
        sdk = Sdk(http, url, stage.clock)
        service_id = await sdk.create_service(ServiceInfo("cart", "shop"))
        plan = PodPlan("shop", "cart", "10.244.0.9", {"registry-status.io/service-id": service_id}, {}, grace_seconds=2)
        actor = Actor(stage, plan, service_id, sdk)
        yield actor
        await actor.leaves_the_stage()


def operator_writes(stage: Stage, actor: Actor, status: InstanceStatus) -> "asyncio.Task[None]":
    async def write() -> None:
        assert actor.life is not None
        url = f"/v4/default/registry/microservices/{actor.life.service_id}/instances/{actor.life.instance_id}/status"
        sdk_url = actor._sdk._base.partition("/v4")[0]
        async with aiohttp.ClientSession() as http, http.put(sdk_url + url, params={"value": status}) as answer:
            assert answer.status == 200

    return asyncio.create_task(write())


async def test_an_sdk_registers_as_up_whatever_its_pod_says(stage: Stage, cart: Actor) -> None:
    cart.appears()
    await cart.starts()
    assert cart.registry_status == "UP"
    [instance] = stage.registry.registry.all_instances()
    assert (instance.host_name, instance.endpoints) == ("cart", ("rest://10.244.0.9:8080?sslEnabled=false",))
    assert instance.properties == {"podName": "cart"}
    assert rows(stage, Settings())[0].desired == "STARTING"


async def test_a_status_that_comes_is_timed(stage: Stage, cart: Actor) -> None:
    cart.appears()
    await cart.starts()
    writing = operator_writes(stage, cart, STARTING)
    await cart.shows(STARTING)
    await writing
    [arrival] = stage.ledger.arrivals
    assert (arrival.pod, arrival.status, arrival.cause) == ("cart", STARTING, Cause.REGISTRATION)
    assert arrival.seconds is not None
    assert 0 <= arrival.seconds < 1


async def test_a_status_that_is_there_needs_no_time(stage: Stage, cart: Actor) -> None:
    cart.appears()
    await cart.starts(ready=True)
    await cart.shows(UP)
    assert [arrival.seconds for arrival in stage.ledger.arrivals] == [None]


async def test_a_status_that_does_not_come_is_missed(cart: Actor) -> None:
    cart.appears()
    await cart.starts()
    with pytest.raises(MissedError, match=r"cart: status STARTING did not come within 0.3 s"):
        await cart.shows(STARTING)


async def test_an_event_that_does_not_come_is_missed(cart: Actor) -> None:
    cart.appears()
    with pytest.raises(MissedError, match="cart: Event Anything"):
        await cart.is_reported("Anything")


async def test_nothing_can_be_due_before_a_registration(cart: Actor) -> None:
    with pytest.raises(RuntimeError, match="has not registered yet"):
        await cart.shows(UP)


async def test_a_restart_is_another_life(stage: Stage, cart: Actor) -> None:
    cart.appears()
    await cart.starts()
    await cart.crashes()
    await cart.starts()
    first, second = stage.ledger.lives
    assert first.instance_id != second.instance_id
    assert first.until is not None
    assert second.until is None
    assert cart.pod is not None
    assert cart.pod["status"]["containerStatuses"][0]["restartCount"] == 1


async def test_a_deleted_pod_leaves_cluster_and_registry(stage: Stage, cart: Actor) -> None:
    cart.appears()
    await cart.starts()
    cart.becomes_ready()
    cart.is_deleted()
    assert rows(stage, Settings())[0].kubernetes == "Running, ready, Terminating"
    assert rows(stage, Settings())[0].desired == "DOWN"
    await cart.ends()
    assert (cart.pod, cart.registry_status) == (None, None)
    assert rows(stage, Settings())[0].kubernetes == "deleted"


async def test_in_an_outage_the_registry_fails_and_then_comes_back(stage: Stage, cart: Actor) -> None:
    cart.appears()
    await cart.starts()
    async with stage.outage():
        await cart._sdk.leave(cart._service_id, "any")  # does not raise
        assert stage.registry.requests[-1].status is None
        cart.loses_readiness()
    writing = operator_writes(stage, cart, STARTING)
    await cart.shows(STARTING)
    await writing
    assert stage.ledger.arrivals[-1].cause is Cause.RETURN


class TestTheBoard:
    async def test_shows_only_pods_that_have_appeared(self, stage: Stage, cart: Actor) -> None:
        assert rows(stage, Settings()) == []
        cart.appears()
        [row] = rows(stage, Settings())
        assert (row.pod, row.kubernetes, row.desired) == ("cart", "Pending, not ready, ContainerCreating", "STARTING")
        assert (row.registry, row.latency, row.event, row.settled) == ("-", "-", "-", True)

    async def test_shows_reasons_and_events(self, stage: Stage, cart: Actor) -> None:
        cart.appears()
        await cart.starts()
        await cart.crashes()
        assert rows(stage, Settings())[0].kubernetes == "Running, not ready, Error"
        assert not rows(stage, Settings())[0].settled
        cart.backs_off(5)
        assert rows(stage, Settings())[0].kubernetes == "Running, not ready, CrashLoopBackOff"

    async def test_shows_what_nobody_asks_for_as_nothing(self, stage: Stage, cart: Actor) -> None:
        cart.appears()
        stage.emulator.annotate("shop", "cart", {"registry-status.io/paused": "true"})
        assert rows(stage, Settings())[0].desired == "-"
