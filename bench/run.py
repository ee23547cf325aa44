"""Measure the operator and the Go yardstick in turn, from outside, on a real etcd and kube-apiserver.

    python -m bench.run [--runs 5] [--pods 10000] [--annotated 500] [--seconds 30] [--outage 15]

Driver and yardstick are the shared ones beside the project where there are any (../shared/bench), else the copy in bench/go.
Prints a table of medians, ratios and spreads, and writes bench/results.json. Ratios hold within one run only: machines differ,
and are shared.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import tools
from tests.cluster.control_plane import ControlPlane
from tests.cluster.processes import free_port

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results.json"
SHARED, OWN = ROOT.parent / "shared" / "bench", ROOT / "bench" / "go"
SET_ASIDE = 0.8
"""Seconds of an interpreter's start, imports included, that do not count at a cold start; goref has none."""
Result = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One figure of the table."""

    name: str
    read: Callable[[Result], float]
    form: str = "{:.2f}"


ROWS = (
    Row("cold start, s", lambda got: got["cold_start"]["seconds"]),
    Row(
        "  without interpreter and imports", lambda got: got["cold_start"]["seconds"] - min(SET_ASIDE, got["start"]["seconds"])
    ),
    Row("cold start, CPU s", lambda got: got["cold_start"]["cpu_s"]),
    Row("  without interpreter and imports", lambda got: got["cold_start"]["cpu_s"] - min(SET_ASIDE, got["start"]["cpu_s"])),
    Row("cold start, peak MiB", lambda got: got["cold_start"]["peak_mib"], "{:.0f}"),
    Row("redundant writes at cold start", lambda got: got["cold_start"]["redundant_puts"], "{:.0f}"),
    Row("steady change to registry, p50 ms", lambda got: got["steady"]["latency"]["p50_ms"], "{:.1f}"),
    Row("steady change to registry, p99 ms", lambda got: got["steady"]["latency"]["p99_ms"], "{:.1f}"),
    Row(
        "CPU per unrelated pod update, us",
        lambda got: got["noise_only"]["cpu_s"] / max(1, got["noise_only"]["noise_events"]) * 1e6,
        "{:.0f}",
    ),
    Row("burst, all settled, s", lambda got: got["burst"]["settled_s"]),
    Row("outage: settled after recovery, s", lambda got: got["outage"]["recovered_s"]),
    Row("outage: requests during it", lambda got: got["outage"]["requests_during"], "{:.0f}"),
    Row("outage: missing", lambda got: got["outage"]["missing"], "{:.0f}"),
)


def main() -> int:
    """Build, measure, print. Returns 1 if the operator lost or repeated a status."""
    arguments = _arguments()
    programs = build(arguments.source)
    tools.build(*tools.CONTROL_PLANE)
    results: dict[str, list[Result]] = {"operator": [], "goref": []}
    with ControlPlane() as plane:
        for number in range(arguments.runs):
            for name, command in commands(programs[1], plane.kubeconfig).items():
                print(f"run {number + 1} of {arguments.runs}: {name}", file=sys.stderr)
                start = interpreter_start(command[1:]) if name == "operator" else {"seconds": 0.0, "cpu_s": 0.0}
                results[name].append(measure(programs[0], plane.kubeconfig, _settings(arguments), command) | {"start": start})
    RESULTS.write_text(json.dumps({"settings": _settings(arguments), "results": results}, indent=1) + "\n")
    _print_table(results)
    return _verdict(results["operator"])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=SHARED if SHARED.exists() else OWN)
    for name, default in (("runs", 5), ("pods", 10_000), ("annotated", 500), ("seconds", 30), ("outage", 15)):
        parser.add_argument(f"--{name}", type=int, default=default, help="default: %(default)s")
    return parser.parse_args()


def _settings(arguments: argparse.Namespace) -> dict[str, int]:
    return {name: getattr(arguments, name) for name in ("runs", "pods", "annotated", "seconds", "outage")}


def build(source: Path) -> list[Path]:
    """Build driver and yardstick from a copy: the source may be read-only."""
    folder = tools.cache() / "bench"
    copy = folder / "source"
    shutil.copytree(source, copy, dirs_exist_ok=True, copy_function=shutil.copyfile)
    targets = [folder / name for name in ("driver", "goref")]
    for target in targets:
        command: list[str | Path] = ["go", "build", "-o", target, f"./{target.name}"]
        subprocess.run(command, cwd=copy, check=True, env=os.environ | {"CGO_ENABLED": "0"})
    return targets


def commands(goref: Path, kubeconfig: Path) -> dict[str, Sequence[str | Path]]:
    registry = f"127.0.0.1:{free_port()}"
    operator = Path(sys.executable).parent / "registry-status"
    run: list[str | Path] = [
        operator,
        "run",
        "--kubeconfig",
        kubeconfig,
        "--log-level",
        "warning",
        "--listen",
        f"127.0.0.1:{free_port()}",
    ]
    return {
        "operator": [registry, *run, "--registry-address", f"http://{registry}"],
        "goref": [registry, goref, "--kubeconfig", kubeconfig, "--registry", f"http://{registry}"],
    }


def interpreter_start(command: Sequence[str | Path]) -> Result:
    """Time what the operator does before it looks at anything: all is imported when it finds that its kubeconfig is empty."""
    began, before = time.perf_counter(), os.times()
    ended = subprocess.run([*command, "--kubeconfig", os.devnull], stderr=subprocess.DEVNULL, check=False)
    seconds, after = time.perf_counter() - began, os.times()
    if ended.returncode != 1:
        raise RuntimeError(f"the operator ended with {ended.returncode} and not for its kubeconfig")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"seconds": seconds, "cpu_s": cpu}


def measure(driver: Path, kubeconfig: Path, settings: Mapping[str, int], command: Sequence[str | Path]) -> Result:
    """Run the driver once; the command begins with where its registry is to listen."""
    registry, *program = command
    flags = [f"-{name}={value}" for name, value in settings.items() if name != "runs"]
    ended = subprocess.run(
        [driver, "-kubeconfig", kubeconfig, "-listen", registry, *flags, "--", *program],
        stdout=subprocess.PIPE, check=True, timeout=1200,
    )  # fmt: skip
    got: Result = json.loads(ended.stdout)
    return got


def _print_table(results: dict[str, list[Result]]) -> None:
    """Medians, their ratio, and from where to where single runs went: an API server that collects garbage doubles some."""
    print(f"{'':38} {'operator':>10} {'goref':>10} {'ratio':>8} {'operator: all runs':>20} {'goref: all runs':>20}")
    for row in ROWS:
        all_runs = [sorted(row.read(got) for got in results[name]) for name in ("operator", "goref")]
        ours, theirs = map(statistics.median, all_runs)
        ratio = f"{ours / theirs:.2f}" if theirs else "-"
        spreads = " ".join(f"{row.form.format(runs[0]) + ' to ' + row.form.format(runs[-1]):>20}" for runs in all_runs)
        print(f"{row.name:38} {row.form.format(ours):>10} {row.form.format(theirs):>10} {ratio:>8} {spreads}")


def _verdict(ours: list[Result]) -> int:
    """What must hold on any machine, however busy: nothing lost, nothing written twice."""
    phases = ("cold_start", "steady", "burst", "outage")
    lost = sum(got[phase]["missing"] for got in ours for phase in phases)
    twice = sum(got[phase]["redundant_puts"] for got in ours for phase in phases)
    if lost or twice:
        print(f"the operator lost {lost} statuses and wrote {twice} that were there already", file=sys.stderr)
    return 1 if lost or twice else 0


if __name__ == "__main__":
    sys.exit(main())
