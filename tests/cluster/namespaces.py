"""The local cluster's Linux namespaces (pid, mount, network), held by one process: ending it ends everything in them."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.processes import leashed, run, wait_for

INIT = Path(__file__).with_name("node-init.sh")
# The program goes on by itself, a child of the namespaces' init; only its number comes back to us.
SPAWN = 'log=$1; shift; setsid "$@" >>"$log" 2>&1 </dev/null & echo $!'


@dataclass(frozen=True)
class Process:
    """A process of ours, told from another that got its number later by its start time."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> "Process":
        return cls(pid, _started(pid) or "")

    @property
    def alive(self) -> bool:
        return bool(self.started) and _started(self.pid) == self.started

    def kill(self, timeout: float = 30) -> None:
        """End it and wait until it is gone."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        wait_for(lambda: not self.alive, timeout, f"end of process {self.pid}", interval=0.02)


def _started(pid: int) -> str | None:
    """Return a process's start time, None if there is no such process or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]


@dataclass(frozen=True)
class Namespaces:
    """The namespaces, by their first process. Process numbers of `spawn` are those inside."""

    init: Process

    @classmethod
    def create(cls, state: Path, address: str, own: Sequence[Path], *, tied: bool) -> "Namespaces":
        """Make them, with memory in the place of the folders `own`; `tied` ends them with the thread that calls."""
        unshare = ["unshare", "--mount", "--pid", "--net", "--fork", "--mount-proc", "--kill-child"]
        command = [*unshare, "--propagation", "private", str(INIT), str(state), address, *map(str, own)]
        with (state / "log" / "init.log").open("ab") as log:
            parent = subprocess.Popen(
                leashed(command) if tied else command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        ready = state / "init-done"
        wait_for(lambda: ready.exists() or parent.poll() is not None, 10, "namespaces", interval=0.02)
        if parent.poll() is not None:
            raise RuntimeError(f"the cluster's namespaces can't be made: {(state / 'log' / 'init.log').read_text()}")
        ready.unlink()
        return cls(Process.of(_only_child(parent.pid)))

    def command(self, *words: str | Path) -> list[str]:
        """Return a command that runs inside."""
        enter = ["nsenter", f"--target={self.init.pid}", "--mount", "--pid", "--net", "--"]
        return [*enter, *(str(word) for word in words)]

    def run(self, *words: str | Path, timeout: float = 60) -> str:
        return run(self.command(*words), timeout=timeout)

    def spawn(self, words: Sequence[str | Path], log: Path, env: Mapping[str, str]) -> int:
        """Start a program inside that outlives us, and return its process number in there."""
        return int(run(self.command("sh", "-c", SPAWN, "sh", log, *words), env=env, timeout=10))

    def alive(self, pid: int) -> bool:
        if not self.init.alive:
            return False
        return subprocess.run(self.command("kill", "-0", str(pid)), capture_output=True, check=False).returncode == 0

    def end(self, pid: int, sign: str = "TERM", timeout: float = 20) -> None:
        """End one process inside and wait until it is gone."""
        if self.alive(pid):
            self.run("kill", f"-{sign}", str(pid))
            wait_for(lambda: not self.alive(pid), timeout, f"end of process {pid} in the cluster")

    def destroy(self) -> None:
        self.init.kill()


def _only_child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
