"""What Prometheus reads."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from registry_status import __version__
from registry_status.cluster.lines import WatchFault
from registry_status.config import Settings
from registry_status.model import InstanceStatus, OutcomeKind
from registry_status.registry.base import Operation
from registry_status.registry.connect import registry_client
from registry_status.report.event_policy import DropCause, EventReason
from registry_status.report.metrics import OTHER, Metrics, Words
from registry_status.sync.resync import Cause
from tests.unit.report.fakes import outcome

if TYPE_CHECKING:
    from registry_status.registry.base import RequestObserver
    from registry_status.report.events import EventObserver

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"


class Statuses:
    def desired_counts(self) -> Mapping[InstanceStatus, int]:
        return {InstanceStatus.UP: 3, InstanceStatus.DOWN: 1}

    def acknowledged_counts(self) -> Mapping[InstanceStatus, int]:
        return {InstanceStatus.UP: 2}

    @property
    def queued(self) -> int:
        return 2


class NoneYet(Statuses):
    """As an engine is before it tracks any pod."""

    def __len__(self) -> int:
        return 0


def samples(metrics: Metrics) -> dict[str, float]:
    """Every sample of ours, named as in the text, without the prefix."""
    found: dict[str, float] = {}
    for family in parse(metrics.render().body.decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[sample.name.removeprefix("registry_status_") + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


def test_requests_are_counted_and_timed() -> None:
    metrics = Metrics()
    observer: RequestObserver = metrics
    observer.request_finished(Operation.WRITE_STATUS, "ok", 0.02)
    observer.request_finished(Operation.WRITE_STATUS, "ok", 0.3)
    observer.request_finished(Operation.WRITE_STATUS, "timeout", 5.0)
    observer.request_finished(Operation.LIST_INSTANCES, "400012", 0.001)
    found = samples(metrics)
    assert found["requests_total{code=ok,operation=write-status}"] == 2
    assert found["requests_total{code=timeout,operation=write-status}"] == 1
    assert found["requests_total{code=400012,operation=list-instances}"] == 1
    assert found["request_duration_seconds_count{operation=write-status}"] == 3
    assert found["request_duration_seconds_bucket{le=0.025,operation=write-status}"] == 1


def test_deliveries_are_timed_from_the_pods_transition() -> None:
    metrics = Metrics()
    metrics.outcome(outcome(OutcomeKind.DELIVERED, latency=0.02, written=1))
    metrics.outcome(outcome(OutcomeKind.DELIVERED, latency=-0.5, written=1))
    metrics.outcome(outcome(OutcomeKind.DELIVERED, latency=None))
    metrics.outcome(outcome(OutcomeKind.FAILING))
    found = samples(metrics)
    assert found["delivery_seconds_count"] == 2
    assert found["delivery_seconds_bucket{le=0.005}"] == 1, "a node whose clock is ahead counts as at once"
    assert found["delivery_seconds_bucket{le=0.025}"] == 2
    assert found["delivery_seconds_bucket{le=120.0}"] == 2
    assert found["outcomes_total{kind=delivered}"] == 3
    assert found["outcomes_total{kind=failing}"] == 1


def test_happenings_are_counted() -> None:
    metrics = Metrics()
    observer: EventObserver = metrics
    observer.event_posted(EventReason.FAILED)
    observer.event_dropped(DropCause.DENIED)
    metrics.retried()
    metrics.drifted(Cause.VANISHED)
    metrics.watch_fault(WatchFault.EXPIRED)
    metrics.gate_patched("ok")
    metrics.leadership_changed(leading=True)
    metrics.leadership_changed(leading=False)
    metrics.loop_lag(0.002)
    metrics.loop_lag(-1e-9)
    found = samples(metrics)
    for name in (
        "events_posted_total{reason=RegistryUpdateFailed}", "events_dropped_total{cause=denied}", "retries_total",
        "drift_total{cause=vanished}", "watch_faults_total{kind=expired}", "gates_total{code=ok}",
        "lease_transitions_total{to=leader}", "lease_transitions_total{to=standby}",
    ):  # fmt: skip
        assert found[name] == 1, name
    assert found["event_loop_lag_seconds_count"] == 2


def test_what_is_is_read_at_scrape_time() -> None:
    metrics = Metrics()
    age = 4.0
    metrics.attach(statuses=Statuses(), watch_age=lambda: age, leading=lambda: age > 5, tasks=lambda: 7)
    assert samples(metrics)["tasks"] == 7
    assert samples(metrics)["watch_age_seconds"] == 4
    age = 6.0
    found = samples(metrics)
    assert found["watch_age_seconds"] == 6
    assert found["leader"] == 1
    assert found["queue_depth"] == 2
    assert {name: value for name, value in found.items() if "_pods" in name} == {
        "desired_pods{status=UP}": 3, "desired_pods{status=STARTING}": 0, "desired_pods{status=OUTOFSERVICE}": 0,
        "desired_pods{status=DOWN}": 1, "acknowledged_pods{status=UP}": 2, "acknowledged_pods{status=STARTING}": 0,
        "acknowledged_pods{status=OUTOFSERVICE}": 0, "acknowledged_pods{status=DOWN}": 0,
    }  # fmt: skip


def test_what_has_no_owner_yet_is_not_there() -> None:
    metrics = Metrics()
    metrics.attach(watch_age=lambda: None)
    found = samples(metrics)
    assert not {"queue_depth", "watch_age_seconds", "tasks", "leader"} & set(found)


def test_owners_may_come_one_by_one() -> None:
    metrics = Metrics()
    metrics.attach(statuses=Statuses())
    metrics.attach(leading=lambda: False)
    found = samples(metrics)
    assert (found["queue_depth"], found["leader"]) == (2, 0)


def test_statuses_are_asked_of_one_who_has_no_pods_when_he_is_named() -> None:
    metrics = Metrics()
    metrics.attach(statuses=NoneYet())
    assert samples(metrics)["queue_depth"] == 2


def test_the_process_and_the_version_are_told() -> None:
    found = samples(Metrics())
    for name in (
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_start_time_seconds",
    ):
        assert found[name] > 0
    assert found[f"build_info{{version={__version__}}}"] == 1
    assert any(name.startswith("python_info{") for name in found)


def test_two_operators_in_one_process_do_not_share_anything() -> None:
    one, other = Metrics(), Metrics()
    one.retried()
    assert samples(one)["retries_total"] == 1
    assert samples(other)["retries_total"] == 0
    assert not [family for family in REGISTRY.collect() if family.name.startswith("registry_status")]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=nonsense", "text/plain; version=0.0.4; charset=utf-8"),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ],
)
def test_everybody_gets_a_format_that_is_understood(accept: str, content_type: str) -> None:
    metrics = Metrics()
    metrics.request_finished(Operation.WRITE_STATUS, "ok", 0.1)
    rendered = metrics.render(accept)
    assert rendered.content_type == content_type
    read = parse_openmetrics if "openmetrics" in content_type else parse
    assert "registry_status_delivery_seconds" in {family.name for family in read(rendered.body.decode())}
    assert ("_created" in rendered.body.decode()) == ("openmetrics" in content_type)


class TestWords:
    def test_beyond_the_limit_are_one(self) -> None:
        words = Words(2)
        assert [words(word) for word in ("a", "b", "c", "a", "d")] == ["a", "b", OTHER, "a", OTHER]

    @pytest.mark.parametrize("word", ["", " ", 'x"y', "a\nb", "x" * 41, "-", "ü", "a b", "{}"])
    def test_must_have_a_plain_form(self, word: str) -> None:
        assert Words(9)(word) == OTHER

    @pytest.mark.parametrize("word", ["ok", "400017", "http-502", "timeout", "Unreachable"])
    def test_that_are_ours_pass(self, word: str) -> None:
        assert Words(9)(word) == word


def test_a_registry_that_makes_up_codes_cannot_flood_the_labels() -> None:
    metrics = Metrics()
    for number in range(5000):
        metrics.request_finished(Operation.WRITE_STATUS, f"code-{number}", 0.1)
    found = [name for name in samples(metrics) if name.startswith("requests_total")]
    assert len(found) == 61
    assert samples(metrics)["requests_total{code=other,operation=write-status}"] == 4940


def test_counting_costs_the_hot_path_little() -> None:
    metrics = Metrics()
    began = time.process_time()
    for _ in range(2000):
        metrics.request_finished(Operation.WRITE_STATUS, "ok", 0.01)
    assert time.process_time() - began < 0.5, "250 us each would be a quarter of a request's whole cost"


async def test_an_address_of_the_registry_is_shown_before_it_ever_fails() -> None:
    """Whether all of them fail can be asked only where each is told of."""
    metrics, addresses = Metrics(), ("http://127.0.0.1:1", "http://127.0.0.1:2")
    async with registry_client(Settings(registry_address=addresses), observer=metrics):
        found = samples(metrics)
    assert [found[f"circuit_open{{address={address}}}"] for address in addresses] == [0, 0]


def test_what_an_alert_counts_is_there_before_it_happens() -> None:
    """An increase is seen from 0 to 1, and not in a counter that comes into being with 1."""
    found = samples(Metrics())
    assert [found[f"outcomes_total{{kind={kind}}}"] for kind in OutcomeKind] == [0] * len(OutcomeKind)
    assert [found[f"drift_total{{cause={cause}}}"] for cause in Cause] == [0] * len(Cause)
    assert [found[f"watch_faults_total{{kind={fault}}}"] for fault in WatchFault] == [0] * len(WatchFault)
    assert [found[f"lease_transitions_total{{to={to}}}"] for to in ("leader", "standby")] == [0, 0]
