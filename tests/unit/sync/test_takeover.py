"""Two replicas: what a standby does and does not, what a new leader makes of it, and what is left of a lost leadership."""

from typing import Any

import pytest

from registry_status.model import InstanceStatus, OutcomeKind
from registry_status.registry.base import FencedError, TransientError
from registry_status.registry.devserver import NewService
from registry_status.sync.delivery import FENCED_AGAIN, GONE_FOR
from tests.world import ASKED, SERVICE, World, on_virtual_time

UNREADY: dict[str, Any] = {"ready": "False", "ready_since": 9}
INVALID = ASKED | {"starting-status": "down"}


class Pair:
    """A leader and a standby that watch the same pods."""

    def __init__(self) -> None:
        self.leader = World()
        self.standby = World(beside=self.leader)

    def see(self, annotations: dict[str, str] | None = None, **changes: Any) -> None:
        self.leader.see(annotations, **changes)
        self.standby.see(annotations, **changes)

    def fail_over(self) -> None:
        """The leader is gone without a word; the standby takes its place."""
        self.leader.engine.stand_by()
        self.standby.engine.start_writing()

    def fall_back(self) -> None:
        self.standby.engine.stand_by()
        self.leader.engine.start_writing()

    async def settled(self, **changes: Any) -> str:
        """An unready pod whose status the leader has written."""
        instance = self.leader.register(instance_id="one")
        self.see(**UNREADY | changes)
        await self.leader.pass_time()
        assert self.leader.status(instance) == "OUTOFSERVICE"
        return instance


class TestStandingBy:
    @on_virtual_time
    async def test_nothing_is_asked_written_or_told_whatever_happens(self) -> None:
        pair = Pair()
        await pair.settled()
        for seconds in range(100):
            pair.see(ready="True" if seconds % 2 else "False", ready_since=seconds)
            pair.see(INVALID, name="bad", uid="bad", ip="10.244.0.8")
            await pair.standby.pass_time(5)
        pair.see(deleted=True, **UNREADY)
        await pair.standby.pass_time(600)
        assert pair.standby.registry.calls == []
        assert pair.standby.outcomes == []
        assert pair.standby.retries == 0
        assert pair.standby.engine.queued == 0

    @on_virtual_time
    async def test_what_pods_want_is_known(self) -> None:
        pair = Pair()
        await pair.settled()
        assert pair.standby.engine.desired_counts() == {InstanceStatus.OUTOFSERVICE: 1}
        assert pair.standby.engine.acknowledged_counts() == {}

    @pytest.mark.parametrize("how", ["deleted", "vanished"])
    @on_virtual_time
    async def test_gone_pods_are_kept_as_long_as_a_leader_keeps_them(self, how: str) -> None:
        pair = Pair()
        await pair.settled()
        for world in (pair.leader, pair.standby):
            if how == "deleted":
                world.see(deleted=True, **UNREADY)
            else:
                world.engine.vanish("uid-1")
        await pair.leader.pass_time(GONE_FOR - 1)
        assert "uid-1" in pair.standby.engine
        assert "uid-1" in pair.leader.engine
        await pair.leader.pass_time(2)
        assert "uid-1" not in pair.standby.engine
        assert "uid-1" not in pair.leader.engine
        assert [pod.uid for pod in pair.standby.forgotten] == ["uid-1"]
        assert pair.standby.registry.calls == []

    @on_virtual_time
    async def test_released_pods_are_let_go_without_a_word(self) -> None:
        pair = Pair()
        await pair.settled()
        pair.see({})
        await pair.standby.pass_time()
        assert len(pair.standby.engine) == len(pair.leader.engine) == 0
        assert pair.standby.outcomes == []

    @on_virtual_time
    async def test_it_stops_at_once(self) -> None:
        pair = Pair()
        await pair.settled()
        assert await pair.standby.engine.drain(5)
        assert pair.standby.registry.calls == []


class TestTakingOver:
    @on_virtual_time
    async def test_it_costs_one_list_a_service_and_no_write_where_all_is_in_step(self) -> None:
        pair = Pair()
        for service in ("svc-a", "svc-b", "svc-c"):
            pair.leader.state.create_service(NewService(name=service, service_id=service))
            for number in range(10):
                ip, name = f"10.244.{ord(service[-1])}.{number}", f"{service}-{number}"
                pair.leader.register(service_id=service, ip=ip, host=name)
                changes: dict[str, Any] = UNREADY if number % 2 else {}
                pair.see({"service-id": service}, uid=name, name=name, ip=ip, **changes)
        await pair.leader.pass_time(1)
        assert len(pair.leader.written()) == 15
        pair.fail_over()
        await pair.standby.pass_time(5)
        assert sorted(pair.standby.registry.calls) == ["list-instances"] * 3 + ["list-services"]
        assert pair.standby.outcomes == []
        assert sum(pair.standby.engine.acknowledged_counts().values()) == 30

    @on_virtual_time
    async def test_only_differences_are_written(self) -> None:
        pair = Pair()
        instance = await pair.settled()
        pair.leader.engine.stand_by()
        pair.see(ready_since=20)
        await pair.leader.pass_time(7)
        assert pair.leader.status(instance) == "OUTOFSERVICE"
        pair.standby.engine.start_writing()
        await pair.standby.pass_time()
        assert pair.leader.status(instance) == "UP"
        assert pair.standby.registry.calls == ["list-instances", "write-status"]
        assert pair.standby.redundant() == []

    @on_virtual_time
    async def test_a_pod_that_went_meanwhile_is_down(self) -> None:
        pair = Pair()
        instance = await pair.settled()
        pair.leader.engine.stand_by()
        pair.see(deleted=True, **UNREADY)
        await pair.standby.pass_time(60)
        pair.standby.engine.start_writing()
        await pair.standby.pass_time()
        assert pair.leader.status(instance) == "DOWN"

    @on_virtual_time
    async def test_a_pod_that_went_long_ago_is_not_touched(self) -> None:
        """Its instance has expired, and who has its name and address now may be somebody else."""
        pair = Pair()
        instance = await pair.settled()
        pair.leader.engine.stand_by()
        pair.see(deleted=True, **UNREADY)
        await pair.standby.pass_time(GONE_FOR + 1)
        pair.standby.engine.start_writing()
        await pair.standby.pass_time(60)
        assert pair.leader.status(instance) == "OUTOFSERVICE"
        assert pair.standby.registry.calls == []

    @on_virtual_time
    async def test_an_evicted_pod_is_found_by_the_address_that_it_had(self) -> None:
        pair = Pair()
        instance = await pair.settled()
        pair.leader.engine.stand_by()
        pair.see(phase="Failed", ip="", statuses=[], ready=None)
        pair.see(phase="Failed", ip="", statuses=[], ready=None, deleted=True)
        pair.standby.engine.start_writing()
        await pair.standby.pass_time()
        assert pair.leader.status(instance) == "DOWN"

    @on_virtual_time
    async def test_an_id_made_of_the_address_is_found_by_the_one_it_had(self) -> None:
        pair = Pair()
        instance = pair.leader.register(instance_id="i-10.244.0.7")
        asked = ASKED | {"instance-id": "i-{pod.ip}"}
        pair.see(asked)
        await pair.leader.pass_time()
        pair.leader.engine.stand_by()
        pair.see(asked, phase="Failed", ip="", statuses=[], ready=None)
        pair.standby.engine.start_writing()
        await pair.standby.pass_time()
        assert pair.leader.status(instance) == "DOWN"

    @on_virtual_time
    async def test_a_container_that_is_starting_is_looked_after_for_the_rest_of_its_window(self) -> None:
        pair = Pair()
        pair.see(**UNREADY)
        await pair.leader.pass_time(20)
        pair.fail_over()
        await pair.standby.pass_time(20)
        instance = pair.leader.register()
        await pair.standby.pass_time(1.2)
        assert pair.leader.status(instance) == "OUTOFSERVICE"
        assert pair.standby.written() == ["OUTOFSERVICE"]

    @on_virtual_time
    async def test_invalid_annotations_are_told_by_the_new_leader(self) -> None:
        pair = Pair()
        pair.see(INVALID)
        await pair.leader.pass_time()
        assert pair.standby.outcomes == []
        pair.fail_over()
        await pair.standby.pass_time(60)
        assert pair.standby.kinds() == [OutcomeKind.INVALID]
        assert pair.standby.registry.calls == []

    @on_virtual_time
    async def test_drift_is_looked_for_by_the_leader_alone(self) -> None:
        pair = Pair()
        instance = await pair.settled()
        pair.fail_over()
        await pair.standby.pass_time(1)
        pair.leader.registry.calls.clear()
        pair.leader.state.put_status(SERVICE, instance, "UP")
        await pair.standby.pass_time(40)
        assert pair.leader.status(instance) == "OUTOFSERVICE"
        assert pair.leader.registry.calls == []


class TestLosing:
    @on_virtual_time
    async def test_a_request_under_way_is_dropped_at_once_and_nothing_follows_it(self) -> None:
        pair = Pair()
        instance = await pair.settled()
        pair.leader.registry.delay = 2.0
        pair.see(ready_since=20)
        await pair.leader.pass_time(1.0)
        pair.leader.registry.calls.clear()
        pair.leader.engine.stand_by()
        await pair.leader.pass_time(120)
        assert pair.leader.registry.calls == []
        assert pair.leader.status(instance) == "OUTOFSERVICE", "its write never arrived"
        assert pair.leader.outcomes[-1].status is InstanceStatus.OUTOFSERVICE

    @pytest.mark.parametrize("arrived", [True, False])
    @on_virtual_time
    async def test_what_became_of_it_is_read_by_whoever_leads_next(self, arrived: bool) -> None:
        pair = Pair()
        instance = await pair.settled()
        pair.leader.registry.delay = 2.0
        pair.see(ready_since=20)
        await pair.leader.pass_time(3.0 if arrived else 1.0)
        pair.leader.engine.stand_by()
        assert pair.leader.status(instance) == ("UP" if arrived else "OUTOFSERVICE")
        pair.leader.registry.delay = 0.005
        pair.leader.engine.start_writing()
        await pair.leader.pass_time()
        assert pair.leader.status(instance) == "UP"
        assert pair.leader.redundant() == []

    @on_virtual_time
    async def test_reads_that_wait_for_their_turn_are_not_sent_any_more(self) -> None:
        pair, services = Pair(), 400
        for number in range(services):
            pair.see({"service-id": f"none-{number}"}, uid=f"u{number}", name=f"p{number}", ip=f"10.244.1.{number % 250}")
        await pair.leader.pass_time(3)
        assert len(pair.leader.registry.calls) > services
        pair.leader.engine.stand_by()
        before = len(pair.leader.registry.calls)
        await pair.leader.pass_time(60)
        assert pair.leader.registry.calls[before:] == []

    @on_virtual_time
    async def test_retries_and_backoffs_end_with_it(self) -> None:
        pair = Pair()
        await pair.settled()
        pair.leader.registry.failure = TransientError("http-503", "no server")
        pair.see(ready_since=20)
        await pair.leader.pass_time(20)
        pair.leader.registry.calls.clear()
        pair.leader.engine.stand_by()
        told, retries = len(pair.leader.outcomes), pair.leader.retries
        await pair.leader.pass_time(300)
        assert pair.leader.registry.calls == []
        assert (len(pair.leader.outcomes), pair.leader.retries) == (told, retries)

    @on_virtual_time
    async def test_to_lose_and_regain_it_in_one_moment_loses_nothing(self) -> None:
        pair = Pair()
        instance = await pair.settled()
        pair.leader.registry.delay = 0.5
        pair.see(ready_since=20)
        await pair.leader.pass_time(0.1)
        pair.leader.engine.stand_by()
        pair.leader.engine.start_writing()
        await pair.leader.pass_time(3)
        assert pair.leader.status(instance) == "UP"
        assert pair.leader.redundant() == []


class TestRegaining:
    @on_virtual_time
    async def test_what_was_known_counts_no_more(self) -> None:
        pair = Pair()
        instance = await pair.settled()
        pair.fail_over()
        await pair.standby.pass_time()
        pair.see(ready_since=20)
        await pair.standby.pass_time(60)
        assert pair.leader.status(instance) == "UP"
        pair.see(ready="False", ready_since=90)  # as the first leader wrote it once
        pair.fall_back()
        await pair.leader.pass_time()
        assert pair.leader.status(instance) == "OUTOFSERVICE"
        assert pair.leader.redundant() == []

    @on_virtual_time
    async def test_a_list_from_before_does_not_count_either(self) -> None:
        pair = Pair()
        instance = await pair.settled()
        await pair.leader.pass_time(40)  # the resync has listed the service
        pair.fail_over()
        await pair.standby.pass_time()
        pair.leader.state.put_status(SERVICE, instance, "UP")
        pair.fall_back()
        await pair.leader.pass_time()
        assert pair.leader.status(instance) == "OUTOFSERVICE"

    @on_virtual_time
    async def test_what_the_other_has_written_is_no_drift(self) -> None:
        pair = Pair()
        await pair.settled()
        pair.fail_over()
        pair.see(ready_since=20)
        await pair.standby.pass_time(60)
        pair.fall_back()
        await pair.leader.pass_time(100)
        assert pair.leader.drifts == pair.standby.drifts == []
        assert pair.leader.written() == ["OUTOFSERVICE"]

    @on_virtual_time
    async def test_whose_instances_are_whose_is_still_known(self) -> None:
        """An instance that tells nothing but its id; it was matched by trust while the pod lived."""
        pair = Pair()
        instance = await pair.settled()
        pair.fail_over()
        pair.standby.engine.stand_by()
        pair.leader.see(phase="Failed", ip="", statuses=[], ready=None)
        pair.leader.engine.start_writing()
        await pair.leader.pass_time()
        assert pair.leader.status(instance) == "DOWN"

    @on_virtual_time
    async def test_a_pod_that_went_and_was_forgotten_meanwhile_stays_forgotten(self) -> None:
        pair = Pair()
        await pair.settled()
        pair.fail_over()
        pair.see(deleted=True, **UNREADY)
        await pair.standby.pass_time(GONE_FOR + 40)
        pair.leader.registry.calls.clear()
        pair.fall_back()
        await pair.leader.pass_time(60)
        assert len(pair.leader.engine) == 0
        assert pair.leader.registry.calls == []

    @on_virtual_time
    async def test_many_changes_of_leadership_write_nothing_twice(self) -> None:
        pair = Pair()
        instance = await pair.settled()
        for turn in range(20):
            (pair.fail_over if turn % 2 == 0 else pair.fall_back)()
            up = turn % 3 == 0
            pair.see(ready="True" if up else "False", ready_since=20 + turn)
            await pair.leader.pass_time(3)
            assert pair.leader.status(instance) == ("UP" if up else "OUTOFSERVICE")
        assert pair.leader.redundant() == pair.standby.redundant() == []


class TestFencedOff:
    @on_virtual_time
    async def test_a_write_that_was_held_off_is_nobodys_failure_and_is_tried_again(self) -> None:
        world = World()
        instance = world.register()
        world.see()
        await world.pass_time()
        fenced = FencedError("fenced", "not leading")
        world.registry.fails = lambda what: fenced if what == "write-status" else None
        world.see(**UNREADY)
        await world.pass_time(30)
        assert world.outcomes == []
        assert world.retries == 0
        assert 20 <= world.registry.calls.count("write-status") <= 31
        world.registry.fails = None
        await world.pass_time(FENCED_AGAIN + 0.1)
        assert world.status(instance) == "OUTOFSERVICE"

    @on_virtual_time
    async def test_one_that_may_have_been_applied_is_read_before_it_is_repeated(self) -> None:
        world = World()
        world.register()
        world.see()
        await world.pass_time()
        world.registry.after_write = FencedError("fenced", "not leading", maybe_applied=True)
        world.see(**UNREADY)
        await world.pass_time()
        world.registry.after_write = None
        await world.pass_time(FENCED_AGAIN + 0.1)
        assert world.written() == ["OUTOFSERVICE"]
        assert world.registry.calls[-2:] == ["write-status", "list-instances"]
