"""Pods that name one instance, under random interleavings: the strongest decides its status, and no late word of another's."""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_status.model import Desired, InstanceStatus, Reason
from tests.properties import BRIEFER, TIMEOUT
from tests.story import ROUND, SERVICES, Step, Story, internal_errors
from tests.virtual_time import run_virtual

SHARED = "pod-0"
"""The instance that all pods of a story name; it is also the name of the one pod of a StatefulSet."""

PODS = ("create", "start", "register", "flip") * 3 + ("crash", "restart", "terminate", "delete", "vanish")
TROUBLES = (
    "fail",
    "stumble",
    "lose_answers",
    "fence",
    "recover",
    "stand_by",
    "lead",
    "lead",
    "expire",
    "console_up",
    "console_down",
)
KILLS = ("kill", "pause", "resume", "misspell", "resume", "unregister")
"""After these nobody may know any more whose an instance was: only for pods whose ids are trusted."""
THEN = (0.0, 0.003, 0.1, 1.3, 5.0, 35.0, 130.0)


class Claims(Story):
    """All pods name the same instance. What follows an IP or a name is for pods of one name only."""

    def annotations(self, number: int) -> dict[str, str]:
        return {"service-id": SERVICES[0], "instance-id": SHARED}

    def register(self, number: int) -> None:
        """The SDK registers; where another pod's has done so, it is a heartbeat."""
        for one in self._at(number):
            if one.container == "running":
                self._register(one, SHARED)

    def deciding(self) -> list[Desired]:
        """The pods whose word may stand, as they were told last: the strongest that runs, or a stronger one that does not.

        One that does not run registers nothing any more; whether it ever did before nobody may have seen.
        """
        live = [self.wanted[one.uid] for one in self.pods.values() if one.uid in self.wanted]
        with_a_say = sorted((one for one in live if one.managed and _has_a_say(one)), key=_strength)
        return [*with_a_say[-1:], *[one for one in with_a_say if one.evidence is not None and one.evidence.running][-1:]]

    def unsettled(self) -> Iterator[str]:
        """The status of the instance, if it is not what the strongest pod calls for."""
        there = [one.status for one in self.world.state.instances(SERVICES[0]) if one.instance_id == SHARED]
        deciding = self.deciding()
        if there and deciding and there[0] not in [one.status for one in deciding]:
            yield f"{SHARED} is {there[0]}, but {deciding[0].pod.uid} calls for {deciding[0].status}"

    def _check(self, service: str, instance: str, status: InstanceStatus) -> None:
        """Called as a write is sent."""
        live = [self.wanted[one.uid] for one in self.pods.values() if one.uid in self.wanted]
        calls = {one.status for one in live if one.managed} or {InstanceStatus.DOWN}
        if not any(one.may_be_registered for one in live):
            calls.add(InstanceStatus.DOWN)  # for those that are gone: nobody else can have registered yet
        if any(one.auto for one in live) and not self.registry.services_known:
            calls.add(InstanceStatus.DOWN)
        if not self.writing:
            self.wrongs.append(f"{status} while standing by or held")
        if status not in calls:
            self.wrongs.append(f"{status} to {instance}, but its pods call for {calls}")


def _has_a_say(pod: Desired) -> bool:
    """One that has not run yet has registered nothing; but its end counts, for it may have run unseen."""
    started = pod.evidence is not None and pod.evidence.has_started
    return started or pod.reason is not Reason.CONTAINER_NOT_STARTED


def _strength(pod: Desired) -> tuple[bool, float, str]:
    """The Ready one, else the newer."""
    created = pod.evidence.created_at if pod.evidence is not None else None
    return pod.status is InstanceStatus.UP, created or 0.0, pod.pod.uid


@st.composite
def stories(draw: st.DrawFn, numbers: Sequence[int], words: Sequence[str]) -> list[Step]:
    """Begins with a pod in operation; now and then one is replaced by another, as a rollout does."""
    pauses, number = st.sampled_from(THEN), st.sampled_from(numbers)

    def one_after_the_other(*what: str) -> st.SearchStrategy[list[Step]]:
        return number.flatmap(
            lambda at: st.tuples(*(st.builds(Step, st.just(each), st.just(at), pauses) for each in what)).map(list)
        )

    step = st.sampled_from(words).flatmap(one_after_the_other)
    replacement = st.sampled_from(("delete", "vanish")).flatmap(
        lambda end: one_after_the_other("terminate", end, "create", "start", "register", "ready")
    )
    opening = [Step(what, numbers[0], 0.1) for what in ("create", "start", "register", "ready")]
    chapters = draw(st.lists(st.one_of(*[step] * 5, replacement), min_size=2, max_size=25))
    return [*opening, *(one for chapter in chapters for one in chapter)]


async def _play(told: list[Step], *, trust_ids: bool, delay: float) -> list[str]:
    story = Claims(delay, trust_ids=trust_ids)
    await story.tell(told)
    await story.end_of_troubles()
    wrongs = list(story.unsettled())
    story.registry.writes.clear()
    await story.world.pass_time(3 * ROUND)
    wrongs += [*story.unsettled(), *(f"written in peace: {write}" for write in story.registry.writes)]
    await story.end_of_pods()
    await story.world.pass_time(900)
    return [*wrongs, *story.wrongs, *story.left_behind()]


delays = st.sampled_from((0.005, 0.2, 2.0))


@pytest.mark.timeout(TIMEOUT)
@BRIEFER
@given(told=stories((0, 1, 2), (*PODS, *TROUBLES, *KILLS)), delay=delays)
def test_of_several_pods_that_claim_an_instance_the_strongest_decides(told: list[Step], delay: float) -> None:
    with internal_errors() as errors:
        assert run_virtual(_play(told, trust_ids=True, delay=delay)) == []
    assert errors == []


@pytest.mark.timeout(TIMEOUT)
@BRIEFER
@given(told=stories((0,), (*PODS, *TROUBLES)), delay=delays)
def test_a_stateful_sets_pods_follow_each_other_on_one_instance(told: list[Step], delay: float) -> None:
    with internal_errors() as errors:
        assert run_virtual(_play(told, trust_ids=False, delay=delay)) == []
    assert errors == []
