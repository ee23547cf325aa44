"""What is told of a delivery, and what is not told again."""

from dataclasses import replace

import pytest

from registry_status.model import Desired, InstanceStatus, Outcome, OutcomeKind, PodRef, Reason, Target, Tenant
from registry_status.registry.base import AuthError, PermanentError, RegistryError, TransientError
from registry_status.registry.devserver import RegistryState
from registry_status.sync.consumers import Consumers
from registry_status.sync.desired import PodRecord
from registry_status.sync.directory import Directory
from registry_status.sync.instances import Held, InstanceKey
from registry_status.sync.telling import Teller
from tests.world import Deaf, StateRegistry

BROKEN = TransientError("broken", "the connection broke")


class Told(Deaf):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def outcome(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


class Case:
    """One pod that became Ready at 100 on a clock that stands at 102.5, with one instance."""

    def __init__(self) -> None:
        self.told = Told()
        consumers = Consumers(Directory(StateRegistry(RegistryState(lambda: 0.0))), lambda _: None)
        self.teller = Teller(self.told, consumers, lambda: 102.5)
        ref, target = PodRef("uid-1", "shop", "cart-1"), Target(Tenant(), service_id="cart")
        self.desired = Desired(ref, InstanceStatus.UP, Reason.POD_READY, "the pod is Ready", target, changed_at=100.0)
        self.record = PodRecord(self.desired, life_since=0.0, current=InstanceKey(Tenant(), "cart", "i-1"))

    def fail(self, error: RegistryError) -> None:
        self.teller.failed(self.record, error)

    def arrive(self, written: int) -> None:
        self.teller.arrived(self.record, self.desired, written, self.record.instance_ids)

    @property
    def kinds(self) -> list[OutcomeKind]:
        return [outcome.kind for outcome in self.told.outcomes]


def test_every_write_is_told() -> None:
    case = Case()
    case.arrive(written=1)
    case.arrive(written=1)
    assert case.kinds == [OutcomeKind.DELIVERED] * 2
    assert case.told.outcomes[0].message == "i-1: UP (the pod is Ready)"


def test_a_status_that_was_there_from_the_first_is_not_worth_a_word() -> None:
    case = Case()
    case.arrive(written=0)
    assert case.kinds == []


def test_the_end_of_a_trouble_is_told_also_without_a_write() -> None:
    case = Case()
    case.fail(BROKEN)
    case.arrive(written=0)
    assert case.kinds == [OutcomeKind.FAILING, OutcomeKind.DELIVERED]
    assert case.told.outcomes[1].message == "i-1: UP (the pod is Ready), as it was already"


def test_a_pod_without_instances_recovers_as_well() -> None:
    case = Case()
    case.fail(BROKEN)
    case.record.current = None
    case.arrive(written=0)
    assert case.told.outcomes[1].message == "the registry answers again; it has no instance of the pod"


def test_an_outage_is_told_again_where_its_cause_is_another() -> None:
    case = Case()
    case.fail(BROKEN)
    case.fail(BROKEN)
    case.fail(TransientError("timeout", "no answer in time"))
    assert case.kinds == [OutcomeKind.FAILING] * 2
    assert case.told.outcomes[1].code == "timeout"


def test_another_refusal_is_told_and_the_same_is_not() -> None:
    case = Case()
    for message in ("bad parameters", "bad parameters", "no such instance"):
        case.fail(PermanentError("400001", message))
    assert [outcome.message.rpartition(": ")[2] for outcome in case.told.outcomes] == [
        "bad parameters (400001)",
        "no such instance (400001)",
    ]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BROKEN, OutcomeKind.FAILING),
        (AuthError("http-401", "who are you?"), OutcomeKind.AUTH_FAILED),
        (PermanentError("400001", "bad parameters"), OutcomeKind.REJECTED),
    ],
)
def test_a_failure_says_what_for_where_and_why(error: RegistryError, kind: OutcomeKind) -> None:
    case = Case()
    case.fail(error)
    [outcome] = case.told.outcomes
    assert (outcome.kind, outcome.code, outcome.instances) == (kind, error.code, ("i-1",))
    assert outcome.message == f"cannot set UP for i-1 of service cart: {error}"


def test_the_latency_of_a_transition_is_told_once_and_only_if_it_was_seen() -> None:
    case = Case()
    case.arrive(written=1)
    case.record.measured = False
    case.arrive(written=1)
    case.arrive(written=1)
    assert [outcome.latency for outcome in case.told.outcomes] == [None, 2.5, None]


def test_a_failure_before_an_instance_was_found_is_one_for_the_pods_instance() -> None:
    case = Case()
    case.record.current = None
    case.fail(BROKEN)
    assert case.told.outcomes[0].message == f"cannot set UP for the pod's instance of service cart: {BROKEN}"


@pytest.mark.parametrize("known", [True, False], ids=["a pod that is tracked", "a pod that is not known any more"])
def test_an_instance_that_is_another_pods_is_told_with_its_owner(known: bool) -> None:
    case = Case()
    other = replace(case.desired, pod=PodRef("uid-2", "shop", "cart-2"))
    owner = PodRecord(other, life_since=0.0) if known else None
    case.teller.lost(case.record, Held(InstanceKey(Tenant(), "cart", "i-1")), owner)
    [outcome] = case.told.outcomes
    whose = "pod shop/cart-2" if known else "another pod"
    assert (outcome.kind, outcome.instances) == (OutcomeKind.CONFLICT, ("i-1",))
    assert outcome.message == f"instance i-1 is claimed by {whose} too, which is Ready or newer, so it decides its status"


def test_what_does_not_last_changes_no_outcome() -> None:
    case = Case()
    case.fail(BROKEN)
    case.teller.tell(case.record, OutcomeKind.HARMFUL, "beware", lasting=False)
    case.fail(BROKEN)
    assert case.kinds == [OutcomeKind.FAILING, OutcomeKind.HARMFUL]
