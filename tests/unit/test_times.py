from datetime import datetime

import pytest

from registry_status.times import timestamp


def test_kubernetes_times_have_whole_seconds() -> None:
    assert timestamp(1_790_000_000.999) == timestamp(1_790_000_000) == "2026-09-21T14:13:20Z"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (253_402_300_799.9, "9999-12-31T23:59:59Z"),
        (253_402_300_800, "9999-12-31T23:59:59Z"),
        (10**30, "9999-12-31T23:59:59Z"),
        (float("inf"), "9999-12-31T23:59:59Z"),
        (-62_135_596_800, "0001-01-01T00:00:00Z"),
        (-62_135_596_801, "0001-01-01T00:00:00Z"),
        (float("-inf"), "0001-01-01T00:00:00Z"),
        (datetime.fromisoformat("9999-12-31T23:59:59-23:59").timestamp(), "9999-12-31T23:59:59Z"),
        (-0.5, "1969-12-31T23:59:59Z"),
    ],
)
def test_a_time_beyond_those_that_can_be_written_is_the_last_or_first_that_can(seconds: float, shown: str) -> None:
    assert timestamp(seconds) == shown
    assert len(shown) == len("2026-01-05T10:00:00Z")
