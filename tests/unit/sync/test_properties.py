"""The engine under random interleavings of events, faults and restarts: what is always true, and what comes true in the end."""

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_status.model import InstanceStatus
from registry_status.sync.delivery import GIVE_UP_AFTER, GONE_FOR
from registry_status.sync.resync import FIGHT_REPAIRS, FIGHT_WINDOW
from registry_status.sync.retries import AFTER_REJECTION
from tests.properties import BRIEFER, PROFILE, TIMEOUT
from tests.story import FAULTS, ROUND, Step, Story, internal_errors
from tests.virtual_time import run_virtual
from tests.world import SERVICE, World

OFTEN = ("create", "start", "flip", "flip", "register", "resume", "recover", "lead")
"""What keeps stories going: without it most of their steps would find no pod, no instance or no leader."""
PODS = ("restart", "crash", "terminate", "delete", "hand_back_and_delete", "vanish")
ANNOTATIONS = ("pause", "misspell", "give_away", "move")
SDKS = ("register_again", "unregister", "expire", "console_up", "console_down")
TROUBLES = ("fail", "stumble", "refuse_one", "lose_answers", "fence", "stand_by", "kill")
THEN = (0.0, 0.0, 0.003, 0.008, 0.1, 1.3, 2.6, 5.0, 35.0, 130.0)
"""Nothing, the middle of a request, after it, a poll, a lasting outage, a resync, a lease."""

WORDS = (*OFTEN * 3, *PODS, *ANNOTATIONS, *SDKS, *TROUBLES)
CASTS = (tuple(range(7)), (0, 4), (1,), (3,))
"""The pods of a story: many that stand in each other's way, or one to which much happens."""
delays = st.sampled_from((0.005, 0.2, 2.0))
"""Seconds that a request takes, there and back each."""


@st.composite
def stories(draw: st.DrawFn) -> list[Step]:
    """Begins with pods in operation as a rule: what comes then is more telling than what does not happen without."""
    cast = draw(st.sampled_from(CASTS))
    pauses = st.sampled_from(draw(st.sampled_from((THEN, THEN[:8]))))
    opening = [
        Step(what, number, draw(pauses))
        for number in draw(st.sets(st.sampled_from(cast), max_size=3))
        for what in ("create", "start", "register", "ready")
    ]
    steps = st.sampled_from(WORDS).flatmap(
        lambda what: st.builds(
            Step,
            what=st.just(what),
            number=st.integers(0, 6) if what in TROUBLES else st.sampled_from(cast),
            then=pauses,
        )
    )
    least = draw(st.sampled_from((0, 10, 30)))
    return [*opening, *draw(st.lists(steps, min_size=least, max_size=50))]


async def _play(told: list[Step], delay: float, darkness: int | None) -> list[str]:
    story = Story(delay)
    await story.tell(told)
    await story.end_of_troubles()
    wrongs = [*story.redundant(), *story.unsettled()]
    story.registry.writes.clear()
    await story.world.pass_time(3 * ROUND)
    wrongs += [*story.unsettled(), *(f"written in peace: {write}" for write in story.registry.writes)]
    if darkness is not None:
        story.fail(darkness)
    await story.end_of_pods()
    await story.world.pass_time(max(GONE_FOR, GIVE_UP_AFTER) + 2 * AFTER_REJECTION)
    return [*wrongs, *story.wrongs, *story.left_behind()]


@pytest.mark.timeout(TIMEOUT)
@PROFILE
@given(told=stories(), delay=delays, darkness=st.none() | st.integers(0, len(FAULTS) - 1))
def test_no_write_contradicts_its_pod_and_all_is_right_in_the_end_and_nothing_is_left_of_pods_long_gone(
    told: list[Step], delay: float, darkness: int | None
) -> None:
    with internal_errors() as errors:
        assert run_virtual(_play(told, delay, darkness)) == []
    assert errors == []


meddlings = st.lists(
    st.tuples(st.sampled_from(InstanceStatus), st.sampled_from((0.7, 7.0, 31.0, 90.0))), min_size=1, max_size=12
)
"""What somebody else writes, and the seconds until their next write: over and over."""


@pytest.mark.timeout(TIMEOUT)
@BRIEFER
@given(meddling=meddlings, delay=delays)
def test_who_writes_against_us_all_the_time_does_not_make_us_write_all_the_time(
    meddling: list[tuple[InstanceStatus, float]], delay: float
) -> None:
    async def play() -> list[float]:
        world = World()
        world.registry.delay = delay
        instance = world.register()
        world.see(ready="False", ready_since=9)
        await world.pass_time(15)
        ours = world.registry.writes
        ours.clear()
        loop = asyncio.get_running_loop()
        end = loop.time() + 2 * FIGHT_WINDOW + ROUND
        for status, pause in itertools.cycle(meddling):
            if loop.time() > end:
                return [write.at for write in ours]
            world.state.put_status(SERVICE, instance, status)
            await world.pass_time(pause)
        raise AssertionError

    moments = run_virtual(play())
    for first in moments:
        assert sum(first <= moment < first + FIGHT_WINDOW for moment in moments) <= FIGHT_REPAIRS
