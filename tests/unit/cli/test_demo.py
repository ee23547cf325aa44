import argparse
import asyncio
import re
import sys
from io import StringIO
from itertools import pairwise

import pytest
from rich.console import Console

from registry_status.cli import demo, main
from registry_status.cli.output import OutputError
from registry_status.config import Settings
from registry_status.demo.board import Row


def test_the_pace_can_be_chosen() -> None:
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    assert parser.parse_args([]).speed == 1.0
    assert parser.parse_args(["--speed", "2.5"]).speed == 2.5


@pytest.mark.parametrize("speed", ["0", "5", "-1", "nan", "fast", ""])
def test_a_pace_out_of_range_is_told(speed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["demo", "--speed", speed])
    assert raised.value.code == 2
    assert "is not a number from 0.5 to 4" in capsys.readouterr().err


async def _interrupted(settings: Settings, *, stop: asyncio.Event, ready: asyncio.Event | None = None) -> None:
    """An operator that takes a signal, as `run_operator` does: it sets the stop event and ends."""
    stop.set()


def test_an_interrupt_has_its_own_exit_status() -> None:
    output = StringIO()
    assert demo.show(_interrupted, Console(file=output), speed=4.0) == 130
    assert output.getvalue().splitlines()[-1] == "interrupted"


def test_the_table_has_a_line_for_each_pod() -> None:
    console = Console(file=StringIO(), width=150, record=True)
    settled = Row("cart-1", "Running, ready", "UP", "UP", "3 ms", "-")
    late = Row("cart-2", "Running, not ready", "OUTOFSERVICE", "UP", "-", "RegistryUpdateFailed")
    console.print(demo._table([settled, late], 12.3))
    lines = console.export_text().splitlines()
    assert "12 s" in lines[0]
    [first] = [line for line in lines if "cart-1" in line]
    [second] = [line for line in lines if "cart-2" in line]
    assert "UP ..." not in first
    assert "UP ..." in second
    assert "RegistryUpdateFailed" in second


ROWS = [
    Row("checkout-6b7f9d-x4kq2", "Running, not ready, Terminating", "DOWN", "OUTOFSERVICE", "10001 ms", "RegistryUpdateFailed"),
    Row("checkout-canary-7hw2p", "Running, not ready", "OUTOFSERVICE", "UP", "1 ms", "InvalidRegistryAnnotation"),
    Row("inventory-0", "Running, not ready, CrashLoopBackOff", "DOWN", "OUTOFSERVICE", "1234 ms", "RegistryUpdateRecovered"),
]


def columns_of(text: str) -> list[str]:
    """What each column says when it is read downwards, without blanks: so a folded name is whole again."""
    lines = text.splitlines()
    rule = next(number for number, line in enumerate(lines) if "──" in line)
    starts = [found.start() for found in re.finditer(r"\S+( \S+)*", lines[rule - 1])]
    return ["".join(line[at:end] for line in lines[rule + 1 :]).replace(" ", "") for at, end in pairwise([*starts, None])]


@pytest.mark.parametrize("width", [80, 100, 150])
def test_the_table_cuts_nothing_and_keeps_statuses_whole(width: int) -> None:
    console = Console(file=StringIO(), width=width, record=True)
    console.print(demo._table(ROWS, 12.3))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    assert text.count("OUTOFSERVICE") == 3
    whole = ["".join(row.pod for row in ROWS), "".join(row.kubernetes for row in ROWS).replace(" ", "")]
    assert columns_of(text)[:2] == whole
    assert columns_of(text)[-1] == "".join(row.event for row in ROWS)


@pytest.mark.parametrize(
    ("terminal", "width", "kind"),
    [("xterm", 80, "table"), ("xterm", 79, "lines"), ("dumb", 150, "lines"), ("", 150, "lines")],
)
def test_a_table_is_drawn_where_there_is_room_and_it_can_be_drawn_anew(
    terminal: str, width: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", terminal)
    console = Console(file=StringIO(), width=width, force_terminal=bool(terminal))
    assert demo._audience(console).__name__ == f"watch_{kind}"


class _Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stderr", "width", "above"), [(_Terminal(), 100, True), (StringIO(), 100, False), (_Terminal(), 70, False)]
)
def test_log_lines_stand_above_the_table_where_both_share_a_terminal(
    stderr: StringIO, width: int, above: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    screen = StringIO()
    demo._log(Console(file=screen, width=width, force_terminal=True)).write("something [happened]\n")
    assert ("something [happened]\n" in screen.getvalue()) is above
    assert ("something [happened]\n" in stderr.getvalue()) is not above


async def _idle(settings: Settings, *, stop: asyncio.Event, ready: asyncio.Event | None = None) -> None:
    """An operator that has nothing to do until it is told to stop."""
    await stop.wait()


class _Left(StringIO):
    """The output of somebody who has gone."""

    def write(self, text: str, /) -> int:
        raise OutputError(BrokenPipeError())


@pytest.mark.timeout(10)
def test_it_ends_when_nobody_watches_any_more() -> None:
    with pytest.raises(OutputError):
        demo.show(_idle, Console(file=_Left()), speed=4.0)
