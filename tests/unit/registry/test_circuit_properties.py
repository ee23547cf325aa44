"""Circuits under random failures and recoveries: a failing address is probed, not stormed, and is asked again once it works."""

import asyncio
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from registry_status.registry.addresses import AddressPool
from registry_status.registry.base import PermanentError, TransientError, UnavailableError
from registry_status.registry.circuit import PROBE_EVERY, PROBES_AT_ONCE, TRIP
from tests.properties import BRIEFER
from tests.virtual_time import run_virtual

URLS = ("http://a", "http://b")
LONGEST = 9.0
"""Seconds until an answer of one that hangs: more than there may be probes."""
SICK = "/0"
CODES = ("connect", "timeout", "http-503", "http-500", "http-429")


@dataclass(frozen=True)
class Question:
    """Something to ask for."""

    key: str
    is_looked_up: bool = True

    @property
    def probe(self) -> "Question":
        return self

    @property
    def neighbour(self) -> "Question":
        return Question("/neighbour")


@dataclass(frozen=True)
class Spell:
    """For so many seconds an address works or fails thus, and so many requests about different things are sent at its start."""

    lasts: float
    code: str = ""
    takes: float = 0.0
    requests: int = 0
    alone: bool = False
    """Only the first of these things fails, as it ever will."""


@dataclass
class Traffic:
    """Requests and probes of one pool, and what is wrong with them."""

    spell: Spell = Spell(0.0)
    probes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(URLS, 0))
    probed_at: dict[str, float] = field(default_factory=lambda: dict.fromkeys(URLS, float("-inf")))
    closed: int = 0
    wrongs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pool = AddressPool[Question](URLS, self._probe, None, asyncio.get_running_loop().time)
        self.pool.on_available(self._works_again)

    def _works_again(self) -> None:
        self.closed += 1

    async def _probe(self, url: str, asked: Question) -> None:
        now = asyncio.get_running_loop().time()
        if now - self.probed_at[url] < PROBE_EVERY - 1e-6:
            self.wrongs.append(f"{url} was probed again after {now - self.probed_at[url]:g} s")
        self.probed_at[url] = now
        self.probes[url] += 1
        if self.probes[url] > PROBES_AT_ONCE:
            self.wrongs.append(f"{self.probes[url]} probes of {url} at once")
        try:
            await self._answer(asked)
        finally:
            self.probes[url] -= 1

    async def _answer(self, asked: Question) -> None:
        if self.spell.alone and asked.key != SICK:
            return
        await asyncio.sleep(self.spell.takes)
        if self.spell.code == "refused":
            raise PermanentError("403001", "not for you, but it answers")
        if self.spell.code:
            raise TransientError(self.spell.code, "it fails")

    async def request(self, asked: Question) -> None:
        try:
            address = self.pool.pick()
        except UnavailableError:
            return
        try:
            await self._answer(asked)
        except TransientError as error:
            self.pool.failed(address, asked, error)
        except PermanentError:
            address.succeeded(asked)
        else:
            address.succeeded(asked)

    async def live_through(self, spell: Spell) -> None:
        self.spell = spell
        async with asyncio.TaskGroup() as group:
            for number in range(spell.requests):
                group.create_task(self.request(Question(f"/{number}")))
        await asyncio.sleep(spell.lasts)

    def available(self) -> bool:
        try:
            self.pool.pick()
        except UnavailableError:
            return False
        return True


spells = st.builds(
    Spell,
    lasts=st.sampled_from((0.0, 0.3, 1.0, 4.0, 20.0)),
    code=st.sampled_from(("", "refused", *CODES)),
    takes=st.sampled_from((0.0, 0.01, 0.7, LONGEST)),
    requests=st.sampled_from((0, 1, TRIP, 4 * TRIP)),
    alone=st.booleans(),
)


@BRIEFER
@given(st.lists(spells, max_size=15))
def test_probes_are_few_and_an_address_that_works_again_is_asked_again(told: list[Spell]) -> None:
    async def play() -> list[str]:
        traffic = Traffic()
        for spell in told:
            await traffic.live_through(spell)
        traffic.spell = Spell(0.0, "http-500", alone=True)
        await asyncio.sleep(LONGEST + 3 * PROBE_EVERY)  # what hangs has ended, and two more probes have got their answers
        if not traffic.available():
            traffic.wrongs.append("it works, but is not asked")
        await traffic.pool.aclose()
        left = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        return [*traffic.wrongs, *(f"{name} is left" for name in left)]

    assert run_virtual(play()) == []


@BRIEFER
@given(st.lists(spells, max_size=10))
def test_nothing_is_left_of_probes_when_the_pool_is_closed_in_an_outage(told: list[Spell]) -> None:
    async def play() -> list[str]:
        traffic = Traffic()
        for spell in told:
            await traffic.live_through(spell)
        await traffic.live_through(Spell(0.5, "connect", requests=4 * TRIP))
        await traffic.pool.aclose()
        return [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    assert run_virtual(play()) == []
