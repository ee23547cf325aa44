"""The election: who leads when, and that there are never two."""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterator
from functools import wraps
from typing import Any

import pytest

from registry_status.cluster.access import Access
from registry_status.cluster.api import ApiError, Json
from registry_status.cluster.lease import (
    DEADLINE,
    DURATION,
    FENCE,
    RELEASED,
    Act,
    Election,
    Elector,
    Lease,
    LeaseRef,
    lease_body,
    lease_of,
    parse_lease,
)
from registry_status.config import Settings
from tests.unit.cluster.fake_lease import REF, FakeLeaseApi, LeaseStore
from tests.virtual_time import run_virtual

SOON = 0.1
"""Enough for a few requests."""


@pytest.fixture(autouse=True)
def no_fault_of_ours(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """An election survives faults of its own, so only its log tells of them."""
    yield
    assert [record.getMessage() for record in caplog.get_records("call") if "internal error" in record.getMessage()] == []


def on_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        run_virtual(test(*args, **kwargs))

    return run


class Replica:
    """One candidate, and what it was told."""

    def __init__(self, store: LeaseStore, name: str = "a", seed: int = 1) -> None:
        self.name = name
        self.api = FakeLeaseApi(store)
        self.ahead = 0.0
        """By how much its clock was put forward, as by a machine that slept."""
        self.told: list[str] = []
        self.elector = Elector(
            self.api, REF, name, clock=lambda: _now() + self.ahead, wall_clock=lambda: 1e9, chance=random.Random(seed)
        )

    def begin(self) -> "Replica":
        self.elector.begin(self)
        return self

    def led(self) -> None:
        self.told.append("led")

    def lost(self) -> None:
        self.told.append("lost")

    @property
    def leads(self) -> bool:
        return self.elector.remaining() > 0

    async def crash(self) -> None:
        assert self.elector._running is not None
        self.elector._running.cancel()
        await asyncio.gather(self.elector._running, return_exceptions=True)


def _now() -> float:
    return asyncio.get_running_loop().time()


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> float:
    """Wait; returns how long it took."""
    began = _now()
    while not condition():
        assert _now() - began < seconds, "it never came"
        await asyncio.sleep(0.01)
    return _now() - began


async def pair() -> tuple[LeaseStore, Replica, Replica]:
    """A leader and a standby."""
    store = LeaseStore()
    leader = Replica(store, "a").begin()
    await until(lambda: leader.leads)
    standby = Replica(store, "b", seed=2).begin()
    await asyncio.sleep(3)
    assert (leader.told, standby.told) == (["led"], [])
    return store, leader, standby


class TestLeading:
    @on_virtual_time
    async def test_a_lease_that_is_not_there_is_made_for_nobody_and_has_to_stand_first(self) -> None:
        """It may have been deleted under a leader a moment ago."""
        store = LeaseStore()
        replica = Replica(store).begin()
        await asyncio.sleep(SOON)
        assert store.holder == ""
        assert DURATION - SOON <= await until(lambda: replica.leads) <= DURATION + SOON
        assert store.holder == "a"

    @on_virtual_time
    async def test_a_released_lease_is_taken_at_once(self) -> None:
        store = LeaseStore()
        store.post(lease_body(REF, None, "", 1, 1e9))
        replica = Replica(store).begin()
        assert await until(lambda: replica.leads) < SOON

    @on_virtual_time
    async def test_the_leader_renews_about_each_second_and_the_standby_looks_as_often(self) -> None:
        _, leader, standby = await pair()
        leader.api.calls.clear()
        standby.api.calls.clear()
        await asyncio.sleep(100)
        assert 99 <= len(leader.api.calls) <= 126
        assert set(leader.api.calls) == {"put"}
        assert 99 <= len(standby.api.calls) <= 126
        assert set(standby.api.calls) == {"get"}
        assert (leader.told, standby.told) == (["led"], [])

    @on_virtual_time
    async def test_what_the_lease_says(self) -> None:
        store, leader, standby = await pair()
        assert store.lease is not None
        assert store.lease["spec"] == {
            "holderIdentity": "a",
            "leaseDurationSeconds": 6,
            "acquireTime": "2001-09-09T01:46:40.000000Z",
            "renewTime": "2001-09-09T01:46:40.000000Z",
            "leaseTransitions": 1,
        }
        await leader.elector.resign()
        await until(lambda: standby.leads)
        assert (store.holder, store.lease["spec"]["leaseTransitions"]) == ("b", 2)


class TestTakeover:
    @on_virtual_time
    async def test_after_a_release_within_about_a_second(self) -> None:
        store, leader, standby = await pair()
        began = _now()
        await leader.elector.resign()
        assert store.holder == ""
        assert not leader.leads
        await until(lambda: standby.leads)
        assert _now() - began < 1.1
        assert leader.told == ["led"], "who resigns is not told what he knows"

    @pytest.mark.parametrize("seed", range(5))
    @on_virtual_time
    async def test_after_a_crash_within_eight_seconds(self, seed: int) -> None:
        _, leader, standby = await pair()
        await asyncio.sleep(seed * 0.21)
        await leader.crash()
        assert DURATION - 1 < await until(lambda: standby.leads) < 7.5

    @on_virtual_time
    async def test_three_replicas_hand_it_on_without_a_gap_of_more_than_a_second(self) -> None:
        store, leader, second = await pair()
        third = Replica(store, "c", seed=3).begin()
        await asyncio.sleep(1)
        await leader.elector.resign()
        assert await until(lambda: second.leads or third.leads) < 1.1
        await asyncio.sleep(20)
        assert sorted([second.told, third.told]) == [[], ["led"]]

    @on_virtual_time
    async def test_another_version_of_the_operator_may_hold_it_for_longer(self) -> None:
        store = LeaseStore()
        store.post(lease_body(REF, None, "old", 15, 1e9))
        replica = Replica(store).begin()
        assert 15 <= await until(lambda: replica.leads) < 15.2

    @on_virtual_time
    async def test_an_absurd_duration_is_not_waited_for(self) -> None:
        store = LeaseStore()
        store.post(lease_body(REF, None, "old", 2**31 - 1, 1e9))
        replica = Replica(store).begin()
        assert await until(lambda: replica.leads, 100) < 60.2


class TestLosing:
    @pytest.mark.parametrize("how", ["refused", "silent"])
    @on_virtual_time
    async def test_without_the_api_server_the_deadline_ends_it_before_the_fence_does(self, how: str) -> None:
        _, leader, _ = await pair()
        if how == "refused":
            leader.api.trouble = lambda _: ApiError(0, "Unreachable", "connection refused")
        else:
            leader.api.latency = 3600
        took = await until(lambda: leader.told == ["led", "lost"])
        assert DEADLINE - 1.1 <= took <= DEADLINE
        assert leader.elector.remaining() == 0.0

    @on_virtual_time
    async def test_it_is_taken_again_when_the_api_server_is_back(self) -> None:
        store = LeaseStore()
        leader = Replica(store).begin()
        await until(lambda: leader.leads)
        leader.api.trouble = lambda _: ApiError(503, "Down", "down")
        await until(lambda: not leader.leads)
        leader.api.trouble = lambda _: None
        assert await until(lambda: leader.leads) < 1.1, "nobody else has taken it"
        assert leader.told == ["led", "lost", "led"]

    @on_virtual_time
    async def test_a_slow_api_server_is_no_reason(self) -> None:
        _, leader, standby = await pair()
        leader.api.latency = standby.api.latency = 1.8
        await asyncio.sleep(60)
        assert (leader.told, standby.told) == (["led"], [])

    @on_virtual_time
    async def test_an_answer_that_is_lost_now_and_then_is_no_reason(self) -> None:
        store, leader, standby = await pair()
        for _ in range(5):
            leader.api.answer_lost = True
            await asyncio.sleep(1.1)
            leader.api.answer_lost = False
            await asyncio.sleep(10)
        assert (leader.told, standby.told, store.holder) == (["led"], [], "a")

    @on_virtual_time
    async def test_who_slept_longer_than_its_lease_is_fenced_off_before_it_has_noticed(self) -> None:
        _, leader, _ = await pair()
        leader.ahead += FENCE
        assert leader.elector.remaining() <= 0
        assert leader.elector.leading, "it does not know yet"
        await until(lambda: "lost" in leader.told, 1.1)

    @on_virtual_time
    async def test_a_holder_that_somebody_else_has_written_is_believed(self) -> None:
        store, leader, standby = await pair()
        store.edit(holderIdentity="stranger")
        await until(lambda: leader.told == ["led", "lost"], 1.1)
        began = _now()
        await until(lambda: leader.leads or standby.leads)
        assert _now() - began > DURATION - 1.1, "who knows whether it writes"


class TestEditedByOthers:
    @on_virtual_time
    async def test_a_standby_that_somebody_else_has_named_waits_until_the_leader_must_have_noticed(self) -> None:
        store, leader, standby = await pair()
        leader.api.latency = 3600
        store.edit(holderIdentity="b")
        while leader.leads:
            assert not standby.leads
            await asyncio.sleep(0.01)
        assert await until(lambda: standby.leads) < DURATION + 1

    @on_virtual_time
    async def test_who_was_named_by_somebody_else_does_not_release_what_another_may_lead_by(self) -> None:
        store, _, standby = await pair()
        store.edit(holderIdentity="b")
        await standby.elector.resign()
        assert store.holder == "b"

    @on_virtual_time
    async def test_an_annotation_is_kept_and_nobody_loses(self) -> None:
        store, leader, standby = await pair()
        for _ in range(20):
            store.edit()
            await asyncio.sleep(0.7)
        assert store.lease is not None
        assert store.lease["metadata"]["annotations"]
        assert (leader.told, standby.told) == (["led"], [])

    @on_virtual_time
    async def test_a_deleted_lease_is_made_again_by_its_leader(self) -> None:
        store, leader, standby = await pair()
        for _ in range(5):
            store.delete()
            await asyncio.sleep(3)
            assert (store.holder, leader.told, standby.told) == ("a", ["led"], [])

    @on_virtual_time
    async def test_a_holder_that_was_wiped_out_is_written_again(self) -> None:
        store, leader, standby = await pair()
        store.edit(holderIdentity="")
        await asyncio.sleep(3)
        assert (store.holder, leader.told, standby.told) == ("a", ["led"], [])

    @on_virtual_time
    async def test_one_who_writes_all_the_time_is_not_raced_with(self) -> None:
        """Each write of ours finds another version than it knows."""
        store, leader, _ = await pair()
        leader.api.trouble = lambda method: store.edit() if method == "put" else None
        leader.api.calls.clear()
        await asyncio.sleep(30)
        assert leader.told == ["led", "lost"]
        assert len(leader.api.calls) < 100

    @pytest.mark.parametrize("spec", [
        {}, {"holderIdentity": None, "leaseDurationSeconds": None, "leaseTransitions": None, "renewTime": None},
        {"holderIdentity": 7, "leaseDurationSeconds": "long", "leaseTransitions": [], "acquireTime": {}},
        {"holderIdentity": "x", "leaseDurationSeconds": 0, "leaseTransitions": -1},
        {"holderIdentity": "x", "leaseDurationSeconds": -5, "leaseTransitions": 2**31 - 1},
        {"holderIdentity": "x", "leaseDurationSeconds": True, "strategy": "OldestEmulationVersion", "preferredHolder": "y"},
    ])  # fmt: skip
    @on_virtual_time
    async def test_odd_content_is_taken_over_like_any_other(self, spec: dict[str, Any]) -> None:
        store = LeaseStore()
        store.post({"metadata": {"name": "status", "labels": {"a": "b"}}, "spec": spec})
        replica = Replica(store).begin()
        assert DURATION <= await until(lambda: replica.leads) < DURATION + SOON
        assert store.lease is not None
        assert store.lease["metadata"]["labels"] == {"a": "b"}
        assert 1 <= store.lease["spec"]["leaseTransitions"] <= 2**31 - 1
        assert set(store.lease["spec"]) == {
            "holderIdentity", "leaseDurationSeconds", "acquireTime", "renewTime", "leaseTransitions"
        }  # fmt: skip

    @pytest.mark.parametrize("answer", [
        {}, {"metadata": None, "spec": None}, {"metadata": {"uid": "u"}}, {"metadata": {"uid": 1, "resourceVersion": "1"}},
    ])  # fmt: skip
    def test_what_is_no_lease_is_an_error(self, answer: dict[str, Any]) -> None:
        with pytest.raises(ApiError, match="no uid or no resourceVersion"):
            parse_lease(answer)

    def test_a_lease_without_specification_is_one(self) -> None:
        assert parse_lease({"metadata": {"uid": "u", "resourceVersion": "1"}}) == Lease("u", "1")


OUTCOMES: dict[str, Callable[[Election, float], object]] = {
    "a round begins": lambda election, now: election.next(now),
    "it is read as ours": lambda election, now: election.read(Lease("u", "2", holder="a"), now),
    "it was renewed, which was told too late": lambda election, now: election.wrote(
        Lease("u", "3", holder="a"), sent_at=0.0, now=now
    ),
    "somebody else has written it": lambda election, now: election.conflicted(now),
    "nothing was answered": lambda election, now: election.failed(now, now),
}


class TestRules:
    """Of an election whose times are given: what a request's outcome means for the candidate."""

    @staticmethod
    def elected(now: float = 0.0) -> Election:
        """A candidate that has renewed at this time."""
        election = Election("a", now, random.Random(1))
        election.read(Lease("u", "1"), now)
        election.sends("a", "then", now)
        election.wrote(Lease("u", "2", holder="a", renewed="then"), sent_at=now, now=now)
        assert election.leading
        return election

    @pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES)
    def test_a_leader_leads_no_more_once_its_deadline_has_passed(self, outcome: Callable[[Election, float], object]) -> None:
        in_time, late = self.elected(), self.elected()
        outcome(in_time, DEADLINE - 0.01)
        outcome(late, DEADLINE)
        assert (in_time.leading, late.leading) == (True, False)
        assert late.next(DEADLINE) is Act.READ, "another may have taken it"

    def test_a_renewal_that_failed_is_tried_again_without_a_look(self) -> None:
        election = self.elected()
        election.failed(1.0, 1.5)
        assert election.next(2.0) is Act.WRITE

    def test_a_look_after_a_conflict_that_failed_is_still_due(self) -> None:
        election = self.elected()
        election.conflicted(1.0)
        election.failed(1.0, 1.5)
        assert election.next(2.0) is Act.READ

    def test_a_takeover_that_failed_is_looked_at_before_it_is_tried_again(self) -> None:
        election = Election("a", 0.0, random.Random(1))
        election.read(Lease("u", "1", duration=RELEASED), 0.0)
        assert election.next(0.0) is Act.WRITE
        election.failed(0.0, 0.5)
        assert election.next(1.0) is Act.READ

    @pytest.mark.parametrize(
        ("sent_at", "now", "least", "most"), [(1.0, 1.1, 0.7, 0.9), (1.0, 3.0, 0.0, 0.0), (3.5, 3.6, 0.0, 0.4)]
    )
    def test_after_a_failure_it_is_tried_again_a_second_after_it_was_sent_and_before_the_deadline(
        self, sent_at: float, now: float, least: float, most: float
    ) -> None:
        election = self.elected()
        election.failed(sent_at, now)
        assert least <= election.due_in(now) <= most + 1e-9

    @pytest.mark.parametrize(
        ("seen_at", "renewed", "ours"),
        [(1.0, "then", True), (1.0, "by another", False), (DURATION - 0.01, "then", True), (DURATION, "then", False)],
    )
    def test_ours_is_what_we_wrote_a_moment_ago_and_not_all_that_names_us(
        self, seen_at: float, renewed: str, ours: bool
    ) -> None:
        """Another may have led while we were frozen, and people or a backup have named us then."""
        election = self.elected()
        election.read(Lease("u", "9", holder="a", renewed=renewed), seen_at)
        assert election.holds is ours

    def test_what_we_made_for_nobody_is_not_ours_when_somebody_else_names_us_in_it(self) -> None:
        """Its leader, under whom it was deleted, may not have noticed."""
        election = Election("a", 0.0, random.Random(1))
        election.read(None, 0.0)
        assert election.next(0.0) is Act.CREATE
        election.sends(election.holder_to_write(), "then", 0.0)
        election.wrote(Lease("u", "1", renewed="then"), sent_at=0.0, now=0.1)
        election.read(Lease("u", "2", holder="a", renewed="then"), 0.2)
        assert not election.holds
        assert election.next(0.3) is Act.READ

    @pytest.mark.parametrize(("seen_at", "ours"), [(5.0, True), (DURATION - 0.01, True), (DURATION, False), (9.0, False)])
    def test_what_its_leader_made_anew_is_ours_only_while_nobody_else_can_have_led(self, seen_at: float, ours: bool) -> None:
        """It may arrive late: another has led by a Lease that was made after ours was deleted, and is deleted now, too."""
        election = self.makes_anew()
        election.failed(3.9, DEADLINE)
        election.read(Lease("u3", "9", holder="a", renewed="anew"), seen_at)
        assert election.holds is ours
        assert election.next(seen_at) is (Act.WRITE if ours else Act.READ)

    @pytest.mark.parametrize(("answered_at", "leads"), [(DEADLINE - 0.01, True), (DEADLINE, False), (7.0, False)])
    def test_what_its_leader_made_anew_renews_but_makes_no_leader(self, answered_at: float, leads: bool) -> None:
        """The answer may have waited for a process that was frozen."""
        election = self.makes_anew()
        election.wrote(Lease("u3", "9", holder="a", renewed="anew"), sent_at=3.9, now=answered_at)
        assert election.leading is leads

    def makes_anew(self) -> Election:
        """One that has renewed at 0, has found its Lease deleted, and sends at 3.9 another that names it."""
        election = self.elected()
        election.read(None, 3.8)
        assert election.next(3.9) is Act.CREATE
        election.sends(election.holder_to_write(), "anew", 3.9)
        return election

    def test_who_steps_down_leads_no_more_and_looks_first(self) -> None:
        election = self.elected()
        election.step_down()
        assert (election.leading, election.remaining(0.0), election.holds) == (False, 0.0, True)
        assert election.next(0.0) is Act.READ

    def test_a_request_is_not_waited_for_beyond_the_deadline(self) -> None:
        election = self.elected()
        assert election.patience(0.0) == 2.0
        assert election.patience(DEADLINE - 0.5) == pytest.approx(0.5)
        assert Election("b", 0.0, random.Random(1)).patience(0.0) == 2.0


class TestTrouble:
    @on_virtual_time
    async def test_without_the_right_it_says_once_which_rule_is_missing(self, caplog: pytest.LogCaptureFixture) -> None:
        store = LeaseStore()
        replica = Replica(store)
        message = '403: leases "status" is forbidden: User "x" cannot get resource "leases"'
        replica.api.trouble = lambda _: ApiError(403, "Forbidden", message)
        replica.begin()
        await asyncio.sleep(30)
        (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert record.levelno == logging.ERROR
        for part in ("lease system/status", "cannot lead", "forbidden", "resources: [leases], verbs: [get, create, update]"):
            assert part in record.getMessage()
        replica.api.trouble = lambda _: None
        await until(lambda: replica.leads)

    @on_virtual_time
    async def test_a_missing_namespace_is_said(self, caplog: pytest.LogCaptureFixture) -> None:
        replica = Replica(LeaseStore())
        lost = ApiError(404, "NotFound", 'namespaces "system" not found')
        replica.api.trouble = lambda method: lost if method == "post" else None
        replica.begin()
        await asyncio.sleep(30)
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
            'cannot create lease system/status: namespaces "system" not found; trying again'
        ]

    @on_virtual_time
    async def test_a_fault_of_ours_ends_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        _, leader, standby = await pair()

        def broken(_: str) -> ApiError | None:
            raise RuntimeError("a bug")

        leader.api.trouble = broken
        await until(lambda: "lost" in leader.told, DEADLINE)
        assert "internal error in the leader election" in caplog.text
        await until(lambda: standby.leads, 8)
        caplog.clear()

    @on_virtual_time
    async def test_changes_are_logged_once_each(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        store, leader, standby = await pair()
        await leader.elector.resign()
        await until(lambda: standby.leads)
        store.edit(holderIdentity="stranger")
        await asyncio.sleep(5)
        assert [record.getMessage() for record in caplog.records] == [
            "taking part in the election over lease system/status as a",
            "lease system/status is not there: it is made",
            "leading: lease system/status is ours",
            "taking part in the election over lease system/status as b",
            "standing by: a holds lease system/status",
            "lease system/status is released",
            "leading: lease system/status is ours",
            "not leading any more: lease system/status is lost, stranger holds it",
            "standing by: stranger holds lease system/status",
        ]


class TestLeaving:
    @on_virtual_time
    async def test_who_withdraws_as_the_leader_leads_until_it_resigns(self) -> None:
        _, leader, standby = await pair()
        leader.elector.withdraw()
        await asyncio.sleep(30)
        assert leader.leads
        assert standby.told == []

    @on_virtual_time
    async def test_who_withdraws_as_a_standby_does_not_take_over(self) -> None:
        _, leader, standby = await pair()
        standby.elector.withdraw()
        await leader.elector.resign()
        await asyncio.sleep(10)
        assert standby.told == []
        assert not standby.leads

    @on_virtual_time
    async def test_a_lease_of_somebody_else_is_not_released(self) -> None:
        store, leader, standby = await pair()
        await standby.elector.resign()
        assert store.holder == "a"
        assert leader.leads

    @on_virtual_time
    async def test_it_is_released_whatever_was_under_way(self) -> None:
        for moment in range(30):
            store, leader, _ = await pair()
            leader.api.latency = 0.3
            await asyncio.sleep(1 + moment * 0.05)
            await leader.elector.resign()
            assert store.holder != "a", moment

    @on_virtual_time
    async def test_a_takeover_whose_answer_is_awaited_is_released_too(self) -> None:
        store = LeaseStore()
        store.post(lease_body(REF, None, "", 1, 1e9))
        replica = Replica(store)
        replica.api.answer_lost = True
        replica.api.trouble = lambda method: setattr(replica.api, "answer_lost", method == "put")
        replica.begin()
        await until(lambda: store.holder == "a")
        await replica.elector.resign()
        assert replica.told == []
        replica.api.answer_lost = False
        assert store.holder == ""

    @pytest.mark.parametrize("method", ["get", "put"])
    @pytest.mark.parametrize("status", [0, 429, 500, 503])
    @on_virtual_time
    async def test_an_api_server_that_stumbles_once_is_asked_again(self, status: int, method: str) -> None:
        _, leader, standby = await pair()
        stumbles = iter([ApiError(status, "Unreachable" if not status else "Busy", "not now")])
        leader.api.trouble = lambda what: next(stumbles, None) if what == method else None
        await leader.elector.resign()
        assert await until(lambda: standby.leads) < 1.2

    @on_virtual_time
    async def test_a_release_that_was_taken_though_it_failed_is_noticed(self, caplog: pytest.LogCaptureFixture) -> None:
        store, leader, _ = await pair()
        put = leader.api.put

        async def cut_off(path: str, body: Json) -> Json:
            await put(path, body)
            raise ApiError(0, "Unreachable", "cut off")

        leader.api.put = cut_off  # type: ignore[method-assign]
        await leader.elector.resign()
        assert store.holder != "a"
        assert "could not be released" not in caplog.text

    @on_virtual_time
    async def test_what_the_api_server_refuses_for_good_is_not_asked_again(self) -> None:
        _, leader, _ = await pair()
        leader.api.trouble = lambda _: ApiError(403, "Forbidden", "no")
        before = len(leader.api.calls)
        await leader.elector.resign()
        assert leader.api.calls[before:] == ["get"]

    @on_virtual_time
    async def test_an_api_server_that_is_away_holds_nobody_up(self, caplog: pytest.LogCaptureFixture) -> None:
        _, leader, _ = await pair()
        leader.api.latency = 3600
        began = _now()
        await leader.elector.resign()
        assert _now() - began < 1.6
        assert "could not be released" in caplog.text

    @on_virtual_time
    async def test_to_begin_twice_is_to_begin_once(self) -> None:
        replica = Replica(LeaseStore()).begin().begin()
        await asyncio.sleep(SOON)
        assert replica.api.calls == ["get", "post"]

    @on_virtual_time
    async def test_who_withdraws_before_it_begins_asks_nothing(self) -> None:
        replica = Replica(LeaseStore())
        replica.elector.withdraw()
        replica.begin()
        await asyncio.sleep(10)
        assert replica.api.calls == []

    @on_virtual_time
    async def test_to_resign_without_having_begun_asks_nothing(self) -> None:
        replica = Replica(LeaseStore())
        await replica.elector.resign()
        replica.begin()
        await asyncio.sleep(10)
        assert replica.api.calls == []

    @on_virtual_time
    async def test_nothing_may_be_written_from_the_moment_of_resigning(self) -> None:
        _, leader, _ = await pair()
        resigning = asyncio.create_task(leader.elector.resign())
        await asyncio.sleep(0)
        assert not leader.leads
        await resigning


@pytest.mark.parametrize(("elects", "dry_run", "takes_part"), [(True, False, True), (True, True, False), (False, False, False)])
def test_a_replica_takes_part_in_a_lease_if_it_has_others_beside_it_and_writes(
    *, elects: bool, dry_run: bool, takes_part: bool
) -> None:
    settings, access = Settings(leader_elect=elects, dry_run=dry_run), Access(server="http://127.0.0.1:1", source="a test")
    found = lease_of(settings, access, {"POD_NAMESPACE": "ops"})
    assert found == (LeaseRef("ops", settings.lease_name) if takes_part else None)


@pytest.mark.parametrize(
    ("setting", "environment", "namespace"),
    [
        ("elsewhere", {"POD_NAMESPACE": "ops"}, "elsewhere"),
        ("", {"POD_NAMESPACE": "ops"}, "ops"),
        ("", {}, "of-the-context"),
        ("", {"POD_NAMESPACE": ""}, "of-the-context"),
    ],
    ids=["the setting's", "the pod's", "the access's", "the access's, where the pod's is empty"],
)
def test_the_lease_is_in_the_operators_own_namespace_unless_told_otherwise(
    setting: str, environment: dict[str, str], namespace: str
) -> None:
    settings = Settings(leader_elect=True, lease_namespace=setting, lease_name="status")
    access = Access(server="http://127.0.0.1:1", source="a test", namespace="of-the-context")
    assert lease_of(settings, access, environment) == LeaseRef(namespace, "status")
