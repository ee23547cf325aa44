"""The played kubelet writes what a real one wrote: the recorded histories are the measure."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from registry_status.config import Settings
from registry_status.demo import kubelet
from registry_status.demo.kubelet import PodPlan
from registry_status.model import InstanceStatus
from registry_status.pods.status import desired

UP, STARTING = InstanceStatus.UP, InstanceStatus.STARTING
OUTOFSERVICE, DOWN = InstanceStatus.OUTOFSERVICE, InstanceStatus.DOWN
RECORDED: Final = Path(__file__).parents[2] / "data" / "pods"
PLAN: Final = PodPlan("shop", "cart", "10.244.0.7", {"registry-status.io/service-id": "svc1"}, {}, grace_seconds=4)
PENDING: Final = {"phase": "Pending", "qosClass": "BestEffort"}

Status = dict[str, Any]


def statuses(*steps: tuple[str, Any]) -> list[Status]:
    """Play the steps, a second and a half apart, and give back each status."""
    now, status, found = 1_790_000_000.2, dict(PENDING), []
    for name, argument in steps:
        now += 1.5
        step = getattr(kubelet, name)
        if name == "backing_off":
            status = step(status, argument)
        else:
            status = step(status, now) if argument is None else step(status, now, argument)
        found.append(status)
    return found


BEGINNING: Final = (("accepted", None), ("sandboxed", None), ("started", PLAN.ip), ("ready", None))
READY_THEN_LOST: Final = (*BEGINNING, ("unready", None), ("ready", None))
CRASHING: Final = (
    *BEGINNING,
    ("exited", 1),
    ("started", PLAN.ip),
    ("ready", None),
    ("exited", 1),
    ("backing_off", 10),
    ("started", PLAN.ip),
    ("ready", None),
)


def pod(status: Mapping[str, Any], **metadata: object) -> dict[str, Any]:
    manifest = kubelet.manifest(PLAN)
    return manifest | {"metadata": manifest["metadata"] | {"uid": "u"} | metadata, "status": status}


def called_for(found: Sequence[Mapping[str, Any]]) -> list[InstanceStatus | None]:
    return [desired(pod(status), Settings()).status for status in found]


class TestTheStatusesCallFor:
    def test_a_life_that_loses_readiness(self) -> None:
        expected = [STARTING, STARTING, STARTING, UP, OUTOFSERVICE, UP]
        assert called_for(statuses(*READY_THEN_LOST)) == expected

    def test_a_crash_loop(self) -> None:
        expected = [STARTING, STARTING, STARTING, UP, DOWN, STARTING, UP, DOWN, DOWN, STARTING, UP]
        assert called_for(statuses(*CRASHING)) == expected

    def test_a_job(self) -> None:
        found = statuses(*BEGINNING[:3], ("ready", None), ("completed", None), ("finished", "Succeeded"))
        assert called_for(found) == [STARTING, STARTING, STARTING, UP, DOWN, DOWN]

    def test_a_deleted_pod(self) -> None:
        status = statuses(*BEGINNING)[-1]
        deleted = pod(status, deletionTimestamp="2026-09-21T14:13:30Z", deletionGracePeriodSeconds=4)
        assert desired(deleted, Settings()).status is DOWN


def essence(status: Mapping[str, Any]) -> Any:
    """What the operator looks at in a status, times apart."""
    conditions = {(c["type"], c["status"], c.get("reason"), c.get("message")) for c in status.get("conditions", [])}
    containers = [
        (
            [(how, what.get("reason"), what.get("exitCode")) for how, what in c["state"].items()],
            sorted(c["lastState"]),
            c["ready"],
            c["started"],
            c["restartCount"],
        )
        for c in status.get("containerStatuses", [])
    ]
    return status["phase"], conditions, containers, bool(status.get("podIP")), bool(status.get("startTime"))


def recorded(name: str) -> list[Status]:
    """The different statuses of a recorded history, from where the kubelet had seen the pod to where somebody deleted it."""
    found: list[Status] = []
    for one in json.loads((RECORDED / f"{name}.json").read_text())["events"]:
        item = one["event"]["object"]
        status = item["status"]
        if "startTime" in status and "deletionTimestamp" not in item["metadata"]:
            found += [] if found and essence(found[-1]) == essence(status) else [status]
    return found


@pytest.mark.parametrize(
    ("history", "steps"),
    [
        ("ready-then-lost", READY_THEN_LOST),
        ("crash-after-ready", CRASHING),
        ("completes", (*BEGINNING, ("completed", None), ("finished", "Succeeded"))),
    ],
)
def test_each_status_is_like_a_recorded_one(history: str, steps: Sequence[tuple[str, Any]]) -> None:
    played, real = statuses(*steps), recorded(history)
    if history == "completes":
        del played[2]  # this pod was ready when the kubelet first told that it ran
    assert [_comparable(status) for status in played] == [_comparable(status) for status in real[: len(played)]]


def _comparable(status: Status) -> Any:
    """Like `essence`, where the prose of a back-off is not compared, and conditions have an order."""
    phase, conditions, containers, *rest = essence(status)
    # the scheduler's condition comes with the binding, which these steps do not play
    return phase, sorted((c for c in conditions if c[0] != "PodScheduled"), key=str), containers, rest


def test_a_conditions_time_changes_with_its_status_only() -> None:
    first, *_, started, ready = statuses(*BEGINNING)
    times = [{c["type"]: c["lastTransitionTime"] for c in status["conditions"]} for status in (first, started, ready)]
    assert times[0]["Ready"] == times[1]["Ready"] < times[2]["Ready"]
    assert times[0]["Initialized"] == times[2]["Initialized"]


def test_a_restart_keeps_the_end_of_the_life_before() -> None:
    container = statuses(*CRASHING)[5]["containerStatuses"][0]
    ended = container["lastState"]["terminated"]
    assert (container["restartCount"], ended["exitCode"]) == (1, 1)
    assert ended["startedAt"] < ended["finishedAt"] < container["state"]["running"]["startedAt"]
