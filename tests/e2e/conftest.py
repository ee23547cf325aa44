"""A real cluster for the e2e tests, with the images of this working tree."""

import re
import shutil
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.cluster import levels
from tests.cluster.backends import Backend, NoBackendError, select_backend
from tests.cluster.e2e import Cluster
from tests.cluster.processes import wait_for
from tests.cluster.tools import ROOT
from tests.e2e.installation import Installation, Workload, install

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
    shutil.rmtree(LOGS, ignore_errors=True)
    cluster = Cluster(_backend(request.config)).start()
    request.config.stash[CLUSTER] = cluster
    yield cluster
    del request.config.stash[CLUSTER]
    cluster.stop()


def _backend(config: pytest.Config) -> Backend:
    try:
        return select_backend()
    except NoBackendError as error:
        why = str(error)
    return levels.not_run(config, "e2e", why)


@pytest.fixture(scope="session")
def installation(cluster: Cluster) -> Installation:
    """The operator, installed by its chart, with a registry."""
    return install(cluster)


@pytest.fixture
def workload(installation: Installation) -> Iterator[Workload]:
    """A namespace for pods of the sample service, which registers under the namespace's name."""
    cluster, name = installation.cluster, f"e2e-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    wait_for(lambda: bool(cluster.get("serviceaccounts", namespace=name)["items"]), 20, "service account")
    yield Workload(installation, name, {"service": name})
    cluster.kubectl("delete", "namespace", name, "--wait=false")


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
