"""Standard output and standard error as they are found: closed, full, or a pipe that nobody reads any more."""

import errno
import os
import sys
from io import TextIOWrapper


class OutputError(Exception):
    """What is printed cannot be written; the message says why.

    No `OSError`, which argparse passes over, and which might be anybody's.
    """

    def __init__(self, cause: OSError) -> None:
        super().__init__("it is closed" if cause.errno == errno.EBADF else str(cause.strerror))
        self.unread = isinstance(cause, BrokenPipeError)
        """Whoever reads it has seen enough, as `head` does."""


class Output(TextIOWrapper):
    """Standard output; writing to it raises `OutputError`."""

    def write(self, text: str, /) -> int:
        """Write, or keep it to be written with what follows."""
        try:
            return super().write(text)
        except OSError as error:
            raise OutputError(error) from error

    def flush(self) -> None:
        """Write what was kept."""
        try:
            super().flush()
        except OSError as error:
            raise OutputError(error) from error


def open_streams() -> None:
    """Make both streams such that one can print to them. Python has None for one that is closed."""
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")  # `print` would take standard output instead
    if sys.stdout is None:
        sys.stdout = Output(os.fdopen(os.open(os.devnull, os.O_RDONLY), "wb"), "utf-8")  # fails once something is to be said
    elif sys.stdout is sys.__stdout__ and isinstance(sys.stdout, TextIOWrapper):
        found = sys.stdout
        sys.stdout = Output(
            found.buffer, found.encoding, line_buffering=found.line_buffering, write_through=found.write_through
        )
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a strange character in a pod is no reason to fall


def abandon() -> None:
    """Let go of standard output, to which Python would write once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
