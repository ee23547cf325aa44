"""Programs that end with whoever started them, and the small waits around them."""

import contextlib
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

EPHEMERAL_PORTS_BEGIN = 32768
FIRST_PORT = 20000


class CommandError(RuntimeError):
    """A command failed: carries what it printed, because that is what the reader of a failed test needs."""


class NotReadyError(RuntimeError):
    """Something did not come up in time."""


def run(
    command: Sequence[str | Path],
    *,
    input: str | None = None,  # noqa: A002 - the name subprocess.run has taught everyone
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 60,
) -> str:
    """Run a command to its end and return what it printed; raise with all of its output when it fails."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, input=input, env=env, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{' '.join(words)}: not done after {timeout:.0f} s") from error
    if done.returncode:
        raise CommandError(f"{' '.join(words)}: exit status {done.returncode}\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


def wait_for(condition: Callable[[], bool], timeout: float, what: str, interval: float = 0.1) -> float:
    """Wait until the condition holds and return the seconds it took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > timeout:
            raise NotReadyError(f"{what}: not within {timeout:.0f} s")
        time.sleep(interval)
    return time.monotonic() - began


def free_port() -> int:
    """Find a free loopback port below the ephemeral range.

    A port out of that range can be taken by any outgoing connection while its server is down; and a client that
    keeps dialling it may even connect to itself. Both happen in tests that kill and restart servers.
    """
    for port in random.sample(range(FIRST_PORT, EPHEMERAL_PORTS_BEGIN), k=100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise NotReadyError("no free port found")


def leashed(command: Sequence[str | Path]) -> list[str]:
    """Make the kernel kill the command when the thread that started it dies, however that happens."""
    words = [str(word) for word in command]
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--", *words] if setpriv else words


class Daemon:
    """One long-running program with a log of its own. Its life ends with ours."""

    def __init__(self, name: str, command: Sequence[str | Path], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = leashed(command)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        if self.running:
            raise RuntimeError(f"{self.name} runs already")
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C is for pytest, which then stops the parts in their order.
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process:
            self._process.kill()
            self._process.wait(timeout=30)

    def stop(self, timeout: float = 15) -> None:
        """End it in good order, or by force when it takes too long."""
        if not self._process:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill()

    def check(self) -> None:
        """Raise with the end of the log if it ended by itself."""
        if not self.running:
            raise NotReadyError(f"{self.name} ended by itself:\n{tail(self.log)}")


def tail(log: Path, lines: int = 20) -> str:
    try:
        text = log.read_text(errors="replace")
    except FileNotFoundError:
        return f"(no log {log})"
    return "\n".join(text.splitlines()[-lines:])
