"""Run the operator until SIGTERM or SIGINT.

In a cluster it uses the pod's service account; elsewhere a kubeconfig:

  registry-status run --kubeconfig ~/.kube/config --registry-address http://127.0.0.1:30100

With --dry-run it writes nothing, posts no Events and takes no Lease, but logs and counts each status that it would write: to
look before you leap, beside another operator too.

Each setting has a flag and an environment variable (in brackets); the flag wins. Exit status: 0 stopped by a signal, 1 cannot
run (no access to the API server, the port is taken), 2 wrong settings.
"""

import argparse
import asyncio
import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from registry_status import config


class Operate(Protocol):
    """Runs the operator until `stop` is set."""

    async def __call__(self, settings: config.Settings, *, stop: asyncio.Event) -> None:
        """Run."""
        ...


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every setting."""
    config.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Read the settings, then run until told to stop."""
    with _later():
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    try:
        settings = config.read_settings(arguments, os.environ)
        config.require(settings, "registry_address")
    except config.SettingsError as error:
        return _refused(error)
    with _uncollected():
        from registry_status import app  # noqa: PLC0415 - wrong settings are told without the wait for the imports
        from registry_status.eventloop import EventLoop  # noqa: PLC0415 - nor for uvloop
        from registry_status.report import logs  # noqa: PLC0415 - nor for the logs'

    logs.configure(settings.log_format, settings.log_level, dry_run=settings.dry_run)
    _interrupt_nobody()
    try:
        with asyncio.Runner(loop_factory=EventLoop) as runner:
            runner.run(_until_told(app.run_operator, settings))
    except config.SettingsError as error:  # a file that they name
        return _refused(error)
    except app.StartError as error:
        print(f"registry-status: {error}", file=sys.stderr)
        return 1
    return 0


def _refused(error: config.SettingsError) -> int:
    print("\n".join(f"registry-status: {problem}" for problem in error.problems), file=sys.stderr)
    return 2


@contextmanager
def _later() -> Iterator[None]:
    """Put SIGTERM off until somebody minds it.

    The first process of a container would not get it at all before: it would go on until it is killed, and perhaps lead.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Modules stay: to look through them for garbage while they are imported takes a tenth to a fifth of the time for it."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _interrupt_nobody() -> None:
    """Take no core from what runs there when something has come; where none is free, we wait some milliseconds at most.

    Else an API server on the same core is interrupted after the first piece of each event, and we are woken once more for the
    second (docs/performance.md). Where the system refuses, all goes on as ever, at a higher price.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


async def _until_told(operate: Operate, settings: config.Settings) -> None:
    """Mind the signals from the first step of the loop on: the watch, which minds them later, may not have begun."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    await operate(settings, stop=stop)
