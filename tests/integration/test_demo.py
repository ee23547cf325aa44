"""The demo, whole: the real operator between the emulated cluster and the in-memory registry."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from io import StringIO

import pytest
from rich.console import Console

from registry_status.app import run_operator
from registry_status.cli import demo
from registry_status.config import Settings
from registry_status.demo.performance import perform
from registry_status.demo.stage import Stage
from registry_status.registry.devserver import Answer, Code, Fault

COMMAND = (sys.executable, "-m", "registry_status", "demo")


async def nobody(_stage: Stage, _settings: Settings) -> None:
    """An empty house."""
    await asyncio.Event().wait()


@pytest.mark.timeout(90)
def test_the_demo_passes_in_under_a_minute() -> None:
    done = subprocess.run([*COMMAND, "--speed", "2"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    *_, last = done.stdout.splitlines()
    assert last == "passed"
    changes = re.search(r"(\d+) status changes arrived in the registry, 0 redundant writes", done.stdout)
    assert changes is not None, done.stdout
    assert int(changes[1]) >= 18
    for told in ("CrashLoopBackOff", "Terminating", "OUTOFSERVICE", "InvalidRegistryAnnotation", "RegistryUpdateRecovered"):
        assert told in done.stdout


@pytest.mark.timeout(60)
async def test_statuses_that_do_not_arrive_are_named() -> None:
    refused = Fault(Answer.refusal(Code.INVALID_PARAMS), method="PUT", path="/status$")
    verdict = await perform(run_operator, nobody, speed=4.0, patience=2.0, faults=[refused])
    assert not verdict.passed
    assert "inventory-2: status OUTOFSERVICE did not come within 2 s" in verdict.faults
    assert "inventory-0: the registry should have said UP -> STARTING, and said UP" in verdict.faults


@pytest.mark.timeout(60)
def test_an_operator_that_does_nothing_fails_the_demo() -> None:
    async def idle(settings: Settings, *, stop: asyncio.Event, ready: asyncio.Event | None = None) -> None:
        assert ready is not None
        ready.set()
        await stop.wait()

    console = Console(file=StringIO())
    assert demo.show(idle, console, speed=4.0, patience=0.5) == 1


@pytest.mark.timeout(30)
def test_an_operator_that_dies_fails_the_demo() -> None:
    async def dying(settings: Settings, *, stop: asyncio.Event, ready: asyncio.Event | None = None) -> None:
        raise ValueError("no luck")

    output = StringIO()
    assert demo.show(dying, Console(file=output, width=200), speed=4.0) == 1
    assert "the operator ended by itself: ValueError: no luck" in output.getvalue()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("moment", ["operator started", "before the operator"])
def test_an_interrupt_ends_it_cleanly(moment: str) -> None:
    level = "info" if moment == "operator started" else "error"
    sign = "comparing with the registry" if moment == "operator started" else "inventory-2"
    with subprocess.Popen(
        [*COMMAND, "--log-level", level],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if sign in line:
                break
        running.send_signal(signal.SIGINT)
        rest = running.stdout.read()
        assert running.wait(15) == 130
    assert rest.endswith("interrupted\n")
    assert "/registry_status/" not in rest, (
        rest
    )  # as in a traceback of ours; kopf's generators may complain of a loop that ends
