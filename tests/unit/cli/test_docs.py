"""docs/cli.md says what the commands do: states, levels, exit statuses and the forms of data."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from registry_status.cli import check, plan
from registry_status.cli.checks.finding import Area, Finding, Level
from registry_status.cli.explain import as_json
from registry_status.cli.explaining import explain_offline
from registry_status.cli.judging import Candidates, State, judge
from registry_status.cli.planning import Plan
from registry_status.config import Settings
from registry_status.pods.status import desired
from registry_status.registry.base import Instance
from tests.pods import START, pod

TEXT = (Path(__file__).parents[3] / "docs" / "cli.md").read_text("utf-8")
EXAMPLES: dict[str, dict[str, Any]] = {
    found["kind"]: found for found in map(json.loads, re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL))
}


def shape(data: object) -> object:
    """The keys and the types of a document."""
    if isinstance(data, dict):
        return {key: shape(value) for key, value in data.items()}
    return [shape(data[0])] if isinstance(data, list) and data else type(data)


@pytest.mark.parametrize("words", [State, Level, Area])
def test_every_word_is_documented(words: type[State | Level | Area]) -> None:
    assert [word for word in words if f"`{word}`" not in TEXT] == []


def test_whether_a_state_is_out_of_step_is_documented() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \|.*\| (yes|no) \|$", TEXT, re.MULTILINE))
    assert rows == {state: "yes" if state.out_of_step else "no" for state in State}


def test_the_form_of_a_plan_is_as_documented() -> None:
    raw = pod({"service": "cart", "app": "shop"}, ready="False")
    instance = Instance("i-1", "s-1", "UP", host_name="cart-1", registered_at=int(START) + 3)
    judged = judge(desired(raw, Settings()), Candidates([instance]), lambda one: one.status, START + 60)
    told = plan.as_data(Plan([judged], unmanaged=7), [judged])
    assert shape(told) == shape(EXAMPLES["Plan"])
    assert list(told) == list(EXAMPLES["Plan"])


def test_the_form_of_a_check_is_as_documented() -> None:
    told = check.as_data([Finding(Level.ERROR, Area.REGISTRY, "x", "y")])
    assert shape(told) == shape(EXAMPLES["Check"])
    assert (told["ok"], told["summary"]) == (False, EXAMPLES["Check"]["summary"])


def test_the_fields_of_explain_are_documented() -> None:
    told = as_json(explain_offline(pod({"service": "cart"}), Settings()))
    rows = re.findall(r"^\| (`[^|]+`) \|", TEXT.partition("## explain")[2].partition("## A dry run")[0], re.MULTILINE)
    assert [name for row in rows for name in re.findall(r"`(\w+)`", row)] == list(told)
    target = told["target"]
    assert isinstance(target, dict)
    assert [name for name in target if f"`{name}`" not in TEXT] == []
