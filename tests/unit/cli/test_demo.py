import argparse
import asyncio
from io import StringIO

import pytest
from rich.console import Console

from registry_status.cli import demo, main
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
