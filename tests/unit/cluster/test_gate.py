"""The readiness gate: what is asked of the API server, and when it is asked again."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from registry_status.cluster.access import Access, Fixed
from registry_status.cluster.api import ApiError, ApiServer, Json
from registry_status.cluster.gate import AT_ONCE, BACKOFF_MOST, GateKeeper
from registry_status.model import PodRef
from tests.pods import GATE, START
from tests.world import on_virtual_time

CART = PodRef("uid-1", "shop", "cart-1")
PATH = "/api/v1/namespaces/shop/pods/cart-1"
GONE = ApiError(404, "NotFound", "404: pods 'cart-1' not found")
FORBIDDEN = ApiError(403, "Forbidden", "403: pods 'cart-1' is forbidden")
AWAY = ApiError(0, "Unreachable", "https://api: cannot connect")
OTHERS = ApiError(422, "Invalid", "422: metadata.uid: field is immutable")
BUSY = ApiError(409, "Conflict", "409: the object has been modified")


class Api(ApiServer):
    """An API server with one pod, that refuses patches as it is told."""

    def __init__(self) -> None:
        self.access = Access(server="https://api", source="test", credentials=Fixed())
        self.uid: str | None = CART.uid
        self.refusals: list[ApiError] = []
        self.reading: ApiError | None = None
        self.patches: list[tuple[float, str, Json]] = []
        self.reads = 0
        self.busy = self.busiest = 0

    async def get(self, path: str, query: Any = None, *, accept: str = "") -> Json:
        assert path == PATH
        self.reads += 1
        if self.reading is not None:
            raise self.reading
        if self.uid is None:
            raise GONE
        return {"metadata": {"uid": self.uid}}

    async def patch(self, path: str, body: Json) -> Json:
        self.patches.append((asyncio.get_running_loop().time(), path, body))
        self.busy += 1
        self.busiest = max(self.busy, self.busiest)
        await asyncio.sleep(0.01)
        self.busy -= 1
        if self.refusals:
            raise self.refusals.pop(0)
        return {}


class Counted:
    """What the metrics are told."""

    def __init__(self) -> None:
        self.codes: list[str] = []

    def gate_patched(self, code: str) -> None:
        self.codes.append(code)


@asynccontextmanager
async def keeper(api: Api, told: Counted) -> AsyncIterator[GateKeeper]:
    now = asyncio.get_running_loop().time
    gates = GateKeeper(api, GATE, told, chance=random.Random(1), wall_clock=lambda: START, clock=now)
    try:
        yield gates
    finally:
        await gates.aclose()


@on_virtual_time
async def test_the_condition_of_this_pod_alone_is_set_to_true() -> None:
    api, told = Api(), Counted()
    async with keeper(api, told) as gates:
        gates.open(CART)
        await asyncio.sleep(100)
    assert [(path, body) for _, path, body in api.patches] == [
        (
            f"{PATH}/status",
            {
                "metadata": {"uid": "uid-1"},
                "status": {
                    "conditions": [
                        {
                            "type": GATE,
                            "status": "True",
                            "reason": "Registered",
                            "message": "the registry has the pod's instance, and says UP",
                            "lastTransitionTime": "2026-01-05T10:00:00Z",
                        }
                    ]
                },
            },
        )
    ]
    assert told.codes == ["ok"]


@pytest.mark.parametrize("refusal", [FORBIDDEN, AWAY, BUSY, OTHERS, ApiError(500, "InternalError", "500: oh")], ids=str)
def test_it_is_tried_again_until_it_is_set(refusal: ApiError) -> None:
    @on_virtual_time
    async def run() -> None:
        api, told = Api(), Counted()
        api.refusals = [refusal] * 12
        async with keeper(api, told) as gates:
            gates.open(CART)
            await asyncio.sleep(500)
        times = [at for at, _, _ in api.patches]
        assert len(times) == 13
        assert told.codes == [refusal.reason] * 12 + ["ok"]
        assert times[1] - times[0] < 0.3
        assert all(later - earlier <= BACKOFF_MOST + 0.1 for earlier, later in pairwise(times))

    run()


@pytest.mark.parametrize(("refusal", "there"), [
    (GONE, None), (GONE, "uid-2"), (OTHERS, "uid-2"), (BUSY, "uid-2"), (BUSY, None),
])  # fmt: skip
def test_a_pod_that_is_gone_or_has_a_successor_of_its_name_is_given_up(refusal: ApiError, there: str | None) -> None:
    @on_virtual_time
    async def run() -> None:
        api = Api()
        api.uid, api.refusals = there, [refusal] * 5
        async with keeper(api, Counted()) as gates:
            gates.open(CART)
            await asyncio.sleep(100)
        assert len(api.patches) == 1

    run()


@on_virtual_time
async def test_a_pod_that_cannot_be_looked_for_is_not_given_up() -> None:
    api = Api()
    api.refusals, api.reading = [OTHERS], AWAY
    async with keeper(api, Counted()) as gates:
        gates.open(CART)
        await asyncio.sleep(100)
    assert len(api.patches) == 2


@on_virtual_time
async def test_a_404_of_something_else_than_the_pod_does_not_end_it() -> None:
    api = Api()
    api.refusals = [ApiError(404, "NoJson", "404: a proxy's page")]
    async with keeper(api, Counted()) as gates:
        gates.open(CART)
        await asyncio.sleep(100)
    assert (len(api.patches), api.reads) == (2, 0)


@on_virtual_time
async def test_asked_again_while_it_tries_it_goes_on_as_before() -> None:
    api = Api()
    async with keeper(api, Counted()) as gates:
        gates.open(CART)
        gates.open(CART)
        await asyncio.sleep(1)
        assert len(api.patches) == 1
        gates.open(CART)
        await asyncio.sleep(1)
    assert len(api.patches) == 2


@on_virtual_time
async def test_on_standby_it_gives_up_and_may_be_asked_again() -> None:
    api = Api()
    api.refusals = [AWAY] * 1000
    async with keeper(api, Counted()) as gates:
        gates.open(CART)
        await asyncio.sleep(10)
        gates.stand_by()
        before = len(api.patches)
        await asyncio.sleep(100)
        assert len(api.patches) == before
        api.refusals = []
        gates.open(CART)
        await asyncio.sleep(1)
    assert len(api.patches) == before + 1


@on_virtual_time
async def test_of_thousands_of_pods_a_few_are_patched_at_a_time() -> None:
    api, told = Api(), Counted()
    async with keeper(api, told) as gates:
        for number in range(1000):
            gates.open(PodRef(f"uid-{number}", "shop", "cart-1"))
        await asyncio.sleep(60)
    assert told.codes == ["ok"] * 1000
    assert api.busiest == AT_ONCE


def test_a_trouble_of_many_pods_is_one_warning_a_minute_and_another_trouble_another(caplog: pytest.LogCaptureFixture) -> None:
    @on_virtual_time
    async def run() -> None:
        api = Api()
        api.refusals = [FORBIDDEN] * 20 + [AWAY] * 20
        async with keeper(api, Counted()) as gates:
            for number in range(10):
                gates.open(PodRef(f"uid-{number}", "shop", "cart-1"))
            await asyncio.sleep(50)

    caplog.set_level(logging.WARNING)
    run()
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot set condition {GATE} of pod shop/cart-1, trying again: {error}" for error in (FORBIDDEN, AWAY)
    ]
