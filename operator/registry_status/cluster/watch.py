"""The watch of pods: kopf, told how to run, and kept running.

kopf ends on conditions that an operator must outlive. `run_pod_watch` starts it anew in the same process, so that what is
queued, remembered and leased elsewhere in the program stays. Four habits of kopf's need care:

- its `run_tasks` cancels every task of the event loop that was not there before it, ours included: it is told to ignore all;
- it sets a SIGKILL timer on any exit that no stop flag asked for: turned off;
- it takes SIGINT and SIGTERM over each time it starts. They are taken back in the same step of the event loop, before any
  signal can reach kopf's handlers; they set the stop event;
- it leaves tasks behind: of several watches it forgets the others when one fails, and these would hold up the end of the
  program for good. What it leaves is ended.
"""

import asyncio
import random
import signal
import threading
import time
from collections.abc import Callable, Collection, Container, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import aiohttp
import kopf

from registry_status.cluster.access import Access
from registry_status.cluster.api import ApiError, ApiServer, server_version
from registry_status.cluster.connection import WITHOUT_LIMIT, open_session
from registry_status.cluster.lines import Take, WatchFault
from registry_status.cluster.read import ShardingError, list_pods
from registry_status.cluster.streams import HEAD_WITHIN, LIST_SILENCE, PodStreams, WatchListener, fault_of
from registry_status.config import Settings

_T = TypeVar("_T")

STREAMING_LISTS_SINCE = (1, 34)
"""The version of Kubernetes from which on every API server sends the list within the watch (`sendInitialEvents`)."""
PAGE = 500
LONGEST_WATCH = 600
"""Seconds after which the server ends a watch: connections find their way to new API servers, as client-go's do."""
FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 2.0
"""Seconds between attempts while the API server is away; two replicas cost it next to nothing, and a watch that is back late
leaves callers with pods that are gone."""
LEFT_WITHIN = 2.0
"""Seconds in which what kopf has left behind must end; a watch takes half a second for its queues."""
KOPF = f"{Path(kopf.__file__).parent}/"
HEALTHY_AFTER = 60.0
"""Seconds after which a run of kopf counts as one that worked."""


async def run_pod_watch(
    *,
    access: Access,
    settings: Settings,
    handlers: Callable[[Take], kopf.OperatorRegistry],
    listener: WatchListener,
    tracked: Container[str],
    stop: asyncio.Event,
) -> None:
    """Watch pods until `stop` is set: their events, and the watch's own state, go to the listener.

    `handlers` makes kopf's handlers, which give what kopf hands them to the function that they are made with. Events of uids in
    `tracked` always pass the byte filter; with the setting `watch_filter` off all events do, and all go through kopf. SIGINT
    and SIGTERM set `stop`. Returns soon after `stop`, once kopf's cleanup handlers have run.
    """
    kopf_settings = build_settings(settings)
    streams = PodStreams(
        prefix=settings.prefix, listener=listener, tracked=tracked, filtering=settings.watch_filter,
        without_lists=lambda: setattr(kopf_settings.watching, "initial_streaming", False),
    )  # fmt: skip
    registry = handlers(streams.come_through)
    login = Login(access, streams)
    kopf.on.login(registry=registry, id="login", backoff=1)(login.log_in)
    patience = iter(Backoffs())
    _own_signals(stop)
    while not stop.is_set():
        started = time.monotonic()
        streams.queued.lost()
        try:
            await _run_once(login, settings, kopf_settings, registry, stop)
            problem = "it just ended"
        except ShardingError as error:
            problem = str(error)
        except ApiError:
            problem = ""  # it was told already
        except Exception as error:  # noqa: BLE001 - whatever ends kopf must not end the program; a new list loses nothing
            problem = f"{type(error).__name__}: {error}"
        if stop.is_set():
            return
        if problem:
            listener.suffered("", WatchFault.RESTARTED, f"kopf ended: {problem}")
        if time.monotonic() - started > HEALTHY_AFTER:
            patience = iter(Backoffs())
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), next(patience))


async def _run_once(
    login: "Login",
    settings: Settings,
    kopf_settings: kopf.OperatorSettings,
    registry: kopf.OperatorRegistry,
    stop: asyncio.Event,
) -> None:
    """Run kopf until it ends. Raises `ApiError` where the API server is not there to begin with, and whatever kopf raises."""
    try:
        await _check_sharding(login.access, settings, login.streams.listener)
        streaming = await _unless(stop, _streams_lists(ApiServer(login.access, login.session())))
        if streaming is not None:
            kopf_settings.watching.initial_streaming = streaming and login.streams.lists_in_watches
            await _run_kopf(settings, kopf_settings, registry, stop)
    finally:
        await login.close()


async def _check_sharding(access: Access, settings: Settings, listener: WatchListener) -> None:
    """See to it that the server knows what a shard is: one that does not passes over the question. Raises `ShardingError`.

    In a session of its own: in the streams' this would be a list of all pods. So its faults are told here.
    """
    if not settings.shard_selector:
        return
    namespace = settings.namespaces[0] if settings.namespaces else ""
    async with ApiServer(access) as api:
        try:
            await anext(list_pods(api, namespace, selection=settings.selection, page=1), None)
        except ShardingError:
            raise
        except ApiError as error:
            listener.suffered("", fault_of(error.status), str(error))
            raise


async def _streams_lists(api: ApiServer) -> bool:
    """Whether the server sends lists within watches; lists page by page work with every server."""
    try:
        return await server_version(api) >= STREAMING_LISTS_SINCE
    except ApiError as error:
        if error.transient:
            raise
        return False  # a cluster that hides its version


async def _unless(stop: asyncio.Event, awaited: Coroutine[None, None, _T]) -> _T | None:
    """Await it, unless `stop` comes first."""
    task, stopped = asyncio.create_task(awaited), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        stopped.cancel()
        await asyncio.gather(task, stopped, return_exceptions=True)


async def _run_kopf(
    settings: Settings, kopf_settings: kopf.OperatorSettings, registry: kopf.OperatorRegistry, stop: asyncio.Event
) -> None:
    before = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=registry,
        settings=kopf_settings,
        standalone=True,
        clusterwide=not settings.namespaces,
        namespaces=settings.namespaces,
        stop_flag=stop,
        identity=cast("Any", "registry-status-operator"),  # else kopf looks up users and host names for peering, which is off
    )
    _own_signals(stop)
    try:
        await kopf.run_tasks(tasks, ignored=_Everything())
    finally:
        await _end(lambda task: task not in before and _code_of_kopf(task) == "guard")
        await _end(lambda task: task not in before and bool(_code_of_kopf(task)))


async def _end(chosen: Callable[["asyncio.Task[Any]"], bool]) -> None:
    """End these tasks. Guarded ones, as watches are, go first: they end those that they have made, and wait for them."""
    left = [task for task in asyncio.all_tasks() if chosen(task)]
    for task in left:
        task.cancel()
    with suppress(TimeoutError):
        async with asyncio.timeout(LEFT_WITHIN):
            await asyncio.gather(*left, return_exceptions=True)


def _code_of_kopf(task: "asyncio.Task[Any]") -> str:
    """Which of kopf's functions a task runs; empty: none."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code.co_name if code is not None and code.co_filename.startswith(KOPF) else ""


def _own_signals(stop: asyncio.Event) -> None:
    """Take SIGINT and SIGTERM back: kopf's handlers end a single run of it, and a second signal breaks them."""
    if threading.current_thread() is threading.main_thread():
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)


class _Everything(Collection[Any]):
    """Holds everything, so that kopf leaves all tasks alone that are not its own root tasks (these end their own)."""

    def __contains__(self, item: object) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0


class Login:
    """kopf's login handler: gives it sessions whose requests pass through the streams.

    Credentials are put on each request by the session itself, so kopf logs in once a run, or when a session was closed.
    """

    def __init__(self, access: Access, streams: PodStreams) -> None:
        self.access = access
        self.streams = streams
        self._session: aiohttp.ClientSession | None = None

    def session(self) -> aiohttp.ClientSession:
        """Return the session in use, or open one."""
        if self._session is None or self._session.closed:
            self._session = open_session(self.access, self.streams, connections=WITHOUT_LIMIT)
        return self._session

    async def close(self) -> None:
        """Close the session in use."""
        if self._session is not None:
            await self._session.close()

    async def log_in(self, **_: object) -> kopf.AiohttpSession:
        """Log in, as kopf calls it."""
        return kopf.AiohttpSession(
            server=self.access.server, aiohttp_session=self.session(), default_namespace=self.access.namespace
        )


def build_settings(settings: Settings) -> kopf.OperatorSettings:
    """Tell kopf how to run: watch pods, write nothing, never give up."""
    made = kopf.OperatorSettings()
    made.persistence.diffbase_storage = NoDiffBase()  # building it takes most of the time of an event, for nothing
    made.persistence.progress_storage = NoProgress()
    made.posting.enabled = False
    made.peering.standalone = True
    made.scanning.disabled = True  # no right to list CRDs and namespaces is needed
    made.process.ultimate_exiting_timeout = None  # it would kill the process ten minutes after a restart of kopf
    made.queueing.idle_timeout = 0.01
    made.queueing.exit_timeout = 0.5
    made.networking.error_backoffs = Backoffs()
    made.networking.request_timeout = HEAD_WITHIN + LIST_SILENCE  # the streams end a request sooner, and tell of it
    made.networking.connect_timeout = 5.0
    made.watching.connect_timeout = 5.0
    made.watching.server_timeout = LONGEST_WATCH
    made.watching.inactivity_timeout = 2 * LONGEST_WATCH  # the streams know what has come
    made.watching.reconnect_backoff = 0.0  # the streams keep the pace
    made.watching.chunk_size = PAGE
    if settings.shard_selector:
        made.watching.shard_selectors["", "v1", "pods"] = settings.shard_selector
    if settings.label_selector:
        made.watching.label_selectors["", "v1", "pods"] = settings.label_selector
    return made


class Backoffs:
    """Seconds between attempts, without an end, however often it is iterated: kopf gives up where they end.

    Jittered, as all operators of a cluster notice its API server's failure at the same moment.
    """

    def __iter__(self) -> Iterator[float]:
        seconds = FIRST_BACKOFF
        while True:
            yield seconds * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
            seconds = min(seconds * 2, LONGEST_BACKOFF)


class NoDiffBase(kopf.DiffBaseStorage):
    """Remembers no last state of a pod: nothing here compares two of them, and pods are never patched."""

    def build(self, **_: object) -> kopf.BodyEssence:
        """Nothing to compare with later."""
        return cast("kopf.BodyEssence", {})

    def fetch(self, **_: object) -> None:
        """Nothing was stored."""

    def store(self, **_: object) -> None:
        """Store nothing."""


class NoProgress(kopf.ProgressStorage):
    """Remembers no handler's progress: they have none."""

    def fetch(self, **_: object) -> None:
        """Nothing was stored."""

    def store(self, **_: object) -> None:
        """Store nothing."""

    def purge(self, **_: object) -> None:
        """Nothing was stored."""

    def touch(self, **_: object) -> None:
        """Touch no pod."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """Nothing of ours is in it."""
        return essence
