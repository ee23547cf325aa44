"""Whole pod histories, recorded from a real kubelet: after each event the status is the one expected of it."""

import json
from pathlib import Path

import pytest

from registry_status.config import Settings
from registry_status.pods.status import Judge

HISTORIES = sorted((Path(__file__).parents[2] / "data" / "pods").glob("*.json"))


def test_there_are_histories() -> None:
    assert len(HISTORIES) >= 8


@pytest.mark.parametrize("history", HISTORIES, ids=lambda path: path.stem)
def test_every_event_yields_the_status_expected_of_it(history: Path) -> None:
    events = json.loads(history.read_text())["events"]
    judge = Judge(Settings())
    answers = [judge.desired(one["event"]["object"], deleted=one["event"]["type"] == "DELETED") for one in events]
    assert [answer.status for answer in answers] == [one["expect"] for one in events]
    assert all(answer.message for answer in answers)
