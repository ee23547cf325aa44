"""The operator itself is killed, frozen, replaced, starved of its API server, and given a clock that is wrong."""

import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from tests.chaos.stage import LIMIT, LONG, PATIENCE, Stage
from tests.chaos.wire import Wire
from tests.cluster.processes import wait_for
from tests.integration.running import Operator

TAKEOVER = 8.0
"""Seconds in which a standby leads after its leader has died (issue 4)."""
AT_ONCE = 32
"""Requests that an operator has under way at most (--concurrency)."""


def leads(run: Operator) -> bool:
    try:
        return "\nregistry_status_leader 1.0" in run.metrics()
    except httpx.TransportError:
        return False


@contextmanager
def replicas(stage: Stage) -> Iterator[list[Operator]]:
    """A leader, which is the first, and a standby."""
    with ExitStack() as stack:

        def start(name: str) -> Operator:
            flags = ("--leader-elect", "true", "--lease-namespace", stage.fleet.namespace)
            run = stage.start(*flags, environment={"POD_NAME": name})
            stack.callback(run.stop, signal.SIGKILL)
            return run

        first = start("a")
        wait_for(lambda: leads(first), 30, "a leader")
        second = start("b")
        second.wait_ready(30)
        stage.settle(30, first)
        yield [first, second]


# --- killed, frozen, replaced ---------------------------------------------------------------------


def test_an_operator_that_is_killed_at_random_moments(stage: Stage) -> None:
    chance = random.Random(7)
    first = stage.start()
    first.wait_ready(30)
    stage.settle(30, first)
    runs = [first]

    def begin() -> None:
        for _ in range(5 if LONG else 3):
            time.sleep(chance.uniform(0.2, 3))
            runs[-1].stop(signal.SIGKILL)
            runs.append(stage.start())
            time.sleep(chance.uniform(0.2, 3))

    written, since = stage.registry.server.journal.total_writes, time.time()
    try:
        with stage.fleet.churning(30):
            began = time.monotonic()
            begin()
            lasted = time.monotonic() - began
        runs[-1].wait_ready(30)
        settled = stage.settle(LIMIT * PATIENCE + 10, runs[-1], gone=0.0)
        assert settled <= LIMIT * PATIENCE
        assert stage.fleet.late(stage.registry.server.writes[written:], since) == []
        stage.note(f"SIGKILL {len(runs) - 1} times", runs[-1], lasted, settled)
    finally:
        for run in runs:
            run.stop(signal.SIGKILL)


def test_a_leader_that_dies(stage: Stage) -> None:
    with replicas(stage) as (leader, standby):

        def begin() -> None:
            leader.stop(signal.SIGKILL)
            wait_for(lambda: leads(standby), TAKEOVER * PATIENCE, "a new leader", interval=0.02)

        figures = stage.survive("leader killed", leader, begin, after=lambda: standby)
        assert figures.fault_s <= TAKEOVER * PATIENCE


def test_a_leader_that_is_frozen_longer_than_its_lease(stage: Stage) -> None:
    with replicas(stage) as (leader, standby):

        def begin() -> None:
            leader.process.send_signal(signal.SIGSTOP)
            wait_for(lambda: leads(standby), TAKEOVER * PATIENCE, "a new leader", interval=0.02)
            time.sleep(15 if LONG else 3)

        def end() -> None:
            leader.process.send_signal(signal.SIGCONT)

        stage.survive("leader frozen", leader, begin, ends=end, after=lambda: standby, on_the_wire=AT_ONCE)
        wait_for(lambda: not leads(leader), 5 * PATIENCE, "the old leader to notice")


def test_both_replicas_are_restarted(stage: Stage) -> None:
    with replicas(stage) as (leader, standby), ExitStack() as stack:
        new: list[Operator] = []

        def begin() -> None:
            for old in (leader, standby):
                code, _ = old.stop(signal.SIGTERM)
                assert code == 0
                flags = ("--leader-elect", "true", "--lease-namespace", stage.fleet.namespace)
                run = stage.start(*flags, environment={"POD_NAME": f"new-{len(new)}"})
                stack.callback(run.stop, signal.SIGKILL)
                new.append(run)
                run.wait_ready(30)
            wait_for(lambda: any(map(leads, new)), TAKEOVER * PATIENCE, "a leader", interval=0.02)

        stage.survive("both replicas restarted", leader, begin, after=lambda: next(filter(leads, new)), watched=False)


# --- its API server -------------------------------------------------------------------------------


def test_a_kube_apiserver_that_is_killed_and_restarted(stage: Stage) -> None:
    with stage.operator() as run:

        def begin() -> None:
            stage.plane.kill_apiserver()
            time.sleep(20 if LONG else 3)

        # Its memory of changes is gone with it: what came and went before the operator is back no watch can tell.
        stage.survive(
            "kube-apiserver killed", run, begin, ends=stage.plane.start_apiserver, limit=RETRY_API + LIMIT, watched=False
        )


def test_an_etcd_that_is_killed_and_restarted(stage: Stage) -> None:
    with stage.operator() as run:

        def begin() -> None:
            stage.plane.kill_etcd()
            time.sleep(20 if LONG else 3)

        def end() -> None:
            stage.plane.start_etcd()
            stage.plane.wait_ready()

        stage.survive("etcd killed", run, begin, ends=end, limit=RETRY_API + LIMIT)


CONNECT = 5.0
"""Seconds that an attempt to connect may hang."""
RETRY_API = 2.5
"""The longest pause in seconds between two tries of a watch: an API server that was away is heard again by then."""


def test_a_history_that_was_compacted_while_the_operator_slept(stage: Stage) -> None:
    with stage.operator() as run:

        def begin() -> None:
            run.process.send_signal(signal.SIGSTOP)
            for _ in range(2):  # its connection is gone with the first, and what changed since with the second
                stage.plane.kill_apiserver()
                stage.plane.start_apiserver()
                time.sleep(10 if LONG else 2)
                stage.plane.compact()

        def end() -> None:
            run.process.send_signal(signal.SIGCONT)

        stage.survive(
            "history compacted while frozen", run, begin, ends=end, limit=RETRY_API + LIMIT, on_the_wire=AT_ONCE, watched=False
        )
        assert 'watch_faults_total{kind="expired"}' in run.metrics()


def test_a_network_that_has_lost_the_way_to_the_api_server(stage: Stage, tmp_path: Path) -> None:
    wire = Wire(stage.background, stage.plane.port)
    document = yaml.safe_load(stage.plane.kubeconfig.read_text())
    document["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{wire.port}"
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(document))
    with stage.operator(kubeconfig=kubeconfig) as run:

        def begin() -> None:
            wire.cut()
            time.sleep(60 if LONG else 6)

        stage.survive("network to the API server cut", run, begin, ends=wire.mend, limit=CONNECT + RETRY_API + LIMIT)
    wire.close()


# --- the rest ---------------------------------------------------------------------------------------

SHIFTED = "import time\n_now = time.time\ntime.time = lambda: _now() + {seconds}\n"


@pytest.mark.parametrize("seconds", [3600, -3600], ids=["an hour ahead", "an hour behind"])
def test_a_clock_that_is_wrong(stage: Stage, tmp_path: Path, seconds: int) -> None:
    (tmp_path / "sitecustomize.py").write_text(SHIFTED.format(seconds=seconds))
    with stage.operator(environment={"PYTHONPATH": str(tmp_path)}) as run:
        stage.survive(f"clock wrong by {seconds} s", run, lambda: time.sleep(20 if LONG else 3))


def test_a_storm_of_changes(stage: Stage) -> None:
    with stage.operator() as run:
        changes = 10_000 if LONG else 2_000
        stage.survive(f"storm of {changes} changes", run, lambda: stage.fleet.storm(changes), rate=1)
