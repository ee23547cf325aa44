"""Levels of tests that cannot run here: said aloud at the end of the run, and a failure where they are required."""

import os
from collections.abc import Mapping
from typing import NoReturn

import pytest

NOT_RUN = pytest.StashKey[dict[str, str]]()


def not_run(config: pytest.Config, level: str, why: str, env: Mapping[str, str] = os.environ) -> NoReturn:
    """Skip the level, or fail where E2E=required says that nothing may be left out."""
    config.stash.setdefault(NOT_RUN, {})[level] = why
    if env.get("E2E") == "required":
        pytest.fail(f"E2E=required, but level {level} can't run: {why}", pytrace=False)
    pytest.skip(f"level {level} can't run: {why}")


def summary(config: pytest.Config) -> list[str]:
    return [f"LEVEL NOT RUN: {level}: {why}" for level, why in config.stash.get(NOT_RUN, {}).items()]
