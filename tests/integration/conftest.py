"""A real API server for the integration tests."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from registry_status.registry.devserver import DevServer
from tests.cluster import levels, tools
from tests.cluster.control_plane import ControlPlane
from tests.integration.running import Pods, registry

TEST_TIMEOUT = 120


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Time tests without their fixtures: the first one may have to build etcd and kube-apiserver."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT, func_only=True))


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest) -> Iterator[ControlPlane]:
    """One etcd and kube-apiserver for all tests; each uses names of its own, and leaves what it needs no more."""
    if why := tools.why_not(*tools.CONTROL_PLANE):
        levels.not_run(request.config, "integration", why)
    tools.build(*tools.CONTROL_PLANE)
    with ControlPlane(audit=True) as control_plane:
        yield control_plane


@pytest.fixture
def pods(control_plane: ControlPlane) -> Iterator[Pods]:
    """Pods in a namespace of the test's own; none is left."""
    made = Pods(control_plane.kube, f"test-{uuid4().hex[:8]}")
    yield made
    for pod in made.http.get("/pods").json()["items"]:
        made.delete(pod["metadata"]["name"], grace=0)


@pytest.fixture
def server() -> Iterator[tuple[DevServer, str]]:
    """A development server, and its URL."""
    with registry() as (server, url):
        yield server, url
