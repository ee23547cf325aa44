"""Which instances are a pod's own: DESIGN section 4 as tables. Taking somebody else's is the worst that could happen."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_status.model import Evidence, MatchMode, Target, Tenant
from registry_status.pods.observation import observe
from registry_status.registry.base import Instance
from registry_status.sync.directory import Roster
from registry_status.sync.matching import LISTED, Circumstances, Matched, NoneFound, Refused, match, names_of_pod
from tests.pods import START, pod

IP, OTHER_IP, NODE_IP = "10.244.0.7", "10.244.9.9", "192.168.1.1"
POD = Evidence(
    uid="uid-1",
    name="cart-1",
    hostnames=("cart-1",),
    ips=(IP,),
    created_at=START - 1,
    started_at=START,
    container_started_at=START + 2,
    running=True,
    has_started=True,
)
AUTO, PROPERTY, ENDPOINT, HOSTNAME = MatchMode.AUTO, MatchMode.PROPERTY, MatchMode.ENDPOINT, MatchMode.HOSTNAME
HERE, ELSEWHERE = (f"rest://{IP}:8080",), (f"rest://{OTHER_IP}:8080",)


def instance(
    name: str = "i-1", *, at: float | None = 10, uid: str = "", pod_name: str = "", host: str = "", **more: Any
) -> Instance:
    """An instance, registered so many seconds after the pod's start, that says nothing but what is given."""
    properties = {key: value for key, value in {"podUid": uid, "podName": pod_name}.items() if value}
    return Instance(
        instance_id=name,
        service_id="svc-1",
        status="UP",
        host_name=host,
        properties=properties,
        registered_at=int(START + at) if at is not None else None,
        **more,
    )


def target(mode: MatchMode = AUTO, **more: Any) -> Target:
    return Target(Tenant(), service_id="svc-1", match=mode, **more)


@dataclass(frozen=True)
class Found:
    """A verdict, as ids: `current` and then the older ones; or the refusal's."""

    current: str | None = None
    older: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


NOTHING, TAKEN = Found(), Found("i-1")


def verdict(*instances: Instance, mode: MatchMode = AUTO, of: Evidence = POD, id_: str | None = None, **around: Any) -> Found:
    """What is found among these; a refusal must name what it is about."""
    result = match(target(mode, instance_id=id_), of, instances, Circumstances(**around))
    match result:
        case NoneFound():
            return NOTHING
        case Refused(message, ids):
            assert all(found in message for found in ids[:LISTED])
            return Found(refused=ids)
        case Matched(current, older):
            assert result.all == ((current, *older) if current is not None else older)
            return Found(current.instance_id if current else None, tuple(found.instance_id for found in older))


# --- one piece of evidence ----------------------------------------------------------------------

ALONE: list[tuple[str, Instance, dict[MatchMode, bool]]] = [
    ("nothing at all", instance(), {}),
    ("the pod's uid", instance(uid="uid-1"), {AUTO: True, PROPERTY: True}),
    ("the pod's IP", instance(endpoints=HERE), {AUTO: True, ENDPOINT: True}),
    ("the pod's name as host name", instance(host="cart-1"), {AUTO: True, HOSTNAME: True}),
    ("the pod's IP as host name", instance(host=IP), {AUTO: True, HOSTNAME: True}),
    ("the pod's name as property", instance(pod_name="cart-1"), {AUTO: True, PROPERTY: True}),
    ("another pod's uid", instance(uid="uid-2"), {}),
    ("another IP", instance(endpoints=ELSEWHERE), {}),
    ("another host name", instance(host="cart-2"), {}),
    ("another pod's name as property", instance(pod_name="cart-2"), {}),
    ("a longer host name", instance(host="cart-11"), {}),
    ("a shorter host name", instance(host="cart"), {}),
    ("a host name in capitals", instance(host="CART-1"), {}),
    ("a longer IP", instance(endpoints=("rest://10.244.0.77:8080",)), {}),
]


@pytest.mark.parametrize("mode", MatchMode)
@pytest.mark.parametrize(("found", "taken"), [row[1:] for row in ALONE], ids=[row[0] for row in ALONE])
def test_one_piece_of_evidence_counts_in_its_own_mode_and_in_auto(
    found: Instance, taken: dict[MatchMode, bool], mode: MatchMode
) -> None:
    assert verdict(found, mode=mode) == (TAKEN if taken.get(mode) else NOTHING)


# --- contradictions -----------------------------------------------------------------------------

SAYS_ALL: dict[str, Any] = {"endpoints": HERE, "host": "cart-1", "pod_name": "cart-1"}
CONTRADICTIONS: list[tuple[str, dict[str, Any], set[MatchMode]]] = [
    ("all agree", {}, {AUTO, ENDPOINT, HOSTNAME, PROPERTY}),
    ("another IP, as of another cluster's pod with this name", {"endpoints": ELSEWHERE}, set()),
    ("another host name, as of a pod of another cluster's network", {"host": "wagon-7"}, {ENDPOINT, PROPERTY}),
    ("another pod's name", {"pod_name": "wagon-7"}, {ENDPOINT, HOSTNAME}),
    ("another uid, all else the same", {"uid": "uid-2"}, set()),
    ("the uid, all else another's", {"uid": "uid-1", "endpoints": ELSEWHERE, "host": "x", "pod_name": "x"}, {AUTO, PROPERTY}),
    ("a name elsewhere", {"endpoints": ELSEWHERE, "pod_name": ""}, set()),
    ("an IP of another host", {"host": "wagon-7", "pod_name": ""}, {ENDPOINT}),
    ("neither IP nor host", {"endpoints": ELSEWHERE, "host": "wagon-7", "pod_name": ""}, set()),
]


@pytest.mark.parametrize("mode", MatchMode)
@pytest.mark.parametrize(("said", "modes"), [row[1:] for row in CONTRADICTIONS], ids=[row[0] for row in CONTRADICTIONS])
def test_what_speaks_against_an_instance_wins_unless_the_mode_passes_over_it(
    said: dict[str, Any], modes: set[MatchMode], mode: MatchMode
) -> None:
    assert verdict(instance(**SAYS_ALL | said), mode=mode) == (TAKEN if mode in modes else NOTHING)


@pytest.mark.parametrize("mode", [HOSTNAME, PROPERTY])
def test_where_authors_are_trusted_a_name_counts_beside_an_endpoint_behind_a_nat(mode: MatchMode) -> None:
    behind_nat = instance(**SAYS_ALL | {"endpoints": ELSEWHERE})
    assert verdict(behind_nat, mode=mode, trust_ids=True) == TAKEN


@pytest.mark.parametrize("mode", [AUTO, HOSTNAME, PROPERTY])
@pytest.mark.parametrize("endpoints", [HERE, ()])
def test_a_pod_without_an_ip_has_no_instance_by_its_names(mode: MatchMode, endpoints: tuple[str, ...]) -> None:
    assert (
        verdict(instance(host="cart-1", pod_name="cart-1", endpoints=endpoints), mode=mode, of=replace(POD, ips=())) == NOTHING
    )


@pytest.mark.parametrize("mode", MatchMode)
def test_the_strongest_evidence_decides_among_instances(mode: MatchMode) -> None:
    by_uid = instance("by-uid", uid="uid-1")
    by_ip = instance("by-ip", endpoints=HERE)
    by_host = instance("by-host", host="cart-1")
    by_name = instance("by-name", pod_name="cart-1")
    order = [by_uid, by_ip, by_host, by_name]
    modes = {PROPERTY: (by_uid, by_name), ENDPOINT: (by_ip,), HOSTNAME: (by_host,), AUTO: order}
    while order:
        expected = next((found.instance_id for found in order if found in modes[mode]), None)
        assert verdict(*reversed(order), mode=mode) == Found(expected)
        order = order[1:]


# --- endpoints ----------------------------------------------------------------------------------

V6 = "fd00:10:244::7"
ENDPOINTS: list[tuple[str, tuple[str, ...], bool]] = [
    ("rest", (f"rest://{IP}:8080",), True),
    ("highway", (f"highway://{IP}:7070",), True),
    ("with a query", (f"rest://{IP}:8080?sslEnabled=true&protocol=http2",), True),
    ("without a port", (f"rest://{IP}",), True),
    ("one of several", (*ELSEWHERE, f"grpc://{IP}:9090"), True),
    ("none of several", (*ELSEWHERE, "rest://10.244.9.8:8080"), False),
    ("IPv6", (f"rest://[{V6}]:8080",), True),
    ("IPv6 as Java writes it", ("rest://[fd00:10:244:0:0:0:0:7]:8080",), True),
    ("IPv6 with its interface", ("rest://[fd00:10:244:0:0:0:0:7%eth0]:8080",), True),
    ("IPv6 in capitals", ("rest://[FD00:10:244::7]:8080",), True),
    ("another IPv6", ("rest://[fd00:10:244::8]:8080",), False),
    ("an unparsable one beside a good one", ("rest://[oops", f"rest://{IP}:8080"), True),
]
UNREADABLE = [
    "",
    "rest://",
    "10.244.0.7:8080",
    "rest://[oops",
    f"rest://{IP}:port",
    f"rest://{IP}:99999",
    "rest:///path",
    "\x00",
]


@pytest.mark.parametrize(("endpoints", "taken"), [row[1:] for row in ENDPOINTS], ids=[row[0] for row in ENDPOINTS])
def test_an_endpoints_host_is_compared_with_all_of_the_pods_ips(endpoints: tuple[str, ...], taken: bool) -> None:
    dual_stack = replace(POD, ips=(IP, V6))
    assert verdict(instance(endpoints=endpoints), of=dual_stack) == (TAKEN if taken else NOTHING)


@pytest.mark.parametrize("spelling", [V6, "fd00:10:244:0:0:0:0:7", "fd00:10:244:0:0:0:0:7%eth0"])
def test_an_ip_as_host_name_may_be_spelled_in_any_way(spelling: str) -> None:
    assert verdict(instance(host=spelling), of=replace(POD, ips=(V6,))) == TAKEN


@pytest.mark.parametrize("endpoint", UNREADABLE)
def test_an_endpoint_that_cannot_be_read_says_nothing(endpoint: str) -> None:
    assert verdict(instance(endpoints=(endpoint,))) == NOTHING
    assert verdict(instance(endpoints=(endpoint,), host="cart-1")) == TAKEN
    assert verdict(instance(endpoints=(endpoint,), host="cart-1"), mode=ENDPOINT) == NOTHING


def test_a_pod_without_an_ip_is_matched_by_its_uid_only() -> None:
    assert verdict(instance(**SAYS_ALL), of=replace(POD, ips=())) == NOTHING
    assert verdict(instance(**SAYS_ALL | {"uid": "uid-1"}), of=replace(POD, ips=())) == TAKEN
    assert verdict(instance(**SAYS_ALL), of=replace(POD, ips=()), trust_ids=True) == TAKEN


# --- the host's network -------------------------------------------------------------------------

ON_HOST = replace(POD, ips=(NODE_IP,), hostnames=("cart-1", "node-1"), host_ports=frozenset({8080, 7070}))
NO_PORTS = replace(ON_HOST, host_ports=frozenset())
HOST_NETWORK: list[tuple[str, Evidence, dict[str, Any], bool]] = [
    ("IP and port", ON_HOST, {"endpoints": (f"rest://{NODE_IP}:8080",), "host": "node-1"}, True),
    ("IP and port, no host name", ON_HOST, {"endpoints": (f"rest://{NODE_IP}:7070",)}, True),
    ("the node's IP, another pod's port", ON_HOST, {"endpoints": (f"rest://{NODE_IP}:9090",), "host": "node-1"}, False),
    ("the node's IP without a port", ON_HOST, {"endpoints": (f"rest://{NODE_IP}",), "host": "node-1"}, False),
    ("the port at another node", ON_HOST, {"endpoints": ("rest://192.168.1.2:8080",), "host": "node-1"}, False),
    ("another node's name", ON_HOST, {"endpoints": (f"rest://{NODE_IP}:8080",), "host": "node-2"}, False),
    ("one of several ports", ON_HOST, {"endpoints": (f"x://{NODE_IP}:1", f"rest://{NODE_IP}:8080")}, True),
    ("no port declared: the IP alone", NO_PORTS, {"endpoints": (f"rest://{NODE_IP}:1",)}, False),
    ("no port declared: IP and node", NO_PORTS, {"endpoints": (f"rest://{NODE_IP}:1",), "host": "node-1"}, True),
    ("no port declared: another node's IP", NO_PORTS, {"endpoints": ("rest://192.168.1.2:1",), "host": "node-1"}, False),
]


@pytest.mark.parametrize(("of", "said", "taken"), [row[1:] for row in HOST_NETWORK], ids=[row[0] for row in HOST_NETWORK])
def test_on_the_hosts_network_the_port_counts_too(of: Evidence, said: dict[str, Any], taken: bool) -> None:
    assert verdict(instance(**said), of=of) == (TAKEN if taken else NOTHING)


# --- host names ---------------------------------------------------------------------------------

LONG = "a" * 62 + "-" + "b" * 30
HOSTS: list[tuple[str, dict[str, Any], str, bool]] = [
    ("the whole long name", {"name": LONG}, LONG, True),
    ("cut to 63, without the dash at the end", {"name": LONG}, "a" * 62, True),
    ("cut to 64", {"name": LONG}, LONG[:64], True),
    ("cut to 60", {"name": LONG}, LONG[:60], False),
    ("spec.hostname", {"hostname": "cart-0"}, "cart-0", True),
    ("the name beside spec.hostname", {"hostname": "cart-0"}, "cart-1", False),
    ("the node off its network", {}, "node-1", False),
    ("the node on its network", {"hostNetwork": True}, "node-1", True),
]


@pytest.mark.parametrize(("said", "host", "taken"), [row[1:] for row in HOSTS], ids=[row[0] for row in HOSTS])
def test_a_host_name_is_the_pods_as_kubelets_and_linux_cut_it(said: dict[str, Any], host: str, taken: bool) -> None:
    seen = observe(pod(**said), "registry-status.io/")
    evidence = replace(POD, name=seen.subject.ref.name, hostnames=seen.hostnames, host_ports=seen.host_ports)
    assert verdict(instance(host=host), of=evidence) == (TAKEN if taken else NOTHING)


# --- ghosts -------------------------------------------------------------------------------------

BY_IP: dict[str, Any] = {"endpoints": HERE}
GHOSTS: list[tuple[str, Instance, dict[str, Any], bool]] = [
    ("registered before the pod's start", instance(at=-1, **BY_IP), {}, False),
    ("registered in the second of the pod's start", instance(at=0, **BY_IP), {}, True),
    ("registered after the pod's start", instance(at=1, **BY_IP), {}, True),
    ("of this name, before the pod's start", instance(at=-1, host="cart-1"), {}, False),
    ("of this name as property, before the start", instance(at=-1, pod_name="cart-1"), {}, False),
    ("of this uid, before the start", instance(at=-1, uid="uid-1"), {}, True),
    ("registered nobody knows when", instance(at=None, **BY_IP), {}, True),
    ("watched for just its lease", instance(at=-1, lease=60.0, **BY_IP), {"age": 60.0}, False),
    ("that outlived its lease: this pod must keep it alive", instance(at=-1, lease=60.0, **BY_IP), {"age": 60.1}, True),
    ("with a longer lease", instance(at=-1, lease=600.0, **BY_IP), {"age": 120.0}, False),
]


@pytest.mark.parametrize(("found", "around", "taken"), [row[1:] for row in GHOSTS], ids=[row[0] for row in GHOSTS])
def test_a_ghost_is_known_by_its_time(found: Instance, around: dict[str, Any], taken: bool) -> None:
    assert verdict(found, **around) == (TAKEN if taken else NOTHING)


def test_a_ghost_does_not_hide_weaker_evidence() -> None:
    assert verdict(instance("ghost", at=-100, **BY_IP), instance("mine", host="cart-1")) == Found("mine")


def test_a_pod_without_a_start_time_has_no_ghosts() -> None:
    assert verdict(instance(at=-100, **BY_IP), of=replace(POD, started_at=None, container_started_at=None)) == TAKEN


# --- restarts -----------------------------------------------------------------------------------

SECOND_LIFE = replace(POD, container_started_at=START + 100, restarts=1)


def lives(*times: float | None, **more: Any) -> list[Instance]:
    """One instance for each life, named by when it was registered."""
    return [instance(f"at-{time}", at=time, **BY_IP | more) for time in times]


RESTARTS: list[tuple[str, list[Instance], Found, dict[str, Any]]] = [
    ("the dead life's only", lives(10), Found(None, ("at-10",)), {}),
    ("both lives'", lives(10, 110), Found("at-110", ("at-10",)), {}),
    ("in another order", lives(110, 10), Found("at-110", ("at-10",)), {}),
    ("registered 5 s before the start", lives(95), Found("at-95"), {}),
    ("registered 6 s before the start", lives(94), Found(None, ("at-94",)), {}),
    ("three lives'", lives(10, 50, 110), Found("at-110", ("at-50", "at-10")), {}),
    ("twice in this life: the newest", lives(105, 110), Found("at-110", ("at-105",)), {}),
    ("the old one outlived its lease: it is kept alive", lives(10), Found("at-10"), {"age": 121.0}),
    ("registered nobody knows when", lives(None), Found("at-None"), {}),
    ("the dead life's by uid: a live id keeps its time", lives(10, uid="uid-1"), Found("at-10"), {}),
    ("both lives' by uid", lives(10, 110, uid="uid-1"), Found("at-110", ("at-10",)), {}),
    ("two dead lives' by uid", lives(10, 50, uid="uid-1"), Found("at-50", ("at-10",)), {}),
]


@pytest.mark.parametrize(("found", "expected", "around"), [row[1:] for row in RESTARTS], ids=[row[0] for row in RESTARTS])
def test_after_a_restart_the_present_lifes_instance_is_told_from_the_dead_ones(
    found: list[Instance], expected: Found, around: dict[str, Any]
) -> None:
    assert verdict(*found, of=SECOND_LIFE, **around) == expected


def test_a_container_that_does_not_run_has_no_present_life_to_compare_with() -> None:
    assert verdict(*lives(10), of=replace(SECOND_LIFE, container_started_at=None, running=False)) == Found("at-10")


# --- several candidates -------------------------------------------------------------------------


def test_several_good_candidates_that_are_not_one_pods_lives_are_refused() -> None:
    found = [instance(f"i-{number}", endpoints=(f"rest://{IP}:{8080 + number}",)) for number in range(2)]
    assert verdict(*found) == Found(refused=("i-1", "i-0"))


def test_one_place_registered_several_times_is_one_pods() -> None:
    found = [instance(f"i-{number}", endpoints=("x://10.244.0.7:2", *HERE)[:: 1 - 2 * number]) for number in range(2)]
    assert verdict(*found) == Found("i-1", ("i-0",))


def test_a_refusal_lists_a_few_of_many_and_says_what_to_do() -> None:
    found = [instance(f"i-{number:02}", endpoints=(f"rest://{IP}:{8000 + number}",)) for number in range(20)]
    refused = match(target(), POD, found)
    assert isinstance(refused, Refused)
    assert len(refused.instances) == 20
    assert [f"i-{number:02}" in refused.message for number in (19, 15, 14)] == [True, True, False]
    for word in ("20 instances", "15 more", "instance-id", "podUid"):
        assert word in refused.message


def test_a_dead_lifes_other_place_is_no_candidate() -> None:
    old = instance("old", at=10, endpoints=(f"rest://{IP}:9999",))
    assert verdict(old, instance("new", at=110, **BY_IP), of=SECOND_LIFE) == Found("new", ("old",))


# --- annotated ids ------------------------------------------------------------------------------

BY_ID: list[tuple[str, Instance, dict[str, Any], Found]] = [
    ("nothing that agrees", instance(), {}, Found(refused=("i-1",))),
    ("nothing that agrees, but trusted", instance(), {"trust_ids": True}, TAKEN),
    ("the IP", instance(**BY_IP), {}, TAKEN),
    ("the host name", instance(host="cart-1"), {}, TAKEN),
    ("the pod's name", instance(pod_name="cart-1"), {}, TAKEN),
    ("the uid", instance(uid="uid-1", endpoints=ELSEWHERE), {}, TAKEN),
    ("another pod's uid", instance(uid="uid-2", **SAYS_ALL), {}, Found(refused=("i-1",))),
    ("another IP", instance(endpoints=ELSEWHERE, host="cart-1"), {}, Found(refused=("i-1",))),
    ("another IP, but trusted", instance(endpoints=ELSEWHERE, host="cart-1"), {"trust_ids": True}, TAKEN),
    (
        "the IP of one who held it before, and the host name",
        instance(endpoints=ELSEWHERE, host="cart-1"), {"predecessors": frozenset({OTHER_IP})}, TAKEN,
    ),
    (
        "the IP of one who held it before, and another host name",
        instance(endpoints=ELSEWHERE, host="cart-2"), {"predecessors": frozenset({OTHER_IP})}, Found(refused=("i-1",)),
    ),
    (
        "the IP of one who held it before, and nothing else",
        instance(endpoints=ELSEWHERE), {"predecessors": frozenset({OTHER_IP})}, Found(refused=("i-1",)),
    ),
    ("the pod's own IP, which it held before, too", instance(endpoints=HERE), {"predecessors": frozenset({IP})}, TAKEN),
    (
        "the uid of one who held it before, the IP and the host name",
        instance(uid="uid-2", **SAYS_ALL), {"predecessor_uids": frozenset({"uid-2"})}, TAKEN,
    ),
    (
        "uid and IP of one who held it before, and the host name",
        instance(uid="uid-2", endpoints=ELSEWHERE, host="cart-1"),
        {"predecessors": frozenset({OTHER_IP}), "predecessor_uids": frozenset({"uid-2"})}, TAKEN,
    ),
    (
        "the uid of one who held it before, and another IP",
        instance(uid="uid-2", endpoints=ELSEWHERE, host="cart-1"), {"predecessor_uids": frozenset({"uid-2"})},
        Found(refused=("i-1",)),
    ),
    (
        "the uid of one who held it before, and nothing else",
        instance(uid="uid-2"), {"predecessor_uids": frozenset({"uid-2"})}, Found(refused=("i-1",)),
    ),
    ("the IP, registered before the pod's start", instance(at=-100, **BY_IP), {}, TAKEN),
    ("the IP, registered before the container's start", instance(at=-3, **BY_IP), {}, TAKEN),
]  # fmt: skip


@pytest.mark.parametrize(("found", "around", "expected"), [row[1:] for row in BY_ID], ids=[row[0] for row in BY_ID])
def test_an_annotated_id_needs_a_piece_of_evidence_but_no_time(
    found: Instance, around: dict[str, Any], expected: Found
) -> None:
    assert verdict(found, id_="i-1", **around) == expected


def test_an_ipv6_predecessor_is_known_in_any_spelling() -> None:
    found = instance(endpoints=("rest://[fd00:0:0:0:0:0:0:9]:8080",), host="cart-1")
    assert verdict(found, id_="i-1", predecessors=frozenset({"fd00::9"})) == TAKEN


def test_other_instances_are_not_looked_at_beside_an_annotated_id() -> None:
    assert verdict(instance("i-2", uid="uid-1", **SAYS_ALL), id_="i-1") == NOTHING
    assert verdict(instance("i-2", uid="uid-1", **SAYS_ALL), id_="i-1", trust_ids=True) == NOTHING


def test_an_id_that_waits_for_a_value_matches_nothing() -> None:
    found = [instance("", **SAYS_ALL), instance(uid="uid-1", **SAYS_ALL)]
    assert match(target(pending=True), POD, found, Circumstances(trust_ids=True)) == NoneFound()


def test_an_id_held_in_two_versions_of_a_service_is_the_newest_ones() -> None:
    old = instance(at=-100, host="cart-1", endpoints=ELSEWHERE)
    new = replace(instance(**SAYS_ALL), service_id="svc-2")
    held_before: dict[str, Any] = {"predecessors": frozenset({OTHER_IP})}
    for order in ((old, new), (new, old)):
        assert match(target(instance_id="i-1"), POD, order, Circumstances(**held_before)) == Matched(new, (old,))
        assert match(target(instance_id="i-1"), POD, order) == Matched(new)
        assert match(target(instance_id="i-1"), POD, order, Circumstances(trust_ids=True)) == Matched(new, (old,))


def test_a_refused_id_is_told_with_what_pod_and_instance_say() -> None:
    refused = match(target(instance_id="i-1"), POD, [instance(host="wagon-7", endpoints=ELSEWHERE)])
    assert isinstance(refused, Refused)
    for word in ("i-1", "wagon-7", ELSEWHERE[0], IP, "cart-1"):
        assert word in refused.message


# --- gone pods ----------------------------------------------------------------------------------

GONE: list[tuple[str, dict[str, Any], bool]] = [
    ("the uid", {"uid": "uid-1"}, True),
    ("IP and host name", {"endpoints": HERE, "host": "cart-1"}, True),
    ("IP and pod's name", {"endpoints": HERE, "pod_name": "cart-1"}, True),
    ("the IP alone", {"endpoints": HERE}, False),
    ("the host name alone", {"host": "cart-1"}, False),
    ("the pod's name alone", {"pod_name": "cart-1"}, False),
    ("both names", {"host": "cart-1", "pod_name": "cart-1"}, False),
    ("IP and another host name", {"endpoints": HERE, "host": "wagon-7"}, False),
    ("another's uid", {"uid": "uid-2", **SAYS_ALL}, False),
]


@pytest.mark.parametrize("id_", [None, "i-1"], ids=["matched", "annotated"])
@pytest.mark.parametrize(("said", "taken"), [row[1:] for row in GONE], ids=[row[0] for row in GONE])
def test_a_gone_pods_ip_and_name_may_be_anothers_so_both_are_needed(said: dict[str, Any], taken: bool, id_: str | None) -> None:
    assert verdict(instance(**said), id_=id_, gone=True) == (TAKEN if taken else NOTHING)


def test_trust_in_annotated_ids_ends_with_the_pod() -> None:
    assert verdict(instance(), id_="i-1", gone=True, trust_ids=True) == NOTHING


# --- whatever there is --------------------------------------------------------------------------

ALL = [
    instance("", at=at, uid=uid, pod_name=pod_name, host=host, endpoints=endpoints, lease=lease)
    for at in (None, -5, 5, 50)
    for uid in ("", "uid-1", "uid-2")
    for pod_name in ("", "cart-1", "cart-2")
    for host in ("", "cart-1", "cart-2", IP, OTHER_IP)
    for endpoints in ((), HERE, ELSEWHERE, HERE + ELSEWHERE, ("oops", "rest://"), (f"rest://{IP}:1",))
    for lease in (10.0, 120.0)
]
PODS = [
    replace(POD, ips=ips, started_at=started, container_started_at=container, host_ports=ports)
    for ips in ((), (IP,), (IP, V6))
    for started in (None, START)
    for container in (None, START + 2, START + 40)
    for ports in (None, frozenset[int](), frozenset({8080}))
]
LISTINGS = st.lists(st.sampled_from(ALL), max_size=4).map(
    lambda listed: [replace(found, instance_id=f"i-{number}") for number, found in enumerate(listed)]
)
AROUND = [Circumstances(age=age, gone=gone) for age in (0.0, 50.0, 500.0) for gone in (False, True)]


def is_contradicted(found: Instance, mode: MatchMode, of: Evidence) -> bool:
    """Another's uid; or another's place, or a pod without one, and no uid that says otherwise."""
    uid = found.properties.get("podUid")
    if uid == "uid-2":
        return True
    if not of.ips and uid != "uid-1":
        return True
    elsewhere = bool(of.ips) and found.endpoints != () and set(found.endpoints) <= set(ELSEWHERE)
    other_host = found.host_name not in ("", "cart-1", *of.ips)
    return elsewhere and (other_host or mode is not ENDPOINT) and not (mode in (AUTO, PROPERTY) and uid == "uid-1")


def taken(result: Matched | Refused | NoneFound) -> tuple[Instance, ...]:
    return result.all if isinstance(result, Matched) else ()


@pytest.mark.parametrize("mode", MatchMode)
@pytest.mark.parametrize("of", PODS[::7], ids=range(len(PODS[::7])))
def test_no_contradicted_instance_is_taken_alone(mode: MatchMode, of: Evidence) -> None:
    wrong = [found for found in ALL if is_contradicted(found, mode, of) and taken(match(target(mode), of, [found]))]
    assert wrong == []


@given(
    listed=LISTINGS,
    of=st.sampled_from(PODS),
    mode=st.sampled_from(MatchMode),
    id_=st.sampled_from([None, None, "i-0", "i-9"]),
    around=st.sampled_from(AROUND),
)
def test_no_contradicted_instance_is_taken_among_others(
    listed: list[Instance], of: Evidence, mode: MatchMode, id_: str | None, around: Circumstances
) -> None:
    mode = AUTO if id_ is not None else mode
    found = taken(match(target(mode, instance_id=id_), of, listed, around))
    assert set(map(id, found)) <= set(map(id, listed))
    assert [one for one in found if is_contradicted(one, mode, of)] == []
    assert id_ is None or {one.instance_id for one in found} <= {id_}


@given(listed=LISTINGS, of=st.sampled_from(PODS), around=st.sampled_from(AROUND), data=st.data())
def test_the_order_of_a_listing_does_not_matter(
    listed: list[Instance], of: Evidence, around: Circumstances, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(listed))
    assert match(target(), of, shuffled, around) == match(target(), of, listed, around)


@given(
    listed=LISTINGS,
    of=st.sampled_from(PODS),
    mode=st.sampled_from(MatchMode),
    id_=st.sampled_from([None, None, "i-0", "i-9"]),
    around=st.sampled_from([*AROUND, Circumstances(trust_ids=True), Circumstances(predecessors=frozenset({OTHER_IP}))]),
)
def test_only_those_that_bear_a_name_of_the_pods_matter(
    listed: list[Instance], of: Evidence, mode: MatchMode, id_: str | None, around: Circumstances
) -> None:
    asked = target(AUTO if id_ is not None else mode, instance_id=id_)
    assert match(asked, of, Roster(listed).bearing(names_of_pod(asked, of)), around) == match(asked, of, listed, around)
