"""Which registered instances are a pod's own: DESIGN section 4 as a pure function.

To write a status to somebody else's instance is the worst that this operator could do. So an instance is taken only for
evidence, and whatever speaks against it wins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv6Address
from urllib.parse import urlsplit

from registry_status.model import Evidence, MatchMode, Target
from registry_status.registry.base import Instance

REGISTRATION_SLACK = 5.0
"""Seconds by which a registration may seem to precede the start of the container that made it: two machines' clocks."""
LISTED = 5
"""How many candidates a refusal names."""
REMEMBERED = 4096
"""Endpoints of which it is remembered where they point: each list of a service tells the same ones."""


class Grade(IntEnum):
    """The strongest evidence found, weakest first."""

    NONE = 0
    POD_NAME = 1
    HOST_NAME = 2
    ENDPOINT = 3
    POD_UID = 4


@dataclass(frozen=True, slots=True)
class Matched:
    """The pod's instances: `current` belongs to the container's present life, `older` are earlier lives' leftovers."""

    current: Instance | None
    older: tuple[Instance, ...] = ()
    certain: bool = True
    """Whether `current` is surely the present life's: if not, the container's restart may still bring another."""

    @property
    def all(self) -> tuple[Instance, ...]:
        """Every instance of the pod."""
        return (self.current, *self.older) if self.current is not None else self.older


@dataclass(frozen=True, slots=True)
class Refused:
    """There are instances, but to take one of them would be a guess."""

    message: str
    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoneFound:
    """No instance is the pod's (yet)."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the operator knows beside pod and registry.

    `age`: seconds for which it has watched the container's present life. `predecessors`: IPs of pods of this cluster that
    held the annotated id before, since registering a live id again keeps the endpoints of the one before. `predecessor_uids`:
    uids of those of them that run no more, since it keeps the properties, too. `trust_ids`: the setting that waives the
    evidence for annotated ids. `earlier`: ids of instances that were the pod's before its container's last restart was seen,
    so no slack is theirs: they are leftovers unless they are younger than the restart, whose news may have come late. `gone`:
    the pod is gone, so its IP or its name may already be another's: endpoint and name must both agree.
    """

    age: float = 0.0
    gone: bool = False
    earlier: frozenset[str] = frozenset()
    predecessors: frozenset[str] = frozenset()
    predecessor_uids: frozenset[str] = frozenset()
    trust_ids: bool = False


def match(
    target: Target, pod: Evidence, instances: Sequence[Instance], around: Circumstances | None = None
) -> Matched | Refused | NoneFound:
    """Find the pod's own among a service's instances."""
    around = around or Circumstances()
    if target.instance_id is not None or target.pending:
        return _by_id(target, pod, instances, around)
    graded = [(_grade(target.match, pod, found, around), found) for found in instances]
    graded = [(grade, found) for grade, found in graded if grade and not _is_ghost(grade, pod, found, around)]
    if around.gone:
        graded = [(grade, found) for grade, found in graded if _is_surely(pod, found)]
    if not graded:
        return NoneFound()
    best = max(grade for grade, _ in graded)
    return _lives(best, pod, [found for grade, found in graded if grade == best], around)


@dataclass(frozen=True, slots=True)
class Signs:
    """What ties one instance to a pod, or speaks against it, for people; None where one of the two does not say."""

    pod_uid: bool | None
    endpoint: bool | None
    host_name: bool | None
    pod_name: bool | None
    grade: Grade
    """The strongest that counts under the pod's `match`."""
    ghost: bool
    """It was registered before the pod was started, so it is taken for another pod's."""


def signs(target: Target, pod: Evidence, found: Instance, around: Circumstances) -> Signs:
    """Tell what `match` sees of one instance."""
    by_id = target.instance_id is not None or target.pending
    grade = _grade(MatchMode.AUTO if by_id else target.match, pod, found, around)
    uid = found.properties.get("podUid")
    return Signs(
        pod_uid=uid == pod.uid if uid else None,
        endpoint=_endpoint_agrees(pod, found),
        host_name=_host_agrees(pod, found),
        pod_name=_pod_name_agrees(pod, found),
        grade=grade,
        ghost=not by_id and bool(grade) and _is_ghost(grade, pod, found, around),
    )


def names_of_instance(found: Instance) -> frozenset[str]:
    """Everything by which an instance can be tied to a pod: `match` takes none that shares nothing with `names_of_pod`."""
    own = (found.instance_id, found.host_name, _spelled(found.host_name))
    told = (found.properties.get("podUid", ""), found.properties.get("podName", ""))
    return frozenset(name for name in (*own, *told, *_hosts(found)) if name)


def names_of_pod(target: Target, pod: Evidence) -> frozenset[str]:
    """Everything by which an instance can be tied to this pod."""
    own = (pod.uid, pod.name, target.instance_id or "", *pod.hostnames)
    return frozenset(name for name in (*own, *map(_spelled, pod.ips)) if name)


def _by_id(
    target: Target, pod: Evidence, instances: Sequence[Instance], around: Circumstances
) -> Matched | Refused | NoneFound:
    named = [found for found in instances if found.instance_id == target.instance_id]
    named = [found for found in named if not around.gone or _is_surely(pod, found)]
    if not named:
        return NoneFound()
    mine = [found for found in named if around.trust_ids or _grade(MatchMode.AUTO, pod, found, around)]
    if mine:  # several, if a service's versions all hold the id: what ran before a new version took it
        newest, *older = _newest_first(mine)
        return Matched(current=newest, older=tuple(older))
    return Refused(
        f"the annotated instance {_shown(named[0])} shows nothing that ties it to this pod "
        f"(IPs {', '.join(pod.ips) or 'none'}, host name {pod.hostnames[0] if pod.hostnames else 'none'}), so it is left alone",
        (named[0].instance_id,),
    )


def _grade(mode: MatchMode, pod: Evidence, found: Instance, around: Circumstances) -> Grade:
    """The strongest evidence that this instance is the pod's; NONE where anything speaks against it."""
    uid = found.properties.get("podUid")
    if uid in around.predecessor_uids and uid != pod.uid:
        uid = None
    if uid and uid != pod.uid:
        return Grade.NONE
    if uid and mode in (MatchMode.AUTO, MatchMode.PROPERTY):
        return Grade.POD_UID
    endpoint, host, name = _endpoint_agrees(pod, found), _host_agrees(pod, found), _pod_name_agrees(pod, found)
    # Names are whatever a pod's author writes, its IP is not: a name takes no instance that may be somebody else's.
    names_count = (pod.ips and endpoint is not False) or around.trust_ids
    match mode:
        case MatchMode.PROPERTY:
            return Grade.POD_NAME if name and names_count else Grade.NONE
        case MatchMode.ENDPOINT:
            return Grade.ENDPOINT if endpoint else Grade.NONE
        case MatchMode.HOSTNAME:
            return Grade.HOST_NAME if host and names_count else Grade.NONE
    if endpoint is False and _hosts(found).intersection(map(_spelled, around.predecessors)):
        endpoint = None
    if False in (endpoint, host, name) or not (pod.ips or around.trust_ids):
        return Grade.NONE
    return Grade.ENDPOINT if endpoint else Grade.HOST_NAME if host else Grade.POD_NAME if name else Grade.NONE


def _endpoint_agrees(pod: Evidence, found: Instance) -> bool | None:
    """None: pod or instance does not say."""
    places = [place for place in map(_place, found.endpoints) if place is not None]
    if not places or not pod.ips:
        return None
    ips = frozenset(map(_spelled, pod.ips))
    if pod.host_ports is None:
        return any(host in ips for host, _ in places)
    # On the host's network the IP is every such pod's: only the port tells them apart.
    if not pod.host_ports:
        return None if any(host in ips for host, _ in places) else False
    return any(host in ips and port in pod.host_ports for host, port in places)


def _host_agrees(pod: Evidence, found: Instance) -> bool | None:
    if not found.host_name:
        return None
    return found.host_name in pod.hostnames or _spelled(found.host_name) in map(_spelled, pod.ips)


def _pod_name_agrees(pod: Evidence, found: Instance) -> bool | None:
    name = found.properties.get("podName")
    return name == pod.name if name else None


@lru_cache(REMEMBERED)
def _place(endpoint: str) -> tuple[str, int | None] | None:
    try:
        url = urlsplit(endpoint)
        host, port = url.hostname, url.port
    except ValueError:
        return None
    return (_spelled(host), port) if host else None


def _spelled(host: str) -> str:
    """One spelling for each IP: Java writes fd00:0:0:0:0:0:0:7%eth0 where Kubernetes writes fd00::7."""
    if ":" not in host:
        return host
    try:
        return str(IPv6Address(host.partition("%")[0]))
    except ValueError:
        return host


def _hosts(found: Instance) -> frozenset[str]:
    return frozenset(place[0] for place in map(_place, found.endpoints) if place is not None)


def _is_surely(pod: Evidence, found: Instance) -> bool:
    """Whether more than one thing ties the instance to this very pod, not to one that took over its IP or its name."""
    if uid := found.properties.get("podUid"):
        return uid == pod.uid
    named = _host_agrees(pod, found) or _pod_name_agrees(pod, found)
    return bool(_endpoint_agrees(pod, found) and named)


def _is_ghost(grade: Grade, pod: Evidence, found: Instance, around: Circumstances) -> bool:
    """Registered before the pod was started: left by another pod that had this IP or name.

    Unless it has outlived its lease since: then somebody keeps it alive, which only this pod can.
    """
    if grade is Grade.POD_UID or found.registered_at is None or pod.started_at is None:
        return False
    return found.registered_at < pod.started_at and around.age <= found.lease


def _is_current(pod: Evidence, found: Instance, around: Circumstances) -> bool:
    """Made by the main container's present life, as far as times tell."""
    if around.age > found.lease:
        return True
    if pod.container_started_at is None or found.registered_at is None:
        return found.instance_id not in around.earlier
    slack = 0.0 if found.instance_id in around.earlier else REGISTRATION_SLACK
    return found.registered_at >= pod.container_started_at - slack


def _lives(grade: Grade, pod: Evidence, mine: list[Instance], around: Circumstances) -> Matched | Refused:
    """Sort a pod's instances into its present life's and those of lives before."""
    mine = _newest_first(mine)
    present = [found for found in mine if _is_current(pod, found, around)]
    if len({frozenset(found.endpoints) for found in present}) > 1:
        listed = ", ".join(_shown(found) for found in present[:LISTED])
        more = f" and {len(present) - LISTED} more" if len(present) > LISTED else ""
        return Refused(
            f"{len(present)} instances fit this pod equally well: {listed}{more}; "
            f"tell them apart by the annotation instance-id or a property podUid",
            tuple(found.instance_id for found in present),
        )
    certain = bool(present)
    if not present and grade is Grade.POD_UID:
        present = mine[:1]  # registering a live id again keeps its old timestamp
    current = present[0] if present else None
    return Matched(current=current, older=tuple(found for found in mine if found is not current), certain=certain)


def _newest_first(mine: list[Instance]) -> list[Instance]:
    return sorted(mine, key=lambda found: (found.registered_at or 0, found.instance_id), reverse=True)


def _shown(found: Instance) -> str:
    return f"{found.instance_id} (host {found.host_name or '?'}, {', '.join(found.endpoints[:2]) or 'no endpoint'})"
