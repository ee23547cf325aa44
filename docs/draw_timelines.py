#!/usr/bin/env python3
"""Draws docs/images/timeline-*.svg: what recorded pods went through, and the status that each moment called for.

docs/draw_timelines.py            draws them
docs/draw_timelines.py --check    says whether they are current, and exits with 1 if not

The histories are those of tests/data/pods, recorded from a real kubelet; the statuses are what the operator's own rules say of
them. The watch events bear no time of their own, so each is placed at the newest time that its pod tells, which has whole
seconds; events of one second share it evenly. The pictures have no background and no text on it but in a grey that can be read
on white and on black.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from registry_status.config import Settings
from registry_status.model import InstanceStatus
from registry_status.pods.annotations import Asked, read
from registry_status.pods.observation import Observation, Truth, observe
from registry_status.pods.status import desired

SETTINGS = Settings()
ROOT = Path(__file__).resolve().parents[1]
HISTORIES = ROOT / "tests" / "data" / "pods"
IMAGES = ROOT / "docs" / "images"
PICTURED: Mapping[str, str] = {
    "ready-then-lost": "A pod that loses its readiness, regains it, and is deleted",
    "startup-probe": "A pod with a startup probe",
    "crash-after-ready": "A container that crashes again and again",
    "liveness-restart-with-post-start": "A container that its liveness probe restarts",
    "two-containers": "A pod whose second container crashes",
    "completes": "A job",
    "gated": "A pod with the readiness gate of this operator",
}
LEFT, WIDTH, ROW, TOP = 70, 690, 26, 8
TAIL = 0.07
"""How much of the picture the last state takes."""
GREY = "#7a8490"
FILLS: Mapping[str, str] = {
    "UP": "#8fd19e",
    "STARTING": "#9cc9f5",
    "OUTOFSERVICE": "#f5c97a",
    "DOWN": "#f2a2a0",
    "Ready": "#cfe9d5",
}
OTHER_FILL = "#d6dbe1"


@dataclass(frozen=True)
class Moment:
    """A pod after one event."""

    at: float
    """Seconds since the first event."""
    pod: str
    status: InstanceStatus
    reason: str


@dataclass(frozen=True)
class Band:
    """A stretch of one lane in which nothing changes."""

    begins: float
    ends: float
    text: str
    hint: str


def moments(history: Mapping[str, Any]) -> list[Moment]:
    """Read a recorded history."""
    events = [one["event"] for one in history["events"]]
    newest = list(accumulate((max(_times(event["object"])) for event in events), max))
    seconds = [time - newest[0] for time in newest]
    return [_moment(event, at) for event, at in zip(events, _spread(seconds), strict=True)]


def _moment(event: Mapping[str, Any], at: float) -> Moment:
    deleted = event["type"] == "DELETED"
    says = desired(event["object"], SETTINGS, deleted=deleted)
    if says.status is None:
        raise SystemExit(f"{says.pod} calls for no status: {says.message}")
    return Moment(at, "gone" if deleted else _state(observe(event["object"], SETTINGS.prefix)), says.status, says.reason)


def _state(pod: Observation) -> str:
    asked = read(pod.subject, SETTINGS)
    main = pod.states.get(asked.container) if isinstance(asked, Asked) else None
    ready = pod.conditions.get("Ready")
    if pod.finished:
        return pod.phase
    if pod.deleting:
        return "terminating"
    if main is None or not main.running:
        return (main.why if main is not None else "") or "Pending"
    return "Ready" if ready is not None and ready.status is Truth.TRUE else "not ready"


def _times(tree: object) -> Iterator[float]:
    """Find all times in a pod; for a deletion, when it was asked for."""
    if isinstance(tree, Mapping):
        asked = observe(tree, SETTINGS.prefix).deleted_at if "metadata" in tree else None
        if asked is not None:
            yield asked
        for key, value in tree.items():
            if key not in ("deletionTimestamp", "annotations"):
                yield from _times(value)
    elif isinstance(tree, Sequence) and not isinstance(tree, str):
        for value in tree:
            yield from _times(value)
    elif isinstance(tree, str) and len(tree) == len("2026-01-31T12:00:00Z") and tree.endswith("Z"):
        yield datetime.fromisoformat(tree).timestamp()


def _spread(seconds: Sequence[float]) -> Iterator[float]:
    for second, same in groupby(seconds):
        count = len(list(same))
        yield from (second + number / count for number in range(count))


def bands(history: Sequence[Moment], end: float, lane: str) -> list[Band]:
    """Join what is the same in one lane."""
    found: list[Band] = []
    for moment in history:
        text = moment.pod if lane == "pod" else moment.status
        if found and found[-1].text == text:
            continue
        if found:
            found[-1] = Band(found[-1].begins, moment.at, found[-1].text, found[-1].hint)
        found.append(Band(moment.at, end, text, text if lane == "pod" else f"{text}: {moment.reason}"))
    return found


def picture(name: str, history: Sequence[Moment]) -> str:
    """Draw one history."""
    span = max(history[-1].at, 1.0)
    end = span * (1 + TAIL)
    scale = WIDTH / end
    lanes = (("pod", bands(history, end, "pod")), ("registry", bands(history, end, "registry")))
    height = TOP + len(lanes) * (ROW + 6) + 22
    told = "; ".join(f"{band.text} from {band.begins:.0f} s" for band in lanes[1][1])
    width = LEFT + WIDTH + 10
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="system-ui, sans-serif" font-size="11">',
        "<!-- Drawn by docs/draw_timelines.py -->",
        f"<title>{escape(PICTURED[name])}. The registry is to say: {escape(told)}.</title>",
    ]
    for row, (lane, found) in enumerate(lanes):
        top = TOP + row * (ROW + 6)
        lines.append(f'<text x="{LEFT - 8}" y="{top + 17}" text-anchor="end" fill="{GREY}" font-weight="600">{lane}</text>')
        lines += [_drawn(band, scale, top) for band in found]
    lines += _axis(span, scale, TOP + len(lanes) * (ROW + 6))
    return "\n".join([*lines, "</svg>", ""])


def _drawn(band: Band, scale: float, top: float) -> str:
    left, width = LEFT + band.begins * scale, (band.ends - band.begins) * scale
    fill = FILLS.get(band.text, OTHER_FILL)
    box = f'<rect x="{left:.1f}" y="{top}" width="{max(width - 1, 1):.1f}" height="{ROW}" rx="3" fill="{fill}"/>'
    fits = width >= sum(7.2 if letter.isupper() else 6.5 for letter in band.text) + 8
    text = f'<text x="{left + 5:.1f}" y="{top + 17}" fill="#1f2328">{escape(band.text)}</text>' if fits else ""
    return f"<g><title>{escape(band.hint)}</title>{box}{text}</g>"


def _axis(span: float, scale: float, top: float) -> Iterator[str]:
    step = next(step for step in (1, 2, 5, 10, 20, 60, 120, 600) if span / step <= 12)
    for second in range(0, int(span) + 1, step):
        x = LEFT + second * scale
        yield f'<path d="M{x:.1f} {top - 3}v4" stroke="{GREY}"/>'
        yield f'<text x="{x:.1f}" y="{top + 13}" fill="{GREY}" font-size="11" text-anchor="middle">{second} s</text>'


def pictures() -> dict[str, str]:
    """Draw every history that the docs show, by file name."""
    histories = {name: json.loads((HISTORIES / f"{name}.json").read_text("utf-8")) for name in PICTURED}
    return {f"timeline-{name}.svg": picture(name, moments(history)) for name, history in histories.items()}


def main() -> int:
    """Draw the pictures, or check them."""
    parser = argparse.ArgumentParser(description="Draws docs/images/timeline-*.svg.")
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 if a picture is not current")
    options = parser.parse_args()
    drawn = pictures()
    old = {path.name: path.read_text("utf-8") for path in IMAGES.glob("timeline-*.svg")}
    stale = sorted(name for name in old.keys() | drawn.keys() if old.get(name) != drawn.get(name))
    if options.check and stale:
        sys.stderr.write(f"docs/images: {', '.join(stale)} not current; to mend it: docs/draw_timelines.py\n")
        return 1
    if not options.check:
        for name in old.keys() - drawn.keys():
            (IMAGES / name).unlink()
        for name, text in drawn.items():
            (IMAGES / name).write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
