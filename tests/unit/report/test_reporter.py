"""One outcome goes to the Events, the metrics and the log."""

import logging

import pytest

from registry_status.model import InstanceStatus, Outcome, OutcomeKind
from registry_status.report.events import EventRecorder
from registry_status.report.logs import LogLimiter
from registry_status.report.metrics import Metrics
from registry_status.report.reporter import Reporter
from registry_status.sync.resync import Cause
from tests.unit.report.fakes import FakeClock, FakeEventApi, outcome, pod
from tests.unit.report.test_metrics import samples

DELIVERED, FAILING, REJECTED, NOT_FOUND, CONFLICT, AUTH_FAILED, INVALID, DRIFTED, HARMFUL, ABANDONED, RELEASED = OutcomeKind


class Desk:
    def __init__(self) -> None:
        self.clock, self.api, self.metrics = FakeClock(), FakeEventApi(), Metrics()
        self.recorder = EventRecorder(self.api, self.metrics, clock=self.clock)
        self.reporter = Reporter(self.recorder, self.metrics, LogLimiter(self.clock, burst=10))

    def report(self, *outcomes: Outcome) -> None:
        for each in outcomes:
            self.reporter.outcome(each)


@pytest.fixture
def desk(caplog: pytest.LogCaptureFixture) -> Desk:
    caplog.set_level(logging.INFO)
    return Desk()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [f"{line.levelname} {line.getMessage()}" for line in caplog.records]


async def test_an_outcome_reaches_all_three(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.report(outcome(REJECTED, message="no right to write", code="403002", instances=("i1",)))
    await desk.recorder.drain(1)
    assert desk.api.reasons == [("RegistryUpdateFailed", 1)]
    found = samples(desk.metrics)
    assert found["outcomes_total{kind=rejected}"] == 1
    assert found["events_posted_total{reason=RegistryUpdateFailed}"] == 1
    (line,) = caplog.records
    fields = {name: vars(line)[name] for name in ("pod", "namespace", "status", "instance", "code")}
    assert fields == {"pod": "web-1", "namespace": "shop", "status": "UP", "instance": "i1", "code": "403002"}
    assert lines(caplog) == ["WARNING rejected: no right to write"]


def test_each_status_written_is_a_line(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.report(
        outcome(DELIVERED, message="STARTING written", status=InstanceStatus.STARTING, written=1, latency=0.01234),
        outcome(DELIVERED, message="UP is there already", written=0),
        outcome(DELIVERED, message="DOWN written", status=InstanceStatus.DOWN, written=2, instances=("a", "b")),
    )
    assert lines(caplog) == ["INFO STARTING written", "INFO DOWN written"]
    assert vars(caplog.records[0])["latency"] == 0.012
    assert vars(caplog.records[1])["instance"] == ("a", "b")


def test_failing_is_told_when_it_begins_and_when_it_ends(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.report(outcome(FAILING, message="timeout"), outcome(FAILING, message="connection refused"))
    desk.report(outcome(DELIVERED, message="UP written", written=1), outcome(DELIVERED, message="again"))
    assert lines(caplog) == ["WARNING failing: timeout", "INFO recovered from failing: UP written"]
    assert samples(desk.metrics)["outcomes_total{kind=failing}"] == 1


@pytest.mark.parametrize("kind", [REJECTED, NOT_FOUND, CONFLICT, AUTH_FAILED, INVALID])
def test_trouble_is_told_on_each_change(desk: Desk, caplog: pytest.LogCaptureFixture, kind: OutcomeKind) -> None:
    desk.report(*[outcome(kind, message=message) for message in ("one", "one", "other")])
    assert lines(caplog) == [f"WARNING {kind}: one", f"WARNING {kind}: other"]


def test_drift_is_a_moment_not_a_state(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.report(outcome(DRIFTED, message="changed"), outcome(DELIVERED, message="put back", written=1))
    assert lines(caplog) == ["WARNING drifted: changed", "INFO put back"]


def test_an_outage_of_thousands_is_a_few_lines_with_a_count(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.report(*[outcome(FAILING, number, code="connect") for number in range(5000)])
    assert len(caplog.records) == 10
    desk.clock.now += 61
    desk.report(outcome(FAILING, 9999, code="connect"))
    assert vars(caplog.records[-1])["suppressed"] == 4990


@pytest.mark.parametrize("end", [RELEASED, ABANDONED])
def test_a_pod_that_is_done_with_has_nothing_to_recover_from(
    desk: Desk, caplog: pytest.LogCaptureFixture, end: OutcomeKind
) -> None:
    desk.report(outcome(REJECTED), outcome(end), outcome(DELIVERED, message="UP written", written=1))
    assert lines(caplog)[-1] == "INFO UP written"


def test_a_forgotten_pod_has_neither(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.report(outcome(REJECTED))
    desk.reporter.forget(pod())
    desk.report(outcome(DELIVERED, written=1))
    assert lines(caplog)[-1].startswith("INFO UP")


def test_retries_drift_and_what_auto_becomes_are_counted(desk: Desk) -> None:
    desk.reporter.retried()
    desk.reporter.drifted(Cause.REGISTERED_ANEW)
    desk.reporter.not_ready_changed(InstanceStatus.DOWN)
    found = samples(desk.metrics)
    assert (found["retries_total"], found["drift_total{cause=registered-anew}"]) == (1, 1)
    assert found["not_ready_changes_total{to=DOWN}"] == 1


async def test_a_replica_that_does_not_lead_any_more_falls_silent(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.report(outcome(FAILING, message="no answer"), outcome(REJECTED, 2, message="no right"))
    desk.reporter.fall_silent()
    desk.clock.now += 60
    await desk.recorder.drain(1)
    assert desk.api.reasons == []
    assert samples(desk.metrics)["events_dropped_total{cause=standby}"] == 1
    desk.report(outcome(FAILING, message="no answer"))
    assert lines(caplog).count("WARNING failing: no answer") == 2, "it is a new leadership"
