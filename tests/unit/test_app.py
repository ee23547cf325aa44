"""The operator as a whole, as far as it can be seen from outside: what its metrics say of who writes."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from registry_status.app import run_operator
from registry_status.config import Settings
from tests.unit.cluster.fake_api import FakeApi, added, answers, closed_port, end_of_list, serving, streams, until

pytestmark = pytest.mark.timeout(30)


class Allowing(FakeApi):
    """Allows everything."""

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/selfsubjectaccessreviews"):
            return await answers({"status": {"allowed": True}}, 201)(request)
        return await super().__call__(request)


@asynccontextmanager
async def operating(folder: Path, *, dry_run: bool, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """An operator that has listed its pods; gives the port of its pages."""
    stop, ready, port = asyncio.Event(), asyncio.Event(), await closed_port()
    async with serving(Allowing()) as api:
        api.play(streams(added("a") + end_of_list()))
        cluster, context = {"name": "c", "cluster": {"server": api.url}}, {"name": "c", "context": {"cluster": "c"}}
        document = {"clusters": [cluster], "contexts": [context], "current-context": "c"}
        (folder / "config").write_text(json.dumps(document))
        settings = Settings(
            kubeconfig=folder / "config", dry_run=dry_run, listen=(host, port),
            registry_address=(f"http://127.0.0.1:{await closed_port()}",),
        )  # fmt: skip
        running = asyncio.create_task(run_operator(settings, stop=stop, ready=ready))
        try:
            await until(lambda: ready.is_set() or running.done())
            yield port
        finally:
            stop.set()
            await running


@pytest.mark.parametrize(("dry_run", "leader"), [(True, 0), (False, 1)])
async def test_who_writes_nothing_is_not_told_as_the_one_who_writes(tmp_path: Path, dry_run: bool, leader: int) -> None:
    """Each replica of a dry run would look like a leader, and the sum of them like a split brain."""
    async with (
        operating(tmp_path, dry_run=dry_run) as port,
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics") as answer,
    ):
        found = [line for line in (await answer.text()).splitlines() if line.startswith("registry_status_leader ")]
    assert found == [f"registry_status_leader {leader}.0"]


async def test_where_its_pages_are_is_told_as_a_url_of_any_address(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with operating(tmp_path, dry_run=True, host="::1") as port, aiohttp.ClientSession() as session:
        url = f"http://[::1]:{port}"
        async with session.get(f"{url}/healthz") as answer:
            assert answer.status == 200
    assert f"probes and metrics at {url}" in caplog.messages
