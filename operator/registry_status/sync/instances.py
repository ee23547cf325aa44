"""What is known of each instance in use: its actual status, whose it is, and a lock that puts its writes in a row."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from registry_status.model import Desired, Evidence, InstanceStatus, Tenant
from registry_status.registry.base import Instance
from registry_status.sync.fresh import Reading

IPS_KEPT = 16
"""So many addresses of an instance's claimants are remembered, the latest, and so many uids: a StatefulSet's pods come and go
for years."""


@dataclass(frozen=True, slots=True)
class InstanceKey:
    """An instance's full address in the registry."""

    tenant: Tenant
    service_id: str
    instance_id: str


@dataclass(slots=True)
class Held:
    """An instance that at least one pod claims."""

    key: InstanceKey
    status: str | None = None
    """What the registry says; None while that is not known (never read, or a write of unclear outcome)."""
    others_say: str | None = None
    """What the registry says instead while others fight for the instance and it is left to them."""
    touched_at: float = float("-inf")
    """Loop time of the last write's end: a reading asked for earlier says nothing about it."""
    matched: Instance | None = None
    """As it was listed when a pod last took it: another time of registration means that it was away in between."""
    taken_by: Evidence | None = None
    """What that pod showed of itself then."""
    owner: str | None = None
    """The uid of the pod whose status counts."""
    claimants: set[str] = field(default_factory=set)
    ips: dict[tuple[str, str], None] = field(default_factory=dict)
    """Namespace and IP of the last pods of this cluster that claimed it: registering a live id again keeps old endpoints."""
    uids: dict[tuple[str, str], None] = field(default_factory=dict)
    """Namespace and uid of these: it keeps old properties, too."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def judges(self, asked_at: float) -> bool:
        """Whether a reading asked for then says anything: no write is under way, and none came later."""
        return not self.lock.locked() and asked_at >= self.touched_at

    def is_still(self, found: Instance) -> bool:
        """Whether it has been there since it was last matched: whoever registers it after that may be somebody else."""
        return found.registered_at == (self.matched.registered_at if self.matched is not None else None)

    def came_back_alike(self, found: Instance, pod: Evidence | None) -> bool:
        """Whether it was registered since it was last matched, and to match it for this pod would say the same again.

        Only a younger registration can say so: one before the pod's start is another's. A pod that asks for another place has
        let go of it.
        """
        was = self.matched
        if was is None or was.registered_at is None or found.registered_at is None or pod != self.taken_by:
            return False
        alike = (found.host_name, found.endpoints, found.properties) == (was.host_name, was.endpoints, was.properties)
        return alike and found.registered_at > was.registered_at

    def learn(self, reading: Reading[str]) -> None:
        """Take over a status that was read, if it says anything."""
        if self.judges(reading.asked_at):
            self.status, self.others_say = reading.value, None


Index = dict[tuple[Tenant, str], dict[InstanceKey, Held]]


class Instances:
    """All instances held. Two live pods that claim one are judged here: the Ready one owns it, else the newer."""

    def __init__(self) -> None:
        self._held: dict[InstanceKey, Held] = {}
        self._by_service: Index = {}
        self._by_id: Index = {}

    def __iter__(self) -> Iterator[Held]:
        return iter(self._held.values())

    def services(self) -> list[tuple[Tenant, str]]:
        """Every service with an instance that is claimed, in an order that claims do not change: each keeps its turn."""
        return sorted(self._by_service, key=lambda one: (one[0].domain, one[0].project, one[1]))

    def of_service(self, tenant: Tenant, service_id: str) -> list[Held]:
        """The claimed instances of one service."""
        return list(self._by_service.get((tenant, service_id), {}).values())

    def with_id(self, tenant: Tenant, instance_id: str) -> list[Held]:
        """The claimed instances that bear an id, in whichever service."""
        return list(self._by_id.get((tenant, instance_id), {}).values())

    def get(self, key: InstanceKey) -> Held | None:
        """The instance if any pod claims it."""
        return self._held.get(key)

    def claim(self, key: InstanceKey, pod: Desired, rivals: Sequence[Desired]) -> Held:
        """Claim an instance for a pod; `rivals` are its other claimants as they are now. Look at `owner` for the verdict."""
        held = self._held.get(key) or self._add(Held(key))
        held.claimants.add(pod.pod.uid)
        if pod.evidence is not None:
            _remember(held.ips, pod.pod.namespace, pod.evidence.ips)
            _remember(held.uids, pod.pod.namespace, (pod.evidence.uid,))
        held.owner = (max((pod, *rivals), key=_strength) if rivals else pod).pod.uid
        return held

    def unclaim(self, key: InstanceKey, uid: str) -> set[str]:
        """Give up a claim; returns the uids of those who still claim the instance."""
        held = self._held.get(key)
        if held is None:
            return set()
        held.claimants.discard(uid)
        if held.owner == uid:
            held.owner = None
        self.tidy(held)
        return set(held.claimants)

    def tidy(self, held: Held) -> None:
        """Forget an instance that nobody claims; one that is being written only after that, or a second lock would be made."""
        if not held.claimants and not held.lock.locked() and self._held.get(held.key) is held:
            self._remove(held)

    def _add(self, held: Held) -> Held:
        self._held[held.key] = held
        for index, name in self._indexed(held.key):
            index.setdefault(name, {})[held.key] = held
        return held

    def _remove(self, held: Held) -> None:
        del self._held[held.key]
        for index, name in self._indexed(held.key):
            del index[name][held.key]
            if not index[name]:
                del index[name]

    def _indexed(
        self, key: InstanceKey
    ) -> Iterator[tuple[dict[tuple[Tenant, str], dict[InstanceKey, Held]], tuple[Tenant, str]]]:
        """Every index, and where in it an instance stands: none is looked for among all."""
        yield self._by_service, (key.tenant, key.service_id)
        yield self._by_id, (key.tenant, key.instance_id)


def _remember(kept: dict[tuple[str, str], None], namespace: str, marks: Iterable[str]) -> None:
    for mark in marks:
        kept[namespace, mark] = None
    while len(kept) > IPS_KEPT:
        del kept[next(iter(kept))]


def _strength(pod: Desired) -> tuple[bool, bool, bool, float, str]:
    """Who owns an instance that several pods claim: a managed one, not gone, Ready, the newer."""
    created = pod.evidence.created_at if pod.evidence is not None else None
    ready = pod.status is InstanceStatus.UP
    return pod.managed, not pod.gone, ready, created or 0.0, pod.pod.uid
