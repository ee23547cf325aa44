"""A shared budget: how much it lets through in any stretch of time, and in which order."""

from hypothesis import given
from hypothesis import strategies as st

from registry_status.sync.budget import Budget
from tests.properties import BRIEFER

pauses = st.lists(st.sampled_from((0.0, 0.0, 0.0, 0.01, 0.3, 1.0, 60.0)), min_size=1, max_size=300)


@BRIEFER
@given(pauses, st.sampled_from((0.5, 20.0, 50.0)), st.sampled_from((1.0, 3.0, 40.0)))
def test_no_stretch_of_time_has_more_turns_than_burst_and_rate_allow(pauses: list[float], rate: float, burst: float) -> None:
    budget, now = Budget(rate, burst), 0.0
    turns: list[float] = []
    for pause in pauses:
        now += pause
        turns.append(now + budget.take(now))
    assert turns == sorted(turns)  # who asks first is served first
    for first, begin in enumerate(turns):
        for count, end in enumerate(turns[first:], start=1):
            assert count <= burst + (end - begin) * rate + 1 + 1e-6


@given(st.integers(1, 50), st.floats(0, 100))
def test_a_refilled_budget_has_its_whole_burst(taken: int, later: float) -> None:
    budget = Budget(1.0, 10.0)
    for _ in range(taken):
        budget.take(0.0)
    budget.refill()
    assert [budget.take(later) for _ in range(10)] == [0.0] * 10
    assert budget.take(later) == 1.0
