"""Why each instance of a service is a pod's or is not."""

from typing import Any

import pytest

from registry_status.cli.explaining import verdicts
from registry_status.cli.judging import Candidates, circumstances, judge
from registry_status.config import Settings
from registry_status.pods.status import desired
from registry_status.registry.base import Instance
from tests.pods import START, pod, running

ASKED = {"service-id": "svc-1"}
NOW = START + 60


def instance(name: str = "i-1", *, host: str = "cart-1", ip: str = "10.244.0.7", at: int = 3, **more: Any) -> Instance:
    shown = {"host_name": host, "endpoints": (f"rest://{ip}:8080",) if ip else (), "registered_at": int(START) + at}
    return Instance(**{"instance_id": name, "service_id": "svc-1", "status": "UP", **shown, **more})


def told(raw: dict[str, Any], *instances: Instance, now: float = NOW) -> dict[str, tuple[bool, str]]:
    wanted = desired(raw, Settings())
    judged = judge(wanted, Candidates(instances), lambda one: one.status, now)
    found = verdicts(judged, instances, circumstances(wanted, now, trust_ids=False))
    assert sorted((verdict.taken for verdict in found), reverse=True) == [verdict.taken for verdict in found]
    return {verdict.instance.instance_id: (verdict.taken, verdict.why) for verdict in found}


MINE = instance()
WHY: list[tuple[str, dict[str, Any], Instance, bool, str]] = [
    ("endpoint and host name", pod(ASKED), MINE, True, "agrees in endpoint and host name"),
    ("podUid", pod(ASKED), instance(host="", ip="", properties={"podUid": "uid-1"}), True, "agrees in podUid"),
    ("another endpoint", pod(ASKED), instance(ip="10.244.0.9"), False, "differs in endpoint: another pod's"),
    ("another podUid", pod(ASKED), instance(properties={"podUid": "x"}), False, "differs in podUid: another pod's"),
    ("nothing at all", pod(ASKED), instance(host="", ip=""), False, "nothing ties it to the pod"),
    ("a mode of matching", pod(ASKED | {"match": "property"}), MINE, False,
     "nothing that counts under match: property ties it to the pod"),
    ("a ghost", pod(ASKED), instance(at=-50), False,
     "registered at 2026-01-05T09:59:10Z, before the pod started: another pod's"),
    ("another id than annotated", pod(ASKED | {"instance-id": "mine"}), MINE, False, "its id is not the annotated one, mine"),
    ("the annotated id", pod(ASKED | {"instance-id": "i-1"}), MINE, True, "agrees in endpoint and host name"),
    ("an ended pod", pod(ASKED, phase="Failed"), instance(host=""), False,
     "the pod has ended: endpoint and name must both agree"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "found", "taken", "why"), [row[1:] for row in WHY], ids=[row[0] for row in WHY])
def test_each_candidate_says_why_it_is_taken_or_not(raw: dict[str, Any], found: Instance, taken: bool, why: str) -> None:
    assert list(told(raw, found).values()) == [(taken, why)]


def test_weaker_evidence_than_anothers_is_told() -> None:
    found = told(pod(ASKED), MINE, instance("i-2", ip=""))
    assert found["i-2"] == (False, "agrees in host name, which is weaker than the endpoint of another")


def test_leftovers_are_told() -> None:
    again = pod(ASKED, statuses=[running(100, restarts=1)], ready_since=110)
    found = told(again, instance("old"), instance("new", at=103), now=START + 130)
    assert found["new"] == (True, "agrees in endpoint and host name")
    assert found["old"][1].endswith("registered before the container's present start: left over")


def test_several_that_fit_are_told() -> None:
    found = told(pod(ASKED), MINE, instance("i-2", endpoints=("rest://10.244.0.7:9",)))
    assert {taken for taken, _ in found.values()} == {False}
    assert all("2 instances fit this pod equally well" in why for _, why in found.values())
