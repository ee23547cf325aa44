"""The registry fails in every way that registries and networks know, while a thousand pods go on changing."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from registry_status.registry.devserver import Accounts, Answer, Code, Delay, Drop, Fault, Hang, Truncate, When
from tests.chaos.registry import Registry
from tests.chaos.stage import LIMIT, LONG, PATIENCE, Stage
from tests.chaos.wire import Wire
from tests.cluster.processes import wait_for
from tests.integration.running import Operator

ACCOUNT, PASSWORD = "operator", "right-1"
BUSY = Answer.refusal(Code.INTERNAL, "etcdserver: request timed out")
FAULTS: dict[str, tuple[tuple[Fault, ...], float]] = {
    "hangs 30 s, then fails": ((Fault(Hang(30)),), 30),
    "is slow (2 s)": ((Fault(Delay(2)),), 30),
    "answers 500": ((Fault(BUSY),), 30),
    "answers 500 to every write": ((Fault(BUSY, method="PUT"),), 30),
    "answers 429 with Retry-After": ((Fault(Answer.too_many_requests("1")),), 30),
    "answers HTML": ((Fault(Answer.html_page()),), 30),
    "resets half-way": ((Fault(Truncate(abrupt=True)),), 30),
    "drops requests": ((Fault(Drop()),), 30),
    "applies writes and drops the answers": ((Fault(Drop(), method="PUT", when=When.AFTER),), 30),
}
SILENCE = 5.0
"""Seconds that a request waits at most for its answer (--request-timeout)."""
LIMITS = {"is slow (2 s)": 2 + LIMIT, "hangs 30 s, then fails": SILENCE + LIMIT}
"""What is on its way when the fault ends comes back as late as the fault made it."""


def lasting(seconds: float, short: float = 4.0) -> Callable[[], None]:
    """Wait out a fault: as long as it is in earnest, or a short form."""
    return partial(time.sleep, seconds if LONG else short)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_registry_that_fails(stage: Stage, fault: str) -> None:
    faults, seconds = FAULTS[fault]
    with stage.operator() as run:

        def begin() -> None:
            stage.registry.fail(*faults)
            lasting(seconds)()

        stage.survive(f"registry {fault}", run, begin, ends=stage.registry.fail, limit=LIMITS.get(fault, LIMIT))


def test_a_registry_that_is_down(stage: Stage) -> None:
    with stage.operator() as run:

        def begin() -> None:
            stage.registry.stop()
            lasting(60)()

        stage.survive("registry down (refused)", run, begin, ends=stage.registry.start)


def test_a_network_that_has_lost_the_way_to_the_registry(stage: Stage) -> None:
    wire = Wire(stage.background, stage.registry.port)
    with stage.operator(url=wire.url) as run:

        def begin() -> None:
            wire.cut()
            lasting(30)()

        stage.survive("network to the registry cut", run, begin, ends=wire.mend, limit=SILENCE + LIMIT)
    wire.close()


@pytest.mark.parametrize(("death", "limit"), [("refuses", LIMIT), ("is silent", SILENCE + LIMIT)])
def test_one_of_two_addresses_is_dead(stage: Stage, death: str, limit: float) -> None:
    """And stays so: everything has to come right by the other one."""
    wire = Wire(stage.background, stage.registry.port)
    with stage.operator("--registry-address", stage.registry.url, url=wire.url) as run:

        def begin() -> None:
            (wire.close if death == "refuses" else wire.cut)()
            lasting(30)()

        stage.survive(f"one of two addresses {death}", run, begin, limit=limit)
    wire.close()


def test_an_outage_of_500_pods_makes_no_storm(stage: Stage) -> None:
    with stage.operator() as run:

        def begin() -> None:
            stage.registry.fail(Fault(Answer(status=503)))
            stage.fleet.flip_all(500)
            time.sleep(15)

        figures = stage.survive("outage of 500 pods, 15 s", run, begin, ends=stage.registry.fail, rate=1)
        assert figures.requests_during < 100


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(PASSWORD)
    return path


@contextmanager
def guarded_by(stage: Stage, password_file: Path) -> Iterator[tuple[Stage, Accounts, Operator]]:
    """The same fleet and the same registry behind a server that asks for a token, and an operator that has one."""
    guarded = Registry(stage.background, stage.registry.server.registry, {ACCOUNT: PASSWORD})
    accounts = guarded.server.accounts
    assert accounts is not None
    flags = ("--registry-username", ACCOUNT, "--registry-password-file", str(password_file))
    beside = replace(stage, registry=guarded)
    with beside.operator(*flags, url=guarded.url) as run:
        yield beside, accounts, run
    guarded.stop()


def test_a_token_that_expires(stage: Stage, password_file: Path) -> None:
    with guarded_by(stage, password_file) as (beside, accounts, run):

        def begin() -> None:
            for _ in range(3):
                accounts.expire_tokens()
                lasting(10, 2)()

        beside.survive("token expired, three times", run, begin)
        assert logins(beside.registry) <= 4, "one at the start, one for each token that expired"


def test_a_wrong_password(stage: Stage, password_file: Path) -> None:
    with guarded_by(stage, password_file) as (beside, accounts, run):
        before = logins(beside.registry)

        def begin() -> None:
            accounts.set_password(ACCOUNT, "right-2")
            accounts.revoke_tokens()
            lasting(30)()

        def end() -> None:
            assert logins(beside.registry) - before <= 3, "a fourth failed login would lock the account"
            password_file.write_text("right-2")
            wait_for(lambda: logins(beside.registry) > before + 1, 15 * PATIENCE, "a login with the new password")

        beside.survive("wrong password", run, begin, ends=end)


def logins(guarded: Registry) -> int:
    return sum(request.path == "/v4/token" for request in guarded.server.requests)
