"""The engine under random interleavings of events, faults and restarts: what is always true, and what becomes true in the end."""

from hypothesis import given
from hypothesis import strategies as st

from registry_status.sync.delivery import GIVE_UP_AFTER, GONE_FOR
from tests.properties import PROFILE
from tests.story import ROUND, Step, Story, internal_errors
from tests.virtual_time import run_virtual

PODS = ("create", "start", "restart", "crash", "ready", "unready", "terminate", "delete", "vanish")
ANNOTATIONS = ("pause", "resume", "misspell", "give_away", "move")
SDKS = ("register", "register_again", "unregister", "expire", "console_up", "console_down")
TROUBLES = ("fail", "lose_answers", "fence", "recover", "stand_by", "lead", "kill")
THEN = (0.0, 0.0, 0.003, 0.008, 0.1, 1.3, 5.0, 35.0, 130.0)
"""Nothing, the middle of a request, after it, a poll, a lasting outage, a resync, a lease."""

steps = st.builds(
    Step,
    what=st.sampled_from((*PODS, *PODS, *ANNOTATIONS, *SDKS, *TROUBLES, "wait")),
    number=st.integers(0, 6),
    then=st.sampled_from(THEN),
)
delays = st.sampled_from((0.005, 0.2, 2.0))
"""Seconds that a request takes, there and back each."""


@st.composite
def stories(draw: st.DrawFn) -> list[Step]:
    """Begins with pods in operation as a rule: what comes then is more telling than what does not happen without."""
    opening = [
        Step(what, number, draw(st.sampled_from(THEN[:6])))
        for number in draw(st.sets(st.integers(0, 5), max_size=3))
        for what in ("create", "start", "register", "ready")
    ]
    return [*opening, *draw(st.lists(steps, max_size=40))]


async def _play(told: list[Step], delay: float) -> list[str]:
    story = Story(delay)
    await story.tell(told)
    await story.end_of_troubles()
    wrongs = [*story.wrongs, *story.unsettled()]
    story.registry.writes.clear()
    await story.world.pass_time(3 * ROUND)
    wrongs += [*story.wrongs, *story.unsettled(), *(f"written in peace: {write}" for write in story.registry.writes)]
    await story.end_of_pods()
    await story.world.pass_time(max(GONE_FOR, GIVE_UP_AFTER) + 300)
    return wrongs + list(story.left_behind())


@PROFILE
@given(told=stories(), delay=delays)
def test_no_write_contradicts_its_pod_and_all_is_right_in_the_end_and_nothing_is_left_of_pods_long_gone(
    told: list[Step], delay: float
) -> None:
    with internal_errors() as errors:
        assert run_virtual(_play(told, delay)) == []
    assert errors == []
