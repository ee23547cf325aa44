"""When an address is not asked any more, when it is probed, and when it is asked again; times are seconds on any clock."""

import pytest

from registry_status.registry.base import TransientError
from registry_status.registry.circuit import ADDRESS_CODES, PROBE_EVERY, PROBES_AT_ONCE, TRIP, Circuit


def failure(code: str = "connect") -> TransientError:
    return TransientError(code, "no")


def opened(now: float = 0.0) -> Circuit:
    circuit = Circuit()
    assert [circuit.failed("/a", failure(), now) for _ in range(TRIP)] == [False] * (TRIP - 1) + [True]
    return circuit


@pytest.mark.parametrize("code", sorted(ADDRESS_CODES))
def test_five_failures_of_the_address_itself_open_it_whatever_was_asked_for(code: str) -> None:
    circuit = Circuit()
    assert [circuit.failed("/a", failure(code), 0.0) for _ in range(TRIP)] == [False] * (TRIP - 1) + [True]
    assert circuit.open


def test_other_failures_count_once_for_each_thing_that_was_asked_for() -> None:
    circuit = Circuit()
    assert not any(circuit.failed("/a", failure("http-500"), 0.0) for _ in range(10 * TRIP))
    others = [circuit.failed(f"/b{number}", failure("http-500"), 0.0) for number in range(TRIP - 1)]
    assert others == [False] * (TRIP - 2) + [True]


def test_both_kinds_add_up() -> None:
    circuit = Circuit()
    mixed = [circuit.failed(f"/{number}", failure("http-500" if number % 2 else "timeout"), 0.0) for number in range(TRIP)]
    assert mixed == [False] * (TRIP - 1) + [True]


@pytest.mark.parametrize("code", ["connect", "http-500"])
def test_an_answer_in_between_begins_the_count_anew(code: str) -> None:
    circuit = Circuit()
    for round_ in range(3):
        assert not any(circuit.failed(f"/{round_}-{number}", failure(code), 0.0) for number in range(TRIP - 1))
        assert not circuit.succeeded(), "it was not open"
    assert not circuit.open


def test_a_registry_that_asks_for_patience_is_not_taken_for_a_broken_one() -> None:
    circuit = Circuit()
    assert not any(circuit.failed(f"/{number}", failure("http-429"), 0.0) for number in range(10 * TRIP))
    assert not circuit.open


def test_the_last_failure_is_told_also_of_one_that_opens_nothing() -> None:
    circuit, patience = opened(), failure("http-429")
    circuit.failed("/a", patience, 0.1)
    assert circuit.last_error is patience


def test_failures_of_requests_that_were_under_way_neither_open_it_again_nor_put_off_the_probe() -> None:
    circuit = opened(now=0.0)
    assert not any(circuit.failed(f"/{number}", failure(), 0.9) for number in range(TRIP))
    assert circuit.probe_in(0.9) == pytest.approx(PROBE_EVERY - 0.9)


def test_the_first_answer_closes_it_and_five_failures_open_it_again() -> None:
    circuit = opened()
    assert circuit.succeeded()
    assert not circuit.open
    assert [circuit.failed("/a", failure(), 5.0) for _ in range(TRIP)] == [False] * (TRIP - 1) + [True]


def test_it_is_probed_once_a_second() -> None:
    circuit = opened(now=10.0)
    assert circuit.probe_in(10.0) == PROBE_EVERY
    assert circuit.probe_in(12.0) <= 0
    circuit.probe_started(12.0)
    assert circuit.probe_in(12.0) == PROBE_EVERY


def test_of_probes_that_hang_only_so_many_are_under_way() -> None:
    circuit = opened()
    for number in range(PROBES_AT_ONCE):
        assert circuit.probe_in(1.0 + number) <= 0
        circuit.probe_started(1.0 + number)
    assert circuit.probe_in(60.0) == PROBE_EVERY
    circuit.probe_ended()
    assert circuit.probe_in(60.0) <= 0
    circuit.probe_started(60.0)
    assert circuit.probe_in(120.0) == PROBE_EVERY, "the end of one makes room for one"
