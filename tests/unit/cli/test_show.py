"""How commands look: at a terminal, in a pipe, and to programs."""

import io
import json
from enum import StrEnum

import pytest
import yaml

from registry_status.cli.show import LARGE, Form, Progress, print_data, print_styled, print_table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


STYLES = {"UP": "green", "DOWN": "red"}
ROWS = [["cart-" + "x" * 200, "UP", ""], ["b", "DOWN", "why not"]]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


def table(out: io.StringIO) -> str:
    print_table(["POD", "STATE", "WHY"], ROWS, STYLES, out)
    return out.getvalue()


def test_a_pipe_gets_one_uncut_line_a_row_without_colours() -> None:
    head, one, two = table(io.StringIO()).splitlines()
    assert head.split() == ["POD", "STATE", "WHY"]
    assert one.split() == [ROWS[0][0], "UP", "-"]
    assert two.index("DOWN") == one.index("UP") == head.index("STATE")


def test_a_terminal_gets_colours_and_folded_cells() -> None:
    shown = table(Terminal())
    assert "\x1b[32mUP" in shown
    assert shown.count("x") == 200
    assert "…" not in shown


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in table(Terminal())
    out = Terminal()
    print_styled("UP", " it is", STYLES, out)
    assert out.getvalue() == "UP it is\n"


def test_a_styled_line_is_coloured_at_a_terminal_only() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    for out in (terminal, pipe):
        print_styled("UP", " " + "it is " * 40, STYLES, out)
    assert terminal.getvalue().startswith("\x1b[32mUP\x1b[0m it is")
    assert terminal.getvalue().count("\n") == pipe.getvalue().count("\n") == 1
    assert "\x1b" not in pipe.getvalue()


def test_a_cell_cannot_forge_lines_escapes_or_show_secrets() -> None:
    for out in (io.StringIO(), Terminal()):
        print_table(["A"], [["\x1b[31mred\nnext [bold]x[/bold] password=hunter2"]], {}, out)
        shown = out.getvalue()
        assert "\x1b[31mred" not in shown
        assert "[31mred next [bold]x[/bold]" in " ".join(shown.split())
        assert "hunter2" not in shown


class Word(StrEnum):
    UP = "UP"


def test_yaml_and_json_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"status": Word.UP, "none": None, "yes": True, "text": "yes: no", "list": [], "umlaut": "ä", "twice": [ROWS, ROWS]}
    print_data(data, Form.JSON)
    as_json = capsys.readouterr().out
    print_data(data, Form.YAML)
    as_yaml = capsys.readouterr().out
    assert yaml.safe_load(as_yaml) == json.loads(as_json) == data
    assert "&id" not in as_yaml


def test_half_a_character_is_escaped_in_yaml_as_in_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_data({"a\ud800": ["b\udfff", "\U0001f600"]}, Form.YAML)
    assert yaml.safe_load(capsys.readouterr().out) == {"a\\ud800": ["b\\udfff", "\U0001f600"]}


# --- progress -----------------------------------------------------------------------------------


def progress(err: io.StringIO, done: int) -> str:
    with Progress(err) as shown:
        shown.at("pods listed", done)
        step = shown.stepper("services read", 3)
        step()
    return err.getvalue()


def test_a_bar_is_shown_at_a_terminal_for_large_work_only() -> None:
    assert "pods listed" in progress(Terminal(), LARGE)
    assert progress(Terminal(), LARGE - 1) == ""
    assert progress(io.StringIO(), 10 * LARGE) == ""
