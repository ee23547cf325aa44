"""What `plan` makes of a pod: the operator's own rules, applied once."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_status.cli.judging import Candidates, Judged, State, judge, settle
from registry_status.config import Settings
from registry_status.model import Desired, Evidence, InstanceStatus, MatchMode, Target, Tenant
from registry_status.pods.status import desired
from registry_status.registry.base import Instance
from registry_status.sync.matching import Circumstances, Grade, match, signs
from tests.pods import START, pod, running, terminated, waiting

ASKED = {"service-id": "svc-1"}
NOW = START + 60


def instance(status: str = "UP", *, host: str = "cart-1", ip: str = "10.244.0.7", at: int = 3, **more: Any) -> Instance:
    shown = {"host_name": host, "endpoints": (f"rest://{ip}:8080",), "registered_at": int(START) + at, **more}
    return Instance(**{"instance_id": "i-1", "service_id": "svc-1", "status": status, **shown})


def judged(raw: dict[str, Any], *instances: Instance, now: float = NOW, **more: Any) -> Judged:
    return judge(desired(raw, Settings()), Candidates(instances), lambda one: one.status, now, **more)


STATES: list[tuple[str, dict[str, Any], Sequence[Instance], State]] = [
    ("as it should be", pod(ASKED), [instance()], State.IN_STEP),
    ("another status", pod(ASKED), [instance("DOWN")], State.CHANGE),
    ("a word that is none of ours", pod(ASKED), [instance("TESTING")], State.CHANGE),
    ("Ready, without an instance", pod(ASKED), [], State.UNMATCHED),
    ("readiness lost, without an instance", pod(ASKED, ready="False"), [], State.UNMATCHED),
    ("starting, without an instance", pod(ASKED, ready="False", ready_since=1), [], State.WAITING),
    ("not started", pod(ASKED, ready="False", statuses=[waiting()]), [instance()], State.WAITING),
    ("crashed, without an instance", pod(ASKED, ready="False", statuses=[terminated()]), [], State.WAITING),
    ("terminating, without an instance", pod(ASKED, deleting=True), [], State.IN_STEP),
    ("finished, without an instance", pod(ASKED, phase="Failed"), [], State.IN_STEP),
    ("terminating", pod(ASKED, deleting=True), [instance()], State.CHANGE),
    ("paused", pod(ASKED | {"paused": "true"}), [instance("DOWN")], State.PAUSED),
    ("invalid", pod(ASKED | {"match": "luck"}), [instance("DOWN")], State.INVALID),
    ("two that fit", pod(ASKED), [instance(), instance(instance_id="i-2", endpoints=("rest://10.244.0.7:9",))], State.CONFLICT),
    ("another pod's", pod(ASKED), [instance(host="else", ip="10.244.0.9")], State.UNMATCHED),
    (
        "an annotated id without evidence",
        pod(ASKED | {"instance-id": "i-1"}),
        [instance(host="x", ip="1.1.1.1")],
        State.CONFLICT,
    ),
]


@pytest.mark.parametrize(("raw", "instances", "state"), [row[1:] for row in STATES], ids=[row[0] for row in STATES])
def test_a_pod_has_the_state_that_the_operator_would_find(raw: dict[str, Any], instances: list[Instance], state: State) -> None:
    assert judged(raw, *instances).state is state


def test_states_that_need_nobody_are_in_step() -> None:
    assert {state for state in State if not state.out_of_step} == {State.IN_STEP, State.PAUSED, State.WAITING}


def test_an_older_life_gets_down_when_the_pod_is_ready_and_the_pods_status_otherwise() -> None:
    lives = [instance(instance_id="old"), instance(instance_id="new", at=103)]
    again = [running(100, restarts=1)]
    up = judged(pod(ASKED, statuses=again, ready_since=110), *lives, now=START + 130)
    assert {step.instance.instance_id: (step.to, step.leftover) for step in up.steps} == {
        "new": (InstanceStatus.UP, False),
        "old": (InstanceStatus.DOWN, True),
    }
    lost = judged(pod(ASKED, statuses=again, ready="False", ready_since=120), *lives, now=START + 130)
    assert {step.to for step in lost.steps} == {InstanceStatus.OUTOFSERVICE}


def test_only_leftovers_are_no_match_for_a_ready_pod() -> None:
    found = judged(
        pod(ASKED, statuses=[running(100, restarts=1)], ready_since=110), instance(instance_id="old"), now=START + 130
    )
    assert found.state is State.UNMATCHED
    assert "earlier lives are there: old" in found.note


def test_an_instance_from_before_the_pod_is_believed_once_the_pod_is_older_than_its_lease() -> None:
    ghost = instance(at=-50, lease=120.0)
    assert judged(pod(ASKED), ghost, now=START + 60).state is State.UNMATCHED
    assert judged(pod(ASKED), ghost, now=START + 200).state is State.IN_STEP


def test_a_finished_pod_leaves_its_instance_to_a_live_pod_of_its_name() -> None:
    ended = pod(ASKED, phase="Failed")
    assert judged(ended, instance()).state is State.CHANGE
    assert judged(ended, instance(), namesake=True).state is State.IN_STEP


def test_what_auto_has_come_to_is_what_would_be_written() -> None:
    lost = desired(pod(ASKED, ready="False"), Settings())
    found = judge(lost, Candidates([instance()]), lambda _: InstanceStatus.DOWN, NOW)
    assert (found.status, found.steps[0].to) == (InstanceStatus.DOWN, InstanceStatus.DOWN)


# --- several pods -------------------------------------------------------------------------------


def test_the_ready_one_of_two_pods_owns_an_instance_whatever_their_order() -> None:
    ready = judged(pod(ASKED, name="cart-1", uid="a"), instance())
    other = judged(pod(ASKED, name="cart-1", uid="b", ready="False"), instance())
    for order in ([ready, other], [other, ready]):
        assert {one.pod.uid: one.state for one in settle(order)} == {"a": State.IN_STEP, "b": State.CONFLICT}


def test_a_finished_pod_that_shares_an_instance_is_no_conflict() -> None:
    ready = judged(pod(ASKED, uid="a"), instance())
    ended = judged(pod(ASKED, uid="b", phase="Failed"), instance())
    assert {one.pod.uid: one.state for one in settle([ended, ready])} == {"a": State.IN_STEP, "b": State.IN_STEP}


# --- candidates ---------------------------------------------------------------------------------

IPS = st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1"])
IDS, UIDS, NAMES = (st.sampled_from([f"{kind}-1", f"{kind}-2"]) for kind in ("id", "uid", "name"))
HOSTS = st.sampled_from(["10.0.0.1", "10.0.0.2", "[fd00:0:0:0:0:0:0:1%25eth0]", "[fd00::1]", "elsewhere"])
SOME_INSTANCE = st.builds(
    Instance,
    instance_id=IDS,
    service_id=st.just("s"),
    status=st.just("UP"),
    host_name=st.one_of(st.just(""), NAMES, IPS, st.just("fd00:0:0:0:0:0:0:1")),
    endpoints=st.lists(HOSTS.map(lambda host: f"rest://{host}:8080"), max_size=2).map(tuple),
    properties=st.fixed_dictionaries({}, optional={"podUid": UIDS, "podName": NAMES}),
    registered_at=st.sampled_from([None, 0, 100]),
)
SOME_POD = st.builds(
    Evidence,
    uid=UIDS,
    name=NAMES,
    hostnames=st.lists(NAMES, max_size=2).map(tuple),
    ips=st.lists(IPS, max_size=2, unique=True).map(tuple),
    host_ports=st.sampled_from([None, frozenset(), frozenset({8080})]),
    started_at=st.sampled_from([None, 50.0]),
)
SOME_TARGET = st.builds(
    Target,
    tenant=st.just(Tenant()),
    service_id=st.just("s"),
    instance_id=st.one_of(st.none(), IDS),
    match=st.sampled_from(MatchMode),
)


@settings(max_examples=1000)
@given(st.lists(SOME_INSTANCE, max_size=6), SOME_POD, SOME_TARGET, st.booleans(), st.booleans())
def test_candidates_leave_nothing_out_that_would_be_matched(
    instances: list[Instance], evidence: Evidence, target: Target, trust: bool, gone: bool
) -> None:
    around = Circumstances(trust_ids=trust, gone=gone)
    few = Candidates(instances).of(target, evidence)
    assert match(target, evidence, few, around) == match(target, evidence, instances, around)


@given(SOME_INSTANCE, SOME_POD, SOME_TARGET)
def test_signs_agree_with_what_is_matched(found: Instance, evidence: Evidence, target: Target) -> None:
    target = replace(target, instance_id=None)
    around = Circumstances()
    seen = signs(target, evidence, found, around)
    taken = found in getattr(match(target, evidence, [found], around), "all", ())
    assert taken is (seen.grade is not Grade.NONE and not seen.ghost)


def test_ten_thousand_pods_of_one_service_are_judged_in_seconds() -> None:
    pods: list[Desired] = []
    instances = []
    for number in range(10_000):
        ip, name = f"10.1.{number // 256}.{number % 256}", f"cart-{number}"
        pods.append(desired(pod(ASKED, name=name, uid=str(number), ip=ip), Settings()))
        instances.append(instance(instance_id=name, host=name, ip=ip))
    candidates = Candidates(instances)
    found = settle([judge(one, candidates, lambda each: each.status, NOW) for one in pods])
    assert {one.state for one in found} == {State.IN_STEP}
