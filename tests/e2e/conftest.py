"""A real cluster for the e2e tests, with the images of this working tree."""

import re
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.cluster import levels
from tests.cluster.backends import NoBackendError, select_backend
from tests.cluster.e2e import Cluster
from tests.cluster.tools import ROOT

LOGS = ROOT / "test-logs"
TEST_TIMEOUT = 180
MOST_FAILURES_WITH_LOGS = 5
CLUSTER = pytest.StashKey[Cluster]()
FAILURES = pytest.StashKey[int]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Time tests without their fixtures: the first one may have to build a cluster."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT, func_only=True))


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """One cluster for all tests; each uses a namespace of its own."""
    try:
        backend = select_backend()
    except NoBackendError as error:
        levels.not_run(request.config, "e2e", str(error))
    shutil.rmtree(LOGS, ignore_errors=True)
    cluster = Cluster(backend).start()
    request.config.stash[CLUSTER] = cluster
    yield cluster
    del request.config.stash[CLUSTER]
    cluster.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the cluster's logs when a test failed, while its pods are still there."""
    report = yield
    cluster = item.config.stash.get(CLUSTER, None)
    failures = item.config.stash.setdefault(FAILURES, 0)
    if report.failed and cluster and failures < MOST_FAILURES_WITH_LOGS:
        item.config.stash[FAILURES] = failures + 1
        target = LOGS / re.sub(r"[^\w.-]+", "_", f"{item.name}-{report.when}")
        cluster.collect_logs(target)
        report.sections.append(("cluster logs", f"kept in {target}"))
    return report
