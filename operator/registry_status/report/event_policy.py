"""Which Event, if any, a change of outcome earns. Pure: every time is passed in, and nothing is posted here.

The rules, for people who read `kubectl describe pod`:

- One Event on each change of outcome, never one per attempt. The same outcome again is said again after 5 minutes at the
  earliest, and then raises the count of the Event that is there.
- A Warning that still stands is said again each half hour, since API servers forget Events after an hour.
- `FAILING` is held back for 5 seconds: a registry that hiccups is nobody's business. While a pod goes on failing it stays one.
- `RegistryUpdateRecovered` only follows a Warning that was posted; one that still waited when the pod recovered is dropped.
- The pace is bounded (token buckets below). What is held back for the pace waits; what exceeds its pod's bucket or finds the
  queue full is dropped and counted.
- Many pods in trouble within a short time earn one Event on the operator's own pod.
"""

import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from registry_status.model import Outcome, OutcomeKind, PodRef
from registry_status.report.text import age, cut, one_line, redact
from registry_status.tokenbucket import TokenBucket

MESSAGE_LIMIT = 1024
"""Bytes: what the API server takes in an Event's message."""
HOLD_BACK = 5.0
"""Seconds that a status must stay undelivered before that is worth a Warning."""
REPEAT_AFTER = 300.0
"""Seconds before an unchanged outcome may be said again."""
REMIND_EVERY = 1800.0
"""Seconds after which a Warning that still stands is said again: API servers forget Events after an hour, people look when they
can. So 10,000 pods in trouble take half of the pace."""
GLOBAL_BURST, GLOBAL_RATE = 50.0, 10.0
"""All Events together: a rollout's worth at once, then ten a second; each single kubelet is allowed fifty."""
POD_BURST, POD_RATE = 20.0, 1 / 60
"""One pod's: a crash loop with `report_updates` says everything for some rounds, then one a minute. Recoveries are free."""
QUEUE_LIMIT = 1000
"""Events that wait for the pace. Failing pods do not wait in it: each is held once, however long it fails."""
POD_LIMIT = 20_000
"""Pods remembered at most, the oldest forgotten first: a guard against a caller that never forgets."""
OUTAGE_PODS, OUTAGE_WITHIN = 10, 30.0
"""So many pods that come into trouble within so many seconds are an outage, not the pods' own trouble."""


class EventReason(StrEnum):
    """The reasons that Events of ours bear: fixed and documented, people filter by them."""

    UPDATED = "RegistryStatusUpdated"
    RECOVERED = "RegistryUpdateRecovered"
    FAILED = "RegistryUpdateFailed"
    NOT_FOUND = "RegistryInstanceNotFound"
    CONFLICT = "RegistryInstanceConflict"
    AUTH_FAILED = "RegistryAuthFailed"
    INVALID = "InvalidRegistryAnnotation"
    DRIFTED = "RegistryStatusDrifted"
    HARMFUL = "RegistryStatusHarmful"

    @property
    def type(self) -> str:
        """Kubernetes knows two types and no others."""
        return "Normal" if self in (EventReason.UPDATED, EventReason.RECOVERED) else "Warning"


class DropCause(StrEnum):
    """Why an Event that was earned is not to be seen."""

    POD_LIMIT = "pod-limit"
    QUEUE_FULL = "queue-full"
    NAMESPACE_GONE = "namespace-gone"
    DENIED = "denied"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    STOPPED = "stopped"
    STANDBY = "standby"
    DRY_RUN = "dry-run"


WARNINGS = {
    OutcomeKind.FAILING: EventReason.FAILED,
    OutcomeKind.REJECTED: EventReason.FAILED,
    OutcomeKind.ABANDONED: EventReason.FAILED,
    OutcomeKind.NOT_FOUND: EventReason.NOT_FOUND,
    OutcomeKind.CONFLICT: EventReason.CONFLICT,
    OutcomeKind.AUTH_FAILED: EventReason.AUTH_FAILED,
    OutcomeKind.INVALID: EventReason.INVALID,
    OutcomeKind.DRIFTED: EventReason.DRIFTED,
    OutcomeKind.HARMFUL: EventReason.HARMFUL,
}
RECOVERABLE = frozenset(
    {OutcomeKind.FAILING, OutcomeKind.REJECTED, OutcomeKind.NOT_FOUND, OutcomeKind.CONFLICT, OutcomeKind.AUTH_FAILED}
)
"""Warnings that end with a delivery. An annotation is corrected, drift and a pod that is gone are history: nothing recovers."""
WIDESPREAD = frozenset({OutcomeKind.FAILING, OutcomeKind.REJECTED, OutcomeKind.AUTH_FAILED})
"""Kinds whose cause may be the registry's or the operator's own, so that many pods suffer at once."""
MOMENTS = frozenset({OutcomeKind.DRIFTED, OutcomeKind.HARMFUL})
"""Kinds that tell of a moment: they are no state that lasts until something is delivered."""
ONE_OBJECT = frozenset({OutcomeKind.FAILING, OutcomeKind.AUTH_FAILED, OutcomeKind.ABANDONED})
"""Kinds of which a pod shows one Event only, whatever the message says: the newest message replaces the older one's."""


@dataclass(frozen=True, slots=True)
class EventNote:
    """An Event to be posted."""

    pod: PodRef
    reason: EventReason
    message: str
    identity: str
    """What makes two Events of one pod and reason the same Event."""
    at: float
    """When it happened, on the policy's clock."""
    kind: OutcomeKind | None = None

    @property
    def name(self) -> str:
        """The same for the same Event, also after a restart: the API server then says that it is there, and its count rises."""
        digest = hashlib.sha256("\0".join((self.pod.uid, self.reason, self.identity)).encode()).hexdigest()
        return f"{self.pod.name[:200].rstrip('-.')}.{digest[:16]}"


class Outage:
    """Notices that many pods came into trouble within a short time, and when nearly all of them are out of it."""

    def __init__(self) -> None:
        self._struck: set[str] = set()
        self._recent: deque[float] = deque(maxlen=OUTAGE_PODS)
        self.since: float | None = None
        """When the present outage began; None: there is none."""
        self.peak = 0

    @property
    def struck(self) -> int:
        """How many pods are in trouble."""
        return len(self._struck)

    def begin(self, uid: str, at: float) -> bool:
        """A pod came into trouble. True where that makes it an outage."""
        if uid in self._struck:
            return False
        self._struck.add(uid)
        self._recent.append(at)
        self.peak = max(self.peak, self.struck)
        crowded = len(self._recent) == OUTAGE_PODS <= self.struck and at - self._recent[0] <= OUTAGE_WITHIN
        if self.since is not None or not crowded:
            return False
        self.since, self.peak = self._recent[0], self.struck
        return True

    def end(self, uid: str) -> bool:
        """A pod is out of trouble, or gone. True where that ends the outage: a tenth may have troubles of their own."""
        self._struck.discard(uid)
        return self.since is not None and self.struck * 10 <= self.peak

    def over(self) -> None:
        """Be ready for the next one."""
        self.since, self.peak = None, self.struck


@dataclass(slots=True)
class _Pod:
    ref: PodRef
    bucket: TokenBucket
    kind: OutcomeKind | None = None
    since: float = 0.0
    """When the present kind began."""
    trouble: Outcome | None = None
    """The newest of this kind, if it is one that warns."""
    said: dict[OutcomeKind, tuple[str, float]] = field(default_factory=dict)
    standing: int = 0
    """Warnings posted that no recovery has answered yet."""
    first: tuple[EventReason, float] | None = None
    """The first of them, and since when."""
    queued: dict[int, EventNote] = field(default_factory=dict)
    spent: bool = False
    """Something was said of this pod: its bucket is worth remembering."""

    def say_anew(self) -> None:
        """The pod's state has become another, to who reads its Events: what was said of the one before may be said again."""
        self.said = {kind: said for kind, said in self.said.items() if kind in MOMENTS}


class EventPolicy:
    """Keeps for each pod in trouble what was said of it, and for all of them what is still to be said."""

    def __init__(
        self, now: float, *, operator: PodRef | None, report_updates: bool, dropped: Callable[[DropCause], None]
    ) -> None:
        self._operator = operator
        self._report_updates = report_updates
        self._dropped = dropped
        self._bucket = TokenBucket(GLOBAL_BURST, GLOBAL_RATE, now)
        self._pods: OrderedDict[str, _Pod] = OrderedDict()
        self._queue: OrderedDict[int, EventNote] = OrderedDict()
        self._held: OrderedDict[str, float] = OrderedDict()
        self._overdue: OrderedDict[str, None] = OrderedDict()
        self._reminders: OrderedDict[str, float] = OrderedDict()
        """When the Warning that was posted of a pod's present trouble is to be said again, the soonest first."""
        self._outages = _outages()
        self._number = 0
        """Rises with all that is queued or held: tells whether there is something new, and keys the queue."""

    @property
    def waiting(self) -> int:
        """Events that are to be posted as soon as the pace allows, failing pods aside."""
        return len(self._queue)

    @property
    def remembered(self) -> int:
        """Pods of which something is known."""
        return len(self._pods)

    # What happens

    def report(self, outcome: Outcome, now: float) -> bool:
        """Note an outcome. True where there is something new to post, now or later."""
        before = self._number
        match outcome.kind:
            case OutcomeKind.DELIVERED:
                self._delivered(outcome, now)
            case OutcomeKind.RELEASED:
                self._released(outcome.pod, now)
            case OutcomeKind.FAILING:
                self._failing(outcome, now)
            case _:
                self._warned(outcome, now)
        return self._number != before

    def report_operator(self, reason: EventReason, message: str, now: float, *, identity: str = "") -> bool:
        """Queue an Event of the operator's own pod, ahead of the pods'. Outside a cluster there is no such pod."""
        if self._operator is None:
            return False
        number = self._enqueue(EventNote(self._operator, reason, _safe(message), identity, now))
        if number is not None:
            self._queue.move_to_end(number, last=False)
        return number is not None

    def forget(self, uid: str, now: float) -> bool:
        """The pod is gone, or no longer ours. What is queued of it is still posted. True where an outage ends with it."""
        before = self._number
        pod = self._pods.pop(uid, None)
        if pod is not None:
            self._leave(pod, now)
        return self._number != before

    def forget_all(self) -> int:
        """Begin anew, but for the pace. Returns how many Events that waited are dropped."""
        waiting = len(self._queue) + len(self._overdue)
        for known in (self._pods, self._queue, self._held, self._overdue, self._reminders):
            known.clear()
        self._outages = _outages()
        return waiting

    def _delivered(self, outcome: Outcome, now: float) -> None:
        pod = self._pods.get(outcome.pod.uid)
        updated = self._report_updates and outcome.written > 0
        if pod is None and not updated:
            return
        pod = pod or self._pod(outcome.pod, now)
        self._enter(pod, OutcomeKind.DELIVERED, now)
        self._cancel_warnings(pod)
        if pod.standing:
            self._recovered(pod, outcome, now)
        elif updated:
            self._updated(pod, outcome, now)
        elif not pod.spent and not pod.queued:
            del self._pods[outcome.pod.uid]

    def _recovered(self, pod: _Pod, outcome: Outcome, now: float) -> None:
        if any(note.reason is EventReason.RECOVERED for note in pod.queued.values()):
            return
        reason, since = pod.first or (EventReason.FAILED, now)
        message = f"After {age(now - since)} of {reason}: {outcome.message}"
        self._say(pod, EventNote(pod.ref, EventReason.RECOVERED, _safe(message), "", now, outcome.kind), now, free=True)

    def _updated(self, pod: _Pod, outcome: Outcome, now: float) -> None:
        status = outcome.status or ""
        if self._is_news(pod, outcome.kind, status, now):
            self._say(pod, EventNote(pod.ref, EventReason.UPDATED, _safe(outcome.message), status, now, outcome.kind), now)

    def _released(self, ref: PodRef, now: float) -> None:
        pod = self._pods.get(ref.uid)
        if pod is not None:
            self._cancel_warnings(pod)
            self.forget(ref.uid, now)

    def _failing(self, outcome: Outcome, now: float) -> None:
        pod = self._pod(outcome.pod, now)
        if pod.kind is not OutcomeKind.FAILING:
            self._enter(pod, OutcomeKind.FAILING, now)
            self._held[outcome.pod.uid] = now
            self._number += 1
        pod.trouble = outcome

    def _warned(self, outcome: Outcome, now: float) -> None:
        pod = self._pod(outcome.pod, now)
        if outcome.kind not in MOMENTS:
            self._enter(pod, outcome.kind, now)
            pod.trouble = outcome
            self._struck(pod, outcome, now)
        if self._is_news(pod, outcome.kind, f"{outcome.code}\0{outcome.message}", now):
            self._say(pod, _warning(outcome, now), now)
        if outcome.kind is OutcomeKind.ABANDONED:
            self.forget(outcome.pod.uid, now)

    @staticmethod
    def _is_news(pod: _Pod, kind: OutcomeKind, text: str, now: float) -> bool:
        before = pod.said.get(kind)
        if before is not None and before[0] == text and now - before[1] < REPEAT_AFTER:
            return False
        if kind not in MOMENTS:
            pod.say_anew()
        pod.said[kind] = (text, now)
        return True

    # A pod's way from one kind of outcome to the next

    def _pod(self, ref: PodRef, now: float) -> _Pod:
        pod = self._pods.get(ref.uid)
        if pod is None:
            while len(self._pods) >= POD_LIMIT:
                self.forget(next(iter(self._pods)), now)
            pod = self._pods[ref.uid] = _Pod(ref, TokenBucket(POD_BURST, POD_RATE, now))
        return pod

    def _enter(self, pod: _Pod, kind: OutcomeKind, now: float) -> None:
        if pod.kind is kind:
            return
        self._leave(pod, now)
        if kind is OutcomeKind.DELIVERED:
            pod.say_anew()
        pod.kind, pod.since = kind, now

    def _leave(self, pod: _Pod, now: float) -> None:
        pod.trouble = None
        for waiting in (self._held, self._overdue, self._reminders):
            waiting.pop(pod.ref.uid, None)
        for reason, outage in self._outages.items():
            if outage.end(pod.ref.uid):
                self._outage_over(reason, outage, now)

    # What is to be posted

    def _say(self, pod: _Pod, note: EventNote, now: float, *, free: bool = False) -> None:
        if not free and not pod.bucket.take(now):
            self._dropped(DropCause.POD_LIMIT)
            return
        pod.spent = True
        number = self._enqueue(note)
        if number is not None:
            pod.queued[number] = note

    def _enqueue(self, note: EventNote) -> int | None:
        if len(self._queue) >= QUEUE_LIMIT:
            self._dropped(DropCause.QUEUE_FULL)
            return None
        self._number += 1
        self._queue[self._number] = note
        return self._number

    def _cancel_warnings(self, pod: _Pod) -> None:
        for number in [number for number, note in pod.queued.items() if note.kind in RECOVERABLE]:
            del self._queue[number], pod.queued[number]

    def wait(self, now: float) -> float | None:
        """Seconds until `take` may have something; None: not before the next report."""
        if self._queue or self._overdue:
            return self._bucket.wait(now)
        due = [next(iter(self._held.values())) + HOLD_BACK] if self._held else []
        due += [next(iter(self._reminders.values()))] if self._reminders else []
        return max(0.0, min(due) - now) if due else None

    def take(self, now: float) -> EventNote | None:
        """The next Event to post, if there is one and the pace allows it."""
        self._let_go(now)
        self._remind(now)
        while (self._queue or self._overdue) and not self._bucket.wait(now):
            note = self._from_queue(now) if self._queue else self._from_overdue(now)
            if note is not None:
                self._bucket.take(now)
                return note
        return None

    def lost(self, note: EventNote) -> None:
        """The Event could not be posted, so that nothing of it has to recover."""
        pod = self._pods.get(note.pod.uid)
        if pod is not None and note.kind in RECOVERABLE and pod.standing:
            pod.standing -= 1

    def _from_queue(self, now: float) -> EventNote | None:
        number, note = self._queue.popitem(last=False)
        pod = self._pods.get(note.pod.uid)
        if pod is None or pod.queued.pop(number, None) is None:
            return note
        if note.reason is EventReason.RECOVERED:
            answered, pod.standing, pod.first = pod.standing, 0, None
            return note if answered else None
        self._stands(pod, note, now)
        return note

    def _from_overdue(self, now: float) -> EventNote | None:
        uid, _ = self._overdue.popitem(last=False)
        pod = self._pods[uid]
        if pod.trouble is None or not pod.bucket.take(now):
            self._dropped(DropCause.POD_LIMIT)
            return None
        pod.spent = True
        pod.say_anew()
        note = _warning(pod.trouble, pod.since)
        self._stands(pod, note, now)
        return note

    def _stands(self, pod: _Pod, note: EventNote, now: float) -> None:
        if note.kind is pod.kind and pod.trouble is not None:
            self._reminders.pop(pod.ref.uid, None)
            self._reminders[pod.ref.uid] = now + REMIND_EVERY
        if note.kind not in RECOVERABLE:
            return
        if not pod.standing:
            pod.first = (note.reason, note.at)
        pod.standing += 1

    def _let_go(self, now: float) -> None:
        while self._held:
            uid, since = next(iter(self._held.items()))
            if since + HOLD_BACK > now:
                return
            del self._held[uid]
            self._overdue[uid] = None
            pod = self._pods[uid]
            if pod.trouble is not None:
                self._struck(pod, pod.trouble, now)

    def _remind(self, now: float) -> None:
        while self._reminders and next(iter(self._reminders.values())) <= now:
            uid, _ = self._reminders.popitem(last=False)
            self._reminders[uid] = now + REMIND_EVERY
            pod = self._pods[uid]
            if pod.trouble is not None:
                self._say(pod, _warning(pod.trouble, now), now)

    # Outages

    def _struck(self, pod: _Pod, outcome: Outcome, now: float) -> None:
        if outcome.kind not in WIDESPREAD:
            return
        outage = self._outages[WARNINGS[outcome.kind]]
        if outage.begin(pod.ref.uid, pod.since):
            message = f"{outage.struck} pods or more cannot be brought up to date in the registry. One of them is {pod.ref}: "
            self.report_operator(WARNINGS[outcome.kind], message + outcome.message, now)

    def _outage_over(self, reason: EventReason, outage: Outage, now: float) -> None:
        since = outage.since if outage.since is not None else now
        left = f"{outage.struck} of them are left" if outage.struck else "none of them is left"
        message = f"After {age(now - since)} of {reason} on up to {outage.peak} pods at once, {left}."
        outage.over()
        self.report_operator(EventReason.RECOVERED, message, now, identity=reason)


def _outages() -> dict[EventReason, Outage]:
    return {reason: Outage() for reason in {WARNINGS[kind] for kind in WIDESPREAD}}


def _warning(outcome: Outcome, at: float) -> EventNote:
    message = _safe(outcome.message)
    identity = outcome.kind if outcome.kind in ONE_OBJECT else f"{outcome.kind}\0{message}"
    return EventNote(outcome.pod, WARNINGS[outcome.kind], message, identity, at, outcome.kind)


def _safe(message: str) -> str:
    return cut(redact(one_line(message)), MESSAGE_LIMIT)
