"""Our Event recorder: posts to Kubernetes what `event_policy` says that a pod has earned.

kopf's own `kopf.event` knows no repetition, no pace and other types than Kubernetes does. Here a name is derived from what the
Event says, so that the API server itself finds repetitions, also those of an operator that was restarted: create, and where the
Event exists already, raise its count.

Nothing here ever stands in the way of the work: `report` only notes, one task posts, and an Event that cannot be posted is
counted and given up.
"""

import asyncio
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

import aiohttp

from registry_status.cluster.words import concealed
from registry_status.model import Outcome, PodRef
from registry_status.report.event_policy import DropCause, EventNote, EventPolicy, EventReason
from registry_status.report.logs import LogLimiter
from registry_status.report.text import cut, one_line
from registry_status.times import timestamp

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

COMPONENT = "registry-status-operator"
REQUEST_TIMEOUT = 5.0
"""Seconds for a request to the API server."""
PAUSES = (0.5, 2.0, 8.0)
"""Seconds between the tries to post one Event: long enough for an API server that restarts behind a load balancer."""
LONGEST_PAUSE = 30.0
"""Seconds. An API server may ask for more patience than an Event is worth."""

Json = dict[str, object]
logger = logging.getLogger(__name__)


class EventApiError(Exception):
    """The API server did not take the Event."""

    cause = DropCause.REFUSED


class EventExistsError(EventApiError):
    """An Event of this name is there already."""


class EventGoneError(EventApiError):
    """The namespace is gone or terminating, or the Event expired: nothing is wrong with that."""

    cause = DropCause.NAMESPACE_GONE


class EventMutedError(EventGoneError):
    """A dry run posts no Events, and says nothing of those."""

    cause = DropCause.DRY_RUN


class EventRetractedError(EventGoneError):
    """Another replica reports by now."""

    cause = DropCause.STANDBY


class EventDeniedError(EventApiError):
    """The operator may not do this: its ClusterRole or Role, its token or a quota is at fault."""

    cause = DropCause.DENIED


class EventUnavailableError(EventApiError):
    """It may work later; `retry_after` is the least wait in seconds that the API server asked for."""

    cause = DropCause.UNAVAILABLE

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EventApi(Protocol):
    """The three requests that a recorder needs. Each may raise any `EventApiError` and nothing else."""

    async def create_event(self, namespace: str, body: Json) -> None:
        """Create a core/v1 Event. Raises `EventExistsError` where its name is taken."""
        ...

    async def read_event(self, namespace: str, name: str) -> Json:
        """The Event as it is."""
        ...

    async def patch_event(self, namespace: str, name: str, body: Json) -> None:
        """Merge the body into the Event."""
        ...


class EventObserver(Protocol):
    """Is told what became of each Event, for metrics."""

    def event_posted(self, reason: EventReason) -> None:
        """The API server has it."""
        ...

    def event_dropped(self, cause: DropCause) -> None:
        """Nobody will see it."""
        ...


def operator_pod(environment: Mapping[str, str]) -> PodRef | None:
    """The operator's own pod, as its Deployment tells by the downward API; None outside a cluster."""
    uid, namespace, name = (environment.get(key, "") for key in ("POD_UID", "POD_NAMESPACE", "POD_NAME"))
    return PodRef(uid, namespace, name) if uid and namespace and name else None


class EventRecorder:
    """Takes outcomes at any time, and posts the Events that they earn while `run` runs."""

    def __init__(
        self,
        api: EventApi,
        observer: EventObserver,
        *,
        operator: PodRef | None = None,
        report_updates: bool = False,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._api, self._observer, self._operator = api, observer, operator
        self._clock, self._wall, self._sleep, self._jitter = clock, wall, sleep, jitter
        self._policy = EventPolicy(clock(), operator=operator, report_updates=report_updates, dropped=observer.event_dropped)
        self._limiter = LogLimiter(clock, interval=300.0)
        self._wake = asyncio.Event()
        self._posting = asyncio.Lock()
        self._term = 0
        """How often another replica has taken over: what is being posted then is not tried again."""

    def report(self, outcome: Outcome) -> None:
        """Note an outcome. Costs a look-up where nothing is wrong, and never raises."""
        if self._policy.report(outcome, self._clock()):
            self._wake.set()

    def report_operator(self, reason: EventReason, message: str) -> None:
        """Post an Event of the operator's own pod, ahead of all others."""
        if self._policy.report_operator(reason, message, self._clock()):
            self._wake.set()

    def forget(self, uid: str) -> None:
        """The pod is gone, or no longer ours."""
        if self._policy.forget(uid, self._clock()):
            self._wake.set()

    def forget_all(self) -> None:
        """Another replica reports from now on: nothing that is known, waits or is held back here is posted any more."""
        self._term += 1
        for _ in range(self._policy.forget_all()):
            self._observer.event_dropped(DropCause.STANDBY)

    async def run(self) -> None:
        """Post what is due, for ever; ends by being cancelled."""
        while True:
            self._wake.clear()
            if not await self._post_next():
                await self._rest(self._policy.wait(self._clock()))

    async def drain(self, timeout: float) -> None:
        """Post what is due, for at most so many seconds; what is left then is counted as dropped.

        Works beside `run` and after its end. Warnings that are still held back stay unsaid: they may have been a hiccup.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while await self._post_next():
                    pass
        for _ in range(self._policy.waiting):
            self._observer.event_dropped(DropCause.STOPPED)

    async def _rest(self, seconds: float | None) -> None:
        waits: list[asyncio.Future[object]] = [asyncio.ensure_future(self._wake.wait())]
        if seconds is not None:
            waits.append(asyncio.ensure_future(self._sleep(seconds)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _post_next(self) -> bool:
        async with self._posting:
            note = self._policy.take(self._clock())
            if note is None:
                return False
            try:
                await self._post(note)
            except EventApiError as error:
                self._give_up(note, error)
            except asyncio.CancelledError:
                self._observer.event_dropped(DropCause.STOPPED)
                raise
            else:
                self._observer.event_posted(note.reason)
            return True

    def _give_up(self, note: EventNote, error: EventApiError) -> None:
        self._policy.lost(note)
        self._observer.event_dropped(error.cause)
        if isinstance(error, EventGoneError):
            return
        hint = "; the operator needs create, get and patch on events" if isinstance(error, EventDeniedError) else ""
        fields = {"pod": note.pod.name, "namespace": note.pod.namespace, "reason": note.reason}
        self._limiter.log(logger, logging.WARNING, error.cause, f"an Event could not be posted: {error}{hint}", fields)

    async def _post(self, note: EventNote) -> None:
        body = event_body(note, self._operator, self._wall() - (self._clock() - note.at))
        term = self._term
        for pause in PAUSES:
            try:
                return await self._write(note, body)
            except EventUnavailableError as error:
                await self._sleep(min(LONGEST_PAUSE, max(pause * (0.5 + self._jitter() / 2), error.retry_after)))
            if term != self._term:
                raise EventRetractedError("another replica reports")
        return await self._write(note, body)

    async def _write(self, note: EventNote, body: Json) -> None:
        try:
            await self._api.create_event(note.pod.namespace, body)
        except EventExistsError:
            await self._repeat(note, body)

    async def _repeat(self, note: EventNote, body: Json) -> None:
        try:
            there = await self._api.read_event(note.pod.namespace, note.name)
            if there.get("lastTimestamp") != body["lastTimestamp"]:  # else it is ours: only the answer to our create was lost
                await self._api.patch_event(note.pod.namespace, note.name, repeated(there, body))
        except EventGoneError:  # it expired a moment ago
            await self._api.create_event(note.pod.namespace, body)


def event_body(note: EventNote, operator: PodRef | None, at: float) -> Json:
    """The core/v1 Event as `kubectl describe` looks for it; `at` is epoch seconds."""
    happened = timestamp(at)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": note.pod.namespace,
        "name": note.pod.name,
        "uid": note.pod.events_uid,
    }
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": note.name, "namespace": note.pod.namespace},
        "involvedObject": pod,
        "type": note.reason.type,
        "reason": note.reason.value,
        "message": note.message,
        "count": 1,
        "firstTimestamp": happened,
        "lastTimestamp": happened,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": operator.name if operator else COMPONENT,
    }


def repeated(there: Json, body: Json) -> Json:
    """What changes in an Event that happens again."""
    count = there.get("count")
    return {
        "count": (count if isinstance(count, int) else 1) + 1,
        "lastTimestamp": body["lastTimestamp"],
        "message": body["message"],
        "reportingInstance": body["reportingInstance"],
    }


class KubernetesEventApi:
    """`EventApi` over a client of `kubernetes.aio`.

    The client is asked for at the first Event: importing it costs CPU that a healthy start should not pay, and is done in a
    thread, since the first Event tends to come when there is other work. It is used below its generated `CoreV1Api`, whose
    import alone costs 0.7 CPU-seconds and 250 modules more, for three requests. Who made the client closes it.
    """

    def __init__(
        self,
        api_client_factory: "Callable[[], Awaitable[ApiClient]]",
        *,
        trouble: tuple[type[Exception], ...] = (),
    ) -> None:
        """`trouble` names what the factory or the client's credentials may raise besides `OSError` and `ClientError`."""
        self._factory = api_client_factory
        self._trouble: tuple[type[Exception], ...] = (OSError, aiohttp.ClientError, *trouble)
        self._client: ApiClient | None = None

    async def create_event(self, namespace: str, body: Json) -> None:
        """POST the Event."""
        await self._request("POST", _path(namespace), body)

    async def read_event(self, namespace: str, name: str) -> Json:
        """GET the Event."""
        return await self._request("GET", _path(namespace, name))

    async def patch_event(self, namespace: str, name: str, body: Json) -> None:
        """PATCH the Event, as a merge."""
        await self._request("PATCH", _path(namespace, name), body)

    async def _request(self, method: str, path: str, body: Json | None = None) -> Json:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                status, headers, answer = await self._send(method, path, body)
        except self._trouble as error:
            raise EventUnavailableError(f"the Kubernetes API is out of reach: {str(error) or type(error).__name__}") from error
        if 200 <= status < 300:
            return answer
        raise _error(status, headers, answer)

    async def _send(self, method: str, path: str, body: Json | None) -> tuple[int, Mapping[str, str], Json]:
        if self._client is None:
            await asyncio.to_thread(import_module, "kubernetes.aio.client.api_client")
            self._client = await self._factory()
        media = "application/merge-patch+json" if method == "PATCH" else "application/json"
        request = await self._client.param_serialize(
            method,
            path,
            header_params={"Accept": "application/json", "Content-Type": media},
            body=body,
            auth_settings=["BearerToken"],
        )
        response = await self._client.call_api(*request, _request_timeout=REQUEST_TIMEOUT)
        data: bytes = await response.read()  # type: ignore[no-untyped-call]  # a library without annotations
        answer = _json(data)
        if isinstance(said := answer.get("message"), str):  # which may repeat what was sent
            answer["message"] = concealed(said, response.response.request_info.headers)
        return response.status, response.headers, answer


class MutedEventApi:
    """`EventApi` of a dry run: nothing is posted."""

    async def create_event(self, namespace: str, body: Json) -> None:
        """Post nothing."""
        raise EventMutedError("dry run")

    async def read_event(self, namespace: str, name: str) -> Json:
        """Find nothing."""
        raise EventMutedError("dry run")

    async def patch_event(self, namespace: str, name: str, body: Json) -> None:
        """Change nothing."""
        raise EventMutedError("dry run")


def _path(namespace: str, name: str = "") -> str:
    tail = f"/{quote(name, safe='')}" if name else ""
    return f"/api/v1/namespaces/{quote(namespace, safe='')}/events{tail}"


def _json(data: bytes) -> Json:
    try:
        answer = json.loads(data)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _error(status: int, headers: Mapping[str, str], answer: Json) -> EventApiError:
    said = answer.get("message")
    message = f"HTTP {status}: {cut(one_line(said), 300) if isinstance(said, str) else 'no explanation'}"
    if status == 409 and answer.get("reason") == "AlreadyExists":
        return EventExistsError(message)
    if status == 404 or (status == 403 and _is_terminating(answer)):
        return EventGoneError(message)
    if status in (401, 403):
        return EventDeniedError(message)
    if status in (408, 409, 429) or status >= 500:
        return EventUnavailableError(message, _seconds(headers.get("Retry-After", "")))
    return EventApiError(message)


def _is_terminating(answer: Json) -> bool:
    details = answer.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    return isinstance(causes, list) and any(
        isinstance(cause, dict) and cause.get("reason") == "NamespaceTerminating" for cause in causes
    )


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() else 0.0
