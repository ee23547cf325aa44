"""One cluster, one registry and one fleet for all faults; each fault meets operators of its own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.background import Background
from tests.chaos.fleet import Fleet
from tests.chaos.registry import Registry
from tests.chaos.stage import LONG, Report, Stage
from tests.cluster import levels, tools
from tests.cluster.control_plane import ControlPlane

REPORT = pytest.StashKey[Report]()
PODS = 1000
TEST_TIMEOUT = 600 if LONG else 180


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Time tests without their fixtures."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT, func_only=True))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the figures of each fault, and keep them where CHAOS_REPORT says."""
    report = config.stash.get(REPORT, None)
    if report is None or not report.rows:
        return
    terminalreporter.section("chaos")
    for line in report.lines():
        terminalreporter.write_line(line)
    if path := os.environ.get("CHAOS_REPORT"):
        report.save(Path(path))


@pytest.fixture(scope="session")
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A bare cluster with a thousand annotated pods, all of them Ready and UP."""
    if why := tools.why_not(*tools.CONTROL_PLANE):
        levels.not_run(request.config, "chaos", why)
    tools.build(*tools.CONTROL_PLANE)
    report = request.config.stash.setdefault(REPORT, Report())
    with ControlPlane() as plane, Background() as background:
        registry = Registry(background)
        fleet = Fleet(background, plane.kube, registry, "chaos")
        fleet.grow(PODS)
        yield Stage(plane, background, fleet, registry, report, tmp_path_factory.mktemp("chaos"))
        fleet.close()
        registry.stop()


@pytest.fixture(autouse=True)
def _healed(stage: Stage) -> Iterator[None]:
    """Whatever a test did to the registry ends with it; what is gone longer than operators look after it is forgotten."""
    yield
    stage.registry.fail()
    stage.fleet.gone.clear()
