"""Hours in minutes: pods change, small faults come and go, and nothing grows."""

import statistics
import time

import pytest

from registry_status.registry.devserver import Answer, Delay, Drop, Fault
from tests.chaos.stage import LONG, Stage, Usage, usage

SECONDS = 600 if LONG else 40
EVERY = SECONDS / 40
WARM = 10 if LONG else 20
"""Samples that are passed over: what runs for the first time takes memory to stay, for about 20 s."""
FAULTS = (Fault(Drop(), count=20), Fault(Delay(0.5), count=20), Fault(Answer(status=503), count=20))

pytestmark = pytest.mark.timeout(SECONDS + 240, func_only=True)


def test_nothing_grows(stage: Stage) -> None:
    with stage.operator() as run:
        samples: list[Usage] = []
        written, since = stage.registry.server.journal.total_writes, time.time()
        with stage.fleet.churning(40):
            for number in range(40):
                time.sleep(EVERY)
                if number % 4 == 0:
                    stage.registry.fail(FAULTS[number // 4 % len(FAULTS)])
                samples.append(usage(run))
        early, late = samples[WARM : WARM + 10], samples[30:]
        for what, allowed in (("mebibytes", 5.0), ("files", 8), ("tasks", 20)):
            grown = _median(late, what) - _median(early, what)
            assert grown <= allowed, f"{what} grew by {grown:g}: {[getattr(one, what) for one in samples]}"
        stage.registry.fail()
        stage.settle(15, run)
        assert stage.fleet.late(stage.registry.server.writes[written:], since) == []
        stage.note(f"soak of {SECONDS} s", run, SECONDS, 0.0, before=early[-1])


def _median(samples: list[Usage], what: str) -> float:
    return statistics.median(float(getattr(one, what)) for one in samples)
