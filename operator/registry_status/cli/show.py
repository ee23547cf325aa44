"""How commands show what they found: colours and tables at a terminal, plain lines for pipes, JSON and YAML for programs.

What is piped is never cut and never coloured, one row a line, so that `grep` and `awk` find what they look for. Colours obey
NO_COLOR. `rich` is imported only where there is a terminal.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from registry_status.report.text import one_line, redact

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

LARGE = 2000
"""From so many steps on a progress bar is worth a terminal's lines."""


class Form(StrEnum):
    """How output looks."""

    TEXT = "text"
    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"

    @property
    def data(self) -> bool:
        """For programs."""
        return self in (Form.JSON, Form.YAML)


def add_output(parser: argparse.ArgumentParser, *forms: Form) -> None:
    """Give the parser -o with these forms; the first is the default."""
    words = [form.value for form in forms]  # not the members: an error message of argparse shows these as Python does
    parser.add_argument(
        "-o", "--output", choices=words, default=words[0], metavar="FORM",
        help=f"Form of the answer: {', '.join(words)}. Default: {words[0]}.",
    )  # fmt: skip


def print_data(data: object, form: Form) -> None:
    """Print for programs."""
    if form is Form.JSON:
        print(json.dumps(data, indent=2))
        return
    import yaml  # noqa: PLC0415 - only for those who ask for it

    readable = (sys.stdout.encoding or "utf-8").lower() == "utf-8"  # YAML is UTF-8; in other encodings it has to be escaped
    print(yaml.dump(data, Dumper=_dumper(), sort_keys=False, allow_unicode=readable, width=10_000), end="")


def _dumper() -> type:
    import yaml  # noqa: PLC0415 - only this form needs it

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]  # its base is chosen here
        """Writes enums as the texts that they are, repeats what is there twice, and escapes what UTF-8 cannot write."""

        def ignore_aliases(self, data: object) -> bool:
            return True

    Dumper.add_multi_representer(str, lambda dumper, text: dumper.represent_str(_writable(text)))
    Dumper.add_representer(str, lambda dumper, text: dumper.represent_str(_writable(text)))
    return Dumper


def _writable(text: str) -> str:
    """Escape the halves of characters that JSON lets in, as standard output does for texts."""
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")


Styles = Mapping[str, str]
"""Which words are shown in which colour."""


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], styles: Styles, out: TextIO | None = None) -> None:
    """Print a table; cells are made safe for a terminal."""
    out = out or sys.stdout
    clean = [[safe(cell) or "-" for cell in row] for row in rows]
    if out.isatty():
        _print_rich(head, clean, styles, out)
        return
    widths = [max(map(len, column)) for column in zip(head, *clean, strict=True)]
    for row in (head, *clean):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip(), file=out)


def _print_rich(head: Sequence[str], rows: Sequence[Sequence[str]], styles: Styles, out: TextIO) -> None:
    from rich import box  # noqa: PLC0415 - only at a terminal
    from rich.console import Console  # noqa: PLC0415 - only at a terminal
    from rich.table import Table  # noqa: PLC0415 - only at a terminal
    from rich.text import Text  # noqa: PLC0415 - only at a terminal

    table = Table(*head, box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        table.add_row(*(Text(cell, style=styles.get(cell, "")) for cell in row))
    Console(file=out, highlight=False).print(table)


def print_styled(word: str, rest: str, styles: Styles, out: TextIO | None = None) -> None:
    """Print one line that begins with a coloured word."""
    out = out or sys.stdout
    if not out.isatty():
        print(f"{word}{rest}", file=out)
        return
    from rich.console import Console  # noqa: PLC0415 - only at a terminal
    from rich.text import Text  # noqa: PLC0415 - only at a terminal

    Console(file=out, highlight=False).print(Text.assemble((word, styles.get(word.strip(), "")), rest), soft_wrap=True)


def safe(text: str) -> str:
    """Fit for a terminal: one line, no escapes, no credentials."""
    return one_line(redact(text))


class Progress(AbstractContextManager["Progress"]):
    """A bar on standard error, for work that is large and watched by somebody."""

    def __init__(self, err: TextIO | None = None, *, large: int = LARGE) -> None:
        self._err = err or sys.stderr
        self._large = large
        self._bar: Bar | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def at(self, what: str, done: int, total: int | None = None) -> None:
        """So much of the work is done; `total` None: nobody knows how much there is."""
        if self._bar is None:
            if max(done, total or 0) < self._large or not self._err.isatty():
                return
            self._bar = self._made()
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=total)
        self._bar.update(self._tasks[what], completed=done, total=total)

    def stepper(self, what: str, total: int) -> Callable[[], None]:
        """Return what is called for each step done."""
        steps = iter(range(1, total + 1))

        def step() -> None:
            self.at(what, next(steps, total), total)

        return step

    def _made(self) -> "Bar":
        from rich.console import Console  # noqa: PLC0415 - only where it is shown
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415 - only where it is shown

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        bar = Progress(*columns, console=Console(file=self._err), transient=True)
        bar.start()
        return bar
