"""Keyed workers under random interleavings: whatever happens around it, no wake is lost and no key runs twice at once."""

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_status.sync.worker import AFTER_ERROR, KeyedWorkers
from tests.properties import PROFILE, TIMEOUT
from tests.virtual_time import run_virtual

KEYS = "abc"
AGES = (0.0, 0.01, 0.5, 1.0, 3.0)


@pytest.fixture(autouse=True)
def no_internal_errors() -> None:
    """Here they are made on purpose."""


@dataclass(frozen=True)
class Run:
    """What one run of the work does."""

    takes: float
    again_in: float | None = None
    fails: bool = False


@dataclass(frozen=True)
class Step:
    """Something done to the workers, and the seconds that pass then."""

    what: str
    keys: str = ""
    then: float = 0.0


@dataclass
class Watched:
    """Workers whose work is watched: what was asked for and has not begun yet, what runs, and what is due."""

    runs: list[Run]
    running: set[str] = field(default_factory=set)
    owed: set[str] = field(default_factory=set)
    """Keys woken since their last run began, and since the last hold."""
    due: dict[str, float] = field(default_factory=dict)
    """When a key wants to run again, at the latest."""
    held: bool = False
    woken_before_hold: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.workers = KeyedWorkers(self._work)

    async def _work(self, key: str) -> float | None:
        self._begin(key)
        run = self.runs.pop() if self.runs else Run(0.0)
        try:
            await asyncio.sleep(run.takes)
        finally:
            self.running.discard(key)
        if run.fails:
            self._wants(key, AFTER_ERROR)
            raise ArithmeticError(key)
        self._wants(key, run.again_in)
        return run.again_in

    def _wants(self, key: str, again_in: float | None) -> None:
        if again_in is not None and not self.held:
            self.due[key] = _now() + again_in

    def _begin(self, key: str) -> None:
        if key in self.running:
            self.faults.append(f"{key} runs twice at once")
        if self.held and key not in self.woken_before_hold:
            self.faults.append(f"{key} begins while held")
        self.running.add(key)
        self.owed.discard(key)
        self.due.pop(key, None)

    async def do(self, step: Step) -> None:
        match step.what:
            case "wake":
                for key in step.keys:
                    if not self.held:
                        self.owed.add(key)
                    self.workers.wake(key)
            case "hold":
                self._hold()
            case "restart":
                self._restart(step.keys)
            case "drain":
                await self._drain(step.then)
        await asyncio.sleep(step.then)
        self._look_for_late()

    def _hold(self) -> None:
        """From now on nothing has to run; what was woken before may, and what is due at this very moment."""
        if not self.held:
            self.woken_before_hold = self.owed | {key for key, moment in self.due.items() if moment <= _now()}
        self.held = True
        self.owed, self.due = set(), {}
        self.workers.hold()

    def _restart(self, keys: str) -> None:
        self.held = False
        self.owed, self.due = set(keys), {}
        self.workers.restart(keys)

    async def _drain(self, timeout: float) -> None:
        """As the engine does it: nothing new is started, and what still runs at the end is cut off."""
        await self.do(Step("hold"))
        finished = await self.workers.drain(timeout)
        await asyncio.sleep(0)  # what ended at the very moment of the timeout is put away
        if self.running:
            self.faults.append(f"{self.running} run after the drain")
        if finished and self.workers.busy:
            self.faults.append("drained, but busy")

    def _look_for_late(self) -> None:
        late = {key for key, moment in self.due.items() if moment < _now()}
        if not self.held and late - self.running:
            self.faults.append(f"{late} should have run again by now")

    async def finish(self) -> None:
        """Let everything come to rest."""
        if self.held:
            self._restart(KEYS)
        await asyncio.sleep(len(self.runs) * (AFTER_ERROR + max(AGES)) + 2 * AFTER_ERROR)
        if self.owed:
            self.faults.append(f"wakes of {self.owed} are lost")
        if self.due:
            self.faults.append(f"{self.due} never ran again")
        if self.workers._slots:
            self.faults.append(f"left behind: {self.workers._slots}")


def _now() -> float:
    return asyncio.get_running_loop().time()


ages = st.sampled_from(AGES)
keys = st.text(alphabet=KEYS, max_size=3)
runs = st.builds(Run, takes=ages, again_in=st.none() | ages, fails=st.booleans())
steps = st.builds(
    Step, what=st.sampled_from(("wake", "wake", "wake", "wait", "hold", "restart", "drain")), keys=keys, then=ages
)


@pytest.mark.timeout(TIMEOUT)
@PROFILE
@given(runs=st.lists(runs, max_size=12), steps=st.lists(steps, max_size=30))
def test_no_wake_is_lost_no_key_runs_twice_at_once_and_nothing_is_left_behind(runs: list[Run], steps: list[Step]) -> None:
    async def play() -> list[str]:
        watched = Watched(list(runs))
        for step in steps:
            await watched.do(step)
        await watched.finish()
        return watched.faults

    assert run_virtual(play()) == []
