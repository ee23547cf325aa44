"""What a wrong name of a service probably meant."""

import pytest

from registry_status.cli.names import missing_service
from registry_status.cli.reading import Place
from registry_status.model import ServiceName, Tenant
from registry_status.registry.base import Service

SERVICES = [
    Service("svc-1", "cart", "shop", "1.0.0", "production"),
    Service("svc-2", "stock", "shop", "1.0.0", ""),
    Service("svc-3", "stock", "shop", "2.0.0", ""),
]
TOLD: list[tuple[Place, str]] = [
    (Place(Tenant(), None, ServiceName("crat")), "did you mean cart?"),
    (Place(Tenant(), None, ServiceName("stok", "shop")), "did you mean stock?"),
    (Place(Tenant(), None, ServiceName("cart")), "the name is registered as shop/cart version 1.0.0 in environment production"),
    (Place(Tenant(), None, ServiceName("stock", version="3")), "shop/stock version 1.0.0 or shop/stock version 2.0.0"),
    (Place(Tenant(), "cart", None), "cart is the name of a service, not its id: use the annotation `service`"),
    (Place(Tenant(), "svc-9", None), "did you mean svc-"),
]


@pytest.mark.parametrize(("place", "said"), TOLD, ids=[str(row[0]) for row in TOLD])
def test_the_nearest_is_suggested(place: Place, said: str) -> None:
    told = missing_service(place, SERVICES)
    assert told.startswith(f"service {place} is not registered in project default of domain default; ")
    assert said in told


def test_nothing_is_suggested_where_nothing_is_near() -> None:
    told = missing_service(Place(Tenant(), None, ServiceName("payment-gateway")), SERVICES)
    assert told == "service default/payment-gateway is not registered in project default of domain default"


def test_a_project_without_services_is_told() -> None:
    told = missing_service(Place(Tenant(project="eu"), None, ServiceName("cart")), [])
    assert told == "service default/cart is not registered: project eu of domain default has no services at all"
