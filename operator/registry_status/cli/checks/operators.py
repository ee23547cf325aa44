"""Whether an operator runs, and only one: by its Lease, and by what Events on the pods say of others who write too."""

import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from urllib.parse import quote

from registry_status.cli.checks.finding import Area, Finding, Findings, counted, listed
from registry_status.cluster.api import FORBIDDEN, NOT_FOUND, ApiError, ApiServer, Json, mapping
from registry_status.cluster.lease import GROUP, LeaseRef
from registry_status.config import Settings
from registry_status.report.event_policy import EventReason
from registry_status.report.events import COMPONENT

RECENT = 3600.0
"""Seconds for which an Event counts as recent."""
STALE = 30.0
"""Seconds after which a Lease that nobody renewed is nobody's: several times its duration, as clocks differ."""
SOMEONE_ELSE = "someone else"
"""How the operator calls a foreign writer in its Events."""
ONE_OF_THEM = (
    "let one operator serve each pod: give each its own --class or --namespace, or remove one; "
    "and see that no console or script changes statuses"
)

told = Findings(Area.OPERATORS)


async def check_operators(
    api: ApiServer, settings: Settings, lease: LeaseRef | None, pods: Collection[tuple[str, str]]
) -> AsyncIterator[Finding]:
    """Look at the Lease and at Events; `pods` are the namespaces and names of those that the operator serves."""
    if lease is None:
        yield told.skipped("who leads is not looked at: one replica takes no Lease (--leader-elect false)")
    else:
        yield await _check_leader(api, lease)
        async for found in _check_other_leases(api, lease):
            yield found
    yield await _check_drift(api, settings, pods)


async def _check_leader(api: ApiServer, lease: LeaseRef) -> Finding:
    nobody = "so nothing is written to the registry"
    start = "start the operator, and look at its log; `check` must use its lease settings"
    try:
        found = _spec(await api.get(f"{_leases(lease.namespace)}/{quote(lease.name, safe='')}"))
    except ApiError as error:
        if error.status == NOT_FOUND:
            return told.warning(f"Lease {lease} does not exist: no operator has run, {nobody}", start)
        return told.skipped(f"who leads is not known: {error}")
    holder, age = found.get("holderIdentity"), _age(found.get("renewTime"))
    if not holder:
        return told.warning(f"nobody holds Lease {lease}, {nobody}", start)
    if age is None or age > STALE:
        since = f"{age:.0f} s ago" if age is not None else "never"
        return told.warning(f"{holder} holds Lease {lease}, but renewed it {since}: nobody leads, {nobody}", start)
    return told.ok(f"{holder} leads (Lease {lease})")


async def _check_other_leases(api: ApiServer, lease: LeaseRef) -> AsyncIterator[Finding]:
    """Look for an operator of another namespace; who may not list Leases there does not hear of it."""
    try:
        answer = await api.get(f"/apis/{GROUP}/v1/leases", {"fieldSelector": f"metadata.name={lease.name}"})
    except ApiError:
        return
    others = [
        f"{spec['holderIdentity']} in namespace {metadata['namespace']}"
        for item in _items(answer)
        if (metadata := mapping(item.get("metadata"))).get("namespace") != lease.namespace
        and (spec := _spec(item)).get("holderIdentity")
        and (age := _age(spec.get("renewTime"))) is not None
        and age < STALE
    ]
    if others:
        yield told.warning(f"another operator runs: {listed(others)}", f"if both serve the same pods, {ONE_OF_THEM}")


async def _check_drift(api: ApiServer, settings: Settings, pods: Collection[tuple[str, str]]) -> Finding:
    """Find pods whose statuses somebody else changes as well."""
    fought: set[str] = set()
    for namespace in settings.namespaces or ("",):
        try:
            events = await read_events(api, namespace, f"reason={EventReason.DRIFTED}")
        except ApiError as error:
            if error.status == FORBIDDEN:
                return told.skipped(
                    "Events are not read, which tell of a second operator: listing them is not allowed",
                    "run `check` with a kubeconfig that may list events",
                )
            return told.skipped(f"Events cannot be read: {error}")
        for event in events:
            about = mapping(event.get("involvedObject"))
            pod = str(about.get("namespace")), str(about.get("name"))
            age, message = _age(event.get("lastTimestamp")), str(event.get("message"))
            if pod in pods and SOMEONE_ELSE in message and age is not None and age < RECENT:
                fought.add("/".join(pod))
    if not fought:
        return told.ok("no Event of the last hour tells of a second operator or of a console that changes statuses")
    return told.warning(
        f"someone else writes the statuses of {counted(len(fought), 'pod')} too: {listed(sorted(fought))}", ONE_OF_THEM
    )


async def read_events(api: ApiServer, namespace: str, selector: str) -> Sequence[Json]:
    """Return the operator's own Events that a field selector picks, the newest last. Raises `ApiError`."""
    place = f"/api/v1/namespaces/{quote(namespace, safe='')}/events" if namespace else "/api/v1/events"
    answer = await api.get(place, {"fieldSelector": selector, "limit": "5000"})
    own = [item for item in _items(answer) if mapping(item.get("source")).get("component") == COMPONENT]
    return sorted(own, key=lambda item: str(item.get("lastTimestamp")))


def _leases(namespace: str) -> str:
    return f"/apis/{GROUP}/v1/namespaces/{quote(namespace, safe='')}/leases"


def _items(answer: Json) -> Sequence[Json]:
    items = answer.get("items")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _spec(item: Json) -> Mapping[str, object]:
    return mapping(item.get("spec"))


def _age(text: object) -> float | None:
    """Seconds since a time that Kubernetes has written."""
    try:
        return max(0.0, time.time() - datetime.fromisoformat(str(text)).timestamp())
    except ValueError:
        return None
