"""Which Events a pod earns on its way from one outcome to the next."""

from collections import Counter

import pytest

from registry_status.model import InstanceStatus, Outcome, OutcomeKind, PodRef
from registry_status.report.event_policy import (
    GLOBAL_BURST,
    GLOBAL_RATE,
    MESSAGE_LIMIT,
    POD_BURST,
    POD_LIMIT,
    QUEUE_LIMIT,
    EventNote,
    EventPolicy,
    EventReason,
    Outage,
)
from tests.unit.report.fakes import outcome, pod

DELIVERED, FAILING, REJECTED, NOT_FOUND, CONFLICT, AUTH_FAILED, INVALID, DRIFTED, HARMFUL, ABANDONED, RELEASED = OutcomeKind
OPERATOR = PodRef("operator-uid", "ops", "operator-1")


class Stage:
    """A policy and what it has let out so far."""

    def __init__(self, *, operator: PodRef | None = None, report_updates: bool = False) -> None:
        self.now = 0.0
        self.dropped: Counter[str] = Counter()
        self.posted: list[EventNote] = []
        self.policy = EventPolicy(
            self.now, operator=operator, report_updates=report_updates, dropped=lambda cause: self.dropped.update([cause])
        )

    def at(self, now: float) -> "Stage":
        self.now = now
        self.post()
        return self

    def report(self, *outcomes: Outcome) -> "Stage":
        for each in outcomes:
            self.policy.report(each, self.now)
        return self

    def post(self) -> "Stage":
        while note := self.policy.take(self.now):
            self.posted.append(note)
        return self

    @property
    def told(self) -> list[str]:
        return [note.reason.value for note in self.posted]

    def of(self, ref: PodRef) -> list[str]:
        return [note.reason.value for note in self.posted if note.pod == ref]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (REJECTED, "RegistryUpdateFailed"),
        (ABANDONED, "RegistryUpdateFailed"),
        (NOT_FOUND, "RegistryInstanceNotFound"),
        (CONFLICT, "RegistryInstanceConflict"),
        (AUTH_FAILED, "RegistryAuthFailed"),
        (INVALID, "InvalidRegistryAnnotation"),
        (DRIFTED, "RegistryStatusDrifted"),
        (HARMFUL, "RegistryStatusHarmful"),
    ],
)
def test_trouble_earns_its_warning_at_once(kind: OutcomeKind, reason: str) -> None:
    stage = Stage().report(outcome(kind, message="what, where, why")).post()
    assert [(note.reason, note.reason.type, note.message, note.pod) for note in stage.posted] == [
        (reason, "Warning", "what, where, why", pod())
    ]


@pytest.mark.parametrize("kind", [DELIVERED, RELEASED])
def test_what_goes_well_earns_nothing(kind: OutcomeKind) -> None:
    assert Stage().report(outcome(kind, written=1)).at(100).told == []


@pytest.mark.parametrize("reason", EventReason)
def test_kubernetes_knows_two_types_of_events(reason: EventReason) -> None:
    normal = reason in ("RegistryStatusUpdated", "RegistryUpdateRecovered")
    assert reason.type == ("Normal" if normal else "Warning")


class TestFailing:
    def test_is_told_only_after_5_seconds(self) -> None:
        stage = Stage().report(outcome(FAILING))
        assert stage.at(4.99).told == []
        assert stage.policy.wait(stage.now) == pytest.approx(0.01)
        assert stage.at(5.0).told == ["RegistryUpdateFailed"]
        assert stage.posted[0].at == 0.0

    @pytest.mark.parametrize("end", [DELIVERED, RELEASED])
    def test_is_never_told_if_it_ends_within_5_seconds(self, end: OutcomeKind) -> None:
        stage = Stage().report(outcome(FAILING)).at(4.9).report(outcome(end)).at(60)
        assert stage.told == []
        assert stage.policy.wait(60) is None
        assert stage.policy.remembered == 0

    def test_is_never_told_of_a_pod_that_was_forgotten(self) -> None:
        stage = Stage().report(outcome(FAILING))
        stage.policy.forget(pod().uid, 1.0)
        assert stage.at(60).told == []

    @pytest.mark.parametrize("end", [REJECTED, ABANDONED, NOT_FOUND, CONFLICT, AUTH_FAILED, INVALID])
    def test_gives_way_to_worse_trouble(self, end: OutcomeKind) -> None:
        stage = Stage().report(outcome(FAILING, message="slow")).at(2).report(outcome(end, message="worse")).at(60)
        assert [note.message for note in stage.posted] == ["worse"]

    def test_goes_on_beside_drift(self) -> None:
        stage = Stage().report(outcome(FAILING), outcome(DRIFTED)).at(5)
        assert stage.told == ["RegistryStatusDrifted", "RegistryUpdateFailed"]

    def test_is_told_once_however_often_it_is_reported(self) -> None:
        stage = Stage().report(outcome(FAILING, message="first")).at(3).report(outcome(FAILING, message="newest"))
        for second in range(5, 1800, 7):
            stage.at(second).report(outcome(FAILING, message=f"try {second}"))
        assert [note.message for note in stage.posted] == ["newest"]

    def test_again_after_a_recovery_is_the_same_event(self) -> None:
        stage = Stage().report(outcome(FAILING, message="timeout")).at(6).report(outcome(DELIVERED)).at(7)
        stage.report(outcome(FAILING, message="connection refused")).at(13).report(outcome(DELIVERED)).at(14)
        assert stage.told == ["RegistryUpdateFailed", "RegistryUpdateRecovered"] * 2
        assert len({note.name for note in stage.posted}) == 2


class TestRecovery:
    @pytest.mark.parametrize("kind", [FAILING, REJECTED, NOT_FOUND, CONFLICT, AUTH_FAILED])
    def test_is_told_where_its_warning_was_posted(self, kind: OutcomeKind) -> None:
        stage = Stage().report(outcome(kind)).at(75).report(outcome(DELIVERED, message="UP is there")).post()
        assert stage.told[1:] == ["RegistryUpdateRecovered"]
        assert stage.posted[1].message == f"After 75 s of {stage.told[0]}: UP is there"

    @pytest.mark.parametrize("kind", [INVALID, DRIFTED, HARMFUL])
    def test_is_not_told_of_what_has_no_end_in_a_delivery(self, kind: OutcomeKind) -> None:
        assert len(Stage().report(outcome(kind)).at(10).report(outcome(DELIVERED)).post().told) == 1

    def test_is_told_once(self) -> None:
        stage = Stage().report(outcome(REJECTED)).post()
        stage.report(outcome(DELIVERED), outcome(DELIVERED)).post().report(outcome(DELIVERED)).post()
        assert stage.told == ["RegistryUpdateFailed", "RegistryUpdateRecovered"]

    def test_waits_once(self) -> None:
        stage = Stage().report(outcome(REJECTED)).post().report(*[outcome(DELIVERED)] * 3)
        assert stage.policy.waiting == 1

    def test_of_several_warnings_is_one(self) -> None:
        stage = Stage().report(outcome(REJECTED)).at(10).report(outcome(CONFLICT)).at(20).report(outcome(DELIVERED)).post()
        assert stage.told == ["RegistryUpdateFailed", "RegistryInstanceConflict", "RegistryUpdateRecovered"]
        assert stage.posted[2].message.startswith("After 20 s of RegistryUpdateFailed: ")

    def test_drops_a_warning_that_still_waits(self) -> None:
        stage = Stage().report(outcome(REJECTED), outcome(DELIVERED)).post()
        assert stage.told == []

    def test_is_not_told_if_the_warning_could_not_be_posted(self) -> None:
        stage = Stage().report(outcome(REJECTED)).post()
        stage.policy.lost(stage.posted[0])
        assert stage.report(outcome(DELIVERED)).post().told == ["RegistryUpdateFailed"]

    def test_is_not_told_if_the_warning_is_lost_while_the_recovery_waits(self) -> None:
        stage = Stage().report(outcome(REJECTED)).post().report(outcome(DELIVERED))
        stage.policy.lost(stage.posted[0])
        assert stage.post().told == ["RegistryUpdateFailed"]

    def test_is_told_although_an_event_of_another_kind_could_not_be_posted(self) -> None:
        stage = Stage().report(outcome(REJECTED), outcome(DRIFTED)).post()
        stage.policy.lost(stage.posted[1])
        assert stage.report(outcome(DELIVERED)).post().told[2:] == ["RegistryUpdateRecovered"]

    def test_is_told_of_a_later_warning_whatever_was_lost_after_the_one_before(self) -> None:
        stage = Stage().report(outcome(REJECTED)).post().report(outcome(DELIVERED)).post()
        stage.policy.lost(stage.posted[0])
        stage.report(outcome(REJECTED)).post().report(outcome(DELIVERED)).post()
        assert stage.told == ["RegistryUpdateFailed", "RegistryUpdateRecovered"] * 2

    def test_is_told_if_one_of_two_warnings_could_be_posted(self) -> None:
        stage = Stage().report(outcome(REJECTED, message="a"), outcome(REJECTED, message="b")).post()
        stage.policy.lost(stage.posted[1])
        assert stage.report(outcome(DELIVERED)).post().told[2:] == ["RegistryUpdateRecovered"]

    def test_of_a_released_pod_is_not_told(self) -> None:
        stage = Stage().report(outcome(REJECTED)).post().report(outcome(RELEASED), outcome(DELIVERED)).post()
        assert stage.told == ["RegistryUpdateFailed"]

    def test_stands_in_for_the_update(self) -> None:
        stage = Stage(report_updates=True).report(outcome(REJECTED)).post().report(outcome(DELIVERED, written=1)).post()
        assert stage.told == ["RegistryUpdateFailed", "RegistryUpdateRecovered"]


class TestRepetition:
    @pytest.mark.parametrize("kind", [REJECTED, NOT_FOUND, CONFLICT, AUTH_FAILED, INVALID, DRIFTED, HARMFUL])
    def test_of_the_same_outcome_waits_5_minutes(self, kind: OutcomeKind) -> None:
        stage = Stage()
        for second in range(601):
            stage.at(second).report(outcome(kind))
        assert [note.at for note in stage.post().posted] == [0, 300, 600]
        assert len({note.name for note in stage.posted}) == 1

    def test_with_another_cause_is_told_at_once(self) -> None:
        stage = Stage().report(outcome(REJECTED, message="no right"), outcome(REJECTED, message="no such project")).post()
        assert [note.message for note in stage.posted] == ["no right", "no such project"]
        assert len({note.name for note in stage.posted}) == 2

    def test_after_a_delivery_is_told_at_once(self) -> None:
        stage = Stage().report(outcome(REJECTED)).post().report(outcome(DELIVERED)).post().report(outcome(REJECTED)).post()
        assert stage.told == ["RegistryUpdateFailed", "RegistryUpdateRecovered", "RegistryUpdateFailed"]

    @pytest.mark.parametrize("kind", [REJECTED, NOT_FOUND, CONFLICT, AUTH_FAILED, INVALID])
    def test_is_not_hurried_by_a_hiccup_in_between(self, kind: OutcomeKind) -> None:
        stage = Stage()
        for second in range(0, 300, 30):
            stage.at(second).report(outcome(kind)).post().at(second + 26).report(outcome(FAILING))
        assert len(stage.at(299).told) == 1

    @pytest.mark.parametrize("between", [FAILING, CONFLICT, INVALID])
    def test_after_another_warning_is_told_at_once(self, between: OutcomeKind) -> None:
        """The newest Warning names what holds now."""
        stage = Stage().report(outcome(REJECTED)).post().report(outcome(between)).at(10).report(outcome(REJECTED)).post()
        assert [note.kind for note in stage.posted] == [REJECTED, between, REJECTED]

    def test_is_not_hurried_by_drift_in_between(self) -> None:
        stage = Stage().report(*[outcome(REJECTED), outcome(DRIFTED)] * 5).post()
        assert stage.told == ["RegistryUpdateFailed", "RegistryStatusDrifted"]


class TestReminders:
    """API servers forget Events after an hour: what is said once of a trouble that lasts is not there in the morning."""

    @pytest.mark.parametrize("kind", [FAILING, REJECTED, NOT_FOUND, CONFLICT, AUTH_FAILED, INVALID])
    def test_a_warning_that_stands_is_said_again_each_half_hour(self, kind: OutcomeKind) -> None:
        stage = Stage().report(outcome(kind))
        for second in range(1, 2 * 3600):
            stage.at(second)
        first = stage.posted[0].at
        assert [note.at - first for note in stage.posted] == pytest.approx([0, 1800, 3600, 5400], abs=6)
        assert len({note.name for note in stage.posted}) == 1

    def test_the_cause_is_the_one_that_holds_now(self) -> None:
        stage = Stage().report(outcome(FAILING, message="it broke")).at(6).report(outcome(FAILING, message="refused"))
        assert [note.message for note in stage.at(1807).posted] == ["it broke", "refused"]

    def test_the_time_of_the_next_one_is_waited_for(self) -> None:
        stage = Stage().report(outcome(CONFLICT)).post()
        assert stage.policy.wait(600.0) == 1200.0

    @pytest.mark.parametrize("ended", [DELIVERED, RELEASED, ABANDONED, "forgotten", "retracted"])
    def test_what_is_over_is_not_reminded_of(self, ended: OutcomeKind | str) -> None:
        stage = Stage().report(outcome(REJECTED)).post()
        if ended == "forgotten":
            stage.policy.forget(pod().uid, 10.0)
        elif ended == "retracted":
            stage.policy.forget_all()
        else:
            stage.report(outcome(OutcomeKind(ended)))
        told = len(stage.at(10).told)
        assert len(stage.at(7200).told) == told

    def test_another_trouble_has_its_own_time(self) -> None:
        stage = Stage().report(outcome(REJECTED)).at(1000).report(outcome(NOT_FOUND)).post()
        for second in range(1000, 2900):
            stage.at(second)
        assert [(note.kind, note.at) for note in stage.posted] == [(REJECTED, 0), (NOT_FOUND, 1000), (NOT_FOUND, 2800)]

    @pytest.mark.parametrize("kind", [DRIFTED, HARMFUL])
    def test_moments_are_told_once(self, kind: OutcomeKind) -> None:
        assert len(Stage().report(outcome(kind)).post().at(7200).told) == 1

    def test_many_keep_the_pace_and_lose_nothing(self) -> None:
        stage = Stage().report(*[outcome(FAILING, number) for number in range(3000)])
        for second in range(3600):
            stage.at(second)
        assert Counter(note.pod.uid for note in stage.posted) == dict.fromkeys((pod(number).uid for number in range(3000)), 2)
        assert not stage.dropped


class TestUpdates:
    def test_are_told_on_request(self) -> None:
        stage = Stage(report_updates=True)
        for status in (InstanceStatus.STARTING, InstanceStatus.UP, InstanceStatus.UP, InstanceStatus.DOWN):
            stage.report(outcome(DELIVERED, status=status, written=1)).post()
        assert [note.identity for note in stage.posted] == ["STARTING", "UP", "DOWN"]
        assert set(stage.told) == {"RegistryStatusUpdated"}

    def test_need_a_write(self) -> None:
        assert Stage(report_updates=True).report(outcome(DELIVERED, written=0)).post().told == []

    def test_of_one_status_are_one_event(self) -> None:
        stage = Stage(report_updates=True)
        for number, status in enumerate([InstanceStatus.UP, InstanceStatus.DOWN] * 3):
            stage.report(outcome(DELIVERED, status=status, written=1, message=f"write {number}")).post()
        assert len(stage.posted) == 6
        assert len({note.name for note in stage.posted}) == 2


class TestMemory:
    def test_a_pod_that_is_well_costs_none(self) -> None:
        stage = Stage()
        for number in range(1000):
            stage.report(outcome(DELIVERED, number, written=1))
        assert stage.policy.remembered == 0

    @pytest.mark.parametrize("kind", [RELEASED, ABANDONED])
    def test_a_pod_that_is_done_with_costs_none(self, kind: OutcomeKind) -> None:
        stage = Stage().report(outcome(REJECTED)).post().report(outcome(kind)).post()
        assert stage.policy.remembered == 0

    def test_is_bounded_whatever_happens(self) -> None:
        stage = Stage()
        for number in range(POD_LIMIT + 500):
            stage.report(outcome(FAILING, number))
        assert stage.policy.remembered == POD_LIMIT

    def test_a_lost_event_of_a_forgotten_pod_is_nobodys(self) -> None:
        stage = Stage().report(outcome(REJECTED)).post()
        stage.policy.forget(pod().uid, 0.0)
        stage.policy.lost(stage.posted[0])
        assert stage.policy.remembered == 0

    def test_an_event_of_a_forgotten_pod_is_still_posted(self) -> None:
        stage = Stage().report(outcome(ABANDONED))
        stage.policy.forget(pod().uid, 0.0)
        assert stage.post().told == ["RegistryUpdateFailed"]


class TestPace:
    def test_lets_a_burst_out_and_the_rest_bit_by_bit(self) -> None:
        stage = Stage()
        for number in range(200):
            stage.report(outcome(INVALID, number))
        assert len(stage.post().posted) == GLOBAL_BURST
        assert stage.policy.wait(0.0) == pytest.approx(1 / GLOBAL_RATE)
        assert len(stage.at(1.0).posted) == GLOBAL_BURST + GLOBAL_RATE
        for second in range(2, 16):
            stage.at(second)
        assert len(stage.posted) == 200
        assert not stage.dropped

    def test_of_one_pod_is_bounded(self) -> None:
        stage = Stage()
        for number in range(100):
            stage.report(outcome(CONFLICT, message=f"candidates {number}"))
        assert len(stage.at(10).posted) == POD_BURST
        assert stage.dropped == {"pod-limit": 100 - POD_BURST}
        assert len(stage.at(61).report(outcome(CONFLICT)).post().posted) == POD_BURST + 1

    def test_of_a_pod_that_flaps_is_bounded_recoveries_included(self) -> None:
        stage = Stage()
        for second in range(0, 3600, 12):
            stage.at(second).report(outcome(FAILING)).at(second + 6).report(outcome(DELIVERED)).post()
        assert len(stage.posted) <= 2 * (POD_BURST + 60)
        assert stage.told.count("RegistryUpdateFailed") == stage.told.count("RegistryUpdateRecovered")
        assert stage.dropped["pod-limit"] > 0

    @pytest.mark.parametrize("kind", [FAILING, CONFLICT])
    def test_of_a_pod_that_flaps_is_bounded_although_it_is_well_in_between(self, kind: OutcomeKind) -> None:
        stage = Stage()
        for second in range(0, 1200, 12):
            stage.at(second).report(outcome(kind, message=f"trouble {second}")).at(second + 6)
            stage.report(outcome(DELIVERED)).post().report(outcome(DELIVERED)).post()
        assert len(stage.posted) <= 2 * (POD_BURST + 20)
        assert stage.dropped["pod-limit"] > 0

    def test_of_a_pod_that_flaps_is_bounded_although_its_events_cannot_be_posted(self) -> None:
        stage = Stage()
        for second in range(0, 1200, 12):
            stage.at(second).report(outcome(FAILING)).at(second + 6)
            for note in stage.posted:
                stage.policy.lost(note)
            stage.report(outcome(DELIVERED)).post()
        assert len(stage.posted) <= POD_BURST + 20

    def test_has_a_queue_with_an_end(self) -> None:
        stage = Stage()
        for number in range(QUEUE_LIMIT + 5):
            stage.report(outcome(INVALID, number))
        assert stage.dropped == {"queue-full": 5}

    def test_forgets_what_found_the_queue_full(self) -> None:
        stage = Stage(operator=OPERATOR)
        for number in range(QUEUE_LIMIT + 1):
            stage.report(outcome(REJECTED, number))
        dropped = stage.dropped["queue-full"]
        assert not stage.policy.report_operator(EventReason.AUTH_FAILED, "the account is blocked", 0.0)
        assert stage.report(outcome(DELIVERED, QUEUE_LIMIT)).at(600).of(pod(QUEUE_LIMIT)) == []
        assert stage.dropped["queue-full"] == dropped + 1

    def test_failing_pods_wait_without_a_queue_and_let_others_pass(self) -> None:
        stage = Stage()
        for number in range(5000):
            stage.report(outcome(FAILING, number))
        stage.at(5.0).report(outcome(INVALID, 7777))
        assert stage.at(5.2).of(pod(7777)) == ["InvalidRegistryAnnotation"]
        assert not stage.dropped

    def test_an_outage_that_ends_leaves_nothing_behind_but_recoveries(self) -> None:
        stage = Stage()
        for number in range(5000):
            stage.report(outcome(FAILING, number))
        stage.at(5.0)
        for number in range(5000):
            stage.report(outcome(DELIVERED, number))
        for second in range(6, 60):
            stage.at(second)
        assert stage.told == ["RegistryUpdateFailed"] * 50 + ["RegistryUpdateRecovered"] * 50
        assert stage.policy.remembered == 50


class TestOutageOfManyPods:
    def test_earns_one_event_on_the_operators_pod(self) -> None:
        stage = Stage(operator=OPERATOR)
        for number in range(30):
            stage.report(outcome(FAILING, number, message="registry:30100 refuses"))
        stage.at(4.9)
        assert stage.of(OPERATOR) == []
        stage.at(5.0)
        assert stage.of(OPERATOR) == ["RegistryUpdateFailed"]
        assert stage.posted[0].pod == OPERATOR, "it comes first"
        assert stage.posted[0].message.endswith("One of them is shop/web-9: registry:30100 refuses")
        for second in range(6, 600):
            stage.at(second)
        assert stage.of(OPERATOR) == ["RegistryUpdateFailed"]

    def test_ends_with_one_event_too(self) -> None:
        stage = Stage(operator=OPERATOR)
        for number in range(30):
            stage.report(outcome(FAILING, number))
        stage.at(60)
        for number in range(28):
            stage.report(outcome(DELIVERED, number))
        assert stage.at(61).of(OPERATOR) == ["RegistryUpdateFailed", "RegistryUpdateRecovered"]
        (recovered,) = [note for note in stage.posted if note.pod == OPERATOR and note.reason is EventReason.RECOVERED]
        assert recovered.message == "After 60 s of RegistryUpdateFailed on up to 30 pods at once, 3 of them are left."

    def test_needs_many_pods(self) -> None:
        stage = Stage(operator=OPERATOR)
        for number in range(9):
            stage.report(outcome(FAILING, number))
        assert stage.at(60).of(OPERATOR) == []

    def test_needs_them_at_once(self) -> None:
        stage = Stage(operator=OPERATOR)
        for number in range(100):
            stage.at(number * 4).report(outcome(FAILING, number))
        assert stage.at(1000).of(OPERATOR) == []

    def test_is_not_made_by_one_of_them_that_is_in_trouble_again_and_again(self) -> None:
        stage = Stage(operator=OPERATOR)
        for number in range(12):
            stage.at(number * 60).report(outcome(REJECTED, number))
        stage.report(*(outcome(REJECTED, 0, message=f"refusal {number}") for number in range(10)))
        assert stage.at(1000).of(OPERATOR) == []

    def test_is_not_made_by_one_pod_that_flaps(self) -> None:
        outage = Outage()
        for at in range(50):
            assert not outage.begin("uid", at)
            assert not outage.end("uid")

    def test_may_come_again(self) -> None:
        stage = Stage(operator=OPERATOR)
        for start in (0.0, 100.0):
            stage.at(start)
            for number in range(12):
                stage.report(outcome(FAILING, number))
            stage.at(start + 20)
            for number in range(12):
                stage.report(outcome(DELIVERED, number))
        assert stage.at(200).of(OPERATOR) == ["RegistryUpdateFailed", "RegistryUpdateRecovered"] * 2

    @pytest.mark.parametrize(("kind", "reason"), [(AUTH_FAILED, "RegistryAuthFailed"), (REJECTED, "RegistryUpdateFailed")])
    def test_may_be_a_refusal_of_all_of_them(self, kind: OutcomeKind, reason: str) -> None:
        stage = Stage(operator=OPERATOR)
        for number in range(10):
            stage.report(outcome(kind, number))
        assert stage.post().of(OPERATOR) == [reason]

    @pytest.mark.parametrize("kind", [INVALID, NOT_FOUND, CONFLICT, DRIFTED, HARMFUL, ABANDONED])
    def test_is_not_the_pods_own_troubles(self, kind: OutcomeKind) -> None:
        stage = Stage(operator=OPERATOR)
        for number in range(40):
            stage.report(outcome(kind, number))
        assert stage.post().of(OPERATOR) == []

    def test_outside_a_cluster_is_told_on_the_pods_only(self) -> None:
        stage = Stage()
        for number in range(20):
            stage.report(outcome(FAILING, number))
        assert len(stage.at(5).posted) == 20


def test_an_event_of_the_operator_passes_those_that_wait() -> None:
    stage = Stage(operator=OPERATOR)
    stage.report(outcome(INVALID))
    assert stage.policy.report_operator(EventReason.AUTH_FAILED, "the account is blocked", 0.0)
    assert [note.pod for note in stage.post().posted] == [OPERATOR, pod()]


class TestNames:
    def test_are_the_same_in_another_process(self) -> None:
        notes = [Stage().report(outcome(REJECTED)).post().posted[0] for _ in range(2)]
        assert notes[0].name == notes[1].name
        assert notes[0].name.startswith("web-1.")

    def test_differ_between_two_pods_of_one_name(self) -> None:
        names = {EventNote(PodRef(uid, "shop", "db-0"), EventReason.FAILED, "m", "i", 0.0).name for uid in ("a", "b")}
        assert len(names) == 2

    @pytest.mark.parametrize("name", ["a" * 253, "a" * 199 + "-" + "b" * 53, "a" * 199 + "." + "b" * 53])
    def test_fit_and_are_dns_names(self, name: str) -> None:
        made = EventNote(PodRef("uid", "shop", name), EventReason.FAILED, "m", "i", 0.0).name
        assert len(made) <= 253
        assert ".." not in made
        assert "-." not in made


class TestMessages:
    def test_are_cut_to_what_kubernetes_takes(self) -> None:
        (note,) = Stage().report(outcome(INVALID, message="ü" * 2000)).post().posted
        assert len(note.message.encode()) <= MESSAGE_LIMIT
        assert note.message.endswith("ü…")

    def test_are_one_clean_line(self) -> None:
        (note,) = Stage().report(outcome(INVALID, message="a\nb\x1b[31m\tc\x00")).post().posted
        assert note.message == "a b [31m c"

    def test_hold_no_credentials(self) -> None:
        (note,) = (
            Stage().report(outcome(REJECTED, message="sent Authorization: Bearer abcdefghijklmnop1234, refused")).post().posted
        )
        assert note.message == "sent Authorization: Bearer [redacted], refused"


class TestForgettingAll:
    """Another replica reports from now on."""

    def test_nothing_that_waits_or_is_held_back_is_posted(self) -> None:
        stage = Stage(operator=OPERATOR)
        stage.report(*(outcome(FAILING, number) for number in range(20))).at(4.9)
        stage.report(*(outcome(REJECTED, 100 + number) for number in range(3)))
        assert stage.policy.forget_all() > 0
        stage.at(600)
        assert stage.posted == []
        assert (stage.policy.waiting, stage.policy.remembered) == (0, 0)
        assert stage.policy.wait(600) is None

    def test_what_was_said_may_be_said_again_and_nothing_of_before_recovers(self) -> None:
        stage = Stage()
        stage.report(outcome(REJECTED)).post()
        stage.policy.forget_all()
        stage.report(outcome(DELIVERED)).post()
        assert stage.told == ["RegistryUpdateFailed"]
        stage.report(outcome(REJECTED)).post().report(outcome(DELIVERED)).post()
        assert stage.told == ["RegistryUpdateFailed", "RegistryUpdateFailed", "RegistryUpdateRecovered"]

    def test_the_pace_is_kept(self) -> None:
        stage = Stage()
        for round_ in range(4):
            stage.report(*(outcome(REJECTED, round_ * 100 + number) for number in range(100))).post()
            stage.policy.forget_all()
        assert len(stage.posted) == GLOBAL_BURST

    def test_an_outage_begins_anew(self) -> None:
        stage = Stage(operator=OPERATOR)
        for _ in range(2):
            stage.report(*(outcome(REJECTED, number) for number in range(12))).post()
            stage.policy.forget_all()
            stage.at(stage.now + 60)
        assert stage.of(OPERATOR) == ["RegistryUpdateFailed"] * 2
