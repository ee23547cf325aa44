"""Operators that share the pods of one cluster (feature gate ShardedListAndWatch): none is owned twice, none is left out."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from registry_status.registry.devserver import NewInstance
from tests.cluster import levels, tools
from tests.cluster.control_plane import ControlPlane
from tests.integration import cli_runs
from tests.integration.running import SERVICE, Operator, Pods, operator, registry, wait_until

PODS = 60


@pytest.fixture(scope="module")
def sharded(request: pytest.FixtureRequest) -> Iterator[ControlPlane]:
    if why := tools.why_not(*tools.CONTROL_PLANE):
        levels.not_run(request.config, "integration", why)
    tools.build(*tools.CONTROL_PLANE)
    with ControlPlane(feature_gates={"ShardedListAndWatch": True}) as plane:
        yield plane


@pytest.mark.parametrize("count", [1, 2, 4])
def test_each_pod_has_one_operator(sharded: ControlPlane, tmp_path: Path, count: int) -> None:
    namespace = f"shards-{count}"
    pods = Pods(sharded.kube, namespace)
    with registry() as (server, url), ExitStack() as stack:
        names = [f"p{number}" for number in range(PODS)]
        instances = []
        for number, name in enumerate(names):
            pods.create(name, ip=f"10.1.{count}.{number + 1}")
            new = NewInstance(
                host_name=name, endpoints=(f"rest://10.1.{count}.{number + 1}:80",), status="STARTING", interval=3600, times=9
            )
            instances.append(server.registry.register(SERVICE, new))
        runs = [
            stack.enter_context(
                operator(sharded.kubeconfig, url, tmp_path, "--namespace", namespace, "--shard", f"{number + 1}/{count}")
            )
            for number in range(count)
        ]
        wait_until(lambda: len(server.writes) == PODS, 20, "every pod UP")
        for name in names:
            pods.show(name, "False", 9)
        wait_until(lambda: len(server.writes) == 2 * PODS, 20, "every pod OUTOFSERVICE")
        assert Counter(write.instance_id for write in server.writes) == dict.fromkeys(instances, 2)
        assert server.journal.redundant_writes == 0
        shares = [tracked(run) for run in runs]
    assert sum(shares) == PODS
    assert all(0 < share < PODS or count == 1 for share in shares), shares


def test_a_plan_is_of_the_share_that_is_asked_for(sharded: ControlPlane) -> None:
    pods = Pods(sharded.kube, "planned-shards")
    names = {f"p{number}" for number in range(PODS)}
    for number, name in enumerate(sorted(names)):
        pods.create(name, ip=f"10.2.0.{number + 1}")
    with registry() as (_, url):
        flags: list[str | Path] = ["--kubeconfig", sharded.kubeconfig, "--registry-address", url]
        flags += ["-n", "planned-shards", "-o", "json"]
        plans = [cli_runs.run("plan", *flags, "--shard", f"{number}/3") for number in (1, 2, 3)]
    shares = [{pod["name"] for pod in plan.data["pods"]} for plan in plans]
    assert sum(map(len, shares)) == PODS
    assert set.union(*shares) == names


def test_a_plan_of_all_pods_is_not_shown_as_that_of_a_share(control_plane: ControlPlane) -> None:
    with registry() as (_, url):
        flags: list[str | Path] = ["--kubeconfig", control_plane.kubeconfig, "--registry-address", url, "--shard", "1/2"]
        plan, checked = cli_runs.run("plan", *flags), cli_runs.run("check", *flags, "-o", "json")
    assert plan.status == 3
    assert "ShardedListAndWatch" in plan.err
    assert any("ShardedListAndWatch" in found for found in checked.findings("ERROR"))


def tracked(run: Operator) -> int:
    """How many pods an operator looks after."""
    lines = [line for line in run.metrics().splitlines() if line.startswith("registry_status_desired_pods{")]
    return sum(int(float(line.split()[-1])) for line in lines)


def test_a_server_that_knows_no_shards_is_not_believed(control_plane: ControlPlane, tmp_path: Path) -> None:
    pods = Pods(control_plane.kube, "no-shards")
    pods.create("cart")
    with (
        registry() as (server, url),
        operator(control_plane.kubeconfig, url, tmp_path, "--namespace", "no-shards", "--shard", "1/2", ready=False) as run,
    ):
        wait_until(lambda: "ShardedListAndWatch" in run.said(), 20, "the reason")
        assert run.http("/readyz") == 503
        assert server.requests == []
