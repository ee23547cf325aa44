"""What `plan` and `check` make of a registry that refuses one place or tenant, and of others' pods and operators."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from registry_status.cli.checks.all import check_all
from registry_status.cli.checks.finding import Area, Finding, Level
from registry_status.cli.judging import State
from registry_status.cli.names import missing_service
from registry_status.cli.planning import make_plan
from registry_status.cli.reading import CannotTellError, Place
from registry_status.cli.show import Progress
from registry_status.config import Settings
from registry_status.demo.emulator import Emulator
from registry_status.demo.kinds import LEASES
from registry_status.model import ServiceName, Tenant
from registry_status.registry.devserver import Answer, Code, DevServer, Fault, NewInstance, NewService
from tests.pods import START, pod

ASKED = {"service": "cart", "app": "shop"}
OTHER = {"service": "x", "project": "other"}
FORBIDDEN = Answer(status=403, body=json.dumps({"errorCode": "403001", "errorMessage": "Forbidden"}).encode())
REFUSED = "the registry refuses to list its instances: "


@dataclass(frozen=True)
class Scene:
    """A cluster and a registry that has one instance, of pod shop/cart-1."""

    emulator: Emulator
    server: DevServer
    settings: Settings
    service_id: str

    async def plan(self) -> dict[str, tuple[State, str]]:
        plan = await make_plan(self.settings, {}, Progress())
        return {one.pod.name: (one.state, one.note) for one in plan.judged}

    async def check(self, area: Area) -> Sequence[Finding]:
        return [found for found in await check_all(self.settings, {}) if found.area is area]


@asynccontextmanager
async def scene(folder: Path, **more: Any) -> AsyncIterator[Scene]:
    emulator, server = Emulator(), DevServer(clock=lambda: START + 3)
    async with emulator.listening(), server.listening() as url:
        service_id = server.registry.create_service(NewService(name="cart", app="shop"))
        register(server, service_id, "i-1", "cart-1", "10.244.0.7")
        kubeconfig = emulator.kubeconfig(folder / "kubeconfig")
        settings = Settings(kubeconfig=kubeconfig, registry_address=(url,), allowed_projects=("other",), **more)
        yield Scene(emulator, server, settings, service_id)


def register(server: DevServer, service_id: str, instance_id: str, host: str, ip: str) -> None:
    endpoints = (f"rest://{ip}:8080",)
    new = NewInstance(host_name=host, endpoints=endpoints, instance_id=instance_id, interval=3600, times=100)
    server.registry.register(service_id, new)


def bad(annotations: dict[str, str], **more: Any) -> dict[str, Any]:
    return pod(annotations, **{"name": "bad-1", "uid": "uid-2", "ip": "10.244.0.9", **more})


async def test_a_place_that_is_refused_blinds_nobody_else(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        here.emulator.create_pod(pod(ASKED))
        here.emulator.create_pod(bad({"service-id": "svc-2"}))
        refusal = Answer.refusal(Code.INVALID_PARAMS, "not this one")
        here.server.faults.set(Fault(refusal, path="/svc-2/instances$"))
        plan = await here.plan()
        found = await here.check(Area.PODS)
    assert plan["cart-1"] == (State.IN_STEP, "")
    state, note = plan["bad-1"]
    assert (state, note.startswith(REFUSED), "400001" in note) == (State.UNMATCHED, True, True)
    assert "the registry is in step with 1 pod" in [one.what for one in found]
    (error,) = [one for one in found if one.level is Level.ERROR]
    assert error.what.startswith(f"shop/bad-1: {REFUSED}")
    assert "a role that may read" in error.fix


async def test_a_tenant_that_is_refused_blinds_no_other(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        here.emulator.create_pod(pod(ASKED))
        here.emulator.create_pod(bad(OTHER))
        here.server.faults.set(Fault(FORBIDDEN, path="^/v4/other/"))
        plan = await here.plan()
        found = await check_all(here.settings, {})
    assert (plan["cart-1"][0], plan["bad-1"][0]) == (State.IN_STEP, State.UNMATCHED)
    assert "Forbidden (403001)" in plan["bad-1"][1]
    told = [one.what for one in found if one.level is Level.ERROR]
    assert [what.split(":")[0] for what in told] == [
        "the services of project other of domain default cannot be read",
        "shop/bad-1",
    ]
    assert "the registry is in step with 1 pod" in [one.what for one in found]


async def test_who_may_not_list_services_is_told_of_instances_all_the_same(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        here.emulator.create_pod(pod({"service-id": here.service_id}))
        here.emulator.create_pod(bad({"service": "cart", "app": "shop", "version": "9.9"}))
        here.emulator.create_pod(pod({"service-id": "svc-9"}, name="lost-1", uid="uid-3", ip="10.244.0.10"))
        here.server.faults.set(Fault(FORBIDDEN, path="/registry/microservices$"))
        plan = await here.plan()
        found = await here.check(Area.PODS)
    assert plan["cart-1"] == (State.IN_STEP, "")
    assert plan["bad-1"][1] == "service shop/cart version 9.9 is not registered in project default of domain default"
    assert plan["lost-1"] == (State.UNMATCHED, "no instance of the service is this pod's")
    assert "the registry is in step with 1 pod" in [one.what for one in found]


async def test_a_registry_that_refuses_everything_cannot_tell(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        here.emulator.create_pod(pod(ASKED))
        here.server.faults.set(Fault(FORBIDDEN, path="^/v4/default/registry/microservices"))
        with pytest.raises(CannotTellError, match=r"refuses to tell of any service.*shop/cart-1.*403001"):
            await here.plan()


@pytest.mark.parametrize("answer", [Answer(status=401, body=b'{"errorCode": "401201"}'), Answer(status=500)])
async def test_a_registry_that_lets_nobody_in_or_fails_is_not_asked_on(tmp_path: Path, answer: Answer) -> None:
    async with scene(tmp_path) as here:
        here.emulator.create_pod(pod(ASKED))
        here.emulator.create_pod(bad(OTHER))
        here.server.faults.set(Fault(answer, path="/registry/microservices"))
        with pytest.raises(CannotTellError, match="the registry cannot be asked"):
            await here.plan()
        found = await here.check(Area.REGISTRY)
        judged = await here.check(Area.PODS)
    assert len([one for one in found if one.level is Level.ERROR]) == 1
    assert not [one for one in judged if "in step" in one.what]


async def test_refusals_end_neither_the_search_for_harm_nor_that_for_forgotten_pods(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        chassis = NewService(name="old", service_id="svc-3", framework_name="ServiceComb", framework_version="3.2.1")
        here.server.registry.create_service(chassis)
        here.emulator.create_pod(pod(ASKED | {"not-ready-status": "OUTOFSERVICE"}))
        here.emulator.create_pod(bad({}))
        register(here.server, here.service_id, "i-2", "bad-1", "10.244.0.9")
        here.server.faults.set(Fault(FORBIDDEN, path="/svc-3/instances$"))
        found = await here.check(Area.PODS)
    assert "in the registry, but without annotations: shop/bad-1 (service cart)" in [one.what for one in found]


def test_nothing_is_said_of_services_that_may_not_be_listed() -> None:
    place = Place(Tenant(), None, ServiceName("cart"))
    assert missing_service(place, None) == "service default/cart is not registered in project default of domain default"


# --- others beside ours -------------------------------------------------------------------------


async def test_pods_on_the_hosts_network_are_not_taken_for_forgotten_ones(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        register(here.server, here.service_id, "i-2", "node-1", "10.99.0.1")
        here.emulator.create_pod(bad({}, hostNetwork=True, nodeName="node-1", ip="10.99.0.1"))
        found = await here.check(Area.PODS)
    assert not [one for one in found if "without annotations" in one.what]


async def test_an_instance_of_an_annotated_pod_makes_no_other_a_forgotten_one(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        here.emulator.create_pod(pod(ASKED))
        here.emulator.create_pod(pod({}, name="cart-1", uid="uid-2", namespace="copy"))
        found = await here.check(Area.PODS)
    assert not [one for one in found if "without annotations" in one.what]


@pytest.mark.parametrize(("ahead", "told"), [(-5, True), (5, True), (-60, False)])
async def test_a_second_operator_is_seen_whatever_its_clock(tmp_path: Path, ahead: int, *, told: bool) -> None:
    async with scene(tmp_path, leader_elect=True, lease_namespace="ops-a") as here:
        renewed = (datetime.now(UTC) + timedelta(seconds=ahead)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        for namespace in ("ops-a", "ops-b"):
            here.emulator.create_namespace(namespace)
            spec = {"holderIdentity": f"{namespace}-pod", "renewTime": renewed, "leaseDurationSeconds": 6}
            body = {"metadata": {"name": here.settings.lease_name}, "spec": spec}
            here.emulator.store.create(LEASES, namespace, body)
        found = await here.check(Area.OPERATORS)
    assert ("another operator runs: ops-b-pod in namespace ops-b" in [one.what for one in found]) is told


async def test_the_lease_is_looked_for_where_the_environment_says_that_the_operator_lives(tmp_path: Path) -> None:
    async with scene(tmp_path, leader_elect=True) as here:
        found = await check_all(here.settings, {"POD_NAMESPACE": "ops"})
    (lease,) = [one.what for one in found if one.area is Area.OPERATORS and one.what.startswith("Lease ")]
    assert lease.startswith(f"Lease ops/{here.settings.lease_name} does not exist")
    rights = [one.what for one in found if one.area is Area.KUBERNETES and "leases" in one.what]
    assert rights
    assert all(right.endswith("in namespace ops") for right in rights)
