"""The status rules of DESIGN section 3, one row a case; the first rule that matches wins."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_status.config import NotReady, Settings
from registry_status.model import Desired, InstanceStatus, Reason
from registry_status.pods.status import LONGEST_REMEMBERED, Judge, desired
from tests.pods import GATED, START, condition, pod, running, terminated, waiting

ASKED = {"service-id": "svc-1"}
UP, STARTING, OUT, DOWN = InstanceStatus.UP, InstanceStatus.STARTING, InstanceStatus.OUTOFSERVICE, InstanceStatus.DOWN
GATE = {"conditionType": "registry-status.io/registered"}
OTHER_GATE = {"conditionType": "example.com/other"}


def verdict(raw: dict[str, Any], *, deleted: bool = False, **settings: Any) -> Desired:
    return desired(raw, Settings(**settings), deleted=deleted)


Case = tuple[str, dict[str, Any], InstanceStatus | None, Reason]
CASES: list[Case] = [
    # 1
    ("a pod without annotations is not managed", pod({}), None, Reason.NOT_MANAGED),
    ("a pod of another class is not managed", pod(ASKED | {"class": "other"}), None, Reason.NOT_MANAGED),
    ("a paused pod is not written", pod(ASKED | {"paused": "true"}), None, Reason.PAUSED),
    ("a pod that is not paused is written", pod(ASKED | {"paused": "false"}), UP, Reason.POD_READY),
    # 2
    ("phase Succeeded is DOWN", pod(ASKED, ready="False", phase="Succeeded"), DOWN, Reason.POD_FINISHED),
    ("phase Failed is DOWN", pod(ASKED, ready="False", phase="Failed"), DOWN, Reason.POD_FINISHED),
    ("finished beats terminating", pod(ASKED, phase="Failed", deleting=True), DOWN, Reason.POD_FINISHED),
    # 3
    ("terminating beats Ready", pod(ASKED, deleting=True), DOWN, Reason.POD_TERMINATING),
    ("terminating has its own status", pod(ASKED | {"terminating-status": "OUTOFSERVICE"}, deleting=True), OUT, Reason.POD_TERMINATING),
    # 4
    ("Ready is UP", pod(ASKED), UP, Reason.POD_READY),
    ("Ready is UP without any container status", pod(ASKED, statuses=[]), UP, Reason.POD_READY),
    (
        "waiting for our own gate only is UP",
        pod(ASKED, ready="False", ready_reason="ReadinessGatesNotReady", containers_ready="True", readinessGates=[GATE]),
        UP, Reason.POD_READY,
    ),
    (
        "waiting for another gate is not UP",
        pod(ASKED, ready="False", ready_since=1, ready_reason="ReadinessGatesNotReady", containers_ready="True",
            readinessGates=[GATE, OTHER_GATE]),
        STARTING, Reason.CONTAINER_STARTING,
    ),
    (
        "another gate that holds does not matter",
        pod(ASKED, ready="False", ready_reason="ReadinessGatesNotReady", containers_ready="True",
            readinessGates=[GATE, OTHER_GATE], conditions=[condition("example.com/other", "True", 3)]),
        UP, Reason.POD_READY,
    ),
    (
        "our gate without ready containers is not UP",
        pod(ASKED, ready="False", ready_since=1, ready_reason="ContainersNotReady", containers_ready="False", readinessGates=[GATE]),
        STARTING, Reason.CONTAINER_STARTING,
    ),
    (
        "our gate is not all that lacks while the containers are not ready, whatever the reason says",
        pod(ASKED, ready="False", ready_reason="ReadinessGatesNotReady", containers_ready="False", readinessGates=[GATE]),
        OUT, Reason.READINESS_LOST,
    ),
    (
        "a pod without our gate is not UP before it is Ready, though all its gates hold",
        pod(ASKED, ready="False", ready_reason="ReadinessGatesNotReady", containers_ready="True",
            readinessGates=[OTHER_GATE], conditions=[condition("example.com/other", "True", 3)]),
        OUT, Reason.READINESS_LOST,
    ),
    # 5
    ("Ready=Unknown is a lost node", pod(ASKED, ready="Unknown"), OUT, Reason.NODE_LOST),
    ("Ready=False over ready containers is a lost node", pod(ASKED, ready="False", containers_ready="True"), OUT, Reason.NODE_LOST),
    (
        "our gate does not hide a lost node",
        pod(ASKED, ready="False", containers_ready="True", readinessGates=[GATE]), OUT, Reason.NODE_LOST,
    ),
    (
        "our gate does not hide a node that is not heard of",
        pod(ASKED, ready="Unknown", ready_reason="ReadinessGatesNotReady", containers_ready="True", readinessGates=[GATE]),
        OUT, Reason.NODE_LOST,
    ),
    # 6
    ("an ended container is DOWN", pod(ASKED, ready="False", statuses=[terminated()]), DOWN, Reason.CONTAINER_EXITED),
    (
        "waiting after a restart is DOWN",
        pod(ASKED, ready="False", statuses=[waiting("CrashLoopBackOff", restarts=3)]), DOWN, Reason.CONTAINER_EXITED,
    ),
    (
        "waiting with a last state that ended is DOWN",
        pod(ASKED, ready="False", statuses=[waiting() | {"lastState": {"terminated": {}}}]), DOWN, Reason.CONTAINER_EXITED,
    ),
    # 7
    ("no container status is STARTING", pod(ASKED, ready="False", statuses=[]), STARTING, Reason.CONTAINER_NOT_STARTED),
    ("an unscheduled pod is STARTING", pod(ASKED, ready=None, statuses=[], ip=""), STARTING, Reason.CONTAINER_NOT_STARTED),
    ("a first wait is STARTING", pod(ASKED, ready="False", statuses=[waiting()]), STARTING, Reason.CONTAINER_NOT_STARTED),
    # 8
    (
        "a startup probe under way is STARTING",
        pod(ASKED, ready="False", ready_since=50, statuses=[running(2, startup_done=False)]), STARTING, Reason.CONTAINER_STARTING,
    ),
    (
        "running since an unknown time is STARTING",
        pod(ASKED, ready="False", statuses=[running() | {"state": {"running": {}}}]), STARTING, Reason.CONTAINER_STARTING,
    ),
    ("Ready without a time is STARTING", pod(ASKED, ready="False", ready_since=None), STARTING, Reason.CONTAINER_STARTING),
    ("no Ready condition is STARTING", pod(ASKED, ready=None), STARTING, Reason.CONTAINER_STARTING),
    ("not ready since before the start is STARTING", pod(ASKED, ready="False", ready_since=1), STARTING, Reason.CONTAINER_STARTING),
    ("not ready since the very start is STARTING", pod(ASKED, ready="False", ready_since=2), STARTING, Reason.CONTAINER_STARTING),
    (
        "not ready since 5 s after a restart is STARTING",
        pod(ASKED, ready="False", ready_since=7, statuses=[running(2, restarts=1)]), STARTING, Reason.CONTAINER_STARTING,
    ),
    # 9
    ("not ready since after the first start was ready", pod(ASKED, ready="False", ready_since=3), OUT, Reason.READINESS_LOST),
    (
        "not ready since 6 s after a restart was ready",
        pod(ASKED, ready="False", ready_since=8, statuses=[running(2, restarts=1)]), OUT, Reason.READINESS_LOST,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "status", "reason"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_rule(raw: dict[str, Any], status: InstanceStatus | None, reason: Reason) -> None:
    answer = verdict(raw)
    assert (answer.status, answer.reason) == (status, reason)
    assert answer.message


def test_a_deleted_pod_is_down_whatever_its_last_state() -> None:
    assert verdict(pod(ASKED), deleted=True).reason is Reason.POD_GONE
    assert verdict(pod(ASKED), deleted=True).status is DOWN


@pytest.mark.parametrize(
    ("raw", "setting", "value", "status"),
    [
        (pod(ASKED, deleting=True), "terminating_status", OUT, OUT),
        (pod(ASKED, ready=None), "starting_status", DOWN, DOWN),
        (pod(ASKED, ready="False"), "not_ready_status", NotReady.DOWN, DOWN),
        (pod(ASKED, ready="False"), "not_ready_status", NotReady.STARTING, STARTING),
    ],
)
def test_the_global_settings_choose_the_status(raw: dict[str, Any], setting: str, value: Any, status: InstanceStatus) -> None:
    assert verdict(raw, **{setting: value}).status is status


@pytest.mark.parametrize(
    ("annotation", "raw"),
    [
        ("starting-status", {"ready": None}),
        ("not-ready-status", {"ready": "False"}),
        ("terminating-status", {"deleting": True}),
    ],
)
@pytest.mark.parametrize("status", [STARTING, OUT, DOWN])
def test_an_annotation_chooses_the_status_of_its_pod(annotation: str, raw: dict[str, Any], status: InstanceStatus) -> None:
    assert verdict(pod(ASKED | {annotation: status.value}, **raw)).status is status


MESSAGES: list[tuple[str, dict[str, Any], str]] = [
    ("phase Failed", pod(ASKED, phase="Failed"), "the pod has ended: phase Failed"),
    ("terminating", pod(ASKED, deleting=True), "the pod is being terminated"),
    ("Ready", pod(ASKED), "the pod is Ready"),
    ("our gate", pod(ASKED, **GATED), "the pod is Ready but for its gate registry-status.io/registered"),
    (
        "a lost node", pod(ASKED, ready="Unknown"),
        "the node node-1 does not report any more: Ready=Unknown while its containers were ready",
    ),
    (
        "a lost node without a name", pod(ASKED, ready="Unknown", nodeName=None),
        "the node of the pod does not report any more: Ready=Unknown while its containers were ready",
    ),
    ("an ended container", pod(ASKED, ready="False", statuses=[terminated()]), "container main has ended (Error)"),
    (
        "an ended container of which nothing is told", pod(ASKED, ready="False", statuses=[terminated(reason="")]),
        "container main has ended",
    ),
    (
        "a wait for the restart", pod(ASKED, ready="False", statuses=[waiting("CrashLoopBackOff", restarts=3)]),
        "container main has ended and waits for its restart (CrashLoopBackOff)",
    ),
    (
        "a first wait", pod(ASKED, ready="False", statuses=[waiting("ImagePullBackOff")]),
        "container main has not started yet (ImagePullBackOff)",
    ),
    (
        "a first wait of which nothing is told", pod(ASKED, ready="False", statuses=[waiting("")]),
        "container main has not started yet",
    ),
    ("no container status", pod(ASKED, ready="False", statuses=[]), "container main has not started yet"),
    ("starting", pod(ASKED, ready=None), "container main runs and has not been ready since its start"),
    (
        "lost readiness", pod(ASKED, ready="False", ready_reason="ContainersNotReady"),
        "the pod was ready and is not any more (ContainersNotReady)",
    ),
    ("lost readiness without a reason", pod(ASKED, ready="False"), "the pod was ready and is not any more"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "message"), [row[1:] for row in MESSAGES], ids=[row[0] for row in MESSAGES])
def test_the_message_says_what_the_pod_says(raw: dict[str, Any], message: str) -> None:
    assert verdict(raw).message == message


CHANGED: list[tuple[str, dict[str, Any], float | None]] = [
    ("Ready, when it became so", pod(ASKED, ready_since=5), START + 5),
    ("ready but for our gate, when its containers became so", pod(ASKED, ready_since=5, **GATED), START + 5),
    ("lost readiness, when it was lost", pod(ASKED, ready="False", ready_since=7), START + 7),
    ("a lost node, when it was marked", pod(ASKED, ready="Unknown", ready_since=7), START + 7),
    ("terminating, when its deletion was asked for and not when its grace ends", pod(ASKED, deleting=True), START + 30),
    ("an ended container, when it ended", pod(ASKED, ready="False", statuses=[terminated(9)]), START + 9),
    ("starting, when the container started", pod(ASKED, ready=None, statuses=[running(4)]), START + 4),
    ("waiting for a restart, at no time that is known", pod(ASKED, ready="False", statuses=[waiting(restarts=1)]), None),
    ("finished, at no time that is known", pod(ASKED, phase="Succeeded"), None),
]


@pytest.mark.parametrize(("raw", "changed_at"), [row[1:] for row in CHANGED], ids=[row[0] for row in CHANGED])
def test_the_time_of_the_change_is_the_pods_own(raw: dict[str, Any], changed_at: float | None) -> None:
    assert verdict(raw).changed_at == changed_at


@pytest.mark.parametrize(
    ("raw", "gated"),
    [
        (pod(ASKED, **GATED), True),
        (pod(ASKED, **GATED, conditions=[condition(GATE["conditionType"], "False", 3)]), True),
        (pod(ASKED, readinessGates=[GATE], conditions=[condition(GATE["conditionType"], "True", 3)]), False),
        (pod(ASKED, readinessGates=[OTHER_GATE]), False),
        (pod(ASKED), False),
    ],
    ids=["not set", "false", "true", "another's", "none"],
)
def test_a_pod_is_gated_while_it_lists_our_gate_and_that_does_not_hold(raw: dict[str, Any], gated: bool) -> None:
    assert verdict(raw).gated is gated


@pytest.mark.parametrize(
    ("statuses", "has_started"),
    [
        ([running()], True),
        ([terminated()], True),
        ([waiting(restarts=1)], True),
        ([waiting()], False),
        ([], False),
    ],
    ids=["runs", "has ended", "waits for a restart", "waits for its start", "has no status"],
)
def test_the_main_container_has_started_once_it_ran(statuses: list[dict[str, Any]], has_started: bool) -> None:
    evidence = verdict(pod(ASKED, ready="False", statuses=statuses)).evidence
    assert evidence is not None
    assert evidence.has_started is has_started


def test_a_not_ready_status_left_to_the_operator_is_marked() -> None:
    assert verdict(pod(ASKED, ready="False")).auto
    assert not verdict(pod(ASKED | {"not-ready-status": "OUTOFSERVICE"}, ready="False")).auto
    assert not verdict(pod(ASKED)).auto


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({}, DOWN),  # the first in the spec has ended
        ({"container": "sidecar"}, STARTING),
        ({"kubectl.kubernetes.io/default-container": "sidecar"}, STARTING),
        ({"kubectl.kubernetes.io/default-container": "main", "container": "sidecar"}, STARTING),
        ({"container": "proxy"}, STARTING),
    ],
    ids=["first in the spec", "annotation", "kubectl's annotation", "ours wins over kubectl's", "restartable init container"],
)
def test_the_main_container_decides(more: dict[str, str], status: InstanceStatus) -> None:
    raw = pod(
        ASKED | more,
        ready="False",
        ready_since=1,
        containers=("main", "sidecar"),
        statuses=[terminated(), running(name="sidecar")],
        initContainers=[{"name": "setup"}, {"name": "proxy", "restartPolicy": "Always"}],
    )
    raw["status"]["initContainerStatuses"] = [running(name="proxy")]
    assert verdict(raw).status is status


def test_evidence_is_read_from_the_pod() -> None:
    evidence = verdict(pod(ASKED, hostname="cart-0")).evidence
    assert evidence is not None
    assert evidence.ips == ("10.244.0.7",)
    assert evidence.hostnames == ("cart-0",)
    assert evidence.host_ports is None
    assert (evidence.started_at, evidence.container_started_at) == (START, START + 2)


def test_on_the_hosts_network_ports_and_the_nodes_name_are_evidence() -> None:
    raw = pod(ASKED, hostNetwork=True)
    raw["spec"]["containers"][0]["ports"] = [{"containerPort": 8080}]
    evidence = verdict(raw).evidence
    assert evidence is not None
    assert evidence.host_ports is not None
    assert evidence.host_ports == {8080}
    assert "node-1" in evidence.hostnames


def test_a_mirror_pods_uid_is_its_config_hash() -> None:
    mirror = {"kubernetes.io/config.mirror": "abc", "kubernetes.io/config.hash": "hash-1"}
    answer = verdict(pod(ASKED | mirror))
    assert answer.pod.uid == "uid-1"
    assert answer.evidence is not None
    assert answer.evidence.uid == "hash-1"


@pytest.mark.parametrize(
    ("annotations", "uid"),
    [
        ({}, "uid-1"),
        ({"kubernetes.io/config.mirror": "6a1f33d2b3e9"}, "6a1f33d2b3e9"),
        ({"kubernetes.io/config.mirror": ""}, "uid-1"),
        ({"kubernetes.io/config.mirror": "a,b=c"}, "uid-1"),
        ({"kubernetes.io/config.mirror": "a" * 100_000}, "uid-1"),
        ({"kubernetes.io/config.hash": "hash-1"}, "uid-1"),
    ],
)
def test_events_bear_the_uid_that_kubectl_describe_looks_for(annotations: dict[str, str], uid: str) -> None:
    assert verdict(pod(ASKED | annotations)).pod.events_uid == uid


def test_a_long_name_may_be_cut_as_host_name() -> None:
    name = "a" * 62 + "-" + "b" * 30
    evidence = verdict(pod(ASKED, name=name)).evidence
    assert evidence is not None
    assert set(evidence.hostnames) == {name, name[:64], "a" * 62}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PLACES = ["metadata", "metadata.annotations", "spec", "spec.containers", "spec.readinessGates", "spec.initContainers", "status",
          "status.conditions", "status.containerStatuses", "status.podIPs", "status.startTime", "status.phase", "metadata.deletionTimestamp",
          "metadata.deletionGracePeriodSeconds"]  # fmt: skip


@given(place=st.sampled_from(PLACES), value=JSON, deleted=st.booleans())
def test_whatever_stands_in_a_pod_there_is_an_answer(place: str, value: object, deleted: bool) -> None:
    raw = pod(ASKED)
    *path, last = place.split(".")
    inner = raw
    for key in path:
        inner = inner[key]
    inner[last] = value
    assert isinstance(verdict(raw, deleted=deleted), Desired)


# --- what is remembered -------------------------------------------------------------------------

TEMPLATE = ASKED | {"instance-id": "{pod.name}.{pod.uid}.{node.name}"}
CHANGES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("an annotation", pod(ASKED), pod({"service-id": "svc-2"})),
    ("one more annotation", pod(ASKED), pod(ASKED | {"not-ready-status": "DOWN"}, ready="False", ready_since=60)),
    ("an annotation that is wrong", pod(ASKED), pod({"service-id": "a/b"})),
    ("the pause", pod(ASKED), pod(ASKED | {"paused": "true"})),
    ("the name", pod(TEMPLATE), pod(TEMPLATE, name="cart-2")),
    ("the namespace", pod(ASKED), pod(ASKED, namespace="other")),
    ("the uid", pod(TEMPLATE), pod(TEMPLATE, uid="uid-2")),
    ("the node", pod(TEMPLATE), pod(TEMPLATE, nodeName="node-2")),
    ("the IP", pod(ASKED | {"instance-id": "{pod.ip}"}, ip=""), pod(ASKED | {"instance-id": "{pod.ip}"})),
    (
        "the containers",
        pod(ASKED | {"container": "side"}), pod(ASKED | {"container": "side"}, containers=("main", "side")),
    ),
    (
        "the container that all tools are told of",
        pod(ASKED, ready="False", statuses=[running(), terminated(name="side")], containers=("main", "side")),
        pod(
            ASKED | {"kubectl.kubernetes.io/default-container": "side"},
            ready="False", statuses=[running(), terminated(name="side")], containers=("main", "side"),
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_what_annotations_said_before_does_not_outlive_a_change_of(before: dict[str, Any], after: dict[str, Any]) -> None:
    judge, settings = Judge(Settings()), Settings()
    answers = [judge.desired(one) for one in (before, after, before)]
    assert answers == [desired(one, settings) for one in (before, after, before)]
    assert answers[0] != answers[1]


def test_a_judge_says_the_same_of_a_pod_whatever_it_has_seen() -> None:
    judge, raw = Judge(Settings()), [case[1] for case in CASES]
    assert [judge.desired(one) for one in [*raw, *raw]] == [desired(one, Settings()) for one in [*raw, *raw]]


@pytest.mark.parametrize("size", [10, LONGEST_REMEMBERED])
def test_annotations_are_read_once_while_the_status_changes_but_for_those_that_are_too_long_to_keep(size: int) -> None:
    judge, asked = Judge(Settings()), {"service": "cart", "unknown": "x" * size}
    judged = [judge.desired(pod(asked, ready=ready)) for ready in ("True", "False")]
    kept = judged[0].problems is judged[1].problems
    assert kept is (size < LONGEST_REMEMBERED)
