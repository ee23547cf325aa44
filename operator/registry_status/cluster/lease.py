"""Which of several replicas writes: an election over a Lease of `coordination.k8s.io/v1`.

`Election` is the rules, without I/O and with every time passed in; `Elector` follows them against an API server. Never two
leaders at one time, whatever a process, a network or a person does, because

- each write of the Lease names the version that it replaces, so that the API server takes one of two and refuses the other;
- a version is taken over only when it has stood unchanged for DURATION, on the observer's clock and from the moment that its
  reading arrived. What clocks of other machines have written into it is never looked at. Only a version that its leader has
  marked as released is free at once. A Lease that is not there may have been deleted under a leader a moment ago: it is made
  without a holder first, and has to stand, too; so has one that names us though we have not written it a moment ago;
- a leader counts from the moment that its last acknowledged renewal was *sent*: it gives up DEADLINE after that, and FENCE
  after it, which is less than DURATION, no write to the registry may leave. Its clock goes on while the machine sleeps.

Not over `kubernetes.aio`, whose import costs more CPU time than everything else of a start: to read and write one small
object takes three requests of plain JSON, and its own leader election knows no release, no jitter and no time limit.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol
from urllib.parse import quote

from registry_status.cluster.access import Access
from registry_status.cluster.api import CONFLICT, FORBIDDEN, NOT_FOUND, UNAUTHORIZED, ApiError, Json, mapping
from registry_status.config import Settings

DURATION = 6.0
"""Seconds for which a version of the Lease must stand unchanged before another replica takes it over."""
DEADLINE = 4.0
"""Seconds after the last renewal that succeeded, in which a leader goes on trying."""
FENCE = 5.5
"""Seconds after the last renewal that succeeded, in which a write may still be under way."""
RETRY = 1.0
"""Seconds between two renewals, and between two looks at another's Lease; up to JITTER of it less."""
JITTER = 0.2
PATIENCE = 2.0
"""Seconds for a request: after one that was never answered a leader still has a second to renew in."""
LONGEST_FOREIGN = 60.0
"""Seconds of a Lease's own duration that are respected, where it is longer than ours: another version of this operator."""
RELEASED = 1.0
"""The Lease's duration, without a holder, that marks a release: what client-go's leaders write, too."""
RELEASE_WITHIN = 0.75
"""Seconds that a release may take, and before it what is under way."""
RELEASE_AGAIN = 0.1
"""Seconds until a release that failed is tried again: without it the others wait for DURATION."""
GROUP = "coordination.k8s.io"
RULE = f"apiGroups: [{GROUP}], resources: [leases], verbs: [get, create, update]"

logger = logging.getLogger(__name__)


def boot_clock() -> float:
    """Seconds since the machine was booted, including those for which it was suspended where the system can tell."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True, slots=True)
class LeaseRef:
    """Which Lease the replicas share."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def lease_of(settings: Settings, access: Access, environment: Mapping[str, str]) -> LeaseRef | None:
    """Which Lease `run` takes part in: the settings' namespace, or the operator's own.

    One replica needs none, nor one that writes nothing.
    """
    if not settings.leader_elect or settings.dry_run:
        return None
    namespace = settings.lease_namespace or environment.get("POD_NAMESPACE") or access.namespace
    return LeaseRef(namespace, settings.lease_name)


@dataclass(frozen=True, slots=True)
class Lease:
    """One version of the Lease, as far as it makes sense: anybody may have written anything into it."""

    uid: str
    version: str
    holder: str = ""
    duration: float = DURATION
    transitions: int = 0
    acquired: str = ""
    renewed: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict, compare=False)
    """What others have put there, to be left as it is."""

    @property
    def released(self) -> bool:
        """Its leader has given it back, and writes no more."""
        return not self.holder and self.duration == RELEASED

    def is_version(self, other: "Lease | None") -> bool:
        """Whether the two are one version of one object."""
        return other is not None and (self.uid, self.version) == (other.uid, other.version)


class Act(StrEnum):
    """What an election asks for next."""

    READ = "read"
    CREATE = "create"
    WRITE = "write"


class Election:
    """One candidate's view of the election. Times are seconds of its own clock, never another's."""

    def __init__(self, identity: str, now: float, chance: random.Random) -> None:
        self.identity = identity
        self._chance = chance
        self._seen: Lease | None = None
        self._seen_at = now
        self._stale = True
        """The version that is there now must be read before it can be replaced."""
        self._sent: list[tuple[float, str]] = []
        """When writes that name us were sent, and the times of renewal that tell them from all others."""
        self._renewed_at: float | None = None
        self._due_at = now
        self._conflicts = 0

    @property
    def leading(self) -> bool:
        """Whether the Lease is ours, as of the last step."""
        return self._renewed_at is not None

    @property
    def lease(self) -> Lease | None:
        """The version that was seen last."""
        return self._seen

    @property
    def holds(self) -> bool:
        """Whether the Lease names us by our own writing, acknowledged or not.

        People and backups may name us, too, while another leads who has not noticed: such a version has to stand. So has what
        we wrote DURATION before we saw it, or longer: others may have led since, and a backup brought it back.
        """
        seen = self._seen
        if seen is None or seen.holder != self.identity:
            return False
        return any(self._seen_at < at + DURATION and renewed == seen.renewed for at, renewed in self._sent)

    def remaining(self, now: float) -> float:
        """Seconds for which a write may be under way; 0 or less: none may be sent."""
        return self._renewed_at + FENCE - now if self._renewed_at is not None else 0.0

    def due_in(self, now: float) -> float:
        """Seconds until `next` is to be asked."""
        return max(0.0, self._due_at - now)

    def patience(self, now: float) -> float:
        """Seconds that the next request may take."""
        return max(0.01, min(PATIENCE, self._lapses_at() - now))

    # --- what to do ------------------------------------------------------------------------------

    def next(self, now: float) -> Act:
        """Return what is to be done now."""
        self._expire(now)
        if self._stale:
            return Act.READ
        if self._seen is None:
            return Act.CREATE
        return Act.READ if not self.leading and self._free_at() > now else Act.WRITE

    def holder_to_write(self) -> str:
        """Return who is to hold the Lease that is created or written: a missing one is made for nobody, but by its leader."""
        return self.identity if self._may_name_itself else ""

    def sends(self, holder: str, renewed: str, now: float) -> None:
        """Note that a write leaves, with this holder and time of renewal.

        One that makes a Lease names no version: it may be obeyed late, when another has led and its Lease is deleted in turn.
        Nobody else can have led before DURATION after our last renewal.
        """
        self._sent = [(at, sent) for at, sent in self._sent if now < at + DURATION]
        if holder == self.identity:
            since = now if self._seen is not None or self._renewed_at is None else self._renewed_at
            self._sent.append((since, renewed))

    # --- what came of it -------------------------------------------------------------------------

    def read(self, lease: Lease | None, now: float) -> None:
        """The Lease is so; None: it is not there."""
        self._notice(lease, now)
        self._stale = False
        if self.leading and lease is not None and lease.holder not in (self.identity, ""):
            self._renewed_at = None
        self._due_at = now if self.leading else self._next_look(now)
        self._expire(now)

    def wrote(self, lease: Lease, sent_at: float, now: float) -> None:
        """The API server has taken what was sent then; what names no version counts only while nobody else can have led."""
        self._expire(now)
        renews = self._may_name_itself
        self._notice(lease, now)
        self._stale, self._conflicts = False, 0
        if lease.holder == self.identity and renews:
            self._renewed_at = sent_at
            self._due_at = sent_at + self._pause()
        else:
            self._due_at = self._next_look(now)
        self._expire(now)

    def conflicted(self, now: float) -> None:
        """Somebody else has changed, made or deleted it: look at once, but do not race with one who does so all the time."""
        self._stale = True
        self._conflicts += 1
        self._due_at = now if self._conflicts == 1 else self._in_time(now + self._pause())
        self._expire(now)

    def failed(self, sent_at: float, now: float) -> None:
        """No answer to what was sent then, or an error: a write may have been taken all the same."""
        self._stale = self._stale or not self.leading
        self._due_at = self._in_time(max(now, sent_at + self._pause()))
        self._expire(now)

    def step_down(self) -> None:
        """Lead no more, before the Lease is released: a request that was under way may have changed it."""
        self._renewed_at = None
        self._stale = True

    # --- inside ----------------------------------------------------------------------------------

    @property
    def _may_name_itself(self) -> bool:
        """Whether a write may name us: it replaces a version, or we lead."""
        return self.leading or self._seen is not None

    def _notice(self, lease: Lease | None, now: float) -> None:
        unchanged = self._seen is None if lease is None else lease.is_version(self._seen)
        if unchanged:
            return
        self._seen, self._seen_at = lease, now

    def _free_at(self) -> float:
        """When the version seen may be taken over; one that is ours, too, is nobody else's."""
        if self._seen is None or self._seen.released or self.holds:
            return float("-inf")
        return self._seen_at + min(max(self._seen.duration, DURATION), LONGEST_FOREIGN)

    def _next_look(self, now: float) -> float:
        return max(now, min(now + self._pause(), self._free_at()))

    def _lapses_at(self) -> float:
        return self._renewed_at + DEADLINE if self._renewed_at is not None else float("inf")

    def _in_time(self, moment: float) -> float:
        """Look no later than when the leadership lapses."""
        return min(moment, self._lapses_at())

    def _expire(self, now: float) -> None:
        if now >= self._lapses_at():
            self._renewed_at = None
            self._stale = True

    def _pause(self) -> float:
        return RETRY * self._chance.uniform(1 - JITTER, 1.0)


class Office(Protocol):
    """Is told who leads; must not block."""

    def led(self) -> None:
        """This replica leads from now on."""
        ...

    def lost(self) -> None:
        """It does not any more: nothing may be written from now on."""
        ...


class LeaseApi(Protocol):
    """The three requests of an election, such as `ApiServer` sends them; each may raise `ApiError`."""

    async def get(self, path: str) -> Json:
        """Read an object."""
        ...

    async def post(self, path: str, body: Json) -> Json:
        """Create one."""
        ...

    async def put(self, path: str, body: Json) -> Json:
        """Replace one, if it is still the version that the body names."""
        ...


class Elector:
    """Takes part in an election until `resign`. Is the `Fence` of the registry's client."""

    def __init__(
        self,
        api: LeaseApi,
        lease: LeaseRef,
        identity: str,
        *,
        clock: Callable[[], float] = boot_clock,
        wall_clock: Callable[[], float] = time.time,
        chance: random.Random | None = None,
    ) -> None:
        self._api = api
        self.lease = lease
        self._office: Office | None = None
        self._clock = clock
        self._wall_clock = wall_clock
        self._election = Election(identity, clock(), chance or random.Random())  # noqa: S311 - jitter, not secrets
        self._led = False
        self._holder: str | None = None
        self._trouble: tuple[Act, str] | None = None
        self._withdrawn = False
        self._resigned = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    @property
    def leading(self) -> bool:
        """Whether this replica leads."""
        return self._led

    def remaining(self) -> float:
        """Seconds for which a write to the registry may be under way; 0 or less: none may be sent."""
        return self._election.remaining(self._clock()) if self._led else 0.0

    def begin(self, office: Office) -> None:
        """Take part from now on; the office is told how it goes."""
        if self._running is None and not self._withdrawn:
            self._office = office
            self._running = asyncio.create_task(self._run(), name="leader election")

    def withdraw(self) -> None:
        """Do not become the leader any more; one who is it stays it until `resign`."""
        self._withdrawn = True

    async def resign(self) -> None:
        """End it, and release the Lease if it is ours. Nothing may be written any more when this is called."""
        self._withdrawn, self._led = True, False
        self._resigned.set()
        if self._running is None:
            return
        self._election.step_down()
        await asyncio.wait([self._running], timeout=RELEASE_WITHIN)
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        self._running = None
        await self._release()

    # --- the rounds ------------------------------------------------------------------------------

    async def _run(self) -> None:
        logger.info("taking part in the election over lease %s as %s", self.lease, self._election.identity)
        while await self._rest():
            try:
                await self._round()
            except Exception:  # a fault of ours must not leave a leader that never renews, or a replica that never leads
                logger.exception("internal error in the leader election; it goes on")
                now = self._clock()
                self._election.failed(now, now)

    async def _rest(self) -> bool:
        """Wait for the next round. Returns whether there is to be one."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._resigned.wait(), self._election.due_in(self._clock()))
        return not self._resigned.is_set() and (self._led or not self._withdrawn)

    async def _round(self) -> None:
        sent_at = self._clock()
        act = self._election.next(sent_at)
        self._tell()  # a leadership may have lapsed while we slept
        try:
            async with asyncio.timeout(self._election.patience(sent_at)):
                await self._perform(act, sent_at)
        except (ApiError, TimeoutError) as error:
            self._suffer(act, error, sent_at)
        else:
            self._recover(act)
        self._tell()

    async def _perform(self, act: Act, sent_at: float) -> None:
        if act is Act.READ:
            self._election.read(await self._read(), self._clock())
            return
        if act is Act.CREATE:
            logger.info("lease %s is not there: it is made", self.lease)
        lease = await self._write(self._election.holder_to_write(), DURATION)
        self._election.wrote(lease, sent_at, self._clock())

    def _suffer(self, act: Act, error: ApiError | TimeoutError, sent_at: float) -> None:
        """Somebody was faster, or the API server has its troubles."""
        if _is_conflict(act, error):
            self._election.conflicted(self._clock())
            return
        self._election.failed(sent_at, self._clock())
        trouble = error.message if isinstance(error, ApiError) else "no answer in time"
        if self._trouble == (act, trouble):
            return
        self._trouble = act, trouble
        if isinstance(error, ApiError) and error.status in (FORBIDDEN, UNAUTHORIZED):
            logger.error("cannot %s lease %s, so this replica cannot lead: %s; needed: %s", act, self.lease, trouble, RULE)
        else:
            logger.warning("cannot %s lease %s: %s; trying again", act, self.lease, trouble)

    def _recover(self, act: Act) -> None:
        """Somebody who may read a Lease may not be able to write it."""
        if self._trouble is not None and self._trouble[0] is act:
            logger.info("lease %s: %s works again", self.lease, act)
            self._trouble = None

    def _tell(self) -> None:
        """Tell of a change of leadership, once."""
        if self._resigned.is_set() or self._office is None:
            return
        leading, lease = self._election.leading, self._election.lease
        holder = lease.holder if lease is not None else ""
        if leading and not self._led and not self._withdrawn:
            self._led = True
            logger.info("leading: lease %s is ours", self.lease)
            self._office.led()
        elif self._led and not leading:
            self._led = False
            why = f"{holder} holds it" if holder and not self._election.holds else f"not renewed within {DEADLINE:g} s"
            logger.warning("not leading any more: lease %s is lost, %s", self.lease, why)
            self._office.lost()
        if holder not in (self._holder, "", self._election.identity):
            logger.info("standing by: %s holds lease %s", holder, self.lease)
        self._holder = holder

    async def _release(self) -> None:
        """Give the Lease back, so that another replica need not wait."""
        trouble = "no answer in time"
        with suppress(TimeoutError):
            async with asyncio.timeout(RELEASE_WITHIN):
                while True:
                    try:
                        if await self._try_release():
                            return
                    except ApiError as error:
                        trouble = str(error)
                        if not error.transient:
                            break
                        await asyncio.sleep(RELEASE_AGAIN)
        logger.warning("lease %s could not be released: %s", self.lease, trouble)

    async def _try_release(self) -> bool:
        """Try once. Returns whether that was the end of it, one way or the other."""
        if self._election.next(self._clock()) is Act.READ:
            self._election.read(await self._read(), self._clock())
        if not self._election.holds:
            return True
        try:
            await self._write("", RELEASED)
        except ApiError as error:
            if not _is_conflict(Act.WRITE, error):
                self._election.step_down()  # it may have been taken all the same
                raise
            self._election.conflicted(self._clock())
            return False
        logger.info("lease %s is released", self.lease)
        return True

    # --- the requests ----------------------------------------------------------------------------

    async def _read(self) -> Lease | None:
        try:
            return parse_lease(await self._api.get(self._path(self.lease.name)))
        except ApiError as error:
            if error.not_found:
                return None
            raise

    async def _write(self, holder: str, duration: float) -> Lease:
        """Replace the version that was seen last, or create it where there is none."""
        seen = self._election.lease
        body = lease_body(self.lease, seen, holder, duration, self._wall_clock())
        self._election.sends(holder, renewal(body), self._clock())
        if seen is None:
            return parse_lease(await self._api.post(self._path(), body))
        return parse_lease(await self._api.put(self._path(self.lease.name), body))

    def _path(self, name: str = "") -> str:
        tail = f"/{quote(name, safe='')}" if name else ""
        return f"/apis/{GROUP}/v1/namespaces/{quote(self.lease.namespace, safe='')}/leases{tail}"


def _is_conflict(act: Act, error: ApiError | TimeoutError) -> bool:
    """Whether the version to be replaced is not there any more, or what was to be made is there already."""
    if act is Act.READ or not isinstance(error, ApiError):
        return False
    return error.status == CONFLICT or (act is Act.WRITE and error.status == NOT_FOUND)


def parse_lease(answer: Json) -> Lease:
    """Read what can be read of a Lease; only what tells one version from another must be there. Raises `ApiError`."""
    metadata, spec = mapping(answer.get("metadata")), mapping(answer.get("spec"))
    uid, version = metadata.get("uid"), metadata.get("resourceVersion")
    if not isinstance(uid, str) or not isinstance(version, str) or not uid or not version:
        raise ApiError(0, "NoLease", "the answer is no Lease: it has no uid or no resourceVersion")
    kept = {key: metadata[key] for key in ("labels", "annotations", "ownerReferences", "finalizers") if metadata.get(key)}
    return Lease(
        uid=uid,
        version=version,
        holder=_text(spec.get("holderIdentity")),
        duration=float(_number(spec.get("leaseDurationSeconds"))) or DURATION,
        transitions=_number(spec.get("leaseTransitions")),
        acquired=_text(spec.get("acquireTime")),
        renewed=renewal(answer),
        metadata=kept,
    )


def lease_body(ref: LeaseRef, seen: Lease | None, holder: str, duration: float, wall: float) -> Json:
    """Write the Lease that is to replace the one seen."""
    now = datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    before, transitions = (seen.holder, seen.transitions) if seen is not None else ("", 0)
    acquired = seen.acquired if seen is not None and holder == before else ""
    spec: Json = {
        "holderIdentity": holder,
        "leaseDurationSeconds": int(duration),
        "acquireTime": acquired or now,
        "renewTime": now,
        "leaseTransitions": min(transitions + (holder not in ("", before)), 2**31 - 1),
    }
    metadata: Json = {"name": ref.name, "namespace": ref.namespace}
    if seen is not None:
        metadata |= {**seen.metadata, "uid": seen.uid, "resourceVersion": seen.version}
    return {"apiVersion": f"{GROUP}/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


def renewal(lease: Json) -> str:
    """Return when it was renewed, in its writer's words."""
    return _text(mapping(lease.get("spec")).get("renewTime"))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
