"""What a check says: how it stands, what was found, and what to do about it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

LISTED = 10
"""How many things of one kind a finding names."""


class Level(StrEnum):
    """How bad it is."""

    OK = "OK"
    SKIPPED = "SKIPPED"
    WARNING = "WARNING"
    ERROR = "ERROR"


class Area(StrEnum):
    """What was looked at."""

    SETTINGS = "settings"
    KUBERNETES = "kubernetes"
    REGISTRY = "registry"
    PODS = "pods"
    OPERATORS = "operators"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    area: Area
    what: str
    fix: str = ""
    """What to do; empty where nothing is."""


@dataclass(frozen=True, slots=True)
class Findings:
    """Makes the findings of one area."""

    area: Area

    def ok(self, what: str) -> Finding:
        """It is as it should be."""
        return Finding(Level.OK, self.area, what)

    def skipped(self, what: str, fix: str = "") -> Finding:
        """It was not looked at; `what` says why."""
        return Finding(Level.SKIPPED, self.area, what, fix)

    def warning(self, what: str, fix: str) -> Finding:
        """It works, but not as well as it should, or it may be meant so."""
        return Finding(Level.WARNING, self.area, what, fix)

    def error(self, what: str, fix: str) -> Finding:
        """It does not work."""
        return Finding(Level.ERROR, self.area, what, fix)


def failed(findings: Iterable[Finding]) -> bool:
    """Whether there is an error among them."""
    return any(found.level is Level.ERROR for found in findings)


def counted(number: int, thing: str) -> str:
    """So many things, as people say it."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def listed(names: Iterable[str]) -> str:
    """Some names, and how many more there are."""
    return "; ".join(_some(list(names)))


def _some(names: list[str]) -> Iterator[str]:
    yield from names[:LISTED]
    if len(names) > LISTED:
        yield f"and {len(names) - LISTED} more"
