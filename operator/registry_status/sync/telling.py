"""Telling how deliveries stand: each change of a pod's outcome once, and every write."""

from collections.abc import Callable
from typing import Protocol

from registry_status.model import Desired, InstanceStatus, Outcome, OutcomeKind, PodRef
from registry_status.registry.base import AuthError, RegistryError, TransientError
from registry_status.sync.consumers import Consumers
from registry_status.sync.desired import PodRecord
from registry_status.sync.instances import Held

UNANSWERED = (OutcomeKind.FAILING, OutcomeKind.REJECTED, OutcomeKind.AUTH_FAILED)
"""Troubles that end with the registry's answer."""


class Reporter(Protocol):
    """Is told what becomes of deliveries; must not block."""

    def outcome(self, outcome: Outcome) -> None:
        """A pod's delivery has a new outcome."""
        ...

    def retried(self) -> None:
        """A delivery failed and will be tried again."""
        ...

    def not_ready_changed(self, status: InstanceStatus) -> None:
        """`auto` has become another status for a tenant's pods that have lost readiness."""
        ...

    def forget(self, pod: PodRef) -> None:
        """Nothing more will be said of this pod."""
        ...


class Teller:
    """Puts outcomes into words. What was told last of a pod is kept in its record."""

    def __init__(self, reporter: Reporter, consumers: Consumers, wall_clock: Callable[[], float]) -> None:
        self._reporter = reporter
        self._consumers = consumers
        self._wall_clock = wall_clock

    def tell(
        self,
        record: PodRecord,
        kind: OutcomeKind,
        text: str,
        *,
        code: str = "",
        written: int = 0,
        instances: tuple[str, ...] = (),
        lasting: bool = True,
    ) -> None:
        """Report a change of outcome; the same again is told for writes only. `lasting` off: it changes no outcome."""
        if lasting:
            same = record.told is kind and record.told_text == text
            record.told, record.told_text = kind, text
            if same and not written:
                return
        desired = record.desired
        outcome = Outcome(
            pod=desired.pod,
            kind=kind,
            status=self._consumers.resolved(desired),
            message=text,
            instances=instances or record.instance_ids,
            code=code,
            latency=self._latency(record) if written else None,
            written=written,
        )
        self._reporter.outcome(outcome)

    def arrived(self, record: PodRecord, desired: Desired, written: int, said: tuple[str, ...]) -> None:
        """Tell that all is as it should be, if that is worth a word: after a write, or at the end of a trouble."""
        if written or record.told not in (None, OutcomeKind.DELIVERED, OutcomeKind.NOT_FOUND):
            self.delivered(record, desired, written, said)

    def delivered(self, record: PodRecord, desired: Desired, written: int, said: tuple[str, ...]) -> None:
        """Tell what the registry says now. `said` are the instances of which it says what the pod calls for.

        There may be others: those of earlier lives are DOWN while the pod is UP, and a gone pod's may be a successor's.
        """
        if said:
            already = "" if written else ", as it was already"
            text = f"{', '.join(said)}: {self._consumers.resolved(desired)} ({desired.message}){already}"
        elif record.instances:
            text = f"nothing is left to write ({desired.message})"
        else:
            answers = "answers again; it " if record.told in UNANSWERED else ""
            text = f"the registry {answers}has no instance of the pod"
        self.tell(record, OutcomeKind.DELIVERED, text, written=written, instances=said)

    def failed(self, record: PodRecord, error: RegistryError) -> None:
        """Tell that the registry could not be asked, or has refused."""
        self.tell(record, _kind(error), self.failure(record, error), code=error.code)

    def failure(self, record: PodRecord, error: RegistryError) -> str:
        """What could not be done, and why."""
        desired = record.desired
        where = desired.target.where if desired.target is not None else ""
        names = ", ".join(record.instance_ids) or "the pod's instance"
        return f"cannot set {self._consumers.resolved(desired)} for {names} of service {where}: {error}"

    def lost(self, record: PodRecord, held: Held, owner: PodRecord | None) -> None:
        """Tell that another pod decides the instance's status."""
        whose = f"pod {owner.desired.pod}" if owner is not None else "another pod"
        text = f"instance {held.key.instance_id} is claimed by {whose} too, which is Ready or newer, so it decides its status"
        self.tell(record, OutcomeKind.CONFLICT, text, instances=(held.key.instance_id,))

    def harm(self, record: PodRecord, desired: Desired) -> None:
        """Somebody insists on OUTOFSERVICE where Java Chassis 3 lives: it is written as asked, but not in silence."""
        service = self._consumers.harmed_by(desired)
        if service is None or not record.instances or record.warned_of == service:
            return
        record.warned_of = service
        text = (
            f"OUTOFSERVICE is written as asked, but service {service} of the project runs on Java Chassis 3, which cannot read "
            f"a list with it: it will see no new instance of {desired.target.where if desired.target else 'this service'}; "
            f"take `auto` or DOWN instead (annotations, or the operator's settings)"
        )
        self.tell(record, OutcomeKind.HARMFUL, text, lasting=False)

    def _latency(self, record: PodRecord) -> float | None:
        """Seconds since the pod's own transition, once for each that was seen to happen."""
        changed_at, measured, record.measured = record.desired.changed_at, record.measured, True
        return max(0.0, self._wall_clock() - changed_at) if changed_at is not None and not measured else None


def _kind(error: RegistryError) -> OutcomeKind:
    match error:
        case TransientError():
            return OutcomeKind.FAILING
        case AuthError():
            return OutcomeKind.AUTH_FAILED
        case _:
            return OutcomeKind.REJECTED
