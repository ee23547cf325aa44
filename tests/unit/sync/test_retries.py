"""Who tries again when."""

import asyncio
import random

import pytest

from registry_status.model import Desired, InstanceStatus, PodRef, Reason, Target, Tenant
from registry_status.registry.base import AuthError, PermanentError, RegistryError, TransientError, UnavailableError
from registry_status.sync.clock import loop_time
from registry_status.sync.desired import PodRecord, PodRecords
from registry_status.sync.retries import AFTER_REJECTION, BACKOFF_ALONE, BACKOFF_MOST, BACKOFF_SHARE, VANGUARD, Retries

BROKEN = TransientError("broken", "the connection broke")
BUSY = TransientError("http-429", "too many requests", retry_after=7.0)
REFUSED = PermanentError("400001", "bad parameters")
STRANGER = AuthError("http-401", "who are you?")


class Row:
    """Pods whose attempts fail, and who was woken."""

    def __init__(self) -> None:
        self.records = PodRecords()
        self.woken: list[str] = []
        self.retries = Retries(self.woken.append, random.Random(1))

    def pod(self, number: int) -> PodRecord:
        ref = PodRef(f"uid-{number}", "shop", f"cart-{number}")
        target = Target(Tenant(), service_id="cart")
        return self.records.add(Desired(ref, InstanceStatus.UP, Reason.POD_READY, "the pod is Ready", target), 0.0)

    def failing(self, count: int, error: RegistryError = BROKEN) -> list[PodRecord]:
        pods = [self.pod(number) for number in range(count)]
        for pod in pods:
            self.retries.failed(pod, error)
            self.retries.delay(pod, error)
        return pods


async def test_a_first_attempt_needs_no_turn() -> None:
    row = Row()
    assert [row.retries.wait_for_turn(row.pod(number)) for number in range(100)] == [0.0] * 100


async def test_retries_stand_in_a_row_and_ask_once() -> None:
    row = Row()
    waits = {pod.uid: row.retries.wait_for_turn(pod) for pod in row.failing(60)}
    late = [uid for uid, wait in waits.items() if wait > 0]
    assert late
    assert [row.retries.wait_for_turn(pod) for pod in row.records if pod.uid in late] == [0.0] * len(late)


async def test_a_place_in_the_row_is_good_for_one_try() -> None:
    row = Row()
    [pod] = row.failing(1)
    waits = [row.retries.wait_for_turn(pod) for _ in range(44)]
    assert [wait > 0 for wait in waits] == [False] * 40 + [True, False, True, False]


@pytest.mark.parametrize(
    "why", ["a pod that had waited was written", "it needed no write", "it was let try", "it had not waited"]
)
async def test_only_a_write_after_a_failure_lets_later_failures_begin_a_new_row(why: str) -> None:
    row = Row()
    pods = row.failing(100)
    for pod in pods:
        row.retries.wait_for_turn(pod)
    served = row.pod(200) if why == "it had not waited" else pods[0]
    if why == "it was let try":
        row.retries.begin_anew()
    row.retries.was_served(served, written=1 if why in ("a pod that had waited was written", "it had not waited") else 0)
    later = row.pod(300)
    row.retries.failed(later, BROKEN)
    row.retries.delay(later, BROKEN)
    assert (row.retries.wait_for_turn(later) == 0.0) is (why == "a pod that had waited was written")


@pytest.mark.parametrize(
    ("error", "least", "most"),
    [
        (BUSY, 7.0, 7.2),
        (REFUSED, AFTER_REJECTION, AFTER_REJECTION + 0.2),
        (BROKEN, 0.0, BACKOFF_ALONE),
        (STRANGER, 0.0, BACKOFF_ALONE),
    ],
    ids=["as the registry asked", "refused for good", "broken", "not let in"],
)
async def test_an_error_says_when_to_try_again(error: RegistryError, least: float, most: float) -> None:
    row = Row()
    [pod] = row.failing(1, error)
    assert all(least <= row.retries.delay(pod, error) <= most for _ in range(50))


async def test_the_more_pods_fail_the_later_each_tries_but_never_later_than_the_longest() -> None:
    longest = []
    for count in (1, 50, 1000):
        row = Row()
        pods = row.failing(count)
        longest.append(max(row.retries.delay(pods[0], BROKEN) for _ in range(200)))
    assert longest == sorted(longest)
    assert longest[0] <= BACKOFF_ALONE < longest[1] <= longest[2] <= BACKOFF_MOST
    assert longest == pytest.approx([BACKOFF_ALONE, 50 * BACKOFF_SHARE, BACKOFF_MOST], rel=0.1)


async def test_few_that_wait_begin_anew_once_the_registry_works_again() -> None:
    row = Row()
    pods = row.failing(3)
    row.retries.begin_anew()
    row.retries.begin_anew()
    assert row.woken == ["uid-0", "uid-1", "uid-2"]
    assert [pod.attempts for pod in pods] == [0, 0, 0]


async def test_of_many_that_wait_some_begin_at_once_and_the_rest_stand_in_the_row() -> None:
    row = Row()
    pods = row.failing(VANGUARD + 100)
    row.retries.begin_anew()
    assert row.woken == [pod.uid for pod in pods]
    waits = [row.retries.wait_for_turn(pod) for pod in pods]
    assert waits[:VANGUARD] == [0.0] * VANGUARD
    assert waits[-1] > 1.0


async def test_who_failed_without_being_tried_stands_in_the_row_as_well() -> None:
    row = Row()
    pods = [row.pod(number) for number in range(VANGUARD + 100)]
    for pod in pods:
        row.retries.failed(pod, UnavailableError("unavailable", "no address works"))
    row.retries.begin_anew()
    assert [row.retries.wait_for_turn(pod) for pod in pods][-1] > 1.0


async def test_who_has_a_place_in_the_row_keeps_it_when_the_registry_works_again() -> None:
    row = Row()
    pods = row.failing(VANGUARD + 100)
    row.retries.begin_anew()
    late = [pod for pod in pods if row.retries.wait_for_turn(pod) > 0]
    row.woken.clear()
    row.retries.begin_anew()
    assert late
    assert not {pod.uid for pod in late} & set(row.woken)
    assert all(pod.has_turn for pod in late)


async def test_who_began_at_once_and_was_served_lets_others_try_although_nothing_was_to_be_written() -> None:
    row = Row()
    pods = row.failing(VANGUARD + 5)
    row.retries.begin_anew()
    row.woken.clear()
    row.retries.was_served(pods[0], written=0)
    assert row.woken == [pod.uid for pod in pods[VANGUARD : VANGUARD + 2]]


async def test_who_the_registry_told_to_wait_is_called_out_of_the_row_as_well() -> None:
    row = Row()
    pods = row.failing(60, BUSY)
    late = [pod for pod in pods if row.retries.wait_for_turn(pod) > 0]
    [failed] = row.failing(1)
    row.retries.was_served(failed, written=1)
    assert row.woken == [pod.uid for pod in late[:2]]


@pytest.mark.parametrize("how", ["it was served", "it failed again"])
async def test_who_was_let_try_lets_others_try_once_at_most(how: str) -> None:
    row = Row()
    pods = row.failing(VANGUARD + 5)
    row.retries.begin_anew()
    if how == "it was served":
        row.retries.was_served(pods[0], written=0)
    else:
        row.retries.failed(pods[0], BROKEN)
    row.woken.clear()
    row.retries.was_served(pods[0], written=0)
    assert row.woken == []


async def test_who_begins_anew_takes_nothing_that_was_read_before() -> None:
    row = Row()
    pods = row.failing(VANGUARD + 5)
    await asyncio.sleep(0.01)
    now = loop_time()
    row.retries.begin_anew()
    assert all(pod.wanted_at >= now for pod in pods)


@pytest.mark.parametrize("error", [BUSY, REFUSED])
async def test_what_the_registry_told_to_wait_for_is_not_begun_anew(error: RegistryError) -> None:
    row = Row()
    row.failing(3, error)
    row.retries.begin_anew()
    assert row.woken == []


async def test_a_write_after_a_failure_lets_the_two_try_that_wait_longest() -> None:
    row = Row()
    pods = row.failing(5)
    row.retries.was_served(pods[4], written=1)
    assert row.woken == ["uid-0", "uid-1"]
    row.retries.was_served(pods[0], written=1)
    assert row.woken == ["uid-0", "uid-1", "uid-2", "uid-3"]


@pytest.mark.parametrize("why", ["nothing was written", "it had not waited"])
async def test_nobody_else_tries_before_a_failed_pod_was_written(why: str) -> None:
    row = Row()
    pods = row.failing(3)
    served = pods[0] if why == "nothing was written" else row.pod(9)
    row.retries.was_served(served, written=0 if served is pods[0] else 1)
    assert row.woken == []


@pytest.mark.parametrize("ended", ["forgotten", "cleared"])
async def test_who_is_let_go_is_not_woken(ended: str) -> None:
    row = Row()
    [pod] = row.failing(1)
    if ended == "forgotten":
        row.retries.forget(pod.uid)
    else:
        row.retries.clear()
    row.retries.begin_anew()
    assert row.woken == []
