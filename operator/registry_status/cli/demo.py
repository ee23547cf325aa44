"""Watch the operator at work: no cluster, no registry and no network are needed.

One process plays a small Kubernetes cluster and a Service Center, with the real operator in between. Pods of a shop start, get
ready, lose readiness, crash, finish and terminate; the table shows what Kubernetes says, what that calls for, and what the
registry says. It ends by itself in under a minute.

Exit status: 0 every status arrived in the right order and none was written twice, 1 something was missing, 130 interrupted.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from io import TextIOBase
from typing import Final, TextIO

from rich import box
from rich.console import Console
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.table import Table
from rich.text import Text

from registry_status.config import LogFormat, LogLevel, Settings
from registry_status.demo.board import Row, rows
from registry_status.demo.ledger import summary
from registry_status.demo.performance import Audience, InterruptedDemoError, Operator, perform
from registry_status.demo.stage import PATIENCE, Stage

INTERRUPTED: Final = 130
SLOWEST, FASTEST = 0.5, 4.0
LOOK_SECONDS: Final = 0.1
COLUMNS: Final = {"Pod": 11, "Kubernetes says": 11, "Desired": 12, "Registry says": 12, "Last change": 7, "Last Event": 10}
"""Each with its least width: the words for statuses stay whole, and longer names are folded, not cut."""
NARROWEST: Final = 80
"""Columns of a terminal that has room for the table."""
COLORS: Final = {"UP": "green", "STARTING": "cyan", "OUTOFSERVICE": "yellow", "DOWN": "red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How fast, and how chatty."""
    parser.add_argument("--speed", type=_speed, default=1.0, metavar="FACTOR", help="Pace of the story, 0.5 to 4. Default: 1.")
    parser.add_argument(
        "--log-level",
        choices=[level.value for level in LogLevel],  # the words: an error message shows them as they are here
        default=LogLevel.ERROR.value,
        help="From which level on the operator's log lines are shown. Default: error.",
    )


def run(arguments: argparse.Namespace) -> int:
    """Show the demo, and say how it went."""
    from registry_status.app import run_operator  # noqa: PLC0415 - help should not wait for the operator's imports
    from registry_status.report import logs  # noqa: PLC0415 - nor for the logs'

    console = Console()
    logs.configure(LogFormat.PLAIN, LogLevel(arguments.log_level), _log(console))
    return show(run_operator, console, speed=arguments.speed)


def show(operator: Operator, console: Console, *, speed: float, patience: float = PATIENCE) -> int:
    """Perform it with an operator on a console. Returns the exit status."""
    try:
        verdict = asyncio.run(perform(operator, _audience(console), speed=speed, patience=patience))
    except (InterruptedDemoError, KeyboardInterrupt):
        console.print("interrupted")
        return INTERRUPTED
    for line in summary(verdict):
        console.print(line, highlight=False, soft_wrap=True)
    return 0 if verdict.passed else 1


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not SLOWEST <= speed <= FASTEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {SLOWEST:g} to {FASTEST:g}")
    return speed


def _audience(console: Console) -> Audience:
    """A live table on a terminal that is wide enough and can draw over what it shows; elsewhere a line at each change."""

    async def watch_table(stage: Stage, settings: Settings) -> None:
        began = time.monotonic()
        with Live(console=console, auto_refresh=False) as live:
            try:
                while True:
                    live.update(_table(rows(stage, settings), time.monotonic() - began), refresh=True)
                    await asyncio.sleep(LOOK_SECONDS)
            finally:
                live.update(_table(rows(stage, settings), time.monotonic() - began), refresh=True)

    async def watch_lines(stage: Stage, settings: Settings) -> None:
        began, shown = time.monotonic(), set[Row]()
        while True:
            found = rows(stage, settings)
            for row in found:
                if row not in shown:
                    console.print(_line(time.monotonic() - began, row), highlight=False, soft_wrap=True)
            shown = set(found)
            await asyncio.sleep(LOOK_SECONDS)

    return watch_table if _draws(console) else watch_lines


def _draws(console: Console) -> bool:
    return console.is_terminal and not console.is_dumb_terminal and console.width >= NARROWEST


def _log(console: Console) -> TextIO | TextIOBase:
    """Where log lines go: on the terminal of the table above it, as they would tear it and be lost beneath it otherwise."""
    return FileProxy(console, sys.stderr) if _draws(console) and sys.stderr.isatty() else sys.stderr


def _table(found: Sequence[Row], seconds: float) -> Table:
    title = f"registry-status: pods and their instances in the registry, {seconds:.0f} s"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name, least in COLUMNS.items():
        table.add_column(name, min_width=least, overflow="fold")
    for row in found:
        registry = _colored(row.registry) if row.settled else _colored(row.registry).append(" ...")
        table.add_row(row.pod, row.kubernetes, _colored(row.desired), registry, row.latency, row.event)
    return table


def _colored(status: str) -> Text:
    return Text(status, style=COLORS.get(status, "dim"))


def _line(seconds: float, row: Row) -> str:
    return (
        f"{seconds:5.1f} s  {row.pod}: {row.kubernetes} | desired {row.desired} | registry {row.registry} | "
        f"last change {row.latency} | last Event {row.event}"
    )
