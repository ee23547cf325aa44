"""Looking for drift: what the registry says is compared with what was written, and put back (DESIGN section 6).

A registry forgets: after an instance's lease has run out its SDK registers it anew with its own status, usually UP, and the
status written before is silently lost. Consoles and other operators write too.
"""

import asyncio
import logging
import random
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Protocol

from registry_status.model import Outcome, OutcomeKind, Tenant
from registry_status.registry.base import Instance, RegistryError
from registry_status.sync.clock import loop_time
from registry_status.sync.delivery import Delivery
from registry_status.sync.desired import PodRecord, PodRecords
from registry_status.sync.directory import Roster
from registry_status.sync.fresh import Reading
from registry_status.sync.instances import Held, InstanceKey
from registry_status.sync.matching import Matched, Refused

JITTER = 0.1
"""By how much of itself a wait varies, so that operators do not march in step."""
IDLE = 1.0
"""Seconds until the next look whether there are services by now."""
FIGHT_REPAIRS = 3
"""So many repairs of one instance..."""
FIGHT_WINDOW = 300.0
"""...within so many seconds mean that someone else writes too; for as long the instance is then left to them."""

logger = logging.getLogger(__name__)


class Cause(StrEnum):
    """Why the registry said something else than was written."""

    REGISTERED_ANEW = "registered-anew"
    """The instance expired or was removed, and came back with its own status."""
    CHANGED = "changed-by-others"
    VANISHED = "vanished"
    """The instance is not there any more."""
    JOINED = "joined"
    """The pod has registered another instance."""


class DriftReporter(Protocol):
    """Is told of drift."""

    def outcome(self, outcome: Outcome) -> None:
        """Something worth an Event."""
        ...

    def drifted(self, cause: Cause) -> None:
        """A status was found changed."""
        ...


class Resync:
    """Goes through all services in use, each once an interval."""

    def __init__(
        self, records: PodRecords, delivery: Delivery, reporter: DriftReporter, *, interval: float, chance: random.Random
    ) -> None:
        self._records = records
        self._delivery = delivery
        self._reporter = reporter
        self._interval = interval
        self._chance = chance
        self._repairs: dict[InstanceKey, list[float]] = {}

    async def run(self) -> None:
        """Go on for ever, spreading the services over the interval; ends by being cancelled.

        A turn's time counts from the turn before, not from its answer, so slow answers make a round no longer. What an outage
        took is not caught up: a registry that just works again is asked no faster than any.
        """
        turn = loop_time()
        while True:
            services = self._delivery.instances.services()
            for tenant, service_id in services:
                turn = max(turn + self._varied(self._interval / len(services)), loop_time())
                await asyncio.sleep(turn - loop_time())
                await self.compare(tenant, service_id)
            if services:
                await self.look_for_consumers({tenant for tenant, _ in services})
            else:
                self._forget_repairs()
                await asyncio.sleep(self._varied(min(IDLE, self._interval)))
                turn = loop_time()

    async def look_for_consumers(self, tenants: Iterable[Tenant]) -> None:
        """See whether the answer for `auto` is still right, or learn it before the first pod loses readiness."""
        for tenant in tenants:
            try:
                await self._delivery.consumers.read(tenant, loop_time())
            except RegistryError as error:
                logger.debug("cannot read the services of project %s: %s", tenant.project, error)

    async def compare(self, tenant: Tenant, service_id: str) -> None:
        """List one service and wake the pods whose instances are not as they should be."""
        try:
            reading = await self._delivery.directory.instances(tenant, service_id, loop_time())
        except RegistryError as error:
            logger.debug("cannot compare service %s: %s", service_id, error)
            return
        held = self._delivery.instances.of_service(tenant, service_id)
        listed = {found.instance_id: found for found in reading.value}
        for one in held:
            if one.judges(reading.asked_at):
                self._judge(one, listed.get(one.key.instance_id), reading)
        self._look_for_joined(held, reading.value)
        self._forget_repairs()

    def _judge(self, held: Held, found: Instance | None, reading: Reading[Roster]) -> None:
        if held.status is None:
            return  # its owner is about to read it
        owner = self._records.get(held.owner) if held.owner is not None else None
        if found is not None and not held.is_still(found):
            if owner is None or not self._is_its_own_again(held, owner, found, reading.value):
                self._judge_anew(held, found, reading)
                return
            held.matched = found
        if owner is None:
            return  # nobody has said what it should be
        if found is None:
            self._reporter.drifted(Cause.VANISHED)
            held.status = None  # unknown: its owner looks for its instances anew
            self._delivery.wake(owner.uid)
        elif found.status == held.status:
            held.others_say = None
        elif self._is_left_to_others(held.key):
            held.others_say = found.status
        else:
            before = held.status
            held.learn(Reading(found.status, reading.asked_at))
            self._reporter.drifted(Cause.CHANGED)
            self._note_repair(held, owner, found, before)
            self._delivery.wake(owner.uid)

    def _judge_anew(self, held: Held, found: Instance, reading: Reading[Roster]) -> None:
        """It was away in between. Whoever registered it now may be somebody else: those who claim it match it anew."""
        if found.status != held.status:
            self._reporter.drifted(Cause.REGISTERED_ANEW)
        held.status = None
        for uid in held.claimants:
            record = self._records.get(uid)
            if record is not None:
                record.wanted_at, record.reread_at = reading.asked_at, loop_time()
                self._delivery.wake(uid)

    def _is_its_own_again(self, held: Held, owner: PodRecord, found: Instance, roster: Roster) -> bool:
        """Whether its pod's SDK has registered it anew, as far as anybody can tell, and with the status that it should have.

        Many do at once when a registry was away, and some servers date each listing. A pod that was refused what it calls
        for is to try again, and one that looks anew all the time, or that another instance fits by now, may be in doubt which
        instances are its own.
        """
        if not found.status == held.status == self._delivery.consumers.resolved(owner.desired):
            return False
        is_settled = owner.certain and owner.current == held.key and not owner.desired.ended and loop_time() < owner.reread_at
        is_alike = held.claimants == {owner.uid} and held.came_back_alike(found, owner.desired.evidence)
        return is_settled and is_alike and self._is_still_its_present(found, owner, roster)

    def _is_still_its_present(self, found: Instance, owner: PodRecord, roster: Roster) -> bool:
        """Whether it is what its pod would take now, beside all that is listed."""
        matched = self._delivery.match(owner, roster)
        return isinstance(matched, Matched) and matched.current is found

    def _note_repair(self, held: Held, owner: PodRecord, found: Instance, written: str) -> None:
        now = loop_time()
        repairs = [moment for moment in self._repairs.get(held.key, ()) if now - moment < FIGHT_WINDOW]
        self._repairs[held.key] = [*repairs, now]
        what = f"the registry says {found.status} of instance {found.instance_id}, not {written} as was written"
        if len(repairs) + 1 >= FIGHT_REPAIRS:
            text = (
                f"{what}, {len(repairs) + 1} times in {FIGHT_WINDOW:g} s: "
                f"someone else (a console, a second operator) writes it too"
            )
            self._tell(owner, f"{text}; it is left to them for {FIGHT_WINDOW:g} s after this repair")
        elif found.status != self._delivery.consumers.resolved(owner.desired):
            self._tell(owner, f"{what}: someone else has changed it; it is put back")

    def _is_left_to_others(self, key: InstanceKey) -> bool:
        repairs = self._repairs.get(key, ())
        if repairs and loop_time() - repairs[-1] >= FIGHT_WINDOW:
            del self._repairs[key]
            return False
        return len(repairs) >= FIGHT_REPAIRS

    def _tell(self, owner: PodRecord, text: str) -> None:
        self._reporter.outcome(
            Outcome(owner.desired.pod, OutcomeKind.DRIFTED, owner.desired.status, text, instances=owner.instance_ids)
        )

    def _look_for_joined(self, held: Sequence[Held], roster: Roster) -> None:
        """A pod may have registered again under another id: match it against what nobody claims, beside what it has."""
        claimed = {one.key.instance_id for one in held}
        if claimed.issuperset(one.instance_id for one in roster):
            return
        for uid in {one.owner for one in held if one.owner is not None}:
            record = self._records.get(uid)
            if record is None or record.desired.ended:
                continue
            if self._has_joined(record, roster, claimed):
                self._reporter.drifted(Cause.JOINED)
                record.wanted_at = record.reread_at = loop_time()
                self._delivery.wake(uid)

    def _has_joined(self, record: PodRecord, roster: Roster, claimed: set[str]) -> bool:
        others = claimed - {key.instance_id for key in record.instances}
        match self._delivery.match(record, roster, lambda one: one.instance_id not in others):
            case Matched() as found:
                return not claimed.issuperset(one.instance_id for one in found.all)
            case Refused():
                return not self._delivery.keeps(record.desired) and record.told is not OutcomeKind.CONFLICT
            case _:
                return False

    def _forget_repairs(self) -> None:
        for key in list(self._repairs):
            self._is_left_to_others(key)

    def _varied(self, seconds: float) -> float:
        return seconds * self._chance.uniform(1 - JITTER, 1 + JITTER)
