"""Wires the rooms together and runs them: watch -> feed -> engine -> registry -> reports."""

import asyncio
import logging
import os
import random
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from registry_status import __version__
from registry_status.census import keep_counting
from registry_status.cluster.access import Access, AccessError, api_client, load_access
from registry_status.cluster.api import ApiServer
from registry_status.cluster.gate import GateKeeper
from registry_status.cluster.lease import Elector, lease_of
from registry_status.cluster.read import list_pod_uids, read_pod
from registry_status.cluster.rights import MissingRightsError, check_rights, check_rights_later, needed_rights
from registry_status.cluster.watch import run_pod_watch
from registry_status.config import Settings
from registry_status.feed import PodFeed
from registry_status.pods.handlers import pod_handlers
from registry_status.registry.connect import registry_client
from registry_status.registry.dry_run import DryRunRegistry
from registry_status.report.events import EventRecorder, KubernetesEventApi, MutedEventApi, operator_pod
from registry_status.report.health import HealthState, ListenError, application, keep_beating, serving
from registry_status.report.metrics import Metrics
from registry_status.report.reporter import Reporter
from registry_status.sync.delivery import Timing
from registry_status.sync.engine import Engine

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

DRAIN = 5.0
"""Seconds in which what is queued is still delivered after SIGTERM."""
DRAIN_EVENTS = 1.0
"""Seconds in which Events that wait are still posted then."""

logger = logging.getLogger(__name__)


class StartError(Exception):
    """The operator cannot begin; the message says what is wrong, where, and what to do."""


async def run_operator(settings: Settings, *, stop: asyncio.Event, ready: asyncio.Event | None = None) -> None:
    """Run until `stop` is set, or SIGTERM or SIGINT arrives; `ready` is set when all pods are listed and writing begins.

    Raises `StartError` where it cannot begin, and `SettingsError` for files that the settings name. Once it has begun it does
    not end by itself: neither the registry's absence nor the API server's ends it.
    """
    try:
        access = await load_access(settings.kubeconfig, settings.context, os.environ)
        async with aclosing(access), _rooms(settings, access, ready) as rooms:
            logger.info("registry-status %s: pods of %s, registry %s", __version__, access.server, settings.registry_address[0])
            if settings.dry_run:
                logger.warning("nothing is written to the registry, no Event is posted and no Lease is taken")
            await run_pod_watch(
                access=access,
                settings=settings,
                handlers=pod_handlers,
                listener=rooms.feed,
                tracked=rooms.engine.tracked,
                stop=stop,
            )
            logger.info("stopping: delivering what is queued")
            if rooms.elector is not None:
                rooms.elector.withdraw()
            if not await rooms.engine.drain(DRAIN):
                logger.warning("stopped with undelivered statuses; the next start delivers them")
            await rooms.recorder.drain(DRAIN_EVENTS)
    except (AccessError, ListenError, MissingRightsError) as error:
        raise StartError(str(error)) from error


@dataclass(frozen=True, slots=True)
class _Rooms:
    """What runs, wired."""

    feed: PodFeed
    engine: Engine
    recorder: EventRecorder
    elector: Elector | None


@dataclass(frozen=True, slots=True)
class _Office:
    """Decides when this replica writes: once all pods are listed and, where it has others beside it, while it leads."""

    engine: Engine
    reporter: Reporter
    metrics: Metrics
    elector: Elector | None
    gates: GateKeeper | None
    ready: asyncio.Event | None
    dry_run: bool = False

    def open(self) -> None:
        if self.elector is not None:
            self.engine.stand_by()
        self.metrics.attach(leading=self._writes)

    def listed(self) -> None:
        """Only now: a replica that does not know all pods yet would be no good leader."""
        logger.info("%d annotated pods listed", len(self.engine))
        if self.elector is None:
            self._begin()
        else:
            self.elector.begin(self)

    def led(self) -> None:
        self.metrics.leadership_changed(leading=True)
        self._begin()

    def lost(self) -> None:
        self.engine.stand_by()
        if self.gates is not None:
            self.gates.stand_by()
        self.reporter.fall_silent()
        self.metrics.leadership_changed(leading=False)

    def _writes(self) -> bool:
        """A dry run has no elector, and writes nothing; several of them would look like as many leaders."""
        return not self.dry_run and (self.elector is None or self.elector.leading)

    def _begin(self) -> None:
        logger.info("comparing with the registry")
        self.engine.start_writing()
        if self.ready is not None:
            self.ready.set()


@asynccontextmanager
async def _rooms(settings: Settings, access: Access, ready: asyncio.Event | None) -> AsyncIterator[_Rooms]:
    """Open everything in the order of need; close it in the other."""
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        health = HealthState(monotonic(), settings.namespaces or ("pods",))
        host, port = await stack.enter_async_context(serving(settings.listen, application(health, metrics)))
        logger.info("probes and metrics at http://%s:%d", f"[{host}]" if ":" in host else host, port)
        api = await stack.enter_async_context(ApiServer(access))
        elector = _elector(settings, api)
        needs = needed_rights(settings, elector.lease if elector is not None else None)
        if not await check_rights(api, needs):
            stack.push_async_callback(_end, asyncio.create_task(check_rights_later(api, needs)))
        if elector is not None:
            stack.push_async_callback(elector.resign)  # after all that may still write
        client = _EventClient(access)
        stack.push_async_callback(client.aclose)
        events = MutedEventApi() if settings.dry_run else KubernetesEventApi(client, trouble=(AccessError,))
        recorder = EventRecorder(events, metrics, operator=operator_pod(os.environ), report_updates=settings.report_updates)
        registry = await stack.enter_async_context(registry_client(settings, observer=metrics, fence=elector))
        reporter = Reporter(recorder, metrics)
        gates = _gates(settings, api, metrics)
        if gates is not None:
            stack.push_async_callback(gates.aclose)
        engine = Engine(
            DryRunRegistry(registry, metrics.dry_run_write) if settings.dry_run else registry,
            reporter,
            timing=Timing(registration_window=settings.registration_window, resync_interval=settings.resync_interval),
            trust_ids=settings.trust_instance_ids,
            admit=gates.open if gates is not None else None,
        )
        office = _Office(engine, reporter, metrics, elector, gates, ready, settings.dry_run)
        office.open()
        feed = PodFeed(
            settings, engine, health, metrics, listed=office.listed, read_pod=lambda space, name: read_pod(api, space, name)
        )
        stack.push_async_callback(feed.aclose)
        metrics.attach(statuses=engine, watch_age=lambda: health.watch_age(monotonic()), tasks=lambda: len(asyncio.all_tasks()))
        counting = keep_counting(
            feed,
            lambda space: list_pod_uids(api, space, selection=settings.selection),
            settings.namespaces or ("",),
            random.Random(),  # noqa: S311 - jitter, not secrets
        )
        for background in (recorder.run(), keep_beating(health, metrics.loop_lag), counting):
            stack.push_async_callback(_end, asyncio.create_task(background))
        yield _Rooms(feed, engine, recorder, elector)


class _EventClient:
    """The Kubernetes client for Events, made when the first one is posted."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._client: ApiClient | None = None

    async def __call__(self) -> "ApiClient":
        self._client = api_client(self._access)
        return self._client

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.close()  # type: ignore[no-untyped-call]  # generated code without annotations


def _gates(settings: Settings, api: ApiServer, metrics: Metrics) -> GateKeeper | None:
    """Pods are patched only where the settings ask for it."""
    if not settings.readiness_gate or settings.dry_run:
        return None
    return GateKeeper(api, settings.gate, metrics, chance=random.Random())  # noqa: S311 - jitter, not secrets


def _elector(settings: Settings, api: ApiServer) -> Elector | None:
    lease = lease_of(settings, api.access, os.environ)
    if lease is None:
        return None
    name = os.environ.get("POD_NAME") or socket.gethostname()
    return Elector(api, lease, f"{name}_{secrets.token_hex(4)}")


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
