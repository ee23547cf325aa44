"""A story of pods, their SDKs, the registry's faults and the operator's own restarts, told step by step on virtual time.

Each step is a method of `Story`, named by a `Step`. One that makes no sense at its moment (to delete a pod that is not there)
does nothing, so that any list of steps is a story, and so is what is left of it when steps are taken out.

The story knows the truth: whose each instance is, and what each pod calls for. It notes in `wrongs` every write that
contradicts it at the moment when it is sent.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from registry_status.model import Desired, InstanceStatus, Tenant
from registry_status.pods.status import desired
from registry_status.registry.base import (
    AuthError,
    FencedError,
    NotFoundError,
    PermanentError,
    RegistryError,
    Service,
    TransientError,
    UnavailableError,
)
from registry_status.registry.devserver import NewInstance, NewService, Refusal
from registry_status.sync.resync import FIGHT_REPAIRS, FIGHT_WINDOW
from registry_status.sync.retries import AFTER_REJECTION
from tests.pods import at, pod, running, terminated, waiting
from tests.world import SERVICE, StateRegistry, World

SERVICES = (SERVICE, "svc-2")
BEAT = 20.0
"""Seconds between an SDK's heartbeats."""
LEASE = 120.0
ROUND = 33.0
"""Seconds that a round of the resync takes at most."""

FAULTS: dict[str, RegistryError] = {
    "refused": TransientError("http-503", "unwilling"),
    "busy": TransientError("http-429", "slow down", retry_after=7.0),
    "cut-off": TransientError("timeout", "no answer", maybe_applied=True),
    "no-address": UnavailableError("connect", "no address is fit to be asked"),
    "unknown": NotFoundError("400012", "no such service"),
    "wrong-password": AuthError("401201", "who are you"),
    "forbidden": PermanentError("403001", "not for you"),
}


@dataclass(frozen=True)
class Step:
    """A method of `Story`, the pod's place or another number for it, and the seconds that pass then."""

    what: str
    number: int = 0
    then: float = 0.0


@dataclass
class StoryPod:
    """A pod in truth, with the SDK in its main container."""

    place: int
    uid: str
    ip: str
    tells_uid: bool
    created: float
    annotations: dict[str, str]
    container: str = "waiting"
    started: float = 0.0
    restarts: int = 0
    ready: bool = False
    ready_since: float = 0.0
    terminating: bool = False
    registered: tuple[str, str] | None = None
    """Service and id of the instance that the present life's SDK keeps alive."""

    @property
    def name(self) -> str:
        return f"pod-{self.place}"

    @property
    def service(self) -> str:
        return self.annotations["service-id"]

    def raw(self) -> dict[str, Any]:
        """The pod as the API server shows it."""
        statuses = {
            "waiting": waiting(restarts=self.restarts),
            "running": running(self.started, restarts=self.restarts),
            "exited": terminated(self.ready_since, restarts=self.restarts),
        }
        shown = pod(
            self.annotations,
            name=self.name,
            uid=self.uid,
            ip=self.ip,
            ready=str(self.ready),
            ready_since=self.ready_since,
            statuses=[statuses[self.container]],
            deleting=self.terminating,
        )
        shown["metadata"]["creationTimestamp"] = shown["status"]["startTime"] = at(self.created)
        return shown


@dataclass
class WatchedRegistry(StateRegistry):
    """Tells of each status write as it is sent, and sees that writes to one instance come one after the other."""

    check: Callable[[str, str, InstanceStatus], None] = lambda *_: None
    may_write: Callable[[], bool] = lambda: True
    wrongs: list[str] = field(default_factory=list)
    under_way: set[str] = field(default_factory=set)
    services_known: bool = False
    """Whether this process has read the services: until then DOWN is right where `auto` would be OUTOFSERVICE."""

    async def list_services(self, tenant: Tenant) -> Sequence[Service]:
        services = await super().list_services(tenant)
        self.services_known = True
        return services

    async def write_status(self, tenant: Tenant, service_id: str, instance_id: str, status: InstanceStatus) -> None:
        self.check(service_id, instance_id, status)
        if instance_id in self.under_way:
            self.wrongs.append(f"two writes to {instance_id} at once")
        self.under_way.add(instance_id)
        try:
            await super().write_status(tenant, service_id, instance_id, status)
            if not self.may_write():
                self.wrongs.append(f"{status} to {instance_id} was not dropped when leadership was lost")
        finally:
            self.under_way.discard(instance_id)


class Story:
    """The world, and what is true in it."""

    registry_kind: type[WatchedRegistry] = WatchedRegistry

    def __init__(self, delay: float, *, trust_ids: bool = False) -> None:
        self.world = World(registry=self.registry_kind, trust_ids=trust_ids)
        self.world.registry.delay = delay
        assert isinstance(self.world.registry, WatchedRegistry)
        self.registry: WatchedRegistry = self.world.registry
        self.registry.check = self._check
        self.registry.may_write = lambda: self.writing
        self.wrongs = self.registry.wrongs
        self.world.state.create_service(NewService(name="order", service_id=SERVICES[1]))
        self.pods: dict[int, StoryPod] = {}
        self.wanted: dict[str, Desired] = {}
        """What each pod calls for, as the engine was told last, by uid."""
        self.owners: dict[str, StoryPod] = {}
        """The pod that registered an instance, by the instance's id."""
        self.leading = True
        self.writing = True
        self.created = 0
        self.tampered = 0
        self.patience = 2 * ROUND + 30.0
        """Seconds after the last step until all must be right: a round to find out, one to look anew, and a backoff."""

    async def tell(self, steps: list[Step]) -> None:
        """Let the steps happen. Heartbeats go on for as long as the story's loop runs."""
        self._hearts = asyncio.create_task(self._beat())
        for step in steps:
            happened = getattr(self, step.what)(step.number)
            if happened is not None:
                await happened
            await asyncio.sleep(step.then)

    async def end_of_troubles(self) -> None:
        """Faults end, we lead, and so much time passes that all must be right."""
        self.recover(0)
        self.lead(0)
        fought = self.tampered >= FIGHT_REPAIRS
        await asyncio.sleep(self.patience + (FIGHT_WINDOW if fought else 0.0))

    async def end_of_pods(self) -> None:
        """Every pod goes; nobody comes again."""
        for place in list(self.pods):
            self.delete(place)

    # --- pods ------------------------------------------------------------------------------

    def create(self, number: int) -> None:
        """A pod of the next generation; odd numbers' SDKs tell the pod's uid."""
        place = number % 3
        if place in self.pods:
            return
        self.created += 1
        self.pods[place] = StoryPod(
            place=place,
            uid=f"uid-{place}-{self.created}",
            ip=f"10.244.{place}.{self.created}",
            tells_uid=number >= 3,
            created=_now(),
            ready_since=_now(),
            annotations=self.annotations(number),
        )
        self._show(self.pods[place])

    def annotations(self, number: int) -> dict[str, str]:
        """What a new pod asks for."""
        return {"service-id": SERVICES[number % 2]}

    def start(self, number: int) -> None:
        """Its container starts, for the first time or again."""
        for one in self._at(number):
            if one.container == "running" or one.terminating:
                continue
            one.restarts += one.container == "exited"
            one.container, one.started = "running", _now()
            self._show(one)

    def restart(self, number: int) -> None:
        """The kubelet kills and starts the container in one pass."""
        for one in self._at(number):
            if one.container != "running" or one.terminating:
                continue
            self._stop(one)
            one.restarts += 1
            one.container, one.started = "running", _now()
            self._show(one)

    def crash(self, number: int) -> None:
        for one in self._at(number):
            if one.container == "running":
                self._stop(one)
                self._show(one)

    def ready(self, number: int) -> None:
        for one in self._at(number):
            if one.container == "running" and not one.ready:
                one.ready, one.ready_since = True, _now()
                self._show(one)

    def unready(self, number: int) -> None:
        for one in self._at(number):
            if one.ready:
                one.ready, one.ready_since = False, _now()
                self._show(one)

    def flip(self, number: int) -> None:
        """The readiness probe has another result than before."""
        for one in self._at(number):
            (self.unready if one.ready else self.ready)(number)

    def terminate(self, number: int) -> None:
        for one in self._at(number):
            one.terminating = True
            self._show(one)

    def delete(self, number: int) -> None:
        """The pod goes, and the watch says so."""
        for one in self._at(number):
            self._remove(one)
            self._show(one, deleted=True)

    def hand_back_and_delete(self, number: int) -> None:
        """The pod goes right after it was paused: its end is all that the watch tells."""
        for one in self._at(number):
            one.annotations["paused"] = "true"
            self.delete(number)

    def vanish(self, number: int) -> None:
        """The pod goes while the watch is down: a complete list does not hold it."""
        for one in self._at(number):
            self._remove(one)
            told = self.wanted.get(one.uid)
            if told is not None and told.managed:
                self.wanted[one.uid] = desired(one.raw(), self.world.settings, deleted=True)
            self.world.engine.vanish(one.uid)

    def pause(self, number: int) -> None:
        self._annotate(number, paused="true")

    def resume(self, number: int) -> None:
        for one in self._at(number):
            for key in ("paused", "terminating-status", "class"):
                one.annotations.pop(key, None)
            self._show(one)

    def misspell(self, number: int) -> None:
        """An annotation becomes invalid."""
        self._annotate(number, **{"terminating-status": "down"})

    def give_away(self, number: int) -> None:
        """The pod becomes another operator's."""
        self._annotate(number, **{"class": "others"})

    def move(self, number: int) -> None:
        """The annotations name the other service from now on; the SDK follows when it registers next."""
        for one in self._at(number):
            one.annotations["service-id"] = SERVICES[1 - SERVICES.index(one.service)]
            self._show(one)

    # --- SDKs ------------------------------------------------------------------------------

    def register(self, number: int) -> None:
        """The SDK registers, under a new id."""
        for one in self._at(number):
            if one.container == "running":
                self._register(one, f"{one.uid}-{len(self.owners):03}")

    def register_again(self, number: int) -> None:
        """The SDK registers under the id that the pod had last, which may be alive still."""
        for one in self._at(number):
            mine = [instance for instance, owner in self.owners.items() if owner is one]
            if one.container == "running" and mine:
                self._register(one, mine[-1])
                self.patience = max(self.patience, LEASE + 2 * ROUND + 30.0)  # its old timestamp tells nothing: the lease does

    def unregister(self, number: int) -> None:
        for one in self._at(number):
            if one.registered is not None:
                self._tamper()
                self._quietly(self.world.state.delete_instance, *one.registered)
                one.registered = None

    def expire(self, number: int) -> None:
        """The lease ends; with its next heartbeat the SDK registers anew, as UP."""
        for one in self._at(number):
            if one.registered is not None:
                self._tamper()
                self._quietly(self.world.state.expire_now, *one.registered)

    def console_up(self, number: int) -> None:
        self._by_console(number, InstanceStatus.UP)

    def console_down(self, number: int) -> None:
        self._by_console(number, InstanceStatus.DOWN)

    # --- the registry's faults -------------------------------------------------------------

    def fail(self, number: int) -> None:
        """The registry fails every call from now on."""
        name = list(FAULTS)[number % len(FAULTS)]
        self.recover(0)
        self.registry.failure = FAULTS[name]
        if name == "forbidden":
            self.patience = max(self.patience, AFTER_REJECTION + LEASE + 2 * ROUND + 30.0)

    def lose_answers(self, _: int) -> None:
        """Writes are applied, but their answers are lost."""
        self.registry.after_write = FAULTS["cut-off"]

    def stumble(self, number: int) -> None:
        """Every second call fails, or every third, and so on: none of them for good."""
        self.recover(0)
        calls = itertools.count()
        self.registry.fails = lambda _: FAULTS["refused"] if next(calls) % (number + 2) == 0 else None

    def refuse_one(self, number: int) -> None:
        """The registry stumbles over one instance."""
        for one in self._at(number):
            if one.registered is not None:
                self.registry.refuses[one.registered[1]] = FAULTS["refused"]

    def fence(self, _: int) -> None:
        """The lease is about to be lost: no write is sent."""
        self.recover(0)
        self.registry.fails = lambda what: FencedError("fenced", "not sent") if what == "write-status" else None

    def recover(self, _: int) -> None:
        self.registry.failure = self.registry.fails = self.registry.after_write = None
        self.registry.refuses.clear()
        self.registry.available()

    # --- the operator ----------------------------------------------------------------------

    def stand_by(self, _: int) -> None:
        self.leading = self.writing = False
        self.world.engine.stand_by()

    def lead(self, _: int) -> None:
        if not self.leading:
            self.leading = self.writing = True
            self.world.engine.start_writing()

    async def kill(self, number: int) -> None:
        """The process ends and another one begins: it is shown all pods before it writes."""
        await self.world.engine.drain(0.0 if number % 2 else 5.0)
        self.writing = False
        self.wanted.clear()
        self.registry.services_known = False
        self.world.restart()
        for one in self.pods.values():
            self._show(one)
            await asyncio.sleep(0.01 * number)
        self.writing = self.leading
        if self.leading:
            self.world.engine.start_writing()
        else:
            self.world.engine.stand_by()

    def wait(self, _: int) -> None:
        """Time passes."""

    # --- what must be true -----------------------------------------------------------------

    def redundant(self) -> Iterator[str]:
        """Writes of what was there already, where nobody else has had a hand in it."""
        if not self.tampered:
            yield from (f"redundant: {write}" for write in self.world.redundant())

    def unsettled(self) -> Iterator[str]:
        """Every instance whose status is not what its pod calls for."""
        for one in self.pods.values():
            wanted = desired(one.raw(), self.world.settings)
            if not wanted.managed or one.registered is None or one.registered[0] != one.service:
                continue
            status = self.world.status(one.registered[1], one.service)
            if status != wanted.status:
                yield f"{one.registered[1]} is {status}, but {one.name} calls for {wanted.status} ({wanted.reason})"

    def left_behind(self) -> Iterator[str]:
        """What is remembered though no pod is left."""
        engine = self.world.engine
        kept: dict[str, Any] = {
            "records": list(engine._records),
            "names": engine._records._shared,
            "instances": list(engine._delivery.instances),
            "services": engine._delivery.instances.services(),
            "waiting": engine._delivery._retries._waiting,
            "slots": engine._workers._slots,
            "repairs": engine._resync._repairs,
        }
        yield from (f"{name}: {what}" for name, what in kept.items() if what)

    def _check(self, service: str, instance: str, status: InstanceStatus) -> None:
        """Called as a write is sent."""
        owner = self.owners[instance]
        wanted = self.wanted.get(owner.uid)
        leftover = status is InstanceStatus.DOWN and (service, instance) != owner.registered
        unsure = status is InstanceStatus.DOWN and wanted is not None and wanted.auto and not self.registry.services_known
        what = f"at {_now():g}: {status} to {instance}"
        if not self.writing:
            self.wrongs.append(f"{what} while standing by or held")
        if wanted is None or wanted.target is None:
            self.wrongs.append(f"{what}, whose pod is not ours ({wanted})")
        elif wanted.target.service_id != service:
            self.wrongs.append(f"{what} in {service}, but the pod names {wanted.target.service_id}")
        elif status is not wanted.status and not leftover and not unsure:
            self.wrongs.append(f"{what}, but its pod calls for {wanted.status} ({wanted.reason})")

    # --- inside ----------------------------------------------------------------------------

    def _at(self, number: int) -> list[StoryPod]:
        one = self.pods.get(number % 3)
        return [one] if one is not None else []

    def _show(self, one: StoryPod, *, deleted: bool = False) -> None:
        wanted = desired(one.raw(), self.world.settings, deleted=deleted)
        if not deleted or one.uid in self.wanted:
            self.wanted[one.uid] = wanted
        self.world.engine.take(wanted, deleted=deleted)

    def _annotate(self, number: int, **annotations: str) -> None:
        for one in self._at(number):
            one.annotations |= annotations
            self._show(one)

    def _stop(self, one: StoryPod) -> None:
        """The container ends, and with it the heartbeats."""
        one.container, one.registered = "exited", None
        if one.ready:
            one.ready, one.ready_since = False, _now()

    def _remove(self, one: StoryPod) -> None:
        one.terminating, one.registered, one.ready = True, None, False
        del self.pods[one.place]

    def _register(self, one: StoryPod, instance: str) -> None:
        new = NewInstance(
            instance_id=instance,
            host_name=one.name,
            endpoints=(f"rest://{one.ip}:8080",),
            properties={"podUid": one.uid} if one.tells_uid else {},
            interval=30,
            times=3,
        )
        self.owners[instance] = one
        one.registered = (one.service, self.world.state.register(one.service, new))

    def _by_console(self, number: int, status: InstanceStatus) -> None:
        for one in self._at(number):
            if one.registered is not None:
                self._tamper()
                self._quietly(self.world.state.put_status, *one.registered, status)

    def _tamper(self) -> None:
        self.tampered += 1

    @staticmethod
    def _quietly(change: Callable[..., object], *arguments: object) -> None:
        """The instance may have expired a moment ago."""
        try:
            change(*arguments)
        except Refusal:
            return

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            for one in self.pods.values():
                if one.registered is not None:
                    self._register_or_renew(one, *one.registered)

    def _register_or_renew(self, one: StoryPod, service: str, instance: str) -> None:
        try:
            self.world.state.heartbeat(service, instance)
        except Refusal:
            self._register(one, instance)


@contextmanager
def internal_errors() -> Iterator[list[str]]:
    """What is logged of errors that nobody expected: those that come with a traceback."""
    found: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info:
                found.append(self.format(record))

    logger, handler = logging.getLogger("registry_status"), Keep(logging.ERROR)
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


def _now() -> float:
    """Seconds since the story began, which is when test pods' clocks read START."""
    return asyncio.get_running_loop().time() - 1000.0
