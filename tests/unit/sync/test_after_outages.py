"""What happened while the registry was away is right soon after its return, not only with the next comparison."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_status.model import InstanceStatus, OutcomeKind
from registry_status.pods.status import desired
from registry_status.registry.base import UnavailableError
from registry_status.registry.devserver import Refusal
from tests.pods import running, terminated
from tests.properties import PROFILE, TIMEOUT
from tests.story import FAULTS, Step, Story, StoryPod, internal_errors
from tests.virtual_time import run_virtual
from tests.world import ASKED, World, on_virtual_time

LIMIT = 3.0
"""Seconds after the outage's end, on top of what the requests take."""
OUTAGES = ("refused", "cut-off", "no-address")
OPENING = ("create", "start", "register", "ready")
LIVES = ("start", "ready", "flip", "restart", "crash", "register", "register", "terminate", "delete", "delete")
PAUSES = st.sampled_from((0.0, 0.003, 0.1, 0.6, 1.3, 5.0, 35.0))
CAST = (0, 1, 2, 3, 4, 5)
"""Three places, each for a pod that tells its uid and for one that does not."""


@st.composite
def outages(draw: st.DrawFn) -> tuple[list[Step], list[Step]]:
    """Pods in operation, to which something may just have happened; and what happens to them in the outage."""
    cast = draw(st.lists(st.sampled_from(CAST), min_size=1, max_size=3, unique_by=lambda number: number % 3))
    opening = [Step(what, number, 0.1) for number in cast for what in OPENING]
    lives = st.lists(st.builds(Step, st.sampled_from(LIVES), st.sampled_from(cast), PAUSES), max_size=10)
    return [*opening, Step("wait", then=draw(st.sampled_from((0.0, 1.0, 200.0)))), *draw(lives)], draw(lives)


class Outage(Story):
    """A story that remembers the pods that are gone, and whose instances each pod's are."""

    def __init__(self, delay: float) -> None:
        super().__init__(delay)
        self.gone: list[StoryPod] = []

    def delete(self, number: int) -> None:
        self.gone += self._at(number)
        super().delete(number)

    def register(self, number: int) -> None:
        """Once in each life: who registers anew in the midst of one is found by the comparison."""
        if any(one.registered is None for one in self._at(number)):
            super().register(number)

    def wrong(self) -> list[str]:
        """Every instance whose status is not what its pod calls for, those of gone pods and of earlier lives among them."""
        found = {instance: self._found(owner, instance) for instance, owner in self.owners.items()}
        return [
            f"{name} is {found[name]}, but its pod calls for {status}"
            for name, owner in self.owners.items()
            for status in self._expected(owner, name)
            if found[name] not in (None, status)
        ]

    def _expected(self, owner: StoryPod, instance: str) -> Iterator[InstanceStatus | None]:
        """Leftovers beside no current instance are left alone while the pod is Ready: the lease will tell."""
        status = desired(owner.raw(), self.world.settings, deleted=owner in self.gone).status
        if status is not InstanceStatus.UP:
            yield status
        elif owner.registered is not None:
            yield status if owner.registered[1] == instance else InstanceStatus.DOWN

    def _found(self, owner: StoryPod, instance: str) -> str | None:
        try:
            return self.world.status(instance, owner.service)
        except Refusal:
            return None  # expired


async def _play(before: list[Step], during: list[Step], fault: str, delay: float) -> list[str]:
    story = Outage(delay)
    await story.tell(before)
    story.fail(list(FAULTS).index(fault))
    await story.tell(during)
    story.recover(0)
    await asyncio.sleep(LIMIT + 20 * delay)
    return [*story.wrong(), *story.wrongs]


@pytest.mark.timeout(TIMEOUT)
@PROFILE
@given(steps=outages(), fault=st.sampled_from(OUTAGES), delay=st.sampled_from((0.005, 0.1)))
def test_all_that_happened_in_an_outage_is_right_within_three_seconds_after_it(
    steps: tuple[list[Step], list[Step]], fault: str, delay: float
) -> None:
    with internal_errors() as errors:
        assert run_virtual(_play(*steps, fault, delay)) == []
    assert errors == []


@on_virtual_time
async def test_a_look_for_late_registrations_that_an_outage_foiled_is_made_up_for_when_it_ends() -> None:
    world = World()
    world.register()
    world.see()
    await world.pass_time(100)
    world.see(deleting=True, deleted=True)
    await world.pass_time(0.5)
    world.registry.failure = FAULTS["refused"]
    late = world.register()
    await world.pass_time(10)
    world.registry.failure = None
    world.registry.available()
    await world.pass_time(0.5)
    assert world.status(late) == "DOWN"


@pytest.mark.parametrize("ends", ["crashed", "deleted"])
@pytest.mark.parametrize("away", [False, True], ids=["registry there", "registry away"])
@on_virtual_time
async def test_what_a_container_registered_right_before_its_end_is_put_right_at_once(ends: str, away: bool) -> None:
    world = World()
    world.register()
    world.see()
    await world.pass_time(100)
    world.see(statuses=[running(100, restarts=1)], ready="False", ready_since=99)
    await world.pass_time(0.1)
    world.registry.failure = FAULTS["refused"] if away else None
    last = world.register()
    world.see(
        statuses=[terminated(101, restarts=1)],
        ready="False",
        ready_since=99,
        deleting=ends == "deleted",
        deleted=ends == "deleted",
    )
    await world.pass_time(10 if away else 0.1)
    world.registry.failure = None
    world.registry.available()
    await world.pass_time(0.1)
    assert world.status(last) == "DOWN"


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@on_virtual_time
async def test_a_registry_that_works_again_while_a_pod_is_about_to_hear_that_it_does_not_is_asked_at_once(turns: int) -> None:
    world = World()
    loop, fails = asyncio.get_running_loop(), [True]

    def available_after(left: int) -> None:
        loop.call_soon(available_after, left - 1) if left else world.registry.available()

    def unavailable(_: str) -> UnavailableError | None:
        if not fails:
            return None
        fails.clear()
        loop.call_soon(available_after, turns)
        return UnavailableError("unavailable", "no address works")

    world.registry.fails = unavailable
    instance = world.register(status="DOWN")
    world.see()
    await world.pass_time(5)
    assert world.status(instance) == "UP"


ENDS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "an instance that is not its own": (ASKED | {"instance-id": "theirs"}, {}),
    "another pod's better claim": (ASKED | {"instance-id": "ours"}, {}),
    "a wrong annotation": (ASKED, ASKED | {"match": "guess"}),
}


@pytest.mark.parametrize(("before", "after"), ENDS.values(), ids=ENDS)
@on_virtual_time
async def test_a_pod_for_which_nothing_can_be_done_does_not_wait_for_a_registry_that_has_answered(
    before: dict[str, str], after: dict[str, str]
) -> None:
    world = World()
    world.register(instance_id="theirs", ip="10.9.9.9", host="other")
    world.register(instance_id="ours")
    world.see(ASKED | {"instance-id": "ours"}, uid="better")
    await world.pass_time()
    world.registry.failure = FAULTS["refused"]
    world.see(before, uid="waits", ready="False", ready_since=9)
    await world.pass_time(10)
    assert world.engine.queued == 1
    world.registry.failure = None
    if after:
        world.see(after, uid="waits", ready="False", ready_since=9)
    await world.pass_time(10)
    assert world.kinds()[-1] in (OutcomeKind.CONFLICT, OutcomeKind.INVALID)
    assert world.engine.queued == 0


@on_virtual_time
async def test_pods_for_which_nothing_can_be_done_do_not_hold_up_those_behind_them() -> None:
    world = World()
    crowd = 300
    for number in range(crowd):
        world.register(instance_id=f"theirs-{number}", ip="10.9.9.9", host="other")
    last = world.register(ip="10.244.1.1", host="last")
    world.registry.failure = FAULTS["refused"]
    for number in range(crowd):
        world.see(ASKED | {"instance-id": f"theirs-{number}"}, uid=f"uid-{number}", name=f"cart-{number}")
    await world.pass_time(60)
    world.see(uid="last", name="last", ip="10.244.1.1", ready="False", ready_since=9)
    await world.pass_time(1)
    world.registry.failure = None
    world.registry.available()
    await world.pass_time(LIMIT)
    assert world.status(last) == "OUTOFSERVICE"
