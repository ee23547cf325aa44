"""Delivering one pod's desired status: find its instances, compare, write the difference, and say how it went (DESIGN 6)."""

import random
import time
from collections.abc import Callable, Iterable, KeysView, Sequence
from dataclasses import dataclass

from registry_status.model import Desired, InstanceStatus, OutcomeKind, PodRef, Reason, Target, Tenant
from registry_status.registry.base import (
    FencedError,
    Instance,
    LoggedOutError,
    NotFoundError,
    Registry,
    RegistryError,
    TransientError,
    UnavailableError,
)
from registry_status.sync.clock import loop_time
from registry_status.sync.consumers import Consumers
from registry_status.sync.desired import PodRecord, PodRecords
from registry_status.sync.directory import Directory, Listing, Roster
from registry_status.sync.fresh import Reading
from registry_status.sync.instances import Held, InstanceKey, Instances
from registry_status.sync.matching import Circumstances, Matched, NoneFound, Refused, match, names_of_pod
from registry_status.sync.retries import Retries
from registry_status.sync.telling import Reporter, Teller

POLL = 1.0
"""Seconds between two looks for an instance that should be there soon."""
POLL_SHARE = 0.9
"""How much of a wait a shared listing may be old: pods of a service that wait alike share one listing."""
MISSING_AFTER = 60.0
"""Seconds for which a pod is Ready without an instance until that is worth an Event."""
GONE_FOR = 150.0
"""Seconds for which a gone pod is looked after: an SDK may register late."""
GIVE_UP_AFTER = 600.0
"""Seconds for which the DOWN of a gone pod is retried: the registry's own expiry has come long before."""
FENCED_AGAIN = 1.0
"""Seconds until a write is tried again that was held off since this replica may not lead any more."""
JITTER = 0.1
"""By how much of themselves waits grow at most, so that pods and operators do not march in step."""
SHORTEST = 0.05
"""Seconds. A wait that is rounded to nothing would spin."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The settings that govern waits, in seconds."""

    registration_window: float = 120.0
    resync_interval: float = 30.0


class _OvertakenError(Exception):
    """A newer desired status has arrived: what was planned for the older one must not be written any more."""


class _UnclearError(Exception):
    """The actual status is not known: read again before writing."""


class Delivery:
    """Does the work of one wake of one pod. `deliver` is called for one pod at a time, for different pods in parallel."""

    def __init__(
        self,
        registry: Registry,
        records: PodRecords,
        reporter: Reporter,
        wake: Callable[[str], None],
        *,
        timing: Timing,
        trust_ids: bool = False,
        admit: Callable[[PodRef], None] | None = None,
        chance: random.Random,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`admit` opens the readiness gate of a pod whose instance is UP."""
        self._registry = registry
        self._records = records
        self._reporter = reporter
        self.wake = wake
        self._timing = timing
        self._trust_ids = trust_ids
        self._admit = admit
        self._chance = chance
        self._retries = Retries(wake, chance)
        registry.on_available(self._retries.begin_anew)
        self.directory = Directory(registry)
        self.instances = Instances()
        self.consumers = Consumers(self.directory, self._reconsider)
        self._teller = Teller(reporter, self.consumers, wall_clock)

    async def deliver(self, uid: str) -> float | None:
        """Bring the registry in step with the pod. Returns the seconds until the next look, None if an event will wake it."""
        record = self._records.get(uid)
        if record is None:
            return None
        if wait := self._retries.wait_for_turn(record):
            return wait
        desired = record.desired
        if desired.target is None or desired.status is None or desired.evidence is None:
            self._release(record)
            return None
        if self._is_over(record):
            self.retire(record)
            return None
        if desired.reason is Reason.CONTAINER_NOT_STARTED and not record.instances:
            return None  # an event will tell of the start; before it nothing can be registered
        return await self._attempt(record, desired, desired.target)

    def attend(self, uid: str) -> float | None:
        """Do a standby's part for one pod: forget it when a writing replica would. Asks the registry nothing, tells nobody."""
        record = self._records.get(uid)
        if record is None:
            return None
        desired = record.desired
        if not desired.managed:
            if desired.reason is not Reason.INVALID:
                self.retire(record)
            return None
        if record.gone_since is None:
            return None
        left = record.gone_since + GONE_FOR - loop_time()
        if left > 0:
            return left
        self.retire(record)
        return None

    @property
    def waiting(self) -> KeysView[str]:
        """The uids of pods that wait to be tried again, or for the registry to work again: a view."""
        return self._retries.waiting

    def doubt(self) -> None:
        """Others may write from now on: which instances are a pod's is still known, but not what the registry says of them."""
        for held in self.instances:
            held.status = None
        for record in self._records:
            record.doubt()
        self.consumers.doubt()
        self._retries.clear()

    async def _attempt(self, record: PodRecord, desired: Desired, target: Target) -> float | None:
        beginning = self._retries.beginning
        try:
            return await self._converge(record, desired, target)
        except _OvertakenError:
            return 0.0
        except FencedError:
            return FENCED_AGAIN
        except RegistryError as error:
            return self._failed(record, error, beginning) if self._is_tracked(record) else None

    def _is_tracked(self, record: PodRecord) -> bool:
        """Whether the pod was not let go meanwhile: nothing is told or kept any more of one that was."""
        return self._records.get(record.uid) is record

    def _reconsider(self, tenant: Tenant) -> None:
        """The answer for `auto` has changed: it concerns every pod of the tenant that has lost readiness."""
        self._reporter.not_ready_changed(self.consumers.lost_readiness(tenant))
        for record in self._records:
            target = record.desired.target
            concerned = record.desired.status is InstanceStatus.OUTOFSERVICE
            if concerned and target is not None and target.tenant == tenant:
                self.wake(record.uid)

    def unclaim_all(self, record: PodRecord) -> None:
        """Let go of every instance of the pod, and wake those that waited for one."""
        for key in record.instances:
            self._unclaim(record, key)
        record.current, record.older, record.matched_life, record.acknowledged = None, (), None, None

    def _unclaim(self, record: PodRecord, key: InstanceKey) -> None:
        for uid in self.instances.unclaim(key, record.uid):
            self.wake(uid)

    def wake_rivals(self, record: PodRecord) -> None:
        """Wake the pods that claim an instance of this one too: who owns it may have changed."""
        for key in record.instances:
            held = self.instances.get(key)
            for uid in (held.claimants if held is not None else set()) - {record.uid}:
                self.wake(uid)

    # --- finding ---------------------------------------------------------------------------

    async def _converge(self, record: PodRecord, desired: Desired, target: Target) -> float | None:
        await self.consumers.learn(desired, loop_time())
        for _ in range(3):
            refused = await self._rematch(record, desired, target) if self._rematch_due(record) else None
            if refused is not None and desired.gone:
                self._served(record, 0)
                self._teller.arrived(record, desired, 0, ())  # nothing can be done for it any more
                record.told = OutcomeKind.DELIVERED
                return self._while_gone(record)
            try:
                if refused is not None:
                    return await self._write_undisputed(record, desired, refused)
                return await self._write_all(record, desired)
            except _UnclearError:
                record.demand(loop_time())
        raise TransientError("unclear", "the instance changes faster than it can be read")

    def _rematch_due(self, record: PodRecord) -> bool:
        for key in record.instances:
            held = self.instances.get(key)
            if held is None or held.status is None:
                return True
        if loop_time() >= record.reread_at:
            return True
        return record.unseen if self.keeps(record.desired) else record.rematch_due

    def keeps(self, desired: Desired) -> bool:
        """Whether the pod keeps what was matched before: while nothing of it runs it may have no IP to match by.

        What is Ready runs, also where no kubelet tells of its containers.
        """
        if desired.ended or desired.evidence is None:
            return True
        return not desired.evidence.running and desired.status is not InstanceStatus.UP

    async def _rematch(self, record: PodRecord, desired: Desired, target: Target) -> Refused | None:
        """Match against a listing that is new enough, and claim what fits."""
        listing = await self.directory.listing(target, max(record.wanted_at, _just_after(record.judged_at)))
        if not self._is_tracked(record) or not record.desired.calls_for_the_same(desired):
            raise _OvertakenError
        record.judged_at, record.complete_at, record.reread_at = listing.asked_at, listing.complete_at, float("inf")
        if record.instances and self.keeps(desired):
            self._refresh(record, target, listing)
            self._adopt_late(record, desired, target, listing)
            return None
        result = self.match(record, listing)
        match result:
            case Refused():
                self._refresh(record, target, listing)
                record.reread_at = float("-inf")  # matched anew at every look, until it is clear
                return result
            case NoneFound():
                self._adopt(record, desired, target, Matched(current=None, certain=False), listing)
            case Matched():
                self._adopt(record, desired, target, result, listing)
                record.earlier &= {key.instance_id for key in record.instances}
        return None

    def match(
        self, record: PodRecord, listed: Listing | Roster, is_free: Callable[[Instance], bool] = lambda _: True
    ) -> Matched | Refused | NoneFound:
        """Find the pod's own among those listed that are free for it."""
        desired = record.desired
        if desired.target is None or desired.evidence is None or (desired.ended and self._records.namesakes(record)):
            return NoneFound()
        around = Circumstances(
            age=loop_time() - record.life_since,
            gone=desired.ended,
            earlier=record.earlier,
            predecessors=self._of_predecessors(desired, lambda held: held.ips),
            predecessor_uids=frozenset(filter(self._has_ended, self._of_predecessors(desired, lambda held: held.uids))),
            trust_ids=self._trust_ids,
        )
        bearing = listed.bearing(names_of_pod(desired.target, desired.evidence))
        return match(desired.target, desired.evidence, list(filter(is_free, bearing)), around)

    def _of_predecessors(self, desired: Desired, marks: Callable[[Held], Iterable[tuple[str, str]]]) -> frozenset[str]:
        """A pod may follow those of its own namespace only: whoever may not touch them may not take what is theirs."""
        target = desired.target
        if target is None or target.instance_id is None:
            return frozenset()
        before = self.instances.with_id(target.tenant, target.instance_id)
        return frozenset(mark for held in before for there, mark in marks(held) if there == desired.pod.namespace)

    def _has_ended(self, uid: str) -> bool:
        record = self._records.get(uid)
        return record is None or record.desired.ended

    def _refresh(self, record: PodRecord, target: Target, listing: Listing) -> None:
        """Look what became of the instances that the pod holds, without matching anew.

        One that was away in between may be anybody's by now.
        """
        listed = _listed(record.instances, target, listing)
        for key in record.instances:
            held, found = self.instances.get(key), listed.get(key)
            if found is None or (held is not None and not held.is_still(found)):
                self._abandon(record, key)
            elif held is not None:
                held.learn(Reading(found.status, listing.asked_at))

    def _adopt_late(self, record: PodRecord, desired: Desired, target: Target, listing: Listing) -> None:
        """What a container registered last may not have been seen while it ran: it is taken, unless it is claimed."""
        found = self.match(record, listing, lambda one: self.instances.get(_key(target, one)) is None)
        for one in found.all if isinstance(found, Matched) else ():
            self._take(record, desired, _key(target, one), one, listing)
            record.older = (*record.older, _key(target, one))

    def _adopt(self, record: PodRecord, desired: Desired, target: Target, found: Matched, listing: Listing) -> None:
        keys = [_key(target, one) for one in found.all]
        left_behind = self._left_behind(record, target, listing, keys)
        for key in set(record.instances) - {*keys, *left_behind}:
            self._unclaim(record, key)
        for key, one in zip(keys, found.all, strict=True):
            self._take(record, desired, key, one, listing)
        record.current = _key(target, found.current) if found.current is not None else None
        record.older = (*(_key(target, one) for one in found.older), *left_behind)
        record.matched_life = desired.evidence.life if desired.evidence is not None else None
        record.certain = found.certain

    def _left_behind(
        self, record: PodRecord, target: Target, listing: Listing, matched: Sequence[InstanceKey]
    ) -> tuple[InstanceKey, ...]:
        """What the container's earlier lives registered under an address that the pod has lost since.

        It does not match any more, but it was this pod's and has not been away: nobody else will say that it is DOWN.
        """
        lost = [key for key in record.instances if key not in matched and key.instance_id in record.earlier]
        listed = _listed(lost, target, listing) if lost else {}
        return tuple(key for key in lost if self._is_still_its_own(record, key, listed.get(key)))

    def _is_still_its_own(self, record: PodRecord, key: InstanceKey, found: Instance | None) -> bool:
        held, evidence = self.instances.get(key), record.desired.evidence
        if found is None or held is None or evidence is None or held.claimants != {record.uid}:
            return False
        return held.is_still(found) and found.properties.get("podUid") in (None, "", evidence.uid)

    def _take(self, record: PodRecord, desired: Desired, key: InstanceKey, found: Instance, listing: Listing) -> None:
        """Claim an instance, as it was listed."""
        held = self._claim(record, desired, key)
        held.learn(Reading(found.status, listing.asked_at))
        held.matched, held.taken_by = found, record.desired.evidence

    def _claim(self, record: PodRecord, desired: Desired, key: InstanceKey) -> Held:
        known = self.instances.get(key)
        before = known.owner if known is not None else None
        others = known.claimants - {record.uid} if known is not None else set()
        rivals = [other.desired for other in map(self._records.get, others) if other is not None] if others else []
        held = self.instances.claim(key, desired, rivals)
        if before is not None and before != held.owner:
            self.wake(before)
        return held

    # --- writing ---------------------------------------------------------------------------

    async def _write_undisputed(self, record: PodRecord, desired: Desired, refused: Refused) -> float:
        """Tell that it is not clear which instance is the pod's. What it held before is its own all the same.

        But another life's is not to be put UP.
        """
        written = 0
        lives_on = desired.evidence is not None and record.matched_life == desired.evidence.life
        if record.instances and (lives_on or self.consumers.resolved(desired) is not InstanceStatus.UP):
            written, _ = await self._write_each(record, desired)
        self._served(record, written)
        self._teller.tell(record, OutcomeKind.CONFLICT, refused.message, instances=refused.instances)
        return self._look_again(record)

    async def _write_all(self, record: PodRecord, desired: Desired) -> float | None:
        written, lost = await self._write_each(record, desired)
        if lost and not desired.ended:
            self._served(record, written)
            owner = lost[0].owner
            self._teller.lost(record, lost[0], self._records.get(owner) if owner is not None else None)
            return self._look_again(record)
        return self._arrived(record, desired, written)

    async def _write_each(self, record: PodRecord, desired: Desired) -> tuple[int, Sequence[Held]]:
        """Write what differs. Returns how many statuses were written, and the instances that are another pod's."""
        written, lost = 0, []
        for key, status in self._plan(record, self.consumers.resolved(desired)):
            if self._is_overtaken(record, desired):
                raise _OvertakenError
            held = self._claim(record, desired, key)
            if held.owner != record.uid:
                lost.append(held)
            elif await self._write(record, desired, held, status):
                written += 1
        if not self._is_tracked(record):
            raise _OvertakenError
        return written, lost

    def _plan(self, record: PodRecord, status: InstanceStatus | None) -> list[tuple[InstanceKey, InstanceStatus]]:
        """UP is for the present life's instance only, and then the older ones get DOWN; every other status goes to all.

        Older ones alone are left as they are while the pod is Ready: an SDK that keeps its id registers under the old
        timestamp, so what looks like a leftover may be the live instance. The lease will tell.
        """
        if status is None or (status is InstanceStatus.UP and record.current is None):
            return []
        if record.desired.gone and self._records.fellow_claimants(record):
            return []  # the instance may be a successor's by now, and its word is the one that counts
        if status is not InstanceStatus.UP or record.current is None:
            return [(key, status) for key in record.instances]
        return [*((key, InstanceStatus.DOWN) for key in record.older), (record.current, status)]

    async def _write(self, record: PodRecord, desired: Desired, held: Held, status: InstanceStatus) -> bool:
        """Write one status if it differs. Returns whether it was written."""
        try:
            return await self._write_in_turn(record, desired, held, status)
        finally:
            self.instances.tidy(held)

    async def _write_in_turn(self, record: PodRecord, desired: Desired, held: Held, status: InstanceStatus) -> bool:
        async with held.lock:
            if self._is_overtaken(record, desired):
                raise _OvertakenError
            if held.owner != record.uid or held.status == status:
                return False
            if held.others_say == status:
                held.status, held.others_say = status, None
                return False
            if held.status is None:
                raise _UnclearError
            before, held.status = held.status, None
            try:
                await self._registry.write_status(held.key.tenant, held.key.service_id, held.key.instance_id, status)
            except NotFoundError:
                self._abandon(record, held.key)
                raise _UnclearError from None
            except RegistryError as error:
                held.status = None if error.maybe_applied else before
                record.unsure = record.unsure or (error.maybe_applied and not self._is_overtaken(record, desired))
                raise
            finally:
                held.touched_at = loop_time()
            held.status, held.others_say = status, None
        return True

    def _is_overtaken(self, record: PodRecord, desired: Desired) -> bool:
        """Whether what is planned for `desired` must not be done any more: the pod is let go, or calls for something else."""
        newest = record.desired
        if newest is desired:
            return not self._is_tracked(record)
        return newest.status is not desired.status or newest.target is None or not newest.target.same_place(desired.target)

    def _abandon(self, record: PodRecord, key: InstanceKey) -> None:
        """The instance is not there any more."""
        self._unclaim(record, key)
        record.current = None if record.current == key else record.current
        record.older = tuple(other for other in record.older if other != key)

    # --- telling ---------------------------------------------------------------------------

    def _arrived(self, record: PodRecord, desired: Desired, written: int) -> float | None:
        self._served(record, written)
        said = self._said(record, desired)
        written = written or int(record.unsure and bool(said))  # it was applied: only its answer had been lost
        record.unsure = False
        record.measured = record.measured or not written  # what needs no write is delivered: a later one repairs drift
        record.acknowledged = self.consumers.resolved(desired) if said else None
        self._teller.harm(record, desired)
        self._open_gate(record, desired)
        if record.current is None and not self._is_ending(desired):
            return self._missing(record, desired, written, said)
        if record.told is OutcomeKind.NOT_FOUND and record.current is None:
            record.told = OutcomeKind.DELIVERED  # it went as it was: nothing has recovered
        elif record.told is OutcomeKind.NOT_FOUND:
            self._teller.delivered(record, desired, written, said)
        else:
            self._teller.arrived(record, desired, written, said)
        if desired.gone:
            return self._while_gone(record)
        if record.current is None and desired.evidence is not None and desired.evidence.running:
            return self._look_again(record)  # it terminates, and until it has its SDK may register
        record.certain = record.certain or not self._in_window(record)
        if record.certain and not self._may_rise_by_itself(record, desired):
            return None
        return self._reread(record, self._look_again(record))

    def _served(self, record: PodRecord, written: int) -> None:
        """The registry has answered all that it was asked: the pod waits for it no more."""
        record.attempts = 0
        self._retries.was_served(record, written)

    def _said(self, record: PodRecord, desired: Desired) -> tuple[str, ...]:
        """The instances of which the registry says what the pod calls for: older lives' are DOWN while it is UP."""
        status = self.consumers.resolved(desired)
        if status is InstanceStatus.UP and record.current is None:
            return ()
        found = ((key, self.instances.get(key)) for key in record.instances)
        return tuple(key.instance_id for key, held in found if held is not None and held.status == status)

    def _open_gate(self, record: PodRecord, desired: Desired) -> None:
        """Callers find the pod now: a rollout may go on."""
        is_up = desired.status is InstanceStatus.UP and record.current is not None
        if self._admit is not None and desired.gated and is_up and not record.admitted:
            record.admitted = True
            self._admit(desired.pod)

    def _may_rise_by_itself(self, record: PodRecord, desired: Desired) -> bool:
        """Some SDKs register as STARTING and write UP themselves soon after: until the pod was first Ready that is put back."""
        return desired.reason is Reason.CONTAINER_STARTING and self._in_window(record)

    def _missing(self, record: PodRecord, desired: Desired, written: int, said: tuple[str, ...]) -> float | None:
        """No instance of the present life: no failure, but one to look for."""
        if record.ready_since is None or loop_time() - record.ready_since < MISSING_AFTER:
            self._teller.arrived(record, desired, written, said)
        else:
            where = desired.target.where if desired.target is not None else ""
            text = (
                f"the pod has been Ready for {MISSING_AFTER:g} s, but service {where} has no instance of it; "
                f"check that its SDK registers there, and the annotations"
            )
            self._teller.tell(record, OutcomeKind.NOT_FOUND, text)
        stopped = desired.evidence is not None and not desired.evidence.running and desired.status is not InstanceStatus.UP
        return None if stopped and not record.outdated else self._look_again(record)

    def _look_again(self, record: PodRecord) -> float:
        """Seconds until the next look: short in the window after a start, else with the resync.

        They count from what this look could see, not from its end: others had asked for the listing, maybe a little before.
        """
        usual = POLL if self._in_window(record) else self._timing.resync_interval
        varied = min(usual, self._timing.resync_interval) * self._chance.uniform(1, 1 + JITTER)
        age = loop_time() - record.complete_at
        return self._share(record, max(varied - age, SHORTEST) if age < varied else varied)

    def _share(self, record: PodRecord, delay: float) -> float:
        """Take a listing then that others who wait alike have asked for a little before."""
        record.wanted_at = loop_time() + delay * (1 - POLL_SHARE)
        return delay

    def _reread(self, record: PodRecord, delay: float) -> float:
        """Look at the instances then although they are known."""
        record.reread_at = loop_time() + delay / 2
        return delay

    def _in_window(self, record: PodRecord) -> bool:
        """Whether the container has started so recently that its SDK may register at any moment."""
        return loop_time() - record.life_since < self._timing.registration_window

    def _failed(self, record: PodRecord, error: RegistryError, beginning: int) -> float | None:
        """Tell a failure, and say when to try again. A gone pod is given up in the end.

        `beginning` is the registry's, as of the attempt's start: another has come if it works again meanwhile.
        """
        if record.gone_since is not None and loop_time() - record.gone_since >= GIVE_UP_AFTER:
            self.retire(record, self._teller.failure(record, error))
            return None
        self._teller.failed(record, error)
        self._retries.failed(record, error)
        if isinstance(error, UnavailableError | LoggedOutError) and beginning == self._retries.beginning:
            return GIVE_UP_AFTER  # nothing was sent: the registry says when it works again, without a timer for each pod
        self._reporter.retried()
        record.demand(loop_time())
        return self._retries.delay(record, error)

    # --- ending ----------------------------------------------------------------------------

    def _is_ending(self, desired: Desired) -> bool:
        return desired.ended or desired.reason is Reason.POD_TERMINATING

    def _is_over(self, record: PodRecord) -> bool:
        if record.gone_since is None:
            return False
        settled = record.told in (None, OutcomeKind.DELIVERED)
        return settled and loop_time() - record.gone_since >= GONE_FOR

    def _while_gone(self, record: PodRecord) -> float | None:
        """A gone pod is looked at soon, whenever it went, and with the resync for a while: its SDK may have registered late."""
        gone_since = record.gone_since if record.gone_since is not None else loop_time()
        elapsed = loop_time() - gone_since
        soon = elapsed < POLL or record.complete_at < gone_since
        usual = POLL if soon else self._timing.resync_interval
        delay = min(usual, self._timing.resync_interval, max(GONE_FOR - elapsed, SHORTEST))
        return self._reread(record, self._share(record, delay))

    def retire(self, record: PodRecord, why: str = "") -> None:
        """Forget a pod that is gone."""
        if why:
            self._teller.tell(record, OutcomeKind.ABANDONED, f"{why}; given up {GIVE_UP_AFTER:g} s after the pod went")
        self._forget(record)

    def _release(self, record: PodRecord) -> None:
        """The pod is not ours to judge (any more): let go without a write."""
        self.unclaim_all(record)
        desired = record.desired
        if desired.reason is Reason.INVALID:
            self._retries.forget(record.uid)
            self._teller.tell(record, OutcomeKind.INVALID, desired.message)
            return
        self._teller.tell(record, OutcomeKind.RELEASED, desired.message)
        self._forget(record)

    def _forget(self, record: PodRecord) -> None:
        self.unclaim_all(record)
        self._retries.forget(record.uid)
        self._records.remove(record.uid)
        self._reporter.forget(record.desired.pod)


def _key(target: Target, found: Instance) -> InstanceKey:
    return InstanceKey(target.tenant, found.service_id, found.instance_id)


def _listed(keys: Iterable[InstanceKey], target: Target, listing: Listing) -> dict[InstanceKey, Instance]:
    return {_key(target, found): found for found in listing.bearing(key.instance_id for key in keys)}


def _just_after(moment: float) -> float:
    return moment + 1e-6
