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
CODES = ("connect", "timeout", "http-503", "http-500", "http-429")


@dataclass(frozen=True)
class Spell:
    """For so many seconds an address works or fails thus, and so many requests about different things are sent at its start."""

    lasts: float
    code: str = ""
    takes: float = 0.0
    requests: int = 0


@dataclass
class Traffic:
    """Requests and probes of one pool, and what is wrong with them."""

    spell: Spell = Spell(0.0)
    probes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(URLS, 0))
    probed_at: dict[str, float] = field(default_factory=lambda: dict.fromkeys(URLS, float("-inf")))
    closed: int = 0
    wrongs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pool = AddressPool(URLS, self._probe, None, asyncio.get_running_loop().time)
        self.pool.on_available(self._works_again)

    def _works_again(self) -> None:
        self.closed += 1

    async def _probe(self, url: str, path: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self.probed_at[url] < PROBE_EVERY - 1e-6:
            self.wrongs.append(f"{url} was probed again after {now - self.probed_at[url]:g} s")
        self.probed_at[url] = now
        self.probes[url] += 1
        if self.probes[url] > PROBES_AT_ONCE:
            self.wrongs.append(f"{self.probes[url]} probes of {url} at once")
        if not path:
            self.wrongs.append(f"{url} is probed for nothing that failed")
        try:
            await self._answer()
        finally:
            self.probes[url] -= 1

    async def _answer(self) -> None:
        await asyncio.sleep(self.spell.takes)
        if self.spell.code == "refused":
            raise PermanentError("403001", "not for you, but it answers")
        if self.spell.code:
            raise TransientError(self.spell.code, "it fails")

    async def request(self, path: str) -> None:
        try:
            address = self.pool.pick()
        except UnavailableError:
            return
        try:
            await self._answer()
        except TransientError as error:
            self.pool.failed(address, path, error)
        except PermanentError:
            address.succeeded()
        else:
            address.succeeded()

    async def live_through(self, spell: Spell) -> None:
        self.spell = spell
        async with asyncio.TaskGroup() as group:
            for number in range(spell.requests):
                group.create_task(self.request(f"/{number}"))
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
)


@BRIEFER
@given(st.lists(spells, max_size=15))
def test_probes_are_few_and_an_address_that_works_again_is_asked_again(told: list[Spell]) -> None:
    async def play() -> list[str]:
        traffic = Traffic()
        for spell in told:
            await traffic.live_through(spell)
        traffic.spell = Spell(0.0)
        await asyncio.sleep(LONGEST + 2 * PROBE_EVERY)  # what hangs has ended, and one more probe has got its answer
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
