"""What is known of one instance."""

from dataclasses import replace
from typing import Any

import pytest

from registry_status.config import Settings
from registry_status.model import Evidence, Tenant
from registry_status.pods.status import desired
from registry_status.registry.base import Instance
from registry_status.sync.instances import Held, InstanceKey, Instances
from tests.pods import pod

KEY = InstanceKey(Tenant("default", "default"), "svc-1", "one")
POD = Evidence("uid-1", "cart-1", hostnames=("cart-1",), ips=("10.244.0.7",), running=True)
FOUND = Instance("one", "svc-1", "UP", "cart-1", ("rest://10.244.0.7:8080",), {"zone": "a"}, registered_at=100)


@pytest.mark.parametrize(
    ("anew", "pod", "alike"),
    [
        ({"registered_at": 130}, POD, True),
        ({"registered_at": 130, "status": "DOWN", "lease": 30.0}, POD, True),
        ({"registered_at": 100}, POD, False),
        ({"registered_at": 99}, POD, False),
        ({"registered_at": None}, POD, False),
        ({"registered_at": 130, "host_name": "cart-2"}, POD, False),
        ({"registered_at": 130, "endpoints": ("rest://10.244.0.8:8080",)}, POD, False),
        ({"registered_at": 130, "properties": {"zone": "b"}}, POD, False),
        ({"registered_at": 130}, replace(POD, ips=("10.244.0.8",)), False),
        ({"registered_at": 130}, replace(POD, running=False), False),
        ({"registered_at": 130}, None, False),
    ],
)
def test_an_instance_comes_back_alike_if_it_is_younger_and_nothing_else_that_it_is_matched_by_is_another(
    anew: dict[str, Any], pod: Evidence | None, alike: bool
) -> None:
    held = Held(KEY, matched=FOUND, taken_by=POD)
    assert held.came_back_alike(replace(FOUND, **anew), pod) is alike


def test_an_instance_that_was_never_taken_or_bore_no_time_does_not_come_back_alike() -> None:
    assert not Held(KEY).came_back_alike(FOUND, None)
    assert not Held(KEY, matched=replace(FOUND, registered_at=None), taken_by=POD).came_back_alike(FOUND, POD)


def test_services_are_in_the_same_order_however_claims_come_and_go() -> None:
    """Else one whose pods are replaced right after its turn could wait for nearly two rounds."""
    instances, wanted = Instances(), desired(pod({"service-id": "svc-1"}, uid="u1"), Settings())
    keys = [InstanceKey(Tenant(project=project), service, "one") for project in ("p", "q") for service in ("a", "b", "c")]
    for key in keys:
        instances.claim(key, wanted, ())
    before = instances.services()
    for key in keys:
        instances.unclaim(key, "u1")
        assert (key.tenant, key.service_id) not in instances.services()
        instances.claim(key, wanted, ())
        assert instances.services() == before
