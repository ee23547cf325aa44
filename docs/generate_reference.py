#!/usr/bin/env python3
"""Writes the parts of docs/ that the code itself tells: the table of settings and the table of metrics.

docs/generate_reference.py            writes them
docs/generate_reference.py --check    says whether they are current, and exits with 1 if not

Each part stands between marks, `<!-- NAME: begin ... -->` and `<!-- NAME: end -->`; the text around it is written by hand.
"""

import argparse
import dataclasses
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from registry_status import config
from registry_status.model import InstanceStatus
from registry_status.report.metrics import PREFIX, Metrics

DOCS = Path(__file__).resolve().parent
CHART_SETTINGS = DOCS.parent / "charts" / "registry-status-operator" / "templates" / "_helpers.tpl"


@dataclass(frozen=True)
class Metric:
    """A metric as a scrape shows it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


def settings() -> str:
    """Lay out every setting, a table for each group."""
    values = chart_values()
    groups: dict[str, list[str]] = {}
    for field in dataclasses.fields(config.Settings):
        names = f"`{config.flag(field.name)}`<br>`{config.variable(field.name)}`"
        in_chart = "<br>".join(f"`{value}`" for value in values.get(config.variable(field.name), ())) or "-"
        text = str(field.metadata["help"]).replace("|", "\\|")
        row = f"| {names} | {in_chart} | {_default(field.default)} | {allowed(field.metadata['parse'])} | {text} |"
        groups.setdefault(field.metadata["group"], []).append(row)
    head = ["| flag, variable | chart value | default | allowed | what it does |", "|---|---|---|---|---|"]
    return "\n\n".join("\n".join([f"### {group}", "", *head, *rows]) for group, rows in groups.items())


def allowed(parse: Callable[[str], object]) -> str:
    """Ask a setting's own parser what it takes, by giving it what none of them takes."""
    for impossible in ("\n", ""):
        try:
            parse(impossible)
        except ValueError as error:
            return str(error).replace("|", "\\|")
    return "text"


def _default(default: object) -> str:
    if default in (None, (), ""):
        return "-"
    if isinstance(default, tuple):
        return f"`{':'.join(map(str, default))}`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def chart_values() -> Mapping[str, tuple[str, ...]]:
    """Read from the chart which of its values sets which variable, by itself or in a template that is included."""
    text = CHART_SETTINGS.read_text("utf-8")
    defined = {
        found[1]: found[2] for found in re.finditer(r'define "([^"]+)" -\}\}(.*?)\n\{\{- end \}\}\n(?=\n|$)', text, re.DOTALL)
    }

    def used(line: str) -> tuple[str, ...]:
        included = "".join(defined.get(name, "") for name in re.findall(r'include "([^"]+)"', line))
        return tuple(dict.fromkeys(re.findall(r"\.Values\.([\w.]+)", line + included)))

    lines = _with_whole_names(text.splitlines())
    found = (re.match(rf"({config.ENVIRONMENT_PREFIX}\w+): (.*)", line) for line in lines)
    return {line[1]: used(line[2]) for line in found if line}


def _with_whole_names(lines: Iterable[str]) -> Iterator[str]:
    """Write `.name` inside of `with .Values.path` as `.Values.path.name`."""
    blocks = [""]  # what a dot means in each block around the line, where that is a value
    for line in lines:
        for word, what in re.findall(r"\{\{-? (if|define|with|range|end)\b ?(.*?) -?\}\}", line):
            if word == "end":
                blocks.pop()
            elif word == "if":
                blocks.append(blocks[-1])
            else:
                value = re.fullmatch(r"\.Values\.([\w.]+)", what)
                blocks.append(value[1] if word == "with" and value else "")
        yield re.sub(r"(?<=[ (])\.(?=[a-z])", f".Values.{blocks[-1]}.", line) if blocks[-1] else line


def metrics() -> str:
    """Lay out every metric of ours."""
    rows = [
        f"| `{found.name}` | {found.kind} | {', '.join(f'`{label}`' for label in found.labels) or '-'} | {found.text} |"
        for found in all_metrics()
    ]
    return "\n".join(["| metric | type | labels | what it tells |", "|---|---|---|---|", *rows])


def all_metrics() -> list[Metric]:
    """Everything that `Metrics` exposes under our prefix, by name; what the Python client adds is left out."""
    return sorted(_counted(), key=lambda found: found.name)


def _counted() -> Iterator[Metric]:
    made = Metrics()
    wrapped = [value for value in vars(made).values() if isinstance(value, MetricWrapperBase)]
    labels = {family.name: value._labelnames for value in wrapped for family in value.describe()}  # noqa: SLF001 -- no other way
    made.attach(statuses=_Statuses(), watch_age=lambda: 0.0, leading=lambda: True, tasks=lambda: 0)
    for family in made.registry.collect():
        if family.name.startswith(PREFIX):
            shown = labels.get(family.name, tuple(family.samples[0].labels if family.samples else ()))
            name = family.name + ("_total" if family.type == "counter" else "")
            yield Metric(name, family.type, tuple(shown), family.documentation.replace("|", "\\|"))


class _Statuses:
    """Stands in for the engine."""

    def desired_counts(self) -> Mapping[InstanceStatus, int]:
        """Count nothing."""
        return {}

    acknowledged_counts = desired_counts

    @property
    def queued(self) -> int:
        """Nothing waits."""
        return 0


PARTS: Mapping[str, tuple[str, Callable[[], str]]] = {
    "settings": ("configuration.md", settings),
    "metrics": ("operations.md", metrics),
}


def filled(old: str, part: str, text: str) -> str:
    """Put a part's text between its marks."""
    begin = f"<!-- {part}: begin, written by docs/generate_reference.py -->\n"
    end = f"\n<!-- {part}: end -->\n"
    head, mark, rest = old.partition(begin)
    _, end_mark, tail = rest.partition(end)
    if not mark or not end_mark:
        raise SystemExit(f"the marks of the part {part} are missing: {begin.strip()} and {end.strip()}")
    return head + begin + text + end + tail


def main() -> int:
    """Write the parts, or check them."""
    parser = argparse.ArgumentParser(description="Writes the parts of docs/ that the code itself tells.")
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 if a part is not current")
    options = parser.parse_args()
    stale: list[str] = []
    for part, (name, write) in PARTS.items():
        path = DOCS / name
        old = path.read_text("utf-8")
        new = filled(old, part, write())
        if new != old:
            stale.append(f"docs/{name} ({part})")
        if not options.check:
            path.write_text(new, "utf-8")
    if options.check and stale:
        sys.stderr.write(f"{', '.join(stale)} not current; to mend it: docs/generate_reference.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
