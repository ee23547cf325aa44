"""Posting Events: names, counts, repetition, patience, and what is no error."""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from registry_status.model import OutcomeKind, PodRef
from registry_status.report.event_policy import EventNote, EventReason
from registry_status.report.events import (
    EventApiError,
    EventDeniedError,
    EventExistsError,
    EventGoneError,
    EventRecorder,
    EventUnavailableError,
    Json,
    KubernetesEventApi,
    event_body,
    operator_pod,
    repeated,
)
from tests.unit.report.fakes import FakeClock, FakeEventApi, FakeObserver, outcome, pod, settle

DELIVERED, FAILING, REJECTED, INVALID = OutcomeKind.DELIVERED, OutcomeKind.FAILING, OutcomeKind.REJECTED, OutcomeKind.INVALID
OPERATOR = PodRef("operator-uid", "ops", "operator-1")
EPOCH = 1_767_225_600.0
"""2026-01-01T00:00:00Z, at the fake clock's 1000."""


@dataclass
class Desk:
    """A recorder whose time stands still unless a test moves it."""

    clock: FakeClock = field(default_factory=FakeClock)
    api: FakeEventApi = field(default_factory=FakeEventApi)
    observer: FakeObserver = field(default_factory=FakeObserver)

    def __post_init__(self) -> None:
        self.recorder = EventRecorder(
            self.api, self.observer, operator=OPERATOR, clock=self.clock, wall=lambda: EPOCH + self.clock.now - 1000.0,
            sleep=self.clock.sleep, jitter=lambda: 1.0,
        )  # fmt: skip

    @asynccontextmanager
    async def open(self) -> "AsyncIterator[Desk]":
        task = asyncio.create_task(self.recorder.run())
        try:
            yield self
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def test_a_pod_whose_registry_is_down_shows_one_warning_and_one_normal_when_it_recovered() -> None:
    async with Desk().open() as desk:
        desk.recorder.report(outcome(FAILING, message="timeout"))
        await desk.clock.advance(4.9)
        assert desk.api.reasons == []
        for _ in range(10):
            await desk.clock.advance(6)
            desk.recorder.report(outcome(FAILING, message="another try"))
        desk.recorder.report(outcome(DELIVERED, message="UP is there", written=1))
        await settle()
        assert desk.api.reasons == [("RegistryUpdateFailed", 1), ("RegistryUpdateRecovered", 1)]
        assert desk.observer.posted == {"RegistryUpdateFailed": 1, "RegistryUpdateRecovered": 1}


async def test_repeated_events_raise_the_count_of_the_one_that_is_there() -> None:
    async with Desk().open() as desk:
        for message in ("timeout", "connection refused", "bad gateway"):
            desk.recorder.report(outcome(FAILING, message=message))
            await desk.clock.advance(10)
            desk.recorder.report(outcome(DELIVERED))
            await desk.clock.advance(10)
        assert desk.api.reasons == [("RegistryUpdateFailed", 3), ("RegistryUpdateRecovered", 3)]
        failed, recovered = desk.api.events.values()
        assert failed["message"] == "bad gateway"
        assert failed["firstTimestamp"] == "2026-01-01T00:00:00Z"
        assert failed["lastTimestamp"] == "2026-01-01T00:00:40Z"
        assert recovered["lastTimestamp"] == "2026-01-01T00:00:50Z"


async def test_a_recorder_that_was_restarted_goes_on_counting() -> None:
    api = FakeEventApi()
    for age in range(3):
        async with Desk(api=api, clock=FakeClock(1000.0 + age)).open() as desk:
            desk.recorder.report(outcome(REJECTED))
            await settle()
    assert api.reasons == [("RegistryUpdateFailed", 3)]


async def test_a_create_whose_answer_was_lost_does_not_count_twice() -> None:
    class Amnesiac(FakeEventApi):
        async def create_event(self, namespace: str, body: Json) -> None:
            await super().create_event(namespace, body)
            raise EventUnavailableError("timeout")

    async with Desk(api=Amnesiac()).open() as desk:
        desk.recorder.report(outcome(REJECTED))
        await desk.clock.advance(1)
        assert desk.api.reasons == [("RegistryUpdateFailed", 1)]
        assert desk.observer.posted == {"RegistryUpdateFailed": 1}


@pytest.mark.parametrize("expires_before", ["read", "patch"])
async def test_an_event_that_expires_while_it_is_repeated_is_created_again(expires_before: str) -> None:
    async with Desk().open() as desk:
        desk.recorder.report(outcome(REJECTED))
        await desk.clock.advance(400)

        def expire(verb: str) -> None:
            if verb == expires_before:
                desk.api.events.clear()

        desk.api.trouble = expire
        desk.recorder.report(outcome(REJECTED))
        await settle()
        assert desk.api.reasons == [("RegistryUpdateFailed", 1)]


async def test_an_api_server_in_trouble_is_asked_a_few_times_with_growing_pauses() -> None:
    async with Desk().open() as desk:
        desk.api.trouble = lambda _: EventUnavailableError("HTTP 500")
        desk.recorder.report(outcome(REJECTED))
        await desk.clock.advance(60)
        assert desk.api.requests == ["create"] * 4
        assert desk.clock.slept[:3] == [0.5, 2.0, 8.0]
        assert desk.observer.dropped == {"unavailable": 1}


@pytest.mark.parametrize(("asked", "waited"), [(3.0, 3.0), (600.0, 30.0)])
async def test_an_api_server_that_asks_for_patience_gets_it_within_reason(asked: float, waited: float) -> None:
    async with Desk().open() as desk:
        desk.api.trouble = lambda _: EventUnavailableError("HTTP 429", asked)
        desk.recorder.report(outcome(REJECTED))
        await settle()
        assert desk.clock.slept == [waited]


async def test_an_event_that_is_being_tried_again_is_not_posted_once_another_replica_reports() -> None:
    desk = Desk()
    desk.api.trouble = lambda _: EventUnavailableError("starting")
    async with desk.open():
        desk.recorder.report(outcome(REJECTED))
        await desk.clock.advance(1)
        desk.api.trouble = lambda _: None
        desk.recorder.forget_all()
        desk.recorder.report(outcome(REJECTED, 2))
        await desk.clock.advance(60)
    assert [name.partition(".")[0] for _, name in desk.api.events] == ["web-2"]
    assert desk.observer.dropped == {"standby": 1}


async def test_what_is_given_up_of_an_earlier_leadership_takes_nothing_from_the_present_one() -> None:
    desk = Desk()
    desk.api.trouble = lambda _: EventUnavailableError("starting")
    async with desk.open():
        desk.recorder.report(outcome(REJECTED))
        await desk.clock.advance(1)
        desk.recorder.forget_all()
        desk.api.trouble = lambda _: None
        desk.recorder.report(outcome(REJECTED))
        await desk.clock.advance(60)
        desk.recorder.report(outcome(DELIVERED))
        await desk.clock.advance(60)
    assert desk.api.reasons == [("RegistryUpdateFailed", 1), ("RegistryUpdateRecovered", 1)]


async def test_an_event_is_posted_once_the_api_server_is_back() -> None:
    async with Desk().open() as desk:
        desk.api.trouble = lambda _: EventUnavailableError("HTTP 503")
        desk.recorder.report(outcome(REJECTED))
        await desk.clock.advance(1)
        desk.api.trouble = lambda _: None
        await desk.clock.advance(2)
        assert desk.api.reasons == [("RegistryUpdateFailed", 1)]
        assert not desk.observer.dropped


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (EventDeniedError("HTTP 403"), "denied"),
        (EventGoneError("HTTP 404"), "namespace-gone"),
        (EventApiError("HTTP 422"), "refused"),
    ],
)
async def test_other_errors_are_not_tried_again(error: EventApiError, cause: str) -> None:
    async with Desk().open() as desk:
        desk.api.trouble = lambda _: error
        desk.recorder.report(outcome(REJECTED))
        await desk.clock.advance(60)
        assert desk.api.requests == ["create"]
        assert desk.observer.dropped == {cause: 1}
        desk.api.trouble = lambda _: None
        desk.recorder.report(outcome(DELIVERED))
        await settle()
        assert desk.api.reasons == [], "what was never posted does not recover"


async def test_missing_rights_make_one_log_line_not_one_an_event(caplog: pytest.LogCaptureFixture) -> None:
    async with Desk().open() as desk:
        desk.api.trouble = lambda _: EventDeniedError("HTTP 403: events is forbidden")
        for number in range(20):
            desk.recorder.report(outcome(REJECTED, number))
        await settle()
        assert desk.observer.dropped == {"denied": 21}  # one is the operator's own: ten pods at once
        (line,) = caplog.records
        assert line.getMessage() == (
            "an Event could not be posted: HTTP 403: events is forbidden; the operator needs create, get and patch on events"
        )
        assert line.levelno == logging.WARNING


async def test_a_namespace_that_terminates_makes_no_log_line(caplog: pytest.LogCaptureFixture) -> None:
    async with Desk().open() as desk:
        desk.api.trouble = lambda _: EventGoneError("HTTP 403: because it is being terminated")
        desk.recorder.report(outcome(REJECTED))
        await settle()
        assert desk.observer.dropped == {"namespace-gone": 1}
        assert caplog.records == []


async def test_the_pace_is_kept_and_nothing_is_lost() -> None:
    async with Desk().open() as desk:
        for number in range(80):
            desk.recorder.report(outcome(INVALID, number))
        await desk.clock.advance(0)
        for _ in range(5):
            await settle()
        assert len(desk.api.events) == 50
        await desk.clock.advance(1.0)
        assert len(desk.api.events) == 60
        await desk.clock.advance(2.0)
        assert len(desk.api.events) == 80


async def test_the_operators_own_event_is_posted_on_its_pod() -> None:
    async with Desk().open() as desk:
        desk.recorder.report_operator(EventReason.AUTH_FAILED, "the registry blocked the account for 15 min")
        await settle()
        ((namespace, name), event) = next(iter(desk.api.events.items()))
        assert (namespace, event["reason"], event["type"]) == ("ops", "RegistryAuthFailed", "Warning")
        assert name.startswith("operator-1.")


@pytest.mark.parametrize("end", [OutcomeKind.DELIVERED, OutcomeKind.RELEASED, OutcomeKind.INVALID, None])
async def test_the_end_of_an_outage_is_posted_without_further_news(end: OutcomeKind | None) -> None:
    async with Desk().open() as desk:
        for number in range(12):
            desk.recorder.report(outcome(FAILING, number))
        await desk.clock.advance(6)
        for number in range(12):
            desk.recorder.forget(pod(number).uid) if end is None else desk.recorder.report(outcome(end, number))
        await desk.clock.advance(0)
        own = [event["reason"] for (namespace, _), event in desk.api.events.items() if namespace == "ops"]
        assert own == ["RegistryUpdateFailed", "RegistryUpdateRecovered"]


async def test_reporting_never_raises_and_needs_no_running_task() -> None:
    desk = Desk()
    for kind in OutcomeKind:
        desk.recorder.report(outcome(kind))
    desk.recorder.forget("unknown")
    assert desk.api.requests == []


async def test_nothing_wakes_the_task_while_all_is_well() -> None:
    async with Desk().open() as desk:
        for number in range(100):
            desk.recorder.report(outcome(DELIVERED, number, written=1))
        await desk.clock.advance(3600)
        assert desk.clock.slept == []


class TestDrain:
    async def test_posts_what_is_queued(self) -> None:
        desk = Desk()
        desk.recorder.report(outcome(REJECTED, 1))
        desk.recorder.report(outcome(INVALID, 2))
        await desk.recorder.drain(1.0)
        assert len(desk.api.events) == 2
        assert not desk.observer.dropped

    async def test_waits_for_the_event_that_is_being_posted(self) -> None:
        class Slow(FakeEventApi):
            def __init__(self) -> None:
                super().__init__()
                self.answer = asyncio.Event()

            async def create_event(self, namespace: str, body: Json) -> None:
                await self.answer.wait()
                await super().create_event(namespace, body)

        api = Slow()
        async with Desk(api=api).open() as desk:
            desk.recorder.report(outcome(REJECTED))
            await settle()
            draining = asyncio.create_task(desk.recorder.drain(5.0))
            await settle()
            assert not draining.done()
            api.answer.set()
            await draining
            assert api.reasons == [("RegistryUpdateFailed", 1)]

    async def test_leaves_held_back_warnings_unsaid(self) -> None:
        desk = Desk()
        desk.recorder.report(outcome(FAILING))
        await desk.recorder.drain(1.0)
        assert desk.api.events == {}

    async def test_gives_up_in_time_and_counts_what_is_left(self) -> None:
        desk = Desk()
        desk.api.trouble = lambda _: EventUnavailableError("HTTP 500")
        for number in range(3):
            desk.recorder.report(outcome(INVALID, number))
        await asyncio.wait_for(desk.recorder.drain(0.01), 5)
        assert desk.observer.dropped == {"stopped": 3}


class TestBody:
    note = EventNote(PodRef("uid", "shop", "web-1"), EventReason.FAILED, "why", "id", 1000.0)

    def test_is_what_kubectl_describe_looks_for(self) -> None:
        assert event_body(self.note, OPERATOR, EPOCH) == {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": self.note.name, "namespace": "shop"},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web-1", "uid": "uid"},
            "type": "Warning",
            "reason": "RegistryUpdateFailed",
            "message": "why",
            "count": 1,
            "firstTimestamp": "2026-01-01T00:00:00Z",
            "lastTimestamp": "2026-01-01T00:00:00Z",
            "source": {"component": "registry-status-operator"},
            "reportingComponent": "registry-status-operator",
            "reportingInstance": "operator-1",
        }

    def test_outside_a_cluster_names_no_pod(self) -> None:
        assert event_body(self.note, None, EPOCH)["reportingInstance"] == "registry-status-operator"

    @pytest.mark.parametrize(("there", "count"), [({"count": 4}, 5), ({}, 2), ({"count": None}, 2)])
    def test_of_a_repetition_counts_on(self, there: Json, count: int) -> None:
        body = event_body(self.note, OPERATOR, EPOCH)
        assert repeated(there, body) == {
            "count": count,
            "lastTimestamp": "2026-01-01T00:00:00Z",
            "message": "why",
            "reportingInstance": "operator-1",
        }


@pytest.mark.parametrize(
    ("environment", "known"),
    [
        ({"POD_UID": "u", "POD_NAMESPACE": "ops", "POD_NAME": "operator-1"}, PodRef("u", "ops", "operator-1")),
        ({"POD_UID": "", "POD_NAMESPACE": "ops", "POD_NAME": "operator-1"}, None),
        ({"POD_NAMESPACE": "ops", "POD_NAME": "operator-1"}, None),
        ({}, None),
    ],
)
def test_the_operators_pod_is_known_from_the_downward_api(environment: dict[str, str], known: PodRef | None) -> None:
    assert operator_pod(environment) == known


# The real client against an HTTP server that plays the API server


@dataclass
class Answer:
    status: int
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)


def failure(code: int, reason: str, message: str = "no", **details: object) -> Answer:
    return Answer(code, {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details})


TERMINATING = failure(
    403,
    "Forbidden",
    'events "x" is forbidden: unable to create new content in namespace shop because it is being terminated',
    causes=[{"reason": "NamespaceTerminating", "message": "namespace shop is being terminated", "field": "metadata.namespace"}],
)
FORBIDDEN = failure(403, "Forbidden", 'events is forbidden: User "system:serviceaccount:ops:operator" cannot create resource')


@dataclass
class Server:
    answer: Answer = field(default_factory=lambda: Answer(201, {}))
    seen: list[tuple[str, str, str, object]] = field(default_factory=list)
    port: int = 0

    async def handle(self, request: web.Request) -> web.Response:
        text = await request.text()
        body = json.loads(text) if text else None
        self.seen.append((request.method, request.path, request.headers.get("Content-Type", ""), body))
        if isinstance(self.answer.body, bytes):
            return web.Response(body=self.answer.body, status=self.answer.status)
        return web.json_response(self.answer.body, status=self.answer.status, headers=self.answer.headers)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.port = runner.addresses[0][1]
    yield server
    await runner.cleanup()


@pytest.fixture
async def api(server: Server) -> AsyncIterator[KubernetesEventApi]:
    client = client_of(server.port)

    async def factory() -> ApiClient:
        return client

    yield KubernetesEventApi(factory)
    await client.close()


def client_of(port: int) -> ApiClient:
    return ApiClient(Configuration(host=f"http://127.0.0.1:{port}"))  # retries=False would mean: GET again for ever


Request = Callable[[KubernetesEventApi], Awaitable[object]]
REQUESTS: list[tuple[str, Request]] = [
    ("create", lambda api: api.create_event("shop", {"kind": "Event"})),
    ("read", lambda api: api.read_event("shop", "web-1.abc")),
    ("patch", lambda api: api.patch_event("shop", "web-1.abc", {"count": 2})),
]


class TestKubernetesEventApi:
    async def test_sends_what_kubernetes_understands(self, api: KubernetesEventApi, server: Server) -> None:
        server.answer = Answer(200, {"count": 3})
        await api.create_event("shop", {"kind": "Event"})
        assert await api.read_event("shop", "web-1.abc") == {"count": 3}
        await api.patch_event("shop", "web-1.abc", {"count": 4})
        assert server.seen == [
            ("POST", "/api/v1/namespaces/shop/events", "application/json", {"kind": "Event"}),
            ("GET", "/api/v1/namespaces/shop/events/web-1.abc", "application/json", None),
            ("PATCH", "/api/v1/namespaces/shop/events/web-1.abc", "application/merge-patch+json", {"count": 4}),
        ]

    @pytest.mark.parametrize(
        ("answer", "kind"),
        [
            (failure(409, "AlreadyExists"), EventExistsError),
            (failure(409, "Conflict"), EventUnavailableError),
            (TERMINATING, EventGoneError),
            (FORBIDDEN, EventDeniedError),
            (failure(401, "Unauthorized"), EventDeniedError),
            (failure(404, "NotFound"), EventGoneError),
            (failure(422, "Invalid"), EventApiError),
            (failure(400, "BadRequest"), EventApiError),
            (failure(429, "TooManyRequests"), EventUnavailableError),
            (failure(500, "InternalError"), EventUnavailableError),
            (failure(503, "ServiceUnavailable"), EventUnavailableError),
            (Answer(502, b"<html>bad gateway</html>"), EventUnavailableError),
            (Answer(403, b"[1]"), EventDeniedError),
            (Answer(403, {"details": {"causes": "?"}}), EventDeniedError),
            (Answer(403, {"details": None}), EventDeniedError),
        ],
    )
    @pytest.mark.parametrize("request_", [request for _, request in REQUESTS], ids=[name for name, _ in REQUESTS])
    async def test_sorts_every_answer(
        self, api: KubernetesEventApi, server: Server, answer: Answer, kind: type[EventApiError], request_: Request
    ) -> None:
        server.answer = answer
        with pytest.raises(EventApiError) as caught:
            await request_(api)
        assert type(caught.value) is kind
        assert str(answer.status) in str(caught.value)
        assert len(server.seen) == 1, "the client must not try again by itself"

    async def test_tells_what_the_api_server_said(self, api: KubernetesEventApi, server: Server) -> None:
        server.answer = failure(403, "Forbidden", "exceeded quota: count/events\n" + "x" * 5000)
        with pytest.raises(EventDeniedError, match="HTTP 403: exceeded quota: count/events x") as caught:
            await api.create_event("shop", {})
        assert len(str(caught.value)) < 400

    @pytest.mark.parametrize("status", [401, 403, 404, 409, 422, 429, 500])
    async def test_shows_no_token_that_the_api_server_repeats(self, server: Server, status: int) -> None:
        client = client_of(server.port)
        client.set_default_header("Authorization", "Bearer 0paque-T0ken")

        async def factory() -> ApiClient:
            return client

        server.answer = failure(status, "Nope", "you sent 0paque-T0ken")
        with pytest.raises(EventApiError, match="you sent \\[redacted\\]"):
            await KubernetesEventApi(factory).create_event("shop", {})
        await client.close()

    @pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("soon", 0.0), ("-1", 0.0), ("", 0.0)])
    async def test_heeds_retry_after(self, api: KubernetesEventApi, server: Server, header: str, seconds: float) -> None:
        server.answer = failure(429, "TooManyRequests")
        server.answer.headers["Retry-After"] = header
        with pytest.raises(EventUnavailableError) as caught:
            await api.create_event("shop", {})
        assert caught.value.retry_after == seconds

    async def test_knows_a_server_that_is_not_there(self, unused_tcp_port: int) -> None:
        client = client_of(unused_tcp_port)
        async with client:

            async def factory() -> ApiClient:
                return client

            with pytest.raises(EventUnavailableError, match="out of reach"):
                await KubernetesEventApi(factory).create_event("shop", {})

    async def test_is_not_thrown_by_a_factory_in_trouble_and_asks_it_again(self, server: Server) -> None:
        class NoAccessError(Exception):
            pass

        errors: list[Exception] = [NoAccessError("token file is empty"), TimeoutError(), OSError("no such file")]
        client = client_of(server.port)

        async def factory() -> ApiClient:
            if errors:
                raise errors.pop(0)
            return client

        api = KubernetesEventApi(factory, trouble=(NoAccessError,))
        for text in ("token file is empty", "TimeoutError", "no such file"):
            with pytest.raises(EventUnavailableError, match=text):
                await api.create_event("shop", {})
        await api.create_event("shop", {})
        await client.close()

    async def test_is_not_imported_before_it_is_needed(self) -> None:
        program = (
            "import sys; from registry_status.report import events, reporter, health; "
            "sys.exit(any(name.split('.')[0] == 'kubernetes' for name in sys.modules))"
        )
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
        assert await process.wait() == 0


async def test_the_recorder_and_the_client_work_together(api: KubernetesEventApi, server: Server) -> None:
    observer = FakeObserver()
    recorder = EventRecorder(api, observer)
    recorder.report(outcome(REJECTED, message="the registry has no such project"))
    await recorder.drain(5.0)
    assert observer.posted == {"RegistryUpdateFailed": 1}
    ((method, path, _, body),) = server.seen
    assert (method, path) == ("POST", "/api/v1/namespaces/shop/events")
    assert isinstance(body, dict)
    assert body["involvedObject"]["uid"] == pod().uid
