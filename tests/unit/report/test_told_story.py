"""Engine, reporter, Events, metrics and log joined: what people are told is what is so, whatever fails, and whoever is told of.

The API server that takes the Events fails too. Each seed is a story of its own, on virtual time.
"""

import asyncio
import io
import json
import logging
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from registry_status.model import Outcome, OutcomeKind
from registry_status.pods.status import desired
from registry_status.report.event_policy import MESSAGE_LIMIT, RECOVERABLE, WARNINGS, EventNote, EventReason
from registry_status.report.events import (
    EventApiError,
    EventDeniedError,
    EventGoneError,
    EventRecorder,
    EventUnavailableError,
    Json,
)
from registry_status.report.logs import JsonFormatter, LogLimiter
from registry_status.report.metrics import Metrics
from registry_status.report.reporter import TROUBLE, Reporter
from registry_status.sync.delivery import GIVE_UP_AFTER, GONE_FOR
from registry_status.sync.desired import PodRecord
from registry_status.sync.retries import AFTER_REJECTION
from registry_status.times import timestamp
from tests.pods import START
from tests.story import Step, Story, internal_errors
from tests.unit.report.fakes import FakeEventApi
from tests.virtual_time import run_virtual

SEEDS = range(40)
OPENING = ("create", "start", "register", "ready")
WORDS = (
    *("create", "start", "flip", "flip", "register", "resume", "lead", "fail", "hurt_events") * 2,
    *("recover", "recover", "stumble", "refuse_one", "heal_events", "restart", "crash", "terminate", "delete", "vanish"),
    *("pause", "move", "unregister", "expire", "misspell", "register_again", "console_down", "stand_by", "lose_answers"),
)
PAUSES = (0.0, 0.1, 1.3, 4.0, 6.0, 35.0, 70.0)
TROUBLES: dict[str, EventApiError] = {
    "throttled": EventUnavailableError("too many requests", 7.0),
    "away": EventUnavailableError("connection refused"),
    "forbidden": EventDeniedError("may not"),
    "terminating": EventGoneError("terminating"),
    "refused": EventApiError("unprocessable"),
}
UNDER_WAY = 6.0
"""Seconds that what was sent before the leadership was lost may take."""


class UnreliableEvents(FakeEventApi):
    """Takes its time, refuses, and loses answers."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance
        self.error: EventApiError | None = None
        self.share = 0.0
        self.loses_answers = False

    async def create_event(self, namespace: str, body: Json) -> None:
        await self._before()
        await super().create_event(namespace, body)
        self._after()

    async def read_event(self, namespace: str, name: str) -> Json:
        await self._before()
        return await super().read_event(namespace, name)

    async def patch_event(self, namespace: str, name: str, body: Json) -> None:
        await self._before()
        await super().patch_event(namespace, name, body)
        self._after()

    async def _before(self) -> None:
        await asyncio.sleep(self._chance.choice((0.001, 0.01, 1.0)))
        if self.error is not None and self._chance.random() < self.share:
            raise self.error

    def _after(self) -> None:
        if self.loses_answers and self._chance.random() < 0.5:
            raise EventUnavailableError("the answer was lost")


class TellingStory(Story):
    """A story of which people are told."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(chance.choice((0.005, 0.3)))
        self._chance = chance
        self.api = UnreliableEvents(chance)
        self.metrics = Metrics()
        self.posted: list[EventNote] = []
        self.missed: set[str] = set()
        """The uids of pods of which something could not be posted."""
        self.silent_since: float | None = None
        self.latencies: Counter[tuple[str, str, float]] = Counter()
        clock = asyncio.get_running_loop().time
        self.recorder = EventRecorder(
            self.api, self.metrics, clock=clock, wall=lambda: START + clock() - 1000.0, jitter=chance.random
        )
        self._watch_recorder()
        self.reporter = Reporter(self.recorder, self.metrics, LogLimiter(clock, burst=10))
        for name in ("outcome", "retried", "drifted", "not_ready_changed", "forget"):
            setattr(self.world, name, partial(self._report, name))
        self.running = asyncio.create_task(self.recorder.run())

    def _report(self, name: str, *arguments: object) -> None:
        if name == "outcome":
            (outcome,) = arguments
            assert isinstance(outcome, Outcome)
            self.world.outcomes.append(outcome)
            if not self.leading:
                self.wrongs.append(f"told by a standby: {outcome}")
            self._believe(outcome)
            if outcome.latency is not None:
                self._measured(outcome)
        getattr(self.reporter, name)(*arguments)

    def _believe(self, outcome: Outcome) -> None:
        """What is told to be written is there, unless somebody else has had a hand in it."""
        record = self.world.engine._records.get(outcome.pod.uid)
        if outcome.kind is not OutcomeKind.DELIVERED or not outcome.written or record is None or self.tampered:
            return
        for key in record.instances:
            found = self.world.status(key.instance_id, key.service_id)
            if key.instance_id in outcome.instances and found != outcome.status:
                self.wrongs.append(f"{key.instance_id} is {found}, but told was: {outcome}")

    def _measured(self, outcome: Outcome) -> None:
        changed_at = self.wanted[outcome.pod.uid].changed_at
        assert changed_at is not None
        self.latencies[outcome.pod.uid, str(outcome.status), changed_at] += 1

    def _watch_recorder(self) -> None:
        write, give_up = self.recorder._write, self.recorder._give_up

        async def watched(note: EventNote, body: Json) -> None:
            self._judge(note, body)
            await write(note, body)
            self.posted.append(note)

        def given_up(note: EventNote, error: EventApiError) -> None:
            self.missed.add(note.pod.uid)
            give_up(note, error)

        self.recorder._write, self.recorder._give_up = watched, given_up  # type: ignore[method-assign]

    def _judge(self, note: EventNote, body: Json) -> None:
        now = asyncio.get_running_loop().time()
        if self.silent_since is not None and now > self.silent_since + UNDER_WAY:
            self.wrongs.append(f"posted by a standby: {note}")
        if len(note.message.encode()) > MESSAGE_LIMIT or "\n" in note.message or not note.message:
            self.wrongs.append(f"no readable message: {note}")
        if body["lastTimestamp"] != timestamp(START + note.at - 1000.0):
            self.wrongs.append(f"another time than it happened: {body}")

    def stand_by(self, number: int) -> None:
        super().stand_by(number)
        self.reporter.fall_silent()
        self.silent_since = asyncio.get_running_loop().time()
        self.posted.clear()
        self.missed.clear()

    def lead(self, number: int) -> None:
        super().lead(number)
        self.silent_since = None

    def hurt_events(self, number: int) -> None:
        self.api.error = self._chance.choice(list(TROUBLES.values()))
        self.api.share = self._chance.choice((0.2, 0.5, 1.0))
        self.api.loses_answers = number % 2 == 0

    def heal_events(self, _: int) -> None:
        self.api.error, self.api.loses_answers = None, False

    # --- what must be true -----------------------------------------------------------------

    def untold(self) -> Iterator[str]:
        """Where a pod's Events end with something else than how it stands."""
        if self.metrics.registry.get_sample_value("registry_status_events_dropped_total", {"cause": "pod-limit"}):
            return
        for record in self.world.engine._records:
            if record.uid in self.missed or not self.leading:
                continue
            told = [note for note in self.posted if note.pod.uid == record.uid and note.kind is not OutcomeKind.DRIFTED]
            last = told[-1] if told else None
            if record.told in TROUBLE and record.told is not None:
                if last is None or last.reason is not WARNINGS[record.told]:
                    yield f"{record.uid} is {record.told}, but was told last: {last}"
                elif record.told is not OutcomeKind.FAILING and last.message != record.told_text:
                    yield f"{record.uid} is {record.told_text}, but was told last: {last}"
            elif last is not None and last.kind in RECOVERABLE and self._has_recovered(record):
                yield f"{record.uid} has recovered ({record.told}), but was told last: {last}"

    @staticmethod
    def _has_recovered(record: PodRecord) -> bool:
        """It is served, and not only gone or without an instance as before."""
        return record.desired.managed and not record.desired.gone and record.current is not None

    def miscounted(self) -> Iterator[str]:
        """Where metrics differ from what is so, at rest."""
        wanted = [desired(one.raw(), self.world.settings) for one in self.pods.values()]
        called_for = Counter(str(one.status) for one in wanted if one.managed)
        gone = Counter(str(record.desired.status) for record in self.world.engine._records if record.desired.gone)
        counted = Counter({str(status): pods for status, pods in self.world.engine.desired_counts().items()})
        if counted - gone != called_for:
            yield f"desired {counted}, but pods call for {called_for}"
        said = Counter(
            self.world.status(one.registered[1], one.service)
            for one, want in zip(self.pods.values(), wanted, strict=True)
            if want.managed and one.registered is not None and one.registered[0] == one.service
        )
        conflicts = {r.uid for r in self.world.engine._records if r.told is OutcomeKind.CONFLICT}
        counted = Counter(str(r.acknowledged) for r in self.world.engine._records if r.acknowledged and not r.desired.gone)
        if not conflicts and said - counted:
            yield f"acknowledged {counted}, but the registry says {said}"
        if self.world.engine.queued:
            yield f"{self.world.engine.queued} are queued at rest"
        posted = sum(self._metric("events_posted_total", reason=reason) for reason in EventReason)
        if posted < len(self.posted):
            yield f"{posted} posted by the metrics, {len(self.posted)} in truth"
        yield from (f"measured {times} times: {what}" for what, times in self.latencies.items() if times > 1)

    def misdated(self) -> Iterator[str]:
        for event in self.api.events.values():
            first, last = str(event["firstTimestamp"]), str(event["lastTimestamp"])
            if first > last or not isinstance(event["count"], int) or event["count"] < 1:
                yield f"dates: {event}"

    def remembered(self) -> Iterator[str]:
        policy = self.recorder._policy
        kept: dict[str, object] = {
            "pods": policy._pods,
            "queue": policy._queue,
            "held": policy._held,
            "overdue": policy._overdue,
            "struck": sum(outage.struck for outage in policy._outages.values()),
            "trouble": self.reporter._trouble,
        }
        yield from (f"still {name}: {what}" for name, what in kept.items() if what)

    def _metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"registry_status_{name}", labels) or 0.0


@contextmanager
def log_lines() -> Iterator[list[str]]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("registry_status.outcome")
    before, logger.level = logger.level, logging.INFO
    logger.addHandler(handler)
    lines: list[str] = []
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.level = before
        lines += stream.getvalue().splitlines()


def misshapen(lines: list[str]) -> Iterator[str]:
    for line in lines:
        entry = json.loads(line)
        if not {"time", "level", "logger", "message", "pod", "namespace"} <= entry.keys():
            yield line


def story_of(chance: random.Random) -> list[Step]:
    cast = chance.sample(range(6), chance.randint(1, 4))
    opening = [Step(what, number, 0.5) for number in cast for what in OPENING if chance.random() < 0.9]
    steps = (Step(chance.choice(WORDS), chance.randrange(6), chance.choice(PAUSES)) for _ in range(chance.randint(5, 40)))
    return [*opening, *steps]


async def _play(seed: int) -> list[str]:
    chance = random.Random(seed)
    story = TellingStory(chance)
    await story.tell(story_of(chance))
    story.heal_events(0)
    story.lead(0)
    await story.world.pass_time(200)
    wrongs = [f"in trouble: {what}" for what in story.untold()]
    await story.end_of_troubles()
    wrongs += [*story.untold(), *story.miscounted(), *story.misdated()]
    await story.end_of_pods()
    await story.world.pass_time(max(GONE_FOR, GIVE_UP_AFTER) + 2 * AFTER_REJECTION)
    wrongs += [*story.wrongs, *story.left_behind(), *story.remembered()]
    story.running.cancel()
    return wrongs


@pytest.mark.parametrize("seed", SEEDS)
def test_what_people_are_told_is_so(seed: int) -> None:
    with internal_errors() as errors, log_lines() as lines:
        assert run_virtual(_play(seed)) == []
    assert errors == []
    assert list(misshapen(lines)) == []
