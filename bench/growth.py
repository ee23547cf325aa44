"""How the operator grows with its cluster: a cold start at 1,000, 10,000 and 50,000 pods, one in 20 of them annotated.

    python -m bench.growth [--sizes 1000,10000,50000]

Then two more, with few and with many annotated pods among 10,000: they tell apart what an annotated pod takes and any other.
Prints a table, and writes bench/growth.json and the picture docs/images/growth.svg.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.run import OWN, ROOT, SHARED, Result, build, commands, measure
from tests.cluster import tools
from tests.cluster.control_plane import ControlPlane

FIGURES = ROOT / "bench" / "growth.json"
PICTURE = ROOT / "docs" / "images" / "growth.svg"
SHARE = 20
"""One pod in so many is annotated."""
MIXED, FEW, MANY = 10_000, 100, 2_000
"""Pods of the two clusters that differ in how many are annotated."""
WIDTH, HEIGHT, LEFT, TOP = 640, 320, 60, 40


def main() -> int:
    """Measure each size on an API server of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,10000,50000", help="default: %(default)s")
    parser.add_argument("--source", type=Path, default=SHARED if SHARED.exists() else OWN)
    arguments = parser.parse_args()
    driver, goref = build(arguments.source)
    tools.build(*tools.CONTROL_PLANE)
    found: dict[str, list[Result]] = {"operator": [], "goref": []}
    for size in map(int, arguments.sizes.split(",")):
        for name, row in _cold_starts(driver, goref, size, size // SHARE, tuple(found)).items():
            found[name].append(row)
    few, many = (_cold_starts(driver, goref, MIXED, annotated, ("operator",))["operator"] for annotated in (FEW, MANY))
    FIGURES.write_text(json.dumps({**found, "mixed": [few, many]}, indent=1) + "\n")
    PICTURE.write_text(picture(found))
    _print_table(found)
    annotated, other = per_pod(few, many, found["operator"][0], found["operator"][-1])
    print(f"KiB for each annotated pod: {annotated:.1f}; for each other pod: {other:.2f}")
    return 0


def _cold_starts(driver: Path, goref: Path, pods: int, annotated: int, names: Sequence[str]) -> dict[str, Result]:
    """Start these in turn on an API server of their own."""
    settings = {"pods": pods, "annotated": annotated, "seconds": 2, "outage": 0}
    found: dict[str, Result] = {}
    with ControlPlane() as plane:
        started = commands(goref, plane.kubeconfig)
        for name in names:
            print(f"{pods} pods, {annotated} annotated: {name}", file=sys.stderr)
            got = measure(driver, plane.kubeconfig, settings, started[name])
            found[name] = {"pods": pods, "annotated": annotated, **got["cold_start"]}
    return found


def per_pod(few: Result, many: Result, small: Result, large: Result) -> tuple[float, float]:
    """Peak memory in KiB for each annotated pod, and for each other one beyond that."""
    annotated = (many["peak_mib"] - few["peak_mib"]) * 1024 / (many["annotated"] - few["annotated"])
    grown = (large["peak_mib"] - small["peak_mib"]) * 1024 - annotated * (large["annotated"] - small["annotated"])
    return annotated, grown / (large["pods"] - small["pods"] - large["annotated"] + small["annotated"])


def _print_table(found: dict[str, list[Result]]) -> None:
    print(f"{'pods':>8} {'':10} {'MiB':>7} {'peak':>7} {'CPU s':>7} {'s':>7}")
    for name, rows in found.items():
        for row in rows:
            values = (row["rss_mib"], row["peak_mib"], row["cpu_s"], row["seconds"])
            print(f"{row['pods']:>8} {name:10}" + "".join(f" {value:>7.2f}" for value in values))


def picture(found: dict[str, list[Result]]) -> str:
    """Draw peak memory over the number of pods, operator and yardstick."""
    most = max(row["peak_mib"] for rows in found.values() for row in rows)
    largest = max(row["pods"] for row in found["operator"])
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<text x="{LEFT}" y="20">Peak memory in MiB by pods in the cluster, one in {SHARE} of them annotated</text>',
    ]
    for name, colour in (("operator", "#0b6e4f"), ("goref", "#b0413e")):
        points = [_place(row["pods"] / largest, row["peak_mib"] / most) for row in found[name]]
        lines.append(_line(points, colour))
        for (x, y), row in zip(points, found[name], strict=True):
            lines.append(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3" fill="{colour}"/>')
            lines.append(f'<text x="{x + 5:.0f}" y="{y - 6:.0f}" fill="{colour}">{row["peak_mib"]:.0f}</text>')
        lines.append(f'<text x="{WIDTH - 75}" y="{points[-1][1] + 16:.0f}" fill="{colour}">{name}</text>')
    for row in found["operator"]:
        x, y = _place(row["pods"] / largest, 0)
        lines.append(f'<text x="{x:.0f}" y="{y + 18:.0f}" text-anchor="middle">{row["pods"]:,}</text>')
    x, y = _place(0, 0)
    lines.append(f'<path d="M{x:.0f} {TOP} V{y:.0f} H{WIDTH - 20}" stroke="#888" fill="none"/>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _place(across: float, up: float) -> tuple[float, float]:
    return LEFT + across * (WIDTH - LEFT - 90), HEIGHT - 30 - up * (HEIGHT - 30 - TOP)


def _line(points: Sequence[tuple[float, float]], colour: str) -> str:
    path = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
    return f'<polyline points="{path}" stroke="{colour}" fill="none" stroke-width="2"/>'


if __name__ == "__main__":
    sys.exit(main())
