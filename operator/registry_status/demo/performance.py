"""The demo as a whole: emulator, registry and the real operator between them, over real HTTP on free ports of the loopback."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Protocol

import aiohttp

from registry_status.config import Settings
from registry_status.demo.clock import StoryClock
from registry_status.demo.kinds import PODS
from registry_status.demo.ledger import Cause, Verdict
from registry_status.demo.scenario import PROLOGUE_SECONDS, Cast, assemble, prologue, story
from registry_status.demo.sdk import Sdk
from registry_status.demo.stage import PATIENCE, Stage
from registry_status.registry.devserver import Fault

LONGEST: Final = 50.0
"""Seconds after which the story ends in any case."""
START_SECONDS: Final = 15.0
STOP_SECONDS: Final = 8.0
SDK_TIMEOUT: Final = aiohttp.ClientTimeout(total=5.0)


class Operator(Protocol):
    """What runs the operator: `app.run_operator`."""

    async def __call__(self, settings: Settings, *, stop: asyncio.Event, ready: asyncio.Event | None = None) -> None:
        """Run until `stop` is set; signals set it, too."""
        ...


Audience = Callable[[Stage, Settings], Coroutine[None, None, None]]
"""Shows the stage to people, until it is cancelled. Where it fails there is nobody left to play for."""


class InterruptedDemoError(Exception):
    """Somebody ended the demo before its end."""


async def perform(
    operator: Operator,
    audience: Audience,
    *,
    speed: float = 1.0,
    patience: float = PATIENCE,
    faults: Sequence[Fault] = (),
) -> Verdict:
    """Tell the story once, with this operator. `faults` spoil the registry all the time. May raise `InterruptedDemoError`."""
    clock = StoryClock.started(speed, ago=PROLOGUE_SECONDS)
    stage = Stage(clock, patience=patience, faults=faults)
    async with _theatre(stage) as (settings, sdk):
        cast = await assemble(stage, sdk)
        await prologue(stage, cast)
        clock.skip(max(0.0, time.time() - clock()))
        watching = asyncio.create_task(audience(stage, settings))
        try:
            await _play(operator, settings, stage, cast, watching)
        finally:
            await _cancelled(watching)
            for actor in stage.actors:
                await actor.leaves_the_stage()
    pod_writes = sum(request.call.kind == PODS for request in stage.emulator.writes)
    return stage.ledger.verdict(stage.registry.writes, pod_writes=pod_writes, events=len(stage.emulator.events))


@asynccontextmanager
async def _theatre(stage: Stage) -> AsyncIterator[tuple[Settings, Sdk]]:
    """Open the doors: both servers, and the settings with which the operator finds them."""
    async with (
        stage.emulator.listening(),
        stage.registry.listening() as registry_url,
        aiohttp.ClientSession(timeout=SDK_TIMEOUT) as http,
    ):
        with TemporaryDirectory(prefix="registry-status-demo-") as folder:
            kubeconfig = stage.emulator.kubeconfig(Path(folder) / "kubeconfig")
            yield (
                Settings(kubeconfig=kubeconfig, registry_address=(registry_url,), listen=("127.0.0.1", 0)),
                Sdk(http, registry_url, stage.clock),
            )


async def _play(operator: Operator, settings: Settings, stage: Stage, cast: Cast, watching: "asyncio.Task[None]") -> None:
    """Start the operator, tell the story beside it, and stop it. Raises what the audience does."""
    stop, ready = asyncio.Event(), asyncio.Event()
    stage.has_cause(Cause.START)
    running = asyncio.create_task(operator(settings, stop=stop, ready=ready))
    telling = asyncio.create_task(_tell(stage, cast, ready))
    try:
        await asyncio.wait({running, telling, watching}, timeout=LONGEST, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            raise InterruptedDemoError
        if watching.done():
            await watching
        if not telling.done() and not running.done():
            stage.ledger.faults.append(f"the story did not come to its end within {LONGEST:g} s")
    finally:
        await _cancelled(telling)
        stage.ledger.faults += await _stopped(running, stop)


async def _tell(stage: Stage, cast: Cast, ready: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(ready.wait(), START_SECONDS)
    except TimeoutError:
        stage.ledger.faults.append(f"the operator was not ready within {START_SECONDS:g} s")
        return
    await story(stage, cast)


async def _stopped(running: "asyncio.Task[None]", stop: asyncio.Event) -> Sequence[str]:
    """Stop the operator; returns what was wrong with its end."""
    when = "by itself" if running.done() and not stop.is_set() else "as it was to stop"
    stop.set()
    done, _ = await asyncio.wait({running}, timeout=STOP_SECONDS)
    if not done:
        await _cancelled(running)
        return [f"the operator did not stop within {STOP_SECONDS:g} s"]
    if error := running.exception():
        return [f"the operator ended {when}: {type(error).__name__}: {error}"]
    return ["the operator ended by itself"] if when == "by itself" else []


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
