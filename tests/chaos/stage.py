"""What every chaos test does: bring a fault on, end it, and measure how long it takes until all is right again."""

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

from tests.chaos.background import Background
from tests.chaos.fleet import Fleet
from tests.chaos.registry import Registry
from tests.cluster.control_plane import ControlPlane
from tests.cluster.processes import tail
from tests.integration.running import Operator

LONG = os.environ.get("CHAOS") == "long"
LIMIT = 3.0
"""Seconds from a fault's end until all is right, on a quiet machine."""
PATIENCE = 1.0 if LONG else 4.0
"""By how much of itself the limit is stretched: CI shares its two cores with others, and with this very fleet."""
RESYNC = 5.0
"""The operators' resync interval in seconds: where a fault hid a change, the resync has to find it."""
QUIET = 2.0
"""Seconds without a wrong status and without a write, after which it counts as steady."""


@dataclass(frozen=True)
class Usage:
    """What a process holds."""

    mebibytes: float
    files: int
    tasks: int


@dataclass(frozen=True)
class Figures:
    """What was seen of one fault."""

    fault: str
    pods: int
    changes: int
    fault_s: float
    settled_s: float
    requests_during: int
    writes: int
    redundant: int
    before: Usage
    after: Usage


class Report:
    """All figures of a session, for the end of it and for docs/chaos.md."""

    def __init__(self) -> None:
        self.rows: list[Figures] = []

    def lines(self) -> Iterator[str]:
        head = ("lasted", "right in", "changes", "requests", "again", "MiB", "files", "tasks")
        yield f"{'fault':40}" + "".join(f"{name:>10}" for name in head)
        for row in self.rows:
            spans = [f"{before:.0f}-{after:.0f}" for before, after in zip(astuple(row.before), astuple(row.after), strict=True)]
            seen = (f"{row.fault_s:.1f} s", f"{row.settled_s:.2f} s", row.changes, row.requests_during, row.redundant, *spans)
            yield f"{row.fault:40}" + "".join(f"{value:>10}" for value in seen)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps([asdict(row) for row in self.rows], indent=1) + "\n")


@dataclass
class Stage:
    """A cluster, its fleet and the registry; operators come and go."""

    plane: ControlPlane
    background: Background
    fleet: Fleet
    registry: Registry
    report: Report
    folder: Path

    @contextmanager
    def operator(
        self, *flags: str, url: str = "", kubeconfig: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> Iterator[Operator]:
        """Run an operator that has everything in step when the block begins."""
        run = self.start(*flags, url=url, kubeconfig=kubeconfig, environment=environment)
        try:
            run.wait_ready(30)
            self.settle(30, run)
            yield run
        finally:
            run.stop()

    def start(
        self, *flags: str, url: str = "", kubeconfig: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> Operator:
        words = ["--namespace", self.fleet.namespace, "--resync-interval", f"{RESYNC:g}", *flags]
        return Operator(
            kubeconfig or self.plane.kubeconfig, url or self.registry.url, self.folder, *words, environment=environment
        )

    def settle(self, timeout: float, run: Operator, *, gone: float = float("inf")) -> float:
        """Wait until the registry says of every pod what it should, and nothing is written any more.

        Returns the seconds until the last write, or until the last status was right. Steady: not even what is there is written.
        """
        journal = self.registry.server.journal
        began = restless = time.monotonic()
        written = journal.total_writes
        while time.monotonic() - restless < QUIET:
            time.sleep(0.05)
            wrong = self.fleet.wrong(gone)
            if wrong or journal.total_writes != written:
                restless, written = time.monotonic(), journal.total_writes
            if restless - began > timeout:
                last = self.registry.server.writes[-3:]
                raise AssertionError(
                    f"{len(wrong)} wrong, such as:\n{chr(10).join(wrong[:8])}\nwritten last: {last}\nits log:\n{tail(run.log)}"
                )
        return restless - began

    def survive(
        self,
        fault: str,
        run: Operator,
        lasts: Callable[[], object],
        *,
        ends: Callable[[], object] = lambda: None,
        limit: float = LIMIT,
        rate: float = 30.0,
        after: Callable[[], Operator] | None = None,
        on_the_wire: int = 0,
        watched: bool = True,
    ) -> Figures:
        """Let pods change while `lasts` runs, end the fault with `ends`, and see that all comes right within the limit.

        `after` tells the operator that leads afterwards, if it is another one. So many writes may come late, or again, as can
        be `on_the_wire` when their sender is frozen.
        """
        journal = self.registry.server.journal
        before, changes, written, since = usage(run), self.fleet.changes, journal.total_writes, time.time()
        redundant, asked, began = journal.redundant_writes, journal.total_requests, time.monotonic()
        with self.fleet.churning(rate):
            time.sleep(1)
            asked, began = journal.total_requests, time.monotonic()
            lasts()
            during, lasted = journal.total_requests - asked, time.monotonic() - began
            ends()
        last = after() if after is not None else run
        settled = self.settle(limit * PATIENCE + 30, last, gone=float("inf") if watched else began)
        figures = Figures(
            fault, len(self.fleet.pods), self.fleet.changes - changes, lasted, settled, during, journal.total_writes - written,
            journal.redundant_writes - redundant, before, usage(last),
        )  # fmt: skip
        self.report.rows.append(figures)
        assert settled <= limit * PATIENCE, f"all was right only {settled:.1f} s after the fault's end"
        late = self.fleet.late(self.registry.server.writes[written:], since)
        assert len(late) <= on_the_wire, "\n".join(late)
        assert figures.redundant <= on_the_wire, "written again although it was there"
        assert figures.after.mebibytes < figures.before.mebibytes + 25, "memory is not back where it was"
        assert figures.after.files < figures.before.files + 45, "sockets are not back where they were"
        assert figures.after.tasks < figures.before.tasks + 30, "tasks are not back where they were"
        return figures

    def note(self, fault: str, run: Operator, lasted: float, settled: float, before: Usage | None = None) -> None:
        """Report a fault that was measured otherwise."""
        now = usage(run)
        self.report.rows.append(Figures(fault, len(self.fleet.pods), 0, lasted, settled, 0, 0, 0, before or now, now))


def usage(run: Operator) -> Usage:
    """Look at a process from outside; its tasks are its own word."""
    folder = Path(f"/proc/{run.process.pid}")
    resident = re.search(r"VmRSS:\s+(\d+)", (folder / "status").read_text())
    tasks = re.search(r"^registry_status_tasks (\S+)$", run.metrics(), re.MULTILINE)
    assert resident is not None
    assert tasks is not None
    return Usage(int(resident[1]) / 1024, len(list((folder / "fd").iterdir())), int(float(tasks[1])))
