"""One watch: the initial events, the changes since, bookmarks, and an end when its time is up."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from registry_status.demo.kinds import ApiError, Kind
from registry_status.demo.selectors import Predicate
from registry_status.demo.store import Seen, Store
from registry_status.demo.wire import Shape, bookmark, watch_line

CHUNK: Final = 100
"""So many lines are written at once: enough to be quick, few enough not to hold a whole cluster in memory as text."""


@dataclass(frozen=True, slots=True)
class WatchQuery:
    """What a client asked to be told."""

    kind: Kind
    namespace: str
    predicate: Predicate
    shape: Shape
    since: int | None
    """The resourceVersion after which to begin; None: with everything that exists."""
    initial_events: bool
    """The client wants to be told when everything that exists was sent."""
    bookmarks: bool
    seconds: float
    """How long the server will serve it."""
    bookmark_interval: float


async def watch_lines(store: Store, query: WatchQuery) -> AsyncGenerator[bytes, None]:
    """Yield what the watch sends, in pieces of whole lines."""
    changed = asyncio.Event()
    unsubscribe = store.subscribe(changed.set)
    try:
        version = store.version if query.since is None else query.since
        if query.since is None:
            for piece in _initial(store, query):
                yield piece
        async for piece in _following(store, query, version, changed):
            yield piece
    except ApiError as error:
        yield watch_line("ERROR", error.status)
    finally:
        unsubscribe()


def _initial(store: Store, query: WatchQuery) -> Iterator[bytes]:
    version, items = store.version, store.select(query.kind, query.namespace, query.predicate)
    yield from _pieces([Seen(version, "ADDED", item) for item in items], query)
    if query.initial_events:
        yield watch_line("BOOKMARK", query.shape(bookmark(query.kind, version, ends_initial_events=True)))


async def _following(store: Store, query: WatchQuery, version: int, changed: asyncio.Event) -> AsyncGenerator[bytes, None]:
    now = asyncio.get_running_loop().time
    end, bookmark_due = now() + query.seconds, now() + query.bookmark_interval
    while now() < end:
        changed.clear()
        news, version = store.changes(query.kind, query.namespace, query.predicate, version)
        for piece in _pieces(news, query):
            yield piece
        await _wait(changed, min(end, bookmark_due) - now())
        if query.bookmarks and now() >= min(end, bookmark_due) and not changed.is_set():
            yield watch_line("BOOKMARK", query.shape(bookmark(query.kind, version)))
            bookmark_due = now() + query.bookmark_interval


async def _wait(changed: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(changed.wait(), max(0.0, seconds))
    except TimeoutError:
        return


def _pieces(news: Sequence[Seen], query: WatchQuery) -> Iterator[bytes]:
    for start in range(0, len(news), CHUNK):
        yield b"".join(watch_line(seen.type, query.shape(seen.item)) for seen in news[start : start + CHUNK])
