"""The chaos tests judge by these rules: they see what is wrong, and accept what is right."""

import pytest

from registry_status.registry.devserver import StatusWrite
from tests.chaos.truth import History, out_of_order, wrong

UP, OUT, DOWN, STARTING = "UP", "OUTOFSERVICE", "DOWN", "STARTING"


def history(*statuses: str) -> History:
    """Begin the first status at 0 and each next one ten seconds later."""
    made = History()
    for number, status in enumerate(statuses):
        made.says(status, 10.0 * number)
    return made


def writes(*told: tuple[float, str], instance: str = "i") -> list[StatusWrite]:
    return [
        StatusWrite(time=at, domain="d", project="p", service_id="s", instance_id=instance, before="?", after=status)
        for at, status in told
    ]


IN_ORDER = {
    "each in its time": [(1.0, UP), (11.0, OUT), (21.0, UP), (31.0, DOWN)],
    "some skipped": [(11.0, OUT), (31.0, DOWN)],
    "late, but not after a newer one": [(25.0, OUT), (26.0, UP)],
    "put back after it had drifted": [(11.0, OUT), (15.0, OUT)],
}
OUT_OF_ORDER = {
    "an older one after the newer": [(11.0, OUT), (21.0, UP), (22.0, OUT)],
    "one that the pod never had": [(11.0, STARTING)],
    "one that the pod only has later": [(9.0, OUT)],
    "anything after the end": [(31.0, DOWN), (32.0, UP)],
}


@pytest.mark.parametrize("told", IN_ORDER.values(), ids=IN_ORDER.keys())
def test_what_is_in_order_is_accepted(told: list[tuple[float, str]]) -> None:
    assert out_of_order(writes(*told), {"i": history(UP, OUT, UP, DOWN)}, frozenset()) == []


@pytest.mark.parametrize("told", OUT_OF_ORDER.values(), ids=OUT_OF_ORDER.keys())
def test_what_is_out_of_order_is_seen(told: list[tuple[float, str]]) -> None:
    assert len(out_of_order(writes(*told), {"i": history(UP, OUT, UP, DOWN)}, frozenset())) == 1


def test_a_status_that_comes_back_does_not_hide_an_older_write_before_it() -> None:
    told = writes((11.0, OUT), (21.0, UP), (22.0, OUT), (31.0, OUT))
    assert len(out_of_order(told, {"i": history(UP, OUT, UP, OUT)}, frozenset())) == 1


def test_what_was_over_when_the_fault_began_must_not_be_written_at_all() -> None:
    told = writes((25.0, OUT))
    assert out_of_order(told, {"i": history(UP, OUT, UP)}, frozenset()) == []
    assert len(out_of_order(told, {"i": history(UP, OUT, UP)}, frozenset(), since=24.0)) == 1


def test_only_down_is_free_for_an_earlier_lifes_instance() -> None:
    told = writes((11.0, DOWN), (12.0, STARTING))
    problems = out_of_order(told, {"i": history(UP, OUT)}, frozenset({"i"}))
    assert ["STARTING" in problem for problem in problems] == [True]


@pytest.mark.parametrize(
    ("pod", "found", "problems"),
    [
        ([UP], {"old": DOWN, "new": UP}, 0),
        ([UP], {"old": UP, "new": UP}, 1),
        ([UP], {"new": DOWN}, 1),
        ([UP, OUT], {"old": OUT, "new": OUT}, 0),
        ([UP, OUT], {"old": DOWN, "new": OUT}, 1),
        ([UP, DOWN], {"old": DOWN, "new": UP}, 1),
        ([UP], {"old": DOWN}, 1),
    ],
)
def test_up_is_for_the_present_lifes_instance_and_all_else_for_every_one(
    pod: list[str], found: dict[str, str], problems: int
) -> None:
    assert len(wrong(found, ["old", "new"], history(*pod))) == problems
