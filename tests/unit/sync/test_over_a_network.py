"""The engine and the real client over a registry that fails in part: by verb, by service, now and then, or late.

Nobody but the client tells when the registry can be asked again, so a wake that gets lost shows. Each seed is a story of its
own.
"""

import asyncio
import random

import pytest

from registry_status.model import InstanceStatus
from registry_status.sync.delivery import GIVE_UP_AFTER, GONE_FOR
from registry_status.sync.retries import AFTER_REJECTION
from tests.network import TROUBLES, NetworkedRegistry, Trouble
from tests.story import ROUND, SERVICES, Step, Story, internal_errors
from tests.virtual_time import run_virtual

SEEDS = range(40)
OUTAGES = 6
SOON = 16.0
"""Seconds: two requests without an answer, a `Retry-After`, a backoff."""
OPENING = ("create", "start", "register", "ready")
WORDS = (
    *("create", "start", "flip", "flip", "register", "resume", "lead", "hurt", "hurt") * 2,
    *("recover", "restart", "crash", "terminate", "delete", "vanish", "pause", "move", "unregister", "expire"),
    *("hand_back_and_delete", "misspell", "register_again", "console_down"),
    *("stand_by", "kill"),
)
PAUSES = (0.0, 0.0, 0.003, 0.1, 1.3, 5.0, 35.0)
WHICH: tuple[dict[str, str], ...] = ({}, {}, {"method": "GET"}, {"method": "PUT"}, *({"piece": name} for name in SERVICES))


class Networked(Story):
    """A story whose registry is behind a network."""

    registry_kind = NetworkedRegistry

    def __init__(self, chance: random.Random) -> None:
        super().__init__(chance.choice((0.005, 0.05, 0.3)))
        self._chance = chance
        registry = self.world.registry
        assert isinstance(registry, NetworkedRegistry)
        self.behind = registry
        addresses = ("http://a:30100", "http://b:30100")[: chance.choice((1, 1, 2))]
        self.network = registry.connect(addresses, chance)
        self.sent: list[str] = []

    def _check(self, service: str, instance: str, status: InstanceStatus) -> None:
        self.sent.append(f"{status} to {instance}")
        super()._check(service, instance, status)

    def hurt(self, _: int) -> None:
        """Something goes wrong from now on, beside what does already."""
        kind, share = self._chance.choice(TROUBLES), self._chance.choice((1.0, 1.0, 0.5, 0.1))
        self.network.troubles.append(Trouble(kind, share=share, **self._chance.choice(WHICH)))
        if kind == "late":
            self.tampered += 3  # what lands late looks like somebody else's write

    def is_late(self) -> bool:
        """What lands late only the comparison finds."""
        return any(one.kind == "late" for one in self.network.troubles)

    def recover(self, _: int) -> None:
        """All is well on the way; nobody says so."""
        self.network.troubles.clear()


def story_of(chance: random.Random) -> list[Step]:
    cast = chance.sample(range(6), chance.randint(1, 4))
    opening = [Step(what, number, 0.5) for number in cast for what in OPENING]
    steps = (Step(chance.choice(WORDS), chance.choice(cast), chance.choice(PAUSES)) for _ in range(chance.randint(5, 30)))
    return [*opening, *steps]


async def _outage(story: Networked, chance: random.Random) -> list[str]:
    """Pods that were in step change while something is broken: all is right soon after, and not only with the comparison."""
    for _ in range(chance.choice((1, 1, 2))):
        story.hurt(0)
    for _ in range(chance.randint(2, 12)):
        story.flip(chance.randrange(3))
        await asyncio.sleep(chance.choice((*PAUSES, 0.02, 0.05)))
    is_late = story.is_late()
    story.recover(0)
    await (story.end_of_troubles() if is_late else asyncio.sleep(SOON))
    return [f"after an outage: {what}" for what in story.unsettled()]


async def _play(seed: int) -> list[str]:
    chance = random.Random(seed)
    story = Networked(chance)
    await story.tell(story_of(chance))
    await story.end_of_troubles()
    wrongs = list(story.unsettled())
    for _ in range(OUTAGES):
        wrongs += await _outage(story, chance)
    await story.end_of_troubles()
    before = len(story.sent)
    await story.world.pass_time(3 * ROUND)
    wrongs += [*story.unsettled(), *(f"written in peace: {write}" for write in story.sent[before:])]
    await story.end_of_pods()
    await story.world.pass_time(max(GONE_FOR, GIVE_UP_AFTER) + 2 * AFTER_REJECTION)
    await story.behind.aclose()
    return [*wrongs, *story.wrongs, *story.left_behind()]


@pytest.mark.parametrize("seed", SEEDS)
def test_all_is_right_in_the_end_whatever_part_of_the_registry_failed(seed: int) -> None:
    with internal_errors() as errors:
        assert run_virtual(_play(seed)) == []
    assert errors == []
