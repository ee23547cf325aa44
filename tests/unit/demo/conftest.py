"""A store with a clock that tests move by hand."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from registry_status.demo.kinds import NAMESPACES
from registry_status.demo.store import Store

NOW = 1_790_000_000.5


class HandClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def store(clock: HandClock) -> Store:
    numbers = itertools.count()
    store = Store(clock, lambda: f"{next(numbers):08d}-uid")
    store.create(NAMESPACES, "", {"metadata": {"name": "shop"}})
    return store


@pytest.fixture
def pod() -> Callable[..., dict[str, Any]]:
    def make(name: str, **metadata: object) -> dict[str, Any]:
        spec = {"containers": [{"name": "main", "image": "x"}], "terminationGracePeriodSeconds": 4}
        return {"metadata": {"name": name, **metadata}, "spec": spec}

    return make
