"""Helm and kubectl for the tests of the chart and the manifests: the ones that tests/tools/build.sh builds."""

from pathlib import Path

import pytest

from tests.charts.rendering import Chart
from tests.cluster import levels, tools

TEST_TIMEOUT = 120.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Time the tests here without their fixtures: the first one may have to build Helm and kubectl."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT, func_only=True))


@pytest.fixture(scope="session")
def helm(request: pytest.FixtureRequest) -> Path:
    return _program(request, "helm")


@pytest.fixture(scope="session")
def kubectl(request: pytest.FixtureRequest) -> Path:
    return _program(request, "kubectl")


@pytest.fixture(scope="session")
def chart(helm: Path) -> Chart:
    return Chart(helm)


def _program(request: pytest.FixtureRequest, name: str) -> Path:
    """Find or build it; where that can't be, say loudly that this level did not run."""
    if why := tools.why_not(name):
        levels.not_run(request.config, "chart", why)
    return tools.program(name)
