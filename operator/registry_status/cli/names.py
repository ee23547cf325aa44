"""What a pod probably meant that names a service which the registry does not have."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from registry_status.cli.reading import Place
from registry_status.model import ServiceName
from registry_status.registry.base import Service

SHOWN = 3
"""How many suggestions are made."""


def missing_service(place: Place, services: Sequence[Service] | None) -> str:
    """Say that the place's service is not registered, and which may have been meant; `services` is None where unknown."""
    project = f"project {place.tenant.project} of domain {place.tenant.domain}"
    if services is None:
        return f"service {place} is not registered in {project}"
    if not services:
        return f"service {place} is not registered: {project} has no services at all"
    meant = _meant_by_id(place.service_id, services) if place.service is None else _meant_by_name(place.service, services)
    return f"service {place} is not registered in {project}" + (f"; {meant}" if meant else "")


def _meant_by_id(service_id: str | None, services: Sequence[Service]) -> str:
    wanted = service_id or ""
    if any(found.name == wanted for found in services):
        return f"{wanted} is the name of a service, not its id: use the annotation `service`"
    near = get_close_matches(wanted, [found.service_id for found in services], SHOWN)
    return f"did you mean {_listed(near)}?" if near else ""


def _meant_by_name(wanted: ServiceName, services: Sequence[Service]) -> str:
    same = [_full(found) for found in services if found.name == wanted.name]
    if same:
        return f"the name is registered as {_listed(same[:SHOWN])}: annotate app, environment and version so"
    near = get_close_matches(wanted.name, sorted({found.name for found in services}), SHOWN)
    return f"did you mean {_listed(near)}?" if near else ""


def _full(service: Service) -> str:
    return str(ServiceName(service.name, service.app, service.environment, service.version))


def _listed(names: Iterable[str]) -> str:
    return " or ".join(names)
