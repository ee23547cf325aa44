from registry_status.demo.ledger import Arrival, Cause, Ledger, Life, Verdict, summary
from registry_status.model import InstanceStatus
from registry_status.registry.devserver import StatusWrite

UP, STARTING, DOWN = InstanceStatus.UP, InstanceStatus.STARTING, InstanceStatus.DOWN


def write(time: float, before: str, after: str, instance: str = "i-1") -> StatusWrite:
    where = {"domain": "default", "project": "default", "service_id": "s", "instance_id": instance}
    return StatusWrite(time=time, before=before, after=after, **where)


def ledger(*expected: InstanceStatus, until: float | None = None) -> Ledger:
    made = Ledger()
    life = Life("cart", "s", "i-1", until=until)
    for status in expected:
        life.expect(status)
    made.lives.append(life)
    return made


def judged(made: Ledger, *writes: StatusWrite, pod_writes: int = 0) -> Verdict:
    return made.verdict(writes, pod_writes=pod_writes, events=0)


def test_all_in_order_passes() -> None:
    verdict = judged(ledger(STARTING, UP, DOWN), write(1, "UP", "STARTING"), write(2, "STARTING", "UP"), write(3, "UP", "DOWN"))
    assert verdict.passed
    assert summary(verdict)[-1] == "passed"


def test_what_the_registry_said_already_needs_no_write() -> None:
    assert judged(ledger(UP, DOWN), write(1, "UP", "DOWN")).passed


def test_a_missing_status_fails() -> None:
    verdict = judged(ledger(STARTING, UP), write(1, "UP", "STARTING"))
    assert verdict.faults == ["cart: the registry should have said UP -> STARTING -> UP, and said UP -> STARTING"]
    assert not verdict.passed


def test_the_wrong_order_fails() -> None:
    assert not judged(ledger(STARTING, DOWN), write(1, "UP", "DOWN"), write(2, "DOWN", "STARTING")).passed


def test_a_status_too_many_fails() -> None:
    assert not judged(ledger(UP), write(1, "UP", "DOWN"), write(2, "DOWN", "UP")).passed


def test_a_redundant_write_fails() -> None:
    verdict = judged(ledger(DOWN), write(1, "UP", "DOWN"), write(2, "DOWN", "DOWN"))
    assert (verdict.redundant, verdict.faults, verdict.passed) == (1, [], False)


def test_a_leftover_may_be_written_but_never_up() -> None:
    writes = (write(1, "UP", "DOWN"), write(6, "DOWN", "STARTING"))
    assert judged(ledger(DOWN, until=5), *writes).passed
    assert "an earlier life" in judged(ledger(DOWN, until=5), *writes, write(7, "STARTING", "UP")).faults[0]


def test_strangers_must_be_left_alone() -> None:
    verdict = judged(ledger(), write(1, "UP", "DOWN", "i-9"), write(2, "DOWN", "UP", "i-9"))
    assert verdict.faults == ["instance i-9 is no pod's, but was written"]


def test_a_patch_of_a_pod_fails() -> None:
    assert "must never" in judged(ledger(), pod_writes=1).faults[0]


def test_faults_of_the_story_count() -> None:
    made = ledger()
    made.faults.append("cart: status UP did not come")
    assert not judged(made).passed
    assert "  missing or wrong: cart: status UP did not come" in summary(judged(made))
    assert summary(judged(made))[-1] == "FAILED"


def test_the_summary_tells_latencies_by_cause() -> None:
    made = ledger()
    made.arrivals += [Arrival("cart", UP, Cause.POD, seconds) for seconds in (0.002, 0.010, 0.004, None)]
    made.arrivals.append(Arrival("cart", UP, Cause.RETURN, 2.0))
    assert summary(judged(made))[:3] == [
        "4 status changes arrived in the registry, 0 redundant writes, 0 Events",
        "  after the pod changed: 3 changes, p50 4 ms, max 10 ms",
        "  after the registry came back: 1 change, p50 2000 ms, max 2000 ms",
    ]


def test_the_last_arrival_is_the_last_that_was_written() -> None:
    made = ledger()
    written, silent = Arrival("cart", UP, Cause.POD, 0.1), Arrival("cart", DOWN, Cause.POD, None)
    made.arrivals += [written, silent, Arrival("other", UP, Cause.POD, 0.2)]
    assert made.last_arrival("cart") == written
    assert made.last_arrival("nobody") is None
