"""What a pod's author, who may write any name and any annotation, cannot do to others (docs/security.md)."""

from typing import Any

import pytest

from registry_status.model import InstanceStatus
from tests.world import SERVICE, World, on_virtual_time

LOST: dict[str, Any] = {"ready": "False", "ready_since": 30}
NAMESAKE: dict[str, Any] = {"name": "cart-1"}
FORGED: dict[str, Any] = {"name": "x", "hostname": "cart-1"}
NO_IP: dict[str, Any] = {"name": "cart-1", "ip": "", "deleting": True}
THIEVES = [
    ("match by a forged host name", {"match": "hostname"}, FORGED),
    ("match by the same pod name", {"match": "property"}, NAMESAKE),
    ("any evidence, forged host name", {}, FORGED),
    ("any evidence, same name", {}, NAMESAKE),
    ("the id and a forged host name", {"instance-id": "ID"}, FORGED),
    ("the id and the same name", {"instance-id": "ID"}, NAMESAKE),
    ("no IP, the same name", {}, NO_IP),
    ("no IP, match by host name", {"match": "hostname"}, NO_IP),
    ("no IP, the id and the same name", {"instance-id": "ID"}, NO_IP),
]


@pytest.mark.parametrize(
    "victim", [None, {}, {"instance-id": "ID"}], ids=["not annotated", "annotated", "annotated with its id"]
)
@pytest.mark.parametrize(("ready", "status"), [("True", "UP"), ("False", "OUTOFSERVICE")])
@pytest.mark.parametrize(("annotations", "changes"), [row[1:] for row in THIEVES], ids=[row[0] for row in THIEVES])
@on_virtual_time
async def test_a_pod_of_another_namespace_cannot_touch_an_instance(
    annotations: dict[str, str], changes: dict[str, Any], ready: str, status: str, victim: dict[str, str] | None
) -> None:
    world = World()
    instance = world.register(status=status, properties={"podName": "cart-1"})

    def asks(extra: dict[str, str]) -> dict[str, str]:
        return {"service-id": SERVICE} | {key: value.replace("ID", instance) for key, value in extra.items()}

    if victim is not None:
        world.see(asks(victim), uid="uid-victim", ready=ready, ready_since=20)
        await world.pass_time(3)
    opposite = LOST if ready == "True" else {}
    world.see(asks(annotations), uid="uid-thief", namespace="evil", **{"ip": "10.244.9.9"} | opposite | changes)
    await world.pass_time(300)
    assert world.status(instance) == status
    assert InstanceStatus.DOWN not in world.written()


@pytest.mark.parametrize("asked", ["service-id", "version", "service"])
@on_virtual_time
async def test_a_thousand_services_that_do_not_exist_are_asked_for_with_a_budget(asked: str) -> None:
    world = World()
    for number in range(1000):
        named = {"service-id": f"no-{number}"} if asked == "service-id" else {"service": f"no-{number}"}
        named |= {"version": "1.0"} if asked == "version" else {}
        world.see(named, uid=f"uid-{number}", name=f"pod-{number}", ip=f"10.9.{number // 250}.{number % 250}")
    await world.pass_time(10)
    before = len(world.registry.calls)
    await world.pass_time(30)
    assert len(world.registry.calls) - before <= 50 * 30 + 2


@on_virtual_time
async def test_a_service_that_comes_late_is_found_within_about_a_second_beside_a_few_that_do_not_exist() -> None:
    world = World()
    for number in range(20):
        world.see({"service-id": f"no-{number}"}, uid=f"uid-{number}", name=f"pod-{number}", ip=f"10.9.0.{number}")
    world.see(ready="False", ready_since=1)
    await world.pass_time(60)
    instance = world.register()
    await world.pass_time(1.5)
    assert world.status(instance) == "STARTING"
