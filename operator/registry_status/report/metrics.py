"""Prometheus metrics `registry_status_*`, in a registry of their own.

What happens is counted when it happens; what *is* (statuses, queue, watch, leadership) is read from its owner when somebody
scrapes, so that the way of a status into the registry pays nothing for it.

Label values are words of our own or go through `Words`, which bounds how many there can be: a registry that makes up error
codes cannot flood the monitoring.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from registry_status import __version__
from registry_status.cluster.lines import WatchFault
from registry_status.model import InstanceStatus, Outcome, OutcomeKind
from registry_status.registry.base import Operation
from registry_status.report.event_policy import DropCause, EventReason
from registry_status.sync.resync import Cause

PREFIX = "registry_status_"
OTHER = "other"
OPENMETRICS = "application/openmetrics-text"
DELIVERY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
"""From a write on the loopback to an outage that was slept through."""
REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
"""Up to the default timeout of a request."""
LEADERSHIP = ("standby", "leader")
LAG_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10)


class StatusSource(Protocol):
    """Who keeps the statuses, such as the engine; asked at each scrape, so it must answer from counters or by a cheap walk."""

    def desired_counts(self) -> Mapping[InstanceStatus, int]:
        """How many pods want which status in the registry."""
        ...

    def acknowledged_counts(self) -> Mapping[InstanceStatus, int]:
        """How many pods have which status there, as the registry last confirmed."""
        ...

    @property
    def queued(self) -> int:
        """How many pods wait for a delivery, or are being worked on now."""
        ...


class Words:
    """Admits label values of a plain form, up to a limit; whatever is beyond that becomes `other`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def __call__(self, word: str) -> str:
        """The label value for this word."""
        if word in self._known:
            return word
        if len(self._known) >= self._limit or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}", word):
            return OTHER
        self._known.add(word)
        return word


@dataclass(frozen=True, slots=True)
class Rendered:
    """An answer to a scrape."""

    body: bytes
    content_type: str


class Metrics:
    """All metrics of one operator. Is the registry client's `RequestObserver` and the recorder's `EventObserver`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._codes, self._refusals = Words(60), Words(20)
        self._requests = self._counter("requests", "Requests to the registry, by operation and outcome.", "operation", "code")
        self._durations = self._histogram("request_duration_seconds", "Time of a request.", REQUEST_BUCKETS, "operation")
        self._retries = self._counter("retries", "Deliveries tried again after a failure.")
        self._outcomes = self._counter("outcomes", "Changes of a delivery's outcome, by kind.", "kind")
        self._dry_writes = self._counter("dry_run_writes", "Statuses that a dry run did not write, by status.", "status")
        self._drift = self._counter("drift", "Statuses that had changed in the registry by themselves, by cause.", "cause")
        self._not_ready = self._counter(
            "not_ready_changes", "Changes of the status that `auto` gives to lost readiness, by what it became.", "to"
        )
        self._posted = self._counter("events_posted", "Kubernetes Events posted, by reason.", "reason")
        self._dropped = self._counter("events_dropped", "Kubernetes Events earned but not posted, by cause.", "cause")
        self._gates = self._counter("gates", "Attempts to set a pod's readiness gate, by outcome.", "code")
        self._transitions = self._counter("lease_transitions", "Changes of this replica's leadership, by what it became.", "to")
        self._watch_faults = self._counter("watch_faults", "Watches of the Kubernetes API that broke, by kind.", "kind")
        self._delivery = self._histogram(
            "delivery_seconds",
            "From the pod's own transition, which Kubernetes tells in whole seconds, to the registry's acknowledgement.",
            DELIVERY_BUCKETS,
        )
        self._circuit = Gauge(
            PREFIX + "circuit_open", "1 while an address is only probed, not asked.", ["address"], registry=self.registry
        )
        self._lag = self._histogram(
            "event_loop_lag_seconds", "How late the event loop was, measured once a second.", LAG_BUCKETS
        )
        self._begin_at_zero()
        self._build_info()
        self._live = _Live()
        self.registry.register(self._live)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def attach(
        self,
        *,
        statuses: StatusSource | None = None,
        watch_age: Callable[[], float | None] | None = None,
        leading: Callable[[], bool] | None = None,
        tasks: Callable[[], int] | None = None,
    ) -> None:
        """Name the owners of what is read at scrape time, as they come into being."""
        if statuses is not None:  # an engine without pods yet is false
            self._live.statuses = statuses
        self._live.watch_age = watch_age or self._live.watch_age
        self._live.leading = leading or self._live.leading
        self._live.tasks = tasks or self._live.tasks

    def request_finished(self, operation: Operation, code: str, seconds: float) -> None:
        """Count a request to the registry."""
        self._requests.labels(operation, self._codes(code)).inc()
        self._durations.labels(operation).observe(seconds)

    def circuit_changed(self, address: str, *, is_open: bool) -> None:
        """Note whether an address of the registry is asked."""
        self._circuit.labels(address).set(is_open)

    def outcome(self, outcome: Outcome) -> None:
        """Count a change of outcome, and how long a delivery took."""
        self._outcomes.labels(outcome.kind.value).inc()
        if outcome.kind is OutcomeKind.DELIVERED and outcome.latency is not None:
            self._delivery.observe(max(0.0, outcome.latency))  # the node's clock may be ahead of ours

    def retried(self) -> None:
        """Count a delivery's second and further tries."""
        self._retries.inc()

    def dry_run_write(self, status: InstanceStatus) -> None:
        """Count a write that was not sent."""
        self._dry_writes.labels(status.value).inc()

    def drifted(self, cause: Cause) -> None:
        """Count a status that was found changed."""
        self._drift.labels(cause).inc()

    def not_ready_changed(self, status: InstanceStatus) -> None:
        """Count a change of what `auto` means."""
        self._not_ready.labels(status.value).inc()

    def event_posted(self, reason: EventReason) -> None:
        """Count an Event that the API server has."""
        self._posted.labels(reason).inc()

    def event_dropped(self, cause: DropCause) -> None:
        """Count an Event that nobody will see."""
        self._dropped.labels(cause).inc()

    def gate_patched(self, code: str) -> None:
        """Count an attempt to set a pod's readiness gate."""
        self._gates.labels(self._refusals(code)).inc()

    def watch_fault(self, fault: WatchFault) -> None:
        """Count a watch that broke or had to begin anew."""
        self._watch_faults.labels(fault).inc()

    def leadership_changed(self, *, leading: bool) -> None:
        """Count a leadership gained or lost."""
        self._transitions.labels(LEADERSHIP[leading]).inc()

    def loop_lag(self, seconds: float) -> None:
        """Note how late the event loop was."""
        self._lag.observe(max(0.0, seconds))

    def render(self, accept: str = "") -> Rendered:
        """All metrics: OpenMetrics 1.0 for those who accept it, else the text format 0.0.4 that everybody reads."""
        if OPENMETRICS in accept:
            body: bytes = openmetrics.generate_latest(self.registry)  # type: ignore[no-untyped-call]  # a library without annotations
            return Rendered(body, openmetrics.CONTENT_TYPE_LATEST)
        return Rendered(generate_latest(_WithoutCreated(self.registry)), CONTENT_TYPE_PLAIN_0_0_4)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(PREFIX + name, text, labels, buckets=buckets, registry=self.registry)

    def _begin_at_zero(self) -> None:
        """Show what has not happened yet: Prometheus sees no increase in a counter that is born with its first event."""
        for kind in OutcomeKind:
            self._outcomes.labels(kind.value)
        for cause in Cause:
            self._drift.labels(cause)
        for fault in WatchFault:
            self._watch_faults.labels(fault)
        for to in LEADERSHIP:
            self._transitions.labels(to)

    def _build_info(self) -> None:
        info = Gauge(PREFIX + "build_info", "Always 1; which version runs.", ["version"], registry=self.registry)
        info.labels(__version__).set(1)


class _Live(Collector):
    """What is read from its owner at scrape time; a metric whose owner is not there yet does not exist."""

    def __init__(self) -> None:
        self.statuses: StatusSource | None = None
        self.watch_age: Callable[[], float | None] | None = None
        self.leading: Callable[[], bool] | None = None
        self.tasks: Callable[[], int] | None = None

    def collect(self) -> Iterable[Metric]:
        """The metrics as of now."""
        if self.tasks is not None:
            yield GaugeMetricFamily(PREFIX + "tasks", "Tasks of the event loop.", self.tasks())
        if self.leading is not None:
            text = "1: this replica writes; always 1 without leader election, always 0 in a dry run."
            yield GaugeMetricFamily(PREFIX + "leader", text, float(self.leading()))
        age = self.watch_age() if self.watch_age else None
        if age is not None:
            yield GaugeMetricFamily(PREFIX + "watch_age_seconds", "Time since the Kubernetes API was last heard.", age)
        if self.statuses is not None:
            yield from self._of_statuses(self.statuses)

    @staticmethod
    def _of_statuses(source: StatusSource) -> Iterable[Metric]:
        yield GaugeMetricFamily(PREFIX + "queue_depth", "Pods that wait for a delivery.", source.queued)
        desired, acknowledged = source.desired_counts(), source.acknowledged_counts()
        yield _by_status("desired_pods", "Pods by the status that the registry should say.", desired)
        yield _by_status("acknowledged_pods", "Pods by the status that the registry last confirmed.", acknowledged)


def _by_status(name: str, text: str, counts: Mapping[InstanceStatus, int]) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=["status"])
    for status in InstanceStatus:
        family.add_metric([status.value], counts.get(status, 0))
    return family


class _WithoutCreated(Collector):
    """The registry without the `_created` series, which double the size of the old text format to no use in it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        """The other series."""
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
