"""The command line `registry-status`, one file a command.

Exit statuses: 0 done, 1 the command's own "no" (see its help), 2 wrong use or settings, 130 interrupted, 141 the output was
closed. Output that cannot be written, as to a full disk, is 2, too.
"""

import argparse
import importlib
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from registry_status import __version__
from registry_status.cli.output import OutputError, abandon, open_streams

UNWRITABLE, INTERRUPTED, CLOSED = 2, 130, 141
PLUGIN = "kubectl-registry_status"
"""The second name of this program, by which kubectl finds it: `kubectl registry-status plan`."""
COMMANDS = {
    "run": "run the operator",
    "demo": "watch the operator at work, with nothing else installed",
    "plan": "compare pods and registry, and show what would be written",
    "check": "find what is wrong with settings, access, registry and pods, and say what to do",
    "explain": "say which status a pod calls for, and why",
    "devregistry": "serve an in-memory Service Center for development and tests",
    "completion": "print a script by which your shell completes this command",
}
DESCRIPTION = """\
Keeps the status of each microservice instance in Apache ServiceComb Service Center (Huawei CSE) in step with its pod:
UP while the pod is Ready, STARTING before, OUTOFSERVICE when readiness is lost, DOWN when it ends.
"""


class Help(argparse.HelpFormatter):
    """Fits descriptions to the terminal; indented lines of them are examples, to be copied as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        parts = text.strip().split("\n\n")
        return "\n\n".join(
            part if part.startswith(" ") else super(Help, self)._fill_text(part, width, indent) for part in parts
        )


class Command(Protocol):
    """What each module of this package offers. A module is imported only when its command runs: start-up time counts."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Describe the command's arguments."""
        ...

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it; returns the exit status."""
        ...


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point. Returns the exit status."""
    open_streams()
    try:
        try:
            return _run(list(sys.argv[1:] if argv is None else argv))
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except OutputError as error:
        abandon()
        if error.unread:
            return CLOSED
        print(f"registry-status: cannot write to standard output: {error}", file=sys.stderr)
        return UNWRITABLE


def _run(words: Sequence[str]) -> int:
    chosen = next((word for word in words if not word.startswith("-")), None)
    parser, commands = build_parser({chosen} & COMMANDS.keys())
    arguments = parser.parse_args(words)
    return commands[arguments.command].run(arguments)


def build_parser(described: Collection[str | None]) -> tuple[argparse.ArgumentParser, Mapping[str, Command]]:
    """Make the parser of the whole command line; only the commands described have their arguments, and are returned."""
    parser = argparse.ArgumentParser(_called(), description=DESCRIPTION, formatter_class=Help)
    parser.add_argument("--version", action="version", version=f"registry-status {__version__}")
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    commands = {}
    for name, text in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=text, formatter_class=Help, allow_abbrev=False)
        if name in described:
            commands[name] = _load(name)
            subparser.description = commands[name].__doc__
            commands[name].add_arguments(subparser)
    return parser, commands


def _called() -> str:
    """What the user has typed: kubectl runs plugins under a name of its own."""
    return "kubectl registry-status" if Path(sys.argv[0]).name == PLUGIN else "registry-status"


def _load(name: str) -> Command:
    command: Command = importlib.import_module(f"registry_status.cli.{name}")
    return command
