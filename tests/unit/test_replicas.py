"""Whole replicas that share a Lease, whatever happens to them and around them. Each seed is a story of its own."""

import asyncio
from functools import cache

import pytest

from registry_status.app import DRAIN
from registry_status.cluster.lease import RELEASE_WITHIN, Election
from tests.network import Trouble
from tests.replicas import API_TROUBLES, Replicas, play

SEEDS = range(24)


async def _troubled(replicas: Replicas) -> list[str]:
    await replicas.in_operation()
    await replicas.tell(replicas.some_steps())
    return await replicas.end()


@cache
def told(seed: int) -> tuple[Replicas, list[str]]:
    """Told once, and judged by several tests."""
    return play(seed, _troubled)


@pytest.mark.parametrize("seed", SEEDS)
def test_never_may_two_write_and_who_stands_by_neither_asks_nor_tells_anything(seed: int) -> None:
    replicas, _ = told(seed)
    assert not replicas.wrongs, "\n".join([*replicas.account, *replicas.wrongs])


@pytest.mark.parametrize("seed", SEEDS)
def test_when_all_is_well_again_one_leads_soon_all_statuses_become_right_and_nothing_more_is_written(seed: int) -> None:
    replicas, wrongs = told(seed)
    assert not wrongs, "\n".join([*replicas.account, *wrongs])


def test_in_these_stories_leaders_change_and_write() -> None:
    lines = [line for seed in SEEDS for line in told(seed)[0].account]
    assert sum(line.endswith(" lead") for line in lines) > 5 * len(SEEDS)
    assert sum(" PUT " in line for line in lines) > 8 * len(SEEDS)


def test_two_leaders_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An election that takes over whatever it reads."""
    monkeypatch.setattr(Election, "_free_at", lambda _: float("-inf"))
    assert play(0, _troubled)[0].wrongs


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("killed", "within"), [(True, 8.0), (False, 2.0)], ids=["killed", "told-to-stop"])
def test_when_the_leader_goes_another_soon_has_settled_what_changes_then(seed: int, killed: bool, within: float) -> None:
    async def story(replicas: Replicas) -> float:
        replicas.end_of(await replicas.in_operation(), killed=killed)
        for place in range(3):
            replicas.flip(place)
        return await replicas.until(replicas.is_settled, 20.0)

    replicas, took = play(seed, story)
    assert took <= within + replicas.lag, "\n".join(replicas.account)
    assert not replicas.wrongs


@pytest.mark.parametrize("trouble", ["none", *API_TROUBLES])
@pytest.mark.parametrize(("leading", "within"), [(True, DRAIN + 2 * RELEASE_WITHIN), (False, 2 * RELEASE_WITHIN)])
def test_who_is_told_to_stop_soon_ends_whatever_the_servers_do(leading: bool, within: float, trouble: str) -> None:
    """The registry hangs, so that to deliver what is queued takes all the time that it may."""

    async def story(replicas: Replicas) -> None:
        leader = await replicas.in_operation()
        one = leader if leading else next(one for one in replicas.replicas if one is not leader)
        one.api.troubles.append(Trouble(trouble))
        replicas.troubles.append(Trouble("hangs"))
        await asyncio.sleep(replicas.chance.uniform(0.0, 2.5))
        for place in range(3):
            replicas.flip(place)
        await asyncio.sleep(0.1)
        await asyncio.wait_for(one.stop(), within + 0.1)

    assert not play(1, story)[0].wrongs
