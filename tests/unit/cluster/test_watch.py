"""The whole watch, kopf included, against an API server that misbehaves: it goes on, misses nothing, and tells."""

import asyncio
import gc
import json
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kopf
import pytest
from aiohttp import HttpVersion, HttpVersion10, HttpVersion11, web

from registry_status.cluster import streams, watch
from registry_status.cluster.access import AccessError, Fixed, TokenFile
from registry_status.cluster.lines import Take, WatchFault
from registry_status.cluster.watch import LONGEST_WATCH, Backoffs, build_settings, run_pod_watch
from registry_status.config import Settings
from registry_status.pods.handlers import pod_handlers
from registry_status.report.logs import PlainFormatter
from tests.unit.cluster.fake_api import (
    Act,
    FakeApi,
    Listening,
    access_to,
    added,
    answers,
    closed_port,
    end_of_list,
    error,
    hangs,
    line,
    page,
    pod,
    refuses,
    serving,
    until,
)  # fmt: skip
from tests.unit.cluster.fake_api import (
    streams as sends,
)

pytestmark = pytest.mark.timeout(30)


@pytest.fixture(autouse=True, params=["from the connection", "by aiohttp"])
def _read(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Watches are read in two ways; all of this holds for both."""
    if request.param == "by aiohttp":
        monkeypatch.setattr(streams, "tap", lambda *_: None)


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests have less patience than the operator; the ratios stay."""
    monkeypatch.setattr(streams, "PACE", 0.02)
    monkeypatch.setattr(streams, "PROGRESS_EVERY", 0.02)
    monkeypatch.setattr(watch, "FIRST_BACKOFF", 0.02)


@dataclass
class Running:
    """A watch that runs."""

    stop: asyncio.Event
    task: "asyncio.Task[None]"
    listener: Listening

    @property
    def events(self) -> list[tuple[str | None, str]]:
        return self.listener.events

    def names(self) -> list[str]:
        return [name for _, name in self.events]


@asynccontextmanager
async def running(
    api: FakeApi,
    *,
    tracked: Collection[str] = (),
    more: Callable[[kopf.OperatorRegistry], None] | None = None,
    listener: Listening | None = None,
    **settings: Any,
) -> AsyncIterator[Running]:
    stop, listener = asyncio.Event(), listener or Listening()

    def handlers(take: Take) -> kopf.OperatorRegistry:
        registry = pod_handlers(take)
        if more is not None:
            more(registry)
        return registry

    credentials = settings.pop("credentials", None)
    task = asyncio.create_task(
        run_pod_watch(
            access=access_to(api, credentials), settings=Settings(**settings), handlers=handlers, listener=listener,
            tracked=tracked, stop=stop,
        )
    )  # fmt: skip
    try:
        yield Running(stop, task, listener)
    finally:
        stop.set()
        async with asyncio.timeout(5):
            await task


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with serving(FakeApi()) as api:
        yield api


# --- the ordinary life -----------------------------------------------------------------------------


async def test_it_lists_then_follows(api: FakeApi) -> None:
    stranger = line("ADDED", pod("stranger", ours=False))
    api.play(sends(added("a") + stranger + end_of_list(), 0.05, line("MODIFIED", pod("a", 10)) + line("DELETED", pod("a", 11))))
    async with running(api) as run:
        await until(lambda: len(run.events) == 3)
    assert run.events == [(None, "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    assert run.listener.started == [""]
    assert run.listener.finished == [("", frozenset({"uid-a"}))]
    assert run.listener.progress >= 2
    assert not run.listener.faults
    assert api.pod_requests()[0]["sendInitialEvents"] == "true"


async def test_it_stops_at_once_and_lets_cleanup_handlers_run(api: FakeApi) -> None:
    cleaned = []

    def more(registry: kopf.OperatorRegistry) -> None:
        @kopf.on.cleanup(registry=registry)
        async def clean(**_: Any) -> None:
            cleaned.append(True)

    async with running(api, more=more) as run:
        await until(lambda: run.listener.finished)
        started = time.monotonic()
        run.stop.set()
        await run.task
        assert time.monotonic() - started < 1
    assert cleaned


async def test_a_signal_stops_it(api: FakeApi) -> None:
    async with running(api) as run:
        await until(lambda: run.listener.finished)
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(2):
            await run.task
        assert run.stop.is_set()


async def test_other_tasks_of_the_program_are_left_alone(api: FakeApi) -> None:
    """kopf would cancel every task that was started after it."""
    async with running(api) as run:
        await until(lambda: run.listener.finished)
        other = asyncio.create_task(asyncio.sleep(60))
        run.stop.set()
        await run.task
        await asyncio.sleep(0)
        assert not other.done()
        other.cancel()


async def test_each_namespace_has_a_watch_of_its_own(api: FakeApi) -> None:
    api.play(sends(added("a") + end_of_list()), namespace="one")
    api.play(sends(added("b") + end_of_list()), namespace="two")
    async with running(api, namespaces=("one", "two")) as run:
        await until(lambda: len(run.listener.finished) == 2 and len(run.events) == 2)
    assert sorted(run.listener.finished) == [("one", frozenset({"uid-a"})), ("two", frozenset({"uid-b"}))]


async def test_the_label_selector_goes_to_the_server(api: FakeApi) -> None:
    async with running(api, label_selector="team=a") as run:
        await until(lambda: run.listener.finished)
    assert api.pod_requests()[0]["labelSelector"] == "team=a"


async def test_a_pod_that_loses_its_annotation_is_still_seen(api: FakeApi) -> None:
    api.play(sends(added("a") + end_of_list(), line("MODIFIED", pod("a", 10, ours=False))))
    async with running(api) as run:
        await until(lambda: run.events == [(None, "a"), ("MODIFIED", "a")])


async def test_a_tracked_pod_is_seen_in_a_list_without_its_annotation(api: FakeApi) -> None:
    api.play(sends(line("ADDED", pod("a", ours=False)) + end_of_list()))
    async with running(api, tracked={"uid-a"}) as run:
        await until(lambda: run.listener.finished == [("", frozenset({"uid-a"}))] and run.events)


async def test_with_filtering_off_everything_is_seen(api: FakeApi) -> None:
    api.play(sends(line("ADDED", pod("a", ours=False)) + end_of_list()))
    async with running(api, watch_filter=False) as run:
        await until(lambda: run.events == [(None, "a")])


@pytest.mark.parametrize("then", ["end", "cut"])
@pytest.mark.parametrize("last", ["ours", "stranger"])
async def test_a_resumed_watch_begins_behind_the_last_event(api: FakeApi, last: str, then: str) -> None:
    """Else what happened before would happen again: an older status after a newer one."""
    events = line("MODIFIED", pod("ours", 39)) + line("MODIFIED", pod(last, 40, ours=last == "ours"))
    api.play(sends(added("ours") + end_of_list(9), 0.05, events, then=then))
    async with running(api) as run:
        await until(lambda: len(api.pod_requests()) == 2)
    assert api.pod_requests()[1]["resourceVersion"] == "40"
    assert "sendInitialEvents" not in api.pod_requests()[1]
    assert run.listener.started == [""]


async def test_a_silent_watch_is_resumed_behind_what_was_taken(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BOOKMARK_EVERY", 0.1)
    monkeypatch.setattr(streams, "SILENCE", 0.5)
    changes = [piece for version in range(10, 30) for piece in (0.05, line("MODIFIED", pod("a", version)))]
    api.play(sends(added("a") + end_of_list(), *changes))
    async with running(api) as run:
        await until(lambda: len(run.events) == 21)
        await until(lambda: len(api.pod_requests()) == 2)
    assert api.pod_requests()[1]["resourceVersion"] == "29"


async def test_a_resumed_watch_that_never_says_a_word_leads_to_a_new_list(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with an API server whose etcd was restored from a backup: the version is one that it has yet to come to."""
    monkeypatch.setattr(streams, "SILENCE", 0.2)
    monkeypatch.setattr(streams, "BOOKMARK_EVERY", 0.05)
    api.play(
        sends(added("a") + end_of_list(version=9000), 0.1, then="cut"), sends(), sends(added("b") + end_of_list(version=17))
    )
    async with running(api) as run:
        await until(lambda: "b" in run.names())
    assert api.pod_requests()[1]["resourceVersion"] == "9000"
    assert "resourceVersion" not in api.pod_requests()[2]
    assert run.listener.kinds() == [WatchFault.DISCONNECTED] * 2


async def test_a_watch_that_is_answered_is_a_sign_of_life_before_it_brings_anything(api: FakeApi) -> None:
    api.play(sends(end_of_list(), then="end"), sends())
    async with running(api) as run:
        await until(lambda: run.listener.finished)
        before = run.listener.progress
        await until(lambda: len(api.pod_requests()) == 2)
        await until(lambda: run.listener.progress > before)


async def test_what_comes_right_behind_the_list_is_taken_after_it(api: FakeApi) -> None:
    """Also what happens to a pod whose entry of the list is still in kopf's queues: it would be deleted before it was there."""
    newer = line("MODIFIED", pod("a", 10)) + line("DELETED", pod("b", 11)) + line("ADDED", pod("d", 12))
    api.play(sends(added("a", "b", "c") + end_of_list() + newer))
    async with running(api) as run:
        await until(lambda: len(run.events) == 6)
    of = {name: [kind for kind, other in run.events if other == name] for name in "abcd"}
    assert of == {"a": [None, "MODIFIED"], "b": [None, "DELETED"], "c": [None], "d": ["ADDED"]}


async def test_a_pod_that_is_listed_again_is_taken_again(api: FakeApi) -> None:
    api.play(sends(added("a") + end_of_list(), 0.05, line("MODIFIED", pod("a", 10)) + error(410)))
    api.play(sends(line("ADDED", pod("a", 10)) + end_of_list(), 0.05, line("MODIFIED", pod("a", 12))))
    async with running(api) as run:
        await until(lambda: len(run.events) == 4)
    assert run.events == [(None, "a"), ("MODIFIED", "a"), (None, "a"), ("MODIFIED", "a")]


# --- older servers ---------------------------------------------------------------------------------


async def test_an_older_server_is_listed_page_by_page(api: FakeApi) -> None:
    api.version = answers({"major": "1", "minor": "33+"})
    api.play(page("a", more="next"), page("b"), sends(line("MODIFIED", pod("b", 10))))
    async with running(api) as run:
        await until(lambda: len(run.events) == 3)
    assert run.listener.finished == [("", frozenset({"uid-a", "uid-b"}))]
    assert run.listener.started == [""]
    first, second, third = api.pod_requests()
    assert (first["limit"], second["continue"], third["resourceVersion"]) == ("500", "next", "9")


async def test_the_watch_follows_its_list_at_once(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PACE", 30.0)
    api.version = answers({"major": "1", "minor": "30"})
    api.play(page("a"), sends(line("MODIFIED", pod("a", 10))))
    async with running(api) as run:
        await until(lambda: len(run.events) == 2)


async def test_a_server_that_refuses_lists_within_watches_is_listed_page_by_page(api: FakeApi) -> None:
    api.play(refuses(422, "Invalid"), page("a"), sends())
    async with running(api) as run:
        await until(lambda: run.listener.finished == [("", frozenset({"uid-a"}))])
        await until(lambda: run.events == [(None, "a")])
    assert run.listener.kinds() == [WatchFault.REFUSED]


@pytest.mark.parametrize("hidden", [refuses(403), refuses(404), answers({}), answers([])])
async def test_a_server_that_hides_its_version_is_listed_page_by_page(api: FakeApi, hidden: Any) -> None:
    api.version = hidden
    api.play(page("a"), sends())
    async with running(api) as run:
        await until(lambda: run.listener.finished == [("", frozenset({"uid-a"}))])


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (refuses(410, "Expired"), WatchFault.EXPIRED),
        (answers({"kind": "PodList"}), WatchFault.MALFORMED),
        (sends(b'{"kind":"PodList","apiVersion":"v1","metadata":{', then="cut"), WatchFault.DISCONNECTED),
    ],
)
async def test_a_list_that_breaks_off_begins_anew(api: FakeApi, bad: Any, fault: WatchFault) -> None:
    api.version = answers({"major": "1", "minor": "30"})
    api.play(page("a", more="next"), bad, page("a", "b"), sends())
    async with running(api) as run:
        await until(lambda: run.listener.finished)
    assert run.listener.finished == [("", frozenset({"uid-a", "uid-b"}))]
    assert run.listener.started == ["", ""]
    assert run.listener.kinds() == [fault]


# --- faults ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("then", ["cut", "end"])
async def test_a_list_cut_short_is_listed_again_from_the_start(api: FakeApi, then: str) -> None:
    """kopf would go on from the last object, and never see the rest."""
    api.play(sends(added("a"), then=then), sends(added("a", "b") + end_of_list()))
    async with running(api) as run:
        await until(lambda: "b" in run.names())
    assert run.listener.finished == [("", frozenset({"uid-a", "uid-b"}))]
    assert run.listener.started == ["", ""]
    assert WatchFault.INITIAL_CUT in run.listener.kinds()
    assert WatchFault.RESTARTED not in run.listener.kinds()


async def test_a_list_that_falls_silent_is_listed_again(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LIST_SILENCE", 0.05)
    api.play(sends(added("a")), sends(added("a", "b") + end_of_list()))
    async with running(api) as run:
        await until(lambda: "b" in run.names())
    assert WatchFault.INITIAL_CUT in run.listener.kinds()


@pytest.mark.parametrize(
    ("code", "fault"), [(500, WatchFault.STREAM_ERROR), (410, WatchFault.EXPIRED), (403, WatchFault.STREAM_ERROR)]
)
async def test_an_error_within_the_stream_leads_to_a_new_list(api: FakeApi, code: int, fault: WatchFault) -> None:
    api.play(sends(added("a") + end_of_list(), error(code)), sends(added("a", "b") + end_of_list()))
    async with running(api) as run:
        await until(lambda: "b" in run.names())
    assert run.listener.kinds() == [fault]
    assert len(run.listener.finished) == 2


async def test_a_malformed_line_leads_to_a_new_list(api: FakeApi) -> None:
    api.play(sends(added("a") + end_of_list(), b"upstream request timeout\n"), sends(added("b") + end_of_list()))
    async with running(api) as run:
        await until(lambda: "b" in run.names())
    assert run.listener.kinds() == [WatchFault.MALFORMED]


@pytest.mark.parametrize(
    ("kind", "before", "fault"),
    [("ADDED", (), WatchFault.RESTARTED), ("MODIFIED", (added("a") + end_of_list(), 0.2), WatchFault.MALFORMED)],
    ids=["in-the-list-it-ends-kopf-which-is-started-again", "later-it-never-gets-there"],
)
async def test_a_broken_line_that_looks_whole_leads_to_a_new_list(
    api: FakeApi, kind: str, before: tuple[bytes | float, ...], fault: WatchFault
) -> None:
    broken = line(kind, pod("a", 10)).replace(b'"spec":{}', b'"spec":{,}')
    api.play(sends(*before, broken), sends(added("b") + end_of_list()))
    async with running(api) as run:
        await until(lambda: "b" in run.names())
    assert run.listener.kinds() == [fault]


async def test_of_several_watches_none_is_left_when_one_has_ended_kopf(api: FakeApi) -> None:
    """One that is left would watch on beside those of the next run, and hold up the end of the program for good."""
    broken = line("ADDED", pod("bad")).replace(b'"spec":{}', b'"spec":{"a" 1}')
    api.play(sends(end_of_list() + broken), namespace="a")
    async with running(api, namespaces=("a", "b", "c"), watch_filter=False) as run:
        await until(lambda: WatchFault.RESTARTED in run.listener.kinds())
        await until(lambda: len(run.listener.finished) >= 5)
        watches = [task for task in tasks_of_kopf() if task.get_name().startswith("watcher for ")]
        assert len(watches) == 3
    assert not tasks_of_kopf()


def tasks_of_kopf() -> "list[asyncio.Task[Any]]":
    return [task for task in asyncio.all_tasks() if "/kopf/" in getattr(task.get_coro(), "cr_code").co_filename]  # noqa: B009


@pytest.mark.parametrize("status", [426, 505])
async def test_a_server_that_does_not_speak_http_1_0_is_not_asked_for_it_again(api: FakeApi, status: int) -> None:
    api.play(refuses(status), sends(added("a") + end_of_list(), then="end"))
    async with running(api) as run:
        await until(lambda: len(api.watched_with) == 3)
        assert run.names() == ["a"]
    assert api.watched_with == [HttpVersion10, HttpVersion11, HttpVersion11]


async def test_a_list_that_somebody_keeps_back_is_asked_for_without_http_1_0(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LIST_SILENCE", 0.2)
    api.play(sends(added("a")), sends(added("a") + end_of_list()))
    async with running(api) as run:
        await until(lambda: run.listener.finished)
    assert api.watched_with == [HttpVersion10, HttpVersion11]


async def test_a_server_that_answers_http_1_0_with_400_is_not_asked_for_it_again(api: FakeApi) -> None:
    """As old proxies do. The list within the watch is not to blame, and is asked for again."""
    api.play(refuses(400), sends(added("a") + end_of_list(), then="end"), sends(line("MODIFIED", pod("a", 10)), then="end"))
    async with running(api) as run:
        await until(lambda: len(api.watched_with) == 4)
    assert api.watched_with[:4] == [HttpVersion10, HttpVersion11, HttpVersion11, HttpVersion11]
    assert api.pod_requests()[1]["sendInitialEvents"] == "true"
    assert run.events == [(None, "a"), ("MODIFIED", "a")]


async def test_a_400_that_has_nothing_to_do_with_http_1_0_leaves_it_in_use(api: FakeApi) -> None:
    api.version = answers({"major": "1", "minor": "30"})
    api.play(page("a"), refuses(400), page("a"), refuses(400), page("a"), refuses(400), page("a"), sends())
    async with running(api) as run:
        await until(lambda: len(api.pod_requests()) == 8)
    watched = [used for used, asked in zip(api.watched_with, api.pod_requests(), strict=True) if "watch" in asked]
    assert watched == [HttpVersion10, HttpVersion11, HttpVersion10, HttpVersion10]
    assert run.listener.kinds() == [WatchFault.REFUSED] * 3


LIST = added("a") + end_of_list()
STRAY = {
    "a resumed watch": [sends(LIST, then="end"), refuses(400), sends(LIST)],
    "a list": [sends(LIST, error(410)), refuses(400), sends(LIST)],
}


@pytest.mark.parametrize("acts", STRAY.values(), ids=STRAY)
async def test_a_stray_400_leaves_http_1_0_in_use_that_was_answered_before(api: FakeApi, acts: list[Any]) -> None:
    api.play(*acts)
    async with running(api) as run:
        await until(lambda: len(run.listener.finished) == 2)
    assert api.watched_with == [HttpVersion10] * 3
    assert api.pod_requests()[-1]["sendInitialEvents"] == "true"


@pytest.mark.parametrize("acts", STRAY.values(), ids=STRAY)
async def test_a_stray_400_does_not_bring_http_1_0_back_that_was_to_blame_for_another(api: FakeApi, acts: list[Any]) -> None:
    api.play(refuses(400), *acts[:2], *acts)
    async with running(api) as run:
        await until(lambda: len(run.listener.finished) == 3)
    assert api.watched_with == [HttpVersion10] + [HttpVersion11] * 5
    assert api.pod_requests()[-1]["sendInitialEvents"] == "true"


async def test_lists_within_watches_that_earn_one_400_after_another_are_given_up_although_they_once_came(api: FakeApi) -> None:
    api.play(sends(LIST, error(410)), refuses(400), refuses(400), page("a"), sends())
    async with running(api) as run:
        await until(lambda: len(api.pod_requests()) == 5)
        assert len(run.listener.finished) == 2
    assert "watch" not in api.pod_requests()[3]


def after(condition: Callable[[], object], act: Any) -> Any:
    """An act that waits for something before it answers."""

    async def late(request: web.Request) -> web.StreamResponse:
        await until(condition)
        answer: web.StreamResponse = await act(request)
        return answer

    return late


def used(api: FakeApi, namespace: str) -> list[HttpVersion]:
    """With what the pods of a namespace were asked for."""
    paths = [path for _, path, _ in api.seen if path.endswith("/pods")]
    return [version for version, path in zip(api.watched_with, paths, strict=True) if f"/{namespace}/" in path]


async def test_a_stray_400_in_another_namespace_leaves_http_1_0_in_use_that_was_answered_before(api: FakeApi) -> None:
    listener = Listening()
    api.play(sends(LIST), namespace="shop")
    api.play(
        after(lambda: listener.finished, refuses(400)), sends(LIST, then="end"), refuses(400), sends(LIST), namespace="depot"
    )
    async with running(api, listener=listener, namespaces=("shop", "depot")):
        await until(lambda: len(listener.finished) == 3)
    assert (used(api, "shop"), used(api, "depot")) == ([HttpVersion10], [HttpVersion10] * 4)
    assert all(asked["sendInitialEvents"] == "true" for asked in api.pod_requests() if "resourceVersion" not in asked)


async def test_a_400_to_http_1_0_that_comes_late_is_no_reason_to_ask_for_it_again_after_a_stray_one(api: FakeApi) -> None:
    """Two watches begin at once behind a proxy that does not speak it: the other's refusal comes when all is decided."""
    listener = Listening()
    api.play(
        refuses(400), sends(LIST, then="end"), after(lambda: len(used(api, "depot")) == 2, refuses(400)), sends(LIST),
        namespace="shop",
    )  # fmt: skip
    api.play(
        after(lambda: listener.finished, refuses(400)), after(lambda: len(listener.finished) == 2, sends(LIST)),
        namespace="depot",
    )  # fmt: skip
    async with running(api, listener=listener, namespaces=("shop", "depot")):
        await until(lambda: len(listener.finished) == 3)
    assert used(api, "shop") == [HttpVersion10] + [HttpVersion11] * 3
    assert used(api, "depot") == [HttpVersion10, HttpVersion11]


SILENT: list[tuple[str, list[Any]]] = [
    ("the list within a watch", [hangs, sends(added("a") + end_of_list())]),
    ("a resumed watch", [sends(added("a") + end_of_list(), then="end"), hangs, sends(line("MODIFIED", pod("a", 10)))]),
]


@pytest.mark.parametrize("acts", [acts for _, acts in SILENT], ids=[name for name, _ in SILENT])
async def test_a_server_that_takes_a_watch_and_says_nothing_is_asked_again(
    api: FakeApi, acts: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HEAD_WITHIN", 0.2)
    api.play(*acts)
    async with running(api) as run:
        await until(lambda: len(api.pod_requests()) == len(acts) and "a" in run.names())
        await until(lambda: run.events[-1][0] == ("MODIFIED" if len(acts) > 2 else None))
    assert "no answer within 0.2 s" in [said for _, _, said in run.listener.faults]
    assert run.listener.kinds()[-1] is WatchFault.DISCONNECTED
    assert WatchFault.RESTARTED not in run.listener.kinds()


async def test_a_server_that_takes_a_list_and_says_nothing_is_asked_again(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HEAD_WITHIN", 0.2)
    api.version = answers({"major": "1", "minor": "30"})
    api.play(hangs, page("a", more="next"), hangs, page("b"), sends())
    async with running(api) as run:
        await until(lambda: run.listener.finished)
    assert run.listener.finished == [("", frozenset({"uid-a", "uid-b"}))]
    assert run.listener.faults == [("", WatchFault.DISCONNECTED, "no answer within 0.2 s")] * 2


async def test_a_page_that_falls_silent_is_asked_for_again(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LIST_SILENCE", 0.1)
    api.version = answers({"major": "1", "minor": "30"})
    api.play(sends(b'{"kind":"PodList","apiVersion":"v1","metadata":{'), page("a"), sends())
    async with running(api) as run:
        await until(lambda: run.listener.finished)
    assert run.listener.finished == [("", frozenset({"uid-a"}))]
    assert run.listener.kinds() == [WatchFault.DISCONNECTED]


@pytest.mark.parametrize("silent", [hangs, sends(b'{"major": "1", ')], ids=["nothing", "half an answer"])
async def test_a_server_that_does_not_tell_its_version_is_told_of_and_asked_again(
    api: FakeApi, silent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is nobody's watch yet: what is not told here is not seen as a try, and ends in a restart."""
    monkeypatch.setattr(streams, "ANSWER_WITHIN", 0.1)
    api.version = silent
    async with running(api) as run:
        await until(lambda: len(run.listener.faults) >= 2)
        api.version = answers({"major": "1", "minor": "36"})
        await until(lambda: run.listener.finished)
    assert run.listener.faults[0] == ("", WatchFault.DISCONNECTED, "no answer within 0.1 s")


def test_kopfs_own_limit_of_a_request_comes_after_ours() -> None:
    """It would end it untold."""
    limit = build_settings(Settings()).networking.request_timeout
    assert limit is not None
    assert limit >= streams.HEAD_WITHIN + streams.LIST_SILENCE
    assert limit > streams.ANSWER_WITHIN


async def test_a_list_that_never_begins_is_asked_for_without_http_1_0(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Perhaps somebody keeps back what he cannot send in chunks; who has sent it once does not."""
    monkeypatch.setattr(streams, "HEAD_WITHIN", 0.1)
    api.play(hangs, sends(added("a") + end_of_list()))
    async with running(api) as run:
        await until(lambda: run.listener.finished)
    assert api.watched_with == [HttpVersion10, HttpVersion11]


async def test_a_server_that_once_answered_http_1_0_and_is_silent_later_is_asked_for_it_again(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HEAD_WITHIN", 0.1)
    api.play(sends(added("a") + end_of_list(), error(410)), hangs, sends(added("b") + end_of_list()))
    async with running(api) as run:
        await until(lambda: "b" in run.names())
    assert set(api.watched_with) == {HttpVersion10}


@pytest.mark.parametrize("status", [400, 403, 404, 422, 429, 500])
async def test_a_refusal_is_told_with_the_servers_own_words(api: FakeApi, status: int) -> None:
    told = {"kind": "Status", "message": f"unable to parse\nrequirement {'x' * 1000}", "code": status}
    api.play(*[answers(told, status)] * 2, *[page("a")] * 2, sends(added("a") + end_of_list()))
    async with running(api) as run:
        await until(lambda: run.listener.faults)
    (said, *_) = [detail for _, _, detail in run.listener.faults]
    assert said.startswith(f"{status} ")
    assert " for /api/v1/pods: unable to parse requirement xxx" in said
    assert len(said.encode()) < 500


@pytest.mark.parametrize("body", [b"<html>token-of-ours</html>", b"\xff", b"[]", b"{}", b'{"kind":"Status","message":5}'])
async def test_a_refusal_in_another_form_is_told_by_its_status(api: FakeApi, body: bytes) -> None:
    async def act(_: web.Request) -> web.StreamResponse:
        return web.Response(status=404, body=body)

    api.play(act)
    async with running(api) as run:
        await until(lambda: run.listener.faults)
    assert run.listener.faults[0] == ("", WatchFault.REFUSED, "404 Not Found for /api/v1/pods")


async def test_a_refusal_whose_words_never_come_is_told_without_them(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=503, headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b'{"kind"')
        await asyncio.sleep(60)
        return response

    monkeypatch.setattr(streams, "MESSAGE_WITHIN", 0.1)
    api.play(act, sends(added("a") + end_of_list()))
    async with running(api) as run:
        await until(lambda: run.names() == ["a"])
    assert run.listener.faults == [("", WatchFault.SERVER_ERROR, "503 Service Unavailable for /api/v1/pods")]


async def test_our_own_token_is_not_told_should_it_come_back(api: FakeApi) -> None:
    told = {"kind": "Status", "message": "no user has 0paque and\x1b[31m more", "code": 403}
    api.play(answers(told, 403))
    async with running(api, credentials=Fixed("Bearer 0paque")) as run:
        await until(lambda: run.listener.faults)
    assert run.listener.faults[0][2] == "403 Forbidden for /api/v1/pods: no user has [redacted] and [31m more"


async def test_a_server_that_is_away_is_told_in_words() -> None:
    api, port = FakeApi(), await closed_port()
    api.url = f"http://127.0.0.1:{port}"
    async with running(api) as run:
        await until(lambda: run.listener.faults)
    assert run.listener.faults[0][2] == f"cannot connect to 127.0.0.1:{port}: Connection refused"


@pytest.mark.parametrize("shard", ["", "1/2"])
async def test_it_tells_of_a_server_that_is_away_with_and_without_shards(shard: str) -> None:
    """Whether the server knows shards is asked before anything else: untold, an outage would end in a restart."""
    api, port = FakeApi(), await closed_port()
    api.url = f"http://127.0.0.1:{port}"
    async with running(api, shard=shard, namespaces=("shop",)) as run:
        await until(lambda: len(run.listener.faults) >= 2)
    assert {(namespace, fault) for namespace, fault, _ in run.listener.faults} == {("", WatchFault.DISCONNECTED)}


@pytest.mark.parametrize(
    ("status", "fault"),
    [(403, WatchFault.FORBIDDEN), (401, WatchFault.UNAUTHORIZED), (429, WatchFault.THROTTLED), (500, WatchFault.SERVER_ERROR)],
)
async def test_a_refusal_of_the_question_for_shards_is_told_as_that_of_a_list(
    api: FakeApi, status: int, fault: WatchFault
) -> None:
    api.play(*[refuses(status)] * 20)
    async with running(api, shard="1/2") as run:
        await until(lambda: len(run.listener.faults) >= 2)
    assert run.listener.faults[0] == ("", fault, f"{status}: says {status}")


async def test_a_connection_that_breaks_is_resumed_without_a_new_list(api: FakeApi) -> None:
    api.play(sends(added("a") + end_of_list(), line("MODIFIED", pod("a", 17)), then="cut"), sends(added("b", version=18)))
    async with running(api) as run:
        await until(lambda: "b" in run.names())
    assert run.listener.kinds() == [WatchFault.DISCONNECTED]
    assert run.listener.started == [""]
    assert api.pod_requests()[1]["resourceVersion"] == "17"


@pytest.mark.parametrize("status", [400, 404, 410])
async def test_a_watch_that_is_refused_leads_to_a_new_list(api: FakeApi, status: int) -> None:
    api.play(sends(added("a") + end_of_list(), then="end"), refuses(status), sends(added("b") + end_of_list()))
    async with running(api) as run:
        await until(lambda: "b" in run.names())
    assert WatchFault.RESTARTED not in run.listener.kinds()
    assert len(run.listener.finished) == 2


@pytest.mark.parametrize(
    ("status", "fault"),
    [(429, WatchFault.THROTTLED), (500, WatchFault.SERVER_ERROR), (503, WatchFault.SERVER_ERROR), (403, WatchFault.FORBIDDEN)],
)
async def test_a_server_in_trouble_is_asked_again_patiently(api: FakeApi, status: int, fault: WatchFault) -> None:
    api.play(*[refuses(status)] * 4, sends(added("a") + end_of_list()))
    async with running(api) as run:
        await until(lambda: run.names() == ["a"])
    assert run.listener.kinds() == [fault] * 4
    gaps = [late - early for early, late in zip(api.times(), api.times()[1:], strict=False)]
    assert gaps[-1] > gaps[0]


async def test_retry_after_is_honoured(api: FakeApi) -> None:
    api.play(refuses(429, headers={"Retry-After": "1"}), sends(added("a") + end_of_list()))
    async with running(api) as run:
        await until(lambda: run.names() == ["a"])
    assert api.times()[1] - api.times()[0] > 0.9


async def test_resources_that_are_not_found_at_first_are_asked_for_again(api: FakeApi) -> None:
    """kopf alone would take it that there are no pods, and wait: a load balancer may be there before its API server."""
    api.first = {"/api/v1": refuses(404, "NotFound")}
    api.play(sends(added("a") + end_of_list()))
    async with running(api) as run:
        await until(lambda: run.names() == ["a"])


@pytest.mark.parametrize("asked", ["3600", "99999999", "1e9", "inf", "nan", "-1", "soon", "Wed, 21 Oct 2026 07:28:00 GMT"])
async def test_a_server_that_asks_for_an_absurd_wait_is_asked_again_and_no_other_watch_suffers(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """A watch that waits for an hour looks stuck, and gets the operator killed; kopf ends on what is no number."""
    monkeypatch.setattr(streams, "LONGEST_WAIT", 0.3)
    api.play(refuses(429, headers={"Retry-After": asked}), sends(added("a") + end_of_list()), namespace="a")
    async with running(api, namespaces=("a", "b")) as run:
        await until(lambda: run.names() == ["a"], 5)
    assert run.listener.kinds() == [WatchFault.THROTTLED]
    assert run.listener.started.count("b") == 1


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (502, "Café".encode("latin-1"), "text/html"),
        (502, "Café".encode("latin-1"), "application/json"),
        (503, "Café".encode(), "text/html; charset=utf-16"),
        (429, b'{"kind": "Status", "details": [1]}', "application/json"),
        (429, b'{"kind": "Status", "details": {"retryAfterSeconds": "soon"}}', "application/json"),
    ],
)
async def test_a_refusal_in_odd_words_ends_no_other_watch(api: FakeApi, status: int, body: bytes, kind: str) -> None:
    async def act(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers={"Content-Type": kind})

    api.play(act, sends(added("a") + end_of_list()), namespace="a")
    async with running(api, namespaces=("a", "b")) as run:
        await until(lambda: run.names() == ["a"], 5)
    assert WatchFault.RESTARTED not in run.listener.kinds()
    assert run.listener.started.count("b") == 1


async def test_a_server_that_closes_at_once_is_asked_ever_more_slowly(api: FakeApi) -> None:
    """kopf alone would ask 2,100 times a second."""
    api.play(sends(end_of_list(), then="end"), *[sends(then="end")] * 50)
    async with running(api):
        await until(lambda: len(api.pod_requests()) >= 5)
    gaps = [late - early for early, late in zip(api.times(), api.times()[1:], strict=False)]
    assert min(gaps) >= streams.PACE
    assert gaps[3] > 4 * streams.PACE


async def test_credentials_that_are_refused_for_a_while_do_not_end_it(api: FakeApi) -> None:
    answers_left = iter([True, True, False, False])
    api.authorize = lambda _: next(answers_left, True)
    api.play(sends(added("a") + end_of_list()))
    async with running(api) as run:
        await until(lambda: run.names() == ["a"])
    assert run.listener.kinds() == [WatchFault.UNAUTHORIZED] * 2


async def test_a_rotated_token_is_read_anew(api: FakeApi, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    valid = {"Bearer old"}
    api.authorize = lambda header: header in valid
    api.play(sends(added("a") + end_of_list(), 0.1, then="end"), sends(added("b", version=10)))
    async with running(api, credentials=TokenFile(token)) as run:
        await until(lambda: run.names() == ["a"])
        token.write_text("new")
        valid = {"Bearer new"}
        await until(lambda: "b" in run.names())
    assert run.listener.kinds() == [WatchFault.DISCONNECTED], "the watch that was ended early, and no refusal"


async def test_credentials_that_cannot_be_had_for_a_while_do_not_end_it(api: FakeApi) -> None:
    class Broken:
        calls = 0

        async def authorization(self) -> str | None:
            self.calls += 1
            if self.calls in (8, 9):
                raise AccessError("exec plugin: not now")
            return None

        def refused(self) -> None:
            pass

        async def aclose(self) -> None:
            pass

    api.play(*[sends(end_of_list(), then="end")] * 3)
    async with running(api, credentials=Broken()) as run:
        await until(lambda: WatchFault.UNAUTHORIZED in run.listener.kinds() and len(run.listener.finished) >= 1)


async def test_it_waits_for_a_server_that_is_not_there_yet() -> None:
    api, port = FakeApi(), await closed_port()
    api.url = f"http://127.0.0.1:{port}"
    async with running(api) as run:
        await until(lambda: run.listener.kinds()[:2] == [WatchFault.DISCONNECTED] * 2)
        async with serving(api, port):
            await until(lambda: run.listener.finished)
            run.stop.set()
            await run.task


async def test_it_stops_at_once_while_the_server_hangs(api: FakeApi) -> None:
    api.version = hangs
    async with running(api) as run:
        await until(lambda: api.seen)
        started = time.monotonic()
        run.stop.set()
        await run.task
        assert time.monotonic() - started < 1


async def test_it_stops_at_once_while_kopf_backs_off(api: FakeApi) -> None:
    api.play(*[refuses(503)] * 50)
    async with running(api) as run:
        await until(lambda: len(run.listener.faults) > 3)
        started = time.monotonic()
        run.stop.set()
        await run.task
        assert time.monotonic() - started < 1


async def test_a_redirect_does_not_carry_the_token_elsewhere(api: FakeApi) -> None:
    async with serving(FakeApi()) as elsewhere:
        api.play(refuses(307, headers={"Location": f"{elsewhere.url}/api/v1/pods"}), sends(added("a") + end_of_list()))
        async with running(api) as run:
            await until(lambda: run.names() == ["a"])
        assert not elsewhere.seen
    assert WatchFault.DISCONNECTED in run.listener.kinds()


class Raising(Listening):
    """Has an error in it."""

    def take(self, kind: str | None, pod: Mapping[str, Any]) -> None:
        super().take(kind, pod)
        raise ValueError("broken")


@pytest.mark.parametrize("filtering", [True, False])
async def test_an_error_while_an_event_is_taken_does_not_end_it(api: FakeApi, filtering: bool) -> None:
    api.play(sends(added("a", "b") + end_of_list(), 0.05, line("MODIFIED", pod("a", 10)) + line("MODIFIED", pod("b", 11))))
    async with running(api, listener=Raising(), watch_filter=filtering) as run:
        await until(lambda: len(run.events) == 4)
    assert not run.listener.faults


# --- settings --------------------------------------------------------------------------------------


def test_kopf_is_told_to_write_nothing_and_never_to_give_up() -> None:
    made = build_settings(Settings())
    assert made.peering.standalone
    assert made.scanning.disabled
    assert not made.posting.enabled
    assert made.process.ultimate_exiting_timeout is None
    assert made.watching.inactivity_timeout > LONGEST_WATCH
    assert made.persistence.diffbase_storage.build(body=kopf.Body({}), extra_fields=None) == {}


def test_backoffs_grow_to_two_seconds_and_never_end() -> None:
    backoffs = Backoffs()
    for _ in range(2):  # kopf iterates it anew for each request
        taken = [seconds for seconds, _ in zip(backoffs, range(50), strict=False)]
        assert len(taken) == 50
        assert taken[0] < 1
        assert 1.5 <= taken[-1] <= 2.5


# --- what is sent is not shown ---------------------------------------------------------------------

TOKEN = "0paque-T0ken"
STATUS = {"kind": "Status", "status": "Failure", "message": f"you sent {TOKEN}", "reason": TOKEN, "code": 500}


def repeats(status: int, *, reason: str = "Nope", kind: str = "application/json", body: object = STATUS) -> Act:
    """A server, or a proxy before it, that repeats what it was sent."""

    async def act(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, reason=reason, body=json.dumps(body), content_type=kind)

    return act


async def speaks_no_http(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.write(f"HTTP/1.1 {TOKEN} OK\r\n{TOKEN}\r\n\r\n".encode())
    return web.Response()


REPEATS = [
    *(repeats(status, reason=f"sent {TOKEN}") for status in (400, 403, 404, 409, 429, 500, 503)),
    repeats(502, kind="text/html", body=TOKEN), repeats(200, kind=f"text/{TOKEN}"), repeats(200, body=[TOKEN]), speaks_no_http,
]  # fmt: skip


@pytest.mark.parametrize("act", REPEATS)
@pytest.mark.parametrize("asked", ["/api", "/apis", "/api/v1", "pods"])
async def test_a_server_that_repeats_the_token_has_it_shown_nowhere_by_kopf_neither(
    api: FakeApi, caplog: pytest.LogCaptureFixture, act: Act, asked: str
) -> None:
    api.play(*[act] * (asked == "pods"), sends(error(500).replace(b"says 500", f"sent {TOKEN}".encode())), sends(end_of_list()))
    api.first = {asked: act}
    formatter = PlainFormatter()
    with caplog.at_level(logging.DEBUG):
        async with running(api, credentials=Fixed(f"Bearer {TOKEN}")) as run:
            await until(lambda: run.listener.finished)
        gc.collect()  # of tasks whose errors nobody asked for asyncio tells then
    assert run.listener.faults
    assert TOKEN not in "".join(detail for _, _, detail in run.listener.faults)
    assert not [line for line in map(formatter.format, caplog.records) if TOKEN in line]
