"""One door for everything that is to be told: each outcome goes to the Events, the metrics and the log."""

import logging

from registry_status.model import InstanceStatus, Outcome, OutcomeKind, PodRef
from registry_status.report.event_policy import MOMENTS
from registry_status.report.events import EventRecorder
from registry_status.report.logs import LogLimiter
from registry_status.report.metrics import Metrics
from registry_status.sync.resync import Cause

logger = logging.getLogger("registry_status.outcome")

TROUBLE = frozenset(OutcomeKind) - {OutcomeKind.DELIVERED, OutcomeKind.RELEASED}


class Reporter:
    """What `sync` reports to. Nothing here does I/O, waits or raises.

    The log has one line for each status delivered by a write, and one for each pod that comes into trouble; an outage's
    thousand lines of one kind are cut by the limiter, which tells how many it left out.
    """

    def __init__(self, events: EventRecorder, metrics: Metrics, limiter: LogLimiter | None = None) -> None:
        self._events, self._metrics = events, metrics
        self._limiter = limiter or LogLimiter(burst=10)
        self._trouble: dict[str, tuple[OutcomeKind, str]] = {}

    def outcome(self, outcome: Outcome) -> None:
        """Tell how a delivery stands."""
        if not self._fails_on(outcome):
            self._metrics.outcome(outcome)
        self._events.report(outcome)
        if outcome.kind in TROUBLE:
            self._log_trouble(outcome)
        elif outcome.kind is OutcomeKind.DELIVERED:
            self._log_delivery(outcome)
        if outcome.kind in (OutcomeKind.RELEASED, OutcomeKind.ABANDONED):
            self._trouble.pop(outcome.pod.uid, None)

    def retried(self) -> None:
        """Tell of a delivery's second and further tries."""
        self._metrics.retried()

    def not_ready_changed(self, status: InstanceStatus) -> None:
        """Tell that `auto` has become another status."""
        self._metrics.not_ready_changed(status)

    def drifted(self, cause: Cause) -> None:
        """Tell of a status that was found changed in the registry."""
        self._metrics.drifted(cause)

    def forget(self, pod: PodRef) -> None:
        """The pod is gone for good, or no longer ours."""
        self._trouble.pop(pod.uid, None)
        self._events.forget(pod.uid)

    def fall_silent(self) -> None:
        """Another replica speaks from now on: what is still to be told of any pod is its business."""
        self._trouble.clear()
        self._events.forget_all()

    def _fails_on(self, outcome: Outcome) -> bool:
        """The same failure for another cause, which only its Event is to name."""
        return outcome.kind is OutcomeKind.FAILING and self._trouble.get(outcome.pod.uid) == (OutcomeKind.FAILING, "")

    def _log_trouble(self, outcome: Outcome) -> None:
        now = (outcome.kind, "" if outcome.kind is OutcomeKind.FAILING else outcome.message)
        if self._trouble.get(outcome.pod.uid) == now:
            return
        if outcome.kind not in MOMENTS:
            self._trouble[outcome.pod.uid] = now
        key = f"{outcome.kind} {outcome.code}"
        self._limiter.log(logger, logging.WARNING, key, f"{outcome.kind}: {outcome.message}", _fields(outcome))

    def _log_delivery(self, outcome: Outcome) -> None:
        before = self._trouble.pop(outcome.pod.uid, None)
        if before is not None:
            logger.info("recovered from %s: %s", before[0], outcome.message, extra=_fields(outcome))
        elif outcome.written:
            logger.info("%s", outcome.message, extra=_fields(outcome))


def _fields(outcome: Outcome) -> dict[str, object]:
    fields: dict[str, object] = {"pod": outcome.pod.name, "namespace": outcome.pod.namespace}
    if outcome.status is not None:
        fields["status"] = outcome.status.value
    if outcome.instances:
        fields["instance"] = outcome.instances[0] if len(outcome.instances) == 1 else outcome.instances
    if outcome.code:
        fields["code"] = outcome.code
    if outcome.latency is not None:
        fields["latency"] = round(outcome.latency, 3)
    return fields
