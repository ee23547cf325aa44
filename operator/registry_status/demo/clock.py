"""Times as the cluster of the demo sees them."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

Clock: TypeAlias = Callable[[], float]
"""Epoch seconds."""


@dataclass(slots=True)
class StoryClock:
    """The one clock of nodes, SDKs and registry, which may run faster than the wall's.

    Pod times have whole seconds and the operator compares them (a readiness lost within the second of the start was never
    there), so a story told faster must not only wait less: all its times must be further apart as well.
    """

    speed: float
    epoch: float
    origin: float
    steady: Callable[[], float] = time.monotonic

    @classmethod
    def started(cls, speed: float, *, ago: float = 0.0) -> "StoryClock":
        """A clock that shows the present time, or one some seconds ago."""
        return cls(speed=speed, epoch=time.time() - ago, origin=time.monotonic())

    def __call__(self) -> float:
        """Tell the time."""
        return self.epoch + (self.steady() - self.origin) * self.speed

    async def sleep(self, seconds: float) -> None:
        """Wait for that many seconds of the story."""
        await asyncio.sleep(seconds / self.speed)

    def skip(self, seconds: float) -> None:
        """Let time pass that nobody has to wait for: what came before the story."""
        self.epoch += seconds

    def wall_seconds(self, seconds: float) -> float:
        """How long an interval of the story took for who was watching."""
        return seconds / self.speed
