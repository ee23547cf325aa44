"""Whole replicas that share a Lease, on virtual time: the operator's election, engine and client, wired as `app` wires them.

Each is a process that may freeze or die at any moment, before an API server and a registry that are reached badly. What was
sent arrives all the same, when its sender may lead no more. People change the Lease meanwhile.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar
from unittest.mock import Mock

import httpx

from registry_status.app import DRAIN, _Office
from registry_status.cluster.api import UNREACHABLE, ApiError, Json
from registry_status.cluster.lease import RELEASED, RETRY, Elector
from registry_status.model import Desired, Outcome
from registry_status.pods.status import desired
from registry_status.registry.servicecomb import ServiceComb
from registry_status.registry.transport import AiohttpTransport
from registry_status.report.events import EventRecorder, MutedEventApi
from registry_status.report.metrics import Metrics
from registry_status.report.reporter import Reporter
from registry_status.sync.engine import Engine
from registry_status.sync.resync import FIGHT_WINDOW
from tests.network import LATE, TROUBLES, Network, Trouble, trouble_met
from tests.pods import START
from tests.story import ROUND, Step, Story, StoryPod, internal_errors
from tests.unit.cluster.fake_lease import REF, FakeLeaseApi, LeaseStore
from tests.virtual_time import FreezingLoop, Process, outside, run_virtual

Result = TypeVar("Result")
WAYS = (0.005, 0.05, 0.3)
"""Seconds that a request is on its way, there and back each."""
REFUSALS = {"refused": 0, "unauthorized": 401, "forbidden": 403, "busy": 429, "fails": 500, "unwilling": 503}
API_TROUBLES = ("late", "slow", "lost", "answer-lost", "broken", "foreign", *REFUSALS)
FREEZES = (0.5, 2.0, 3.9, 4.5, 5.2, 5.6, 6.5, 20.0)
LONGER = 20
"""Seconds of a Lease whose duration somebody changes."""
OPENING = ("create", "start", "register", "ready")
WORDS = (*("flip",) * 9, *("hurt", "replace", "freeze", "change_lease", "recover") * 2, *OPENING, "restart", "delete", "crash")
PAUSES = (0.0, 0.02, 0.3, 1.0, 1.0, 3.0, 7.0)


class LeaseApi(FakeLeaseApi):
    """One replica's way to the Lease."""

    def __init__(self, store: LeaseStore, latency: float, chance: random.Random) -> None:
        super().__init__(store, latency)
        self.troubles: list[Trouble] = []
        self._chance = chance

    async def _call(self, method: str, path: str, act: Callable[[], Json]) -> Json:
        return await outside(self._exchange(trouble_met(self.troubles, method.upper(), path, self._chance), act))

    async def _exchange(self, kind: str, act: Callable[[], Json]) -> Json:
        way = self.latency * self._chance.uniform(0.5, 2.0)
        await asyncio.sleep(self._chance.uniform(1.0, LATE[1]) if kind == "late" else way)
        if kind in REFUSALS:
            raise ApiError(REFUSALS[kind], kind if REFUSALS[kind] else UNREACHABLE, kind)
        answer = act() if kind != "lost" else {}
        if kind == "broken":
            raise ApiError(0, UNREACHABLE, kind)
        await asyncio.sleep({"slow": 1.9, "lost": 3600.0, "answer-lost": 3600.0}.get(kind, way))
        return answer if kind != "foreign" else {}


class Line(AiohttpTransport):
    """The client's own transport with its fence and its limits, but a network in place of connections."""

    def __init__(self, network: Network, fence: Elector, sends: Callable[[httpx.Request], None]) -> None:
        super().__init__(fence=fence)
        self._network, self._sends = network, sends
        self._connection = Mock(is_quiet=False)

    async def _connect(self, request: httpx.Request, began: float) -> Any:
        return self._connection

    async def _answer(self, protocol: object, request: httpx.Request) -> httpx.Response:
        self._sends(request)
        return await self._network.handle_async_request(request)


class Replica(Reporter):
    """One of them, on a machine whose clocks are its own. Its reporter as well: to know who tells what."""

    def __init__(self, story: "Replicas", name: str) -> None:
        self._metrics = Metrics()
        super().__init__(EventRecorder(MutedEventApi(), self._metrics), self._metrics)
        self._story, self._name = story, name
        self.stopping = False
        self.process = Process()
        self.process.context.run(self._start, random.Random(story.chance.random()))

    def __repr__(self) -> str:
        return self._name

    def _start(self, chance: random.Random) -> None:
        story, loop, ahead = self._story, asyncio.get_running_loop(), chance.uniform(0, 1e6)
        self.api = LeaseApi(story.store, chance.choice(WAYS), chance)
        clocks = {"clock": lambda: loop.time() + ahead, "wall_clock": lambda: 1e9 + ahead}
        self.elector = Elector(self.api, REF, self._name, chance=chance, **clocks)
        line = Line(Network(story.world.state, chance, story.delay, story.troubles), self.elector, self._sends)
        self._client = ServiceComb(["http://registry:30100"], transport=line, fence=self.elector, clock=loop.time)
        self.engine = Engine(self._client, self, chance=chance, wall_clock=lambda: START + _now())
        office = _Office(self.engine, self, self._metrics, self.elector, None, None)
        office.open()
        loop.call_later(chance.uniform(0.05, 1.5), office.listed)

    @property
    def may_write(self) -> bool:
        return not self.process.dead and self.elector.remaining() > 0

    def see(self, wanted: Desired, *, deleted: bool = False) -> None:
        """Its watch shows a pod."""
        if not self.stopping:
            take = partial(self.engine.take, wanted, deleted=deleted)
            asyncio.get_running_loop().call_soon(take, context=self.process.context)

    def stop(self) -> "asyncio.Task[None]":
        self.stopping = True
        return asyncio.create_task(self._stop(), context=self.process.context)

    async def _stop(self) -> None:
        """As `run_operator` and its rooms end."""
        self.elector.withdraw()
        await self.engine.drain(DRAIN)
        await self._client.__aexit__(None, None, None)
        await self.elector.resign()
        self.process.dead = True

    def outcome(self, outcome: Outcome) -> None:
        if not self.elector.leading:
            self._story.wrong(f"{self} tells {outcome.kind} of {outcome.pod.name} while standing by")
        super().outcome(outcome)

    def _sends(self, request: httpx.Request) -> None:
        what = f"{self} asks {request.method} {request.extensions['target'].decode()}"
        self._story.say(what)
        if not self.elector.leading:
            self._story.wrong(f"{what} while standing by")
        if request.method == "PUT" and self._story.leaders() != [self]:
            self._story.wrong(f"{what}, but {self._story.leaders()} may write")


class Replicas(Story):
    """A story whose operator is two or three replicas; who goes is replaced, as by a Deployment."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.delay = self.chance.choice(WAYS)
        super().__init__(self.delay)
        self.account = [f"seed {seed}"]
        self.store = LeaseStore()
        self.troubles: list[Trouble] = []
        """On the way to the registry."""
        self.replicas: list[Replica] = []
        self._ending: list[asyncio.Task[None]] = []
        for _ in range(self.chance.choice((2, 2, 3))):
            self._start_one()
        self._watching = asyncio.create_task(self._watch())

    def leaders(self) -> list[Replica]:
        return [one for one in self.replicas if one.may_write]

    @property
    def lag(self) -> float:
        """Seconds that the ways of requests add to a bound."""
        return 8 * (self.delay + max(one.api.latency for one in self.replicas))

    # --- what happens ----------------------------------------------------------------------

    async def in_operation(self) -> Replica:
        """Three pods, and one who leads. Returns it, at any moment between two renewals."""
        await self.tell([Step(what, place, 0.3) for place in range(3) for what in OPENING])
        await self.until(lambda: self.is_settled() and len(self.leaders()) == 1, 20.0)
        await asyncio.sleep(self.chance.uniform(3.0, 6.0))
        (leader,) = self.leaders()
        return leader

    def some_steps(self) -> list[Step]:
        return [Step(self.chance.choice(WORDS), self.chance.randrange(6), self.chance.choice(PAUSES)) for _ in range(50)]

    def freeze(self, _: int) -> None:
        one, seconds = self._any(), self.chance.choice(FREEZES)
        self.say(f"{one} freezes for {seconds} s")
        one.process.frozen = True
        asyncio.get_running_loop().call_later(seconds, one.process.thaw)

    def replace(self, _: int) -> None:
        self.end_of(self._any(), killed=self.chance.random() < 0.5)

    def end_of(self, one: Replica, *, killed: bool) -> None:
        self.say(f"{one} is {'killed' if killed else 'told to stop'}")
        if killed:
            one.process.dead = True
        else:
            self._ending.append(one.stop())
        self._start_one()

    def hurt(self, number: int) -> None:
        """Something goes wrong from now on: between one of them and the API server, or all of them and the registry."""
        one, method, share = self._any(), self.chance.choice(("", "GET", "PUT")), self.chance.choice((1.0, 0.5, 0.2))
        troubles, kinds = (one.api.troubles, API_TROUBLES) if number else (self.troubles, TROUBLES)
        troubles.append(Trouble(self.chance.choice(kinds), method, share=share))
        self.say(f"{one if number else 'all'}: {troubles[-1]}")

    def recover(self, _: int) -> None:
        """All is well, but for what is on its way."""
        self.say("all is well")
        self.troubles.clear()
        for one in self.replicas:
            one.api.troubles.clear()
            one.process.thaw()

    def change_lease(self, _: int) -> None:
        """What people do, and backups. None of a released Lease: nobody could know that somebody leads."""
        name, edit = str(self._any()), self.store.edit
        backups = [one for one in self.store.kept if one["spec"]["leaseDurationSeconds"] != RELEASED]
        what, change = self.chance.choice((
            ("is deleted", self.store.delete),
            ("is annotated", edit),
            ("loses its holder", partial(edit, holderIdentity="")),
            ("becomes a stranger's", partial(edit, holderIdentity="stranger")),
            (f"is given to {name}", partial(edit, holderIdentity=name)),
            ("becomes longer", partial(edit, leaseDurationSeconds=LONGER)),
            ("is put back", partial(self.store.put_back, self.chance.choice(backups[-100:]))),
        ))  # fmt: skip
        self.say(f"the Lease {what}")
        change()

    async def end(self) -> list[str]:
        """Find what does not come right when all is well."""
        self.recover(0)
        late = LATE[1] + self.lag
        await self.until(lambda: len(self.leaders()) == 1, LONGER + 2 * RETRY + late)
        wrongs = [] if len(self.leaders()) == 1 else [f"{self.leaders()} lead"]
        await asyncio.sleep(late + ROUND)
        await self.until(self.is_settled, self.patience + FIGHT_WINDOW)
        before = len(self.account)
        await asyncio.sleep(2 * ROUND)
        wrongs += [*self.unsettled(), *(f"in peace: {line}" for line in self.account[before:] if " PUT " in line)]
        return [*wrongs, *("somebody does not end" for task in self._ending if not task.done())]

    async def close(self) -> None:
        """Cancel all tasks, those of the frozen and the dead as well."""
        for one in self.replicas:
            one.process.dead = False
            one.process.thaw()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.sleep(0)

    # --- what is seen of it ----------------------------------------------------------------

    async def until(self, condition: Callable[[], bool], within: float) -> float:
        """Wait, at most so long. Returns how long it took."""
        began = _now()
        while not condition() and _now() < began + within:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.05)
        return _now() - began

    def is_settled(self) -> bool:
        return not list(self.unsettled())

    def say(self, what: str) -> None:
        self.account.append(f"{_now():.2f}: {what}")

    def wrong(self, what: str) -> None:
        self.wrongs.append(f"{_now():.2f}: {what}")

    async def _watch(self) -> None:
        before: list[Replica] = []
        while True:
            leaders = self.leaders()
            if leaders != before:
                self.say(f"{leaders} lead")
            if len(leaders) > 1:
                self.wrong(f"{leaders} may write")
            before = leaders
            await asyncio.sleep(0.1)

    # --- inside ----------------------------------------------------------------------------

    def _show(self, one: StoryPod, *, deleted: bool = False) -> None:
        wanted = desired(one.raw(), self.world.settings, deleted=deleted)
        self.say(f"{one.name} calls for {wanted.status}")
        for replica in self.replicas:
            replica.see(wanted, deleted=deleted)

    def _start_one(self) -> None:
        one = Replica(self, f"replica-{len(self.replicas) + 1}")
        self.replicas.append(one)
        for shown in self.pods.values():
            one.see(desired(shown.raw(), self.world.settings))

    def _any(self) -> Replica:
        return self.chance.choice([one for one in self.replicas if not one.process.dead and not one.stopping])


def play(seed: int, story: Callable[[Replicas], Awaitable[Result]]) -> tuple[Replicas, Result]:
    """Have a story happen to the replicas of a seed."""

    async def happen() -> tuple[Replicas, Result]:
        replicas = Replicas(seed)
        try:
            return replicas, await story(replicas)
        finally:
            await replicas.close()

    with internal_errors() as errors:
        replicas, result = run_virtual(happen(), FreezingLoop)
    replicas.wrongs += errors
    return replicas, result


def _now() -> float:
    return asyncio.get_running_loop().time() - 1000.0
