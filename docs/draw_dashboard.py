#!/usr/bin/env python3
"""Draws docs/images/dashboard.svg: the chart's Grafana dashboard, with what a real Prometheus answered to its queries.

docs/draw_dashboard.py            draws it
docs/draw_dashboard.py --check    says whether it is current, and exits with 1 if not

Panels, queries and colours are those of the dashboard's JSON; the answers are those that tests/integration/test_dashboard.py
has kept in tests/data/dashboard/answers.json. After a change of a query they have to be asked anew:

RECORD_DASHBOARD=1 .venv/bin/pytest tests/integration/test_dashboard.py

As in the other pictures there is no background, and text on it is of a grey that can be read on white and on black.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
DASHBOARD = ROOT / "charts" / "registry-status-operator" / "dashboards" / "registry-status.json"
ANSWERS = ROOT / "tests" / "data" / "dashboard" / "answers.json"
PICTURE = ROOT / "docs" / "images" / "dashboard.svg"
COLUMN, LINE, GAP = 44.0, 26.0, 6.0
"""Pixels of Grafana's grid, of which 24 columns make the width."""
GREY, FRAME, INK = "#7a8490", "#7a849055", "#1f2328"
COLOURS: Mapping[str, str] = {
    "green": "#4caf6d",
    "blue": "#5b9fe3",
    "orange": "#e8a33d",
    "red": "#e06c68",
    "text": "#aab2bc",
}
PALETTE = ("#4caf6d", "#5b9fe3", "#e8a33d", "#a98ad8", "#4bb3b3", "#e06c68")
LETTER = 5.5
"""How wide a letter of a legend is, about."""


@dataclass(frozen=True)
class Series:
    """What a query answered: seconds since the beginning, and values."""

    name: str
    values: Sequence[tuple[float, float]]
    colour: str
    dashed: bool


@dataclass(frozen=True)
class Area:
    """Where a panel draws its series, and what the edges mean."""

    left: float
    top: float
    width: float
    height: float
    seconds: float
    most: float

    def x(self, second: float) -> float:
        """Where a moment is."""
        return self.left + self.width * second / self.seconds

    def y(self, value: float) -> float:
        """Where a value is."""
        return self.top + self.height * (1 - value / self.most)


def series(panel: Mapping[str, Any], answers: Mapping[str, Any]) -> list[Series]:
    """What Prometheus answered to a panel's queries; without what was 0 all the time, if there is anything else."""
    found = [
        (answer["legend"], [(float(second), float(value)) for second, value in answer["values"]])
        for target in panel["targets"]
        for answer in _answer(panel, target, answers)["series"]
    ]
    telling = [(name, values) for name, values in found if any(value for _, value in values)] or found[:1]
    colours = cycle(PALETTE)
    return [Series(name, values, *_style(panel, name, next(colours))) for name, values in telling]


def _answer(panel: Mapping[str, Any], target: Mapping[str, Any], answers: Mapping[str, Any]) -> Mapping[str, Any]:
    key = f"{panel['title']}/{target['refId']}"
    answer: Mapping[str, Any] = answers.get(key, {})
    if answer.get("expression") != target["expr"]:
        raise SystemExit(
            f"{ANSWERS.relative_to(ROOT)} has no answer to {key} as it is now; "
            "to mend it: RECORD_DASHBOARD=1 .venv/bin/pytest tests/integration/test_dashboard.py"
        )
    return answer


def _style(panel: Mapping[str, Any], name: str, colour: str) -> tuple[str, bool]:
    """The colour and the dashes that the dashboard gives a series by the beginning or the end of its name."""
    dashed = False
    for override in panel["fieldConfig"]["overrides"]:
        pattern = override["matcher"]["options"]
        word = pattern.strip("^$.*")
        if not (name.startswith(word) if pattern.startswith("^") else name.endswith(word)):
            continue
        for property_ in override["properties"]:
            if property_["id"] == "color":
                colour = COLOURS[property_["value"]["fixedColor"]]
            elif property_["id"] == "custom.lineStyle":
                dashed = True
    return colour, dashed


def told(value: float, unit: str) -> str:
    """A value as people read it."""
    if unit == "bytes":
        return f"{value / 2**20:.0f} MiB"
    if unit == "s":
        return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
    number = f"{value:.0f}" if value == int(value) else f"{value:.2g}"
    return f"{number}/s" if unit == "reqps" else number


def drawn(panel: Mapping[str, Any], answers: Mapping[str, Any], seconds: float) -> Iterator[str]:
    """One panel: its frame and title, and what it shows."""
    grid = panel["gridPos"]
    left, top = grid["x"] * COLUMN, grid["y"] * LINE
    width, height = grid["w"] * COLUMN - GAP, grid["h"] * LINE - GAP
    yield f"<g><title>{escape(panel['description'])}</title>"
    yield f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="4" fill="none" stroke="{FRAME}"/>'
    yield _text(left + 8, top + 16, panel["title"], weight=600)
    shown = series(panel, answers)
    if panel["type"] == "stat":
        yield from _stat(panel, shown[0].values[-1][1], left + width / 2, top + height / 2 + 8)
    elif panel["type"] == "state-timeline":
        yield from _states(panel, shown, Area(left + 8, top + 28, width - 16, height - 52, seconds, 1))
    else:
        yield from _graph(panel, shown, Area(left + 52, top + 28, width - 72, height - 66, seconds, _most(panel, shown)))
        yield from _legend(shown, left + 10, top + height - 10, width)
    yield "</g>"


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: int = 400, size: int = 11, fill: str = GREY) -> str:
    style = f'text-anchor="{anchor}" font-weight="{weight}" font-size="{size}" fill="{fill}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _stat(panel: Mapping[str, Any], value: float, x: float, y: float) -> Iterator[str]:
    defaults = panel["fieldConfig"]["defaults"]
    reached = [step for step in defaults["thresholds"]["steps"] if step["value"] is None or value >= step["value"]]
    fill = COLOURS[reached[-1]["color"]]
    yield f'<rect x="{x - 52:.1f}" y="{y - 17:.1f}" width="104" height="36" rx="4" fill="{fill}"/>'
    yield _text(x, y + 8, told(value, defaults["unit"]), anchor="middle", weight=600, size=20, fill=INK)


def _states(panel: Mapping[str, Any], shown: Sequence[Series], area: Area) -> Iterator[str]:
    """A row for each series, coloured by what its values stand for."""
    states = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    row = min(area.height / len(shown), 40.0)
    for number, one in enumerate(shown):
        top = area.top + number * row
        for begins, ends, value in _stretches(one.values):
            width = area.x(min(ends, area.seconds)) - area.x(begins)
            box = f'x="{area.x(begins):.1f}" y="{top + 14:.1f}" width="{width:.1f}" height="{row - 20:.1f}"'
            yield f'<rect {box} fill="{COLOURS[states[f"{value:.0f}"]["color"]]}"/>'
        yield _text(area.left, top + 10, one.name)
    x = area.left
    for state in states.values():
        yield f'<rect x="{x:.1f}" y="{area.top + area.height + 6:.1f}" width="9" height="9" fill="{COLOURS[state["color"]]}"/>'
        yield _text(x + 13, area.top + area.height + 15, state["text"])
        x += 24 + 6.5 * len(state["text"])


def _stretches(values: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float, float]]:
    """From when to when there was the same answer: each second's lasts until the next."""
    stretch: tuple[float, float, float] | None = None
    for second, value in values:
        if stretch is not None and stretch[1:] == (second, value):
            stretch = (stretch[0], second + 1, value)
            continue
        if stretch is not None:
            yield stretch
        stretch = (second, second + 1, value)
    if stretch is not None:
        yield stretch


def _most(panel: Mapping[str, Any], shown: Sequence[Series]) -> float:
    """The upper edge: the highest line, or the highest pile of bars, and a little more."""
    if not _has_bars(panel):
        return (max((value for one in shown for _, value in one.values), default=0) or 1.0) * 1.1
    piles: dict[float, float] = {}
    for second, value in (point for one in shown for point in one.values):
        piles[second] = piles.get(second, 0.0) + value
    return (max(piles.values(), default=0) or 1.0) * 1.1


def _has_bars(panel: Mapping[str, Any]) -> bool:
    return bool(panel["fieldConfig"]["defaults"].get("custom", {}).get("drawStyle") == "bars")


def _graph(panel: Mapping[str, Any], shown: Sequence[Series], area: Area) -> Iterator[str]:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    for part in (0.0, 0.5, 1.0):
        value = area.most / 1.1 * part
        yield f'<path d="M{area.left:.1f} {area.y(value):.1f}h{area.width:.1f}" stroke="{FRAME}"/>'
        yield _text(area.left - 6, area.y(value) + 4, told(value, unit), anchor="end", size=10)
    for second in range(0, int(area.seconds) + 1, 15):
        yield _text(area.x(second), area.top + area.height + 13, f"{second} s", anchor="middle", size=10)
    yield from _bars(shown, area) if _has_bars(panel) else (_curve(one, area) for one in shown)


def _curve(one: Series, area: Area) -> str:
    """A line that is broken where there was no answer."""
    path, before = "", None
    for second, value in one.values:
        begins = before is None or second - before > 1
        path += f"{'M' if begins else 'L'}{area.x(second):.1f} {area.y(value):.1f}"
        before = second
    dashes = ' stroke-dasharray="4 4"' if one.dashed else ""
    return f'<path d="{path}" fill="none" stroke="{one.colour}" stroke-width="1.8"{dashes}/>'


def _bars(shown: Sequence[Series], area: Area) -> Iterator[str]:
    piles: dict[float, float] = {}
    width = area.width / area.seconds * 0.7
    for one in shown:
        for second, value in one.values:
            bottom = piles.get(second, 0.0)
            piles[second] = bottom + value
            if value:
                box = f'x="{area.x(second) - width / 2:.1f}" y="{area.y(bottom + value):.1f}" width="{width:.1f}"'
                yield f'<rect {box} height="{area.y(bottom) - area.y(bottom + value):.1f}" fill="{one.colour}"/>'


def _legend(shown: Sequence[Series], x: float, y: float, width: float) -> Iterator[str]:
    """The names of as many series as there is room for."""
    end = x + width
    for one in shown:
        name = one.name or "all"
        if x + 16 + len(name) * LETTER > end - 14:
            return
        dashes = ' stroke-dasharray="3 3"' if one.dashed else ""
        yield f'<path d="M{x:.1f} {y - 4:.1f}h12" stroke="{one.colour}" stroke-width="3"{dashes}/>'
        yield _text(x + 16, y, name, size=10)
        x += 22 + len(name) * LETTER


def picture(dashboard: Mapping[str, Any], answers: Mapping[str, Any]) -> str:
    """Draw the whole dashboard."""
    panels = dashboard["panels"]
    seconds = max(point[0] for answer in answers.values() for one in answer["series"] for point in one["values"])
    width = 24 * COLUMN
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * LINE
    size = f'viewBox="-1 -1 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    what = (
        f"The dashboard after {seconds:.0f} seconds in which pods changed, the registry failed, somebody else wrote statuses, "
        "the API server restarted and the leader stopped."
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="system-ui, sans-serif" font-size="11">',
        "<!-- Drawn by docs/draw_dashboard.py -->",
        f"<title>{what}</title>",
        *(line for panel in panels for line in drawn(panel, answers, seconds)),
        "</svg>",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """Draw the picture, or check it."""
    parser = argparse.ArgumentParser(description="Draws docs/images/dashboard.svg.")
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 if the picture is not current")
    options = parser.parse_args()
    text = picture(json.loads(DASHBOARD.read_text("utf-8")), json.loads(ANSWERS.read_text("utf-8")))
    current = PICTURE.exists() and PICTURE.read_text("utf-8") == text
    if options.check and not current:
        sys.stderr.write("docs/images/dashboard.svg is not current; to mend it: docs/draw_dashboard.py\n")
        return 1
    if not options.check:
        PICTURE.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
