"""The emulated API server's HTTP face: paths to calls, calls to the store, answers in the server's own words."""

import json
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from registry_status.demo.admission import Admission, Call
from registry_status.demo.kinds import ACCESS_REVIEWS, KINDS, ApiError, KubeObject, bad_request
from registry_status.demo.patches import patched
from registry_status.demo.selectors import Predicate, everything, selector
from registry_status.demo.store import DeleteOptions, Store
from registry_status.demo.watching import WatchQuery, watch_lines
from registry_status.demo.wire import discovery, encoded, list_body, shape_of

DEFAULT_WATCH_SECONDS: Final = 1800.0
HEALTH: Final = ("/healthz", "/livez", "/readyz")
REASONS: Final = {
    401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 410: "Expired", 429: "TooManyRequests",
    500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout",
}  # fmt: skip
VERBS: Final = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
WRITES: Final = frozenset(VERBS.values())


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A request that arrived, for tests to look at: also those that were refused."""

    call: Call
    query: Mapping[str, str]
    body: object = None

    @property
    def writes(self) -> bool:
        """Whether it asked for a change of an object; questions about one's own rights do not."""
        return self.call.verb in WRITES and self.call.kind != ACCESS_REVIEWS


def parse_call(method: str, path: str, query: Mapping[str, str]) -> Call:
    """Read what a request is about. Raises `ApiError` for what the emulator does not serve."""
    for kind in KINDS:
        if path.startswith(f"{kind.prefix}/"):
            namespace, (plural, *tail) = _split_namespace(path.removeprefix(f"{kind.prefix}/").split("/"))
            if plural == kind.plural and len(tail) <= 2:
                name, subresource, *_ = [*tail, "", ""]
                call = Call(_verb(method, name, query), kind, namespace, name, subresource)
                _check_call(call)
                return call
    raise ApiError(404, "NotFound", "the server could not find the requested resource")


def _split_namespace(parts: list[str]) -> tuple[str, list[str]]:
    if parts[0] == "namespaces" and len(parts) > 2 and parts[2] != "status":
        return parts[1], parts[2:]
    return "", parts


def _verb(method: str, name: str, query: Mapping[str, str]) -> str:
    if method != "GET":
        return VERBS.get(method, method.lower())
    if query.get("watch") in ("1", "true"):
        return "watch"
    return "get" if name else "list"


def _check_call(call: Call) -> None:
    if call.subresource and not (call.subresource == "status" and call.kind.status):
        raise ApiError(404, "NotFound", "the server could not find the requested resource")
    misplaced = call.verb == "create" if call.name else call.verb in ("update", "patch", "delete")
    if misplaced or call.verb not in call.kind.verbs:
        raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


class ApiServer:
    """Serves a store over HTTP."""

    def __init__(self, store: Store, admission: Admission, *, bookmark_interval: float) -> None:
        self._store = store
        self._admission = admission
        self._bookmark_interval = bookmark_interval
        self._cuts: set[Callable[[], None]] = set()
        self.requests: list[SeenRequest] = []

    def application(self) -> web.Application:
        """Make the web application; one handler serves all, since Kubernetes paths follow one scheme."""
        application = web.Application(client_max_size=16 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self._answer)
        return application

    def cut_watches(self) -> None:
        """Break the connections of all watches in mid-stream, as a dying load balancer does."""
        for cut in tuple(self._cuts):
            cut()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            self._admission.check_token(request.headers.get("Authorization", ""))
            if request.method == "GET" and request.path in HEALTH:
                return web.Response(text="ok")
            described = discovery(request.path)
            if request.method == "GET" and described is not None:
                return _json(described)
            return await self._serve(request)
        except ApiError as error:
            return _json(error.status, error.code)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        call = parse_call(request.method, request.path, request.query)
        body = await _read_body(request)
        self.requests.append(SeenRequest(call, dict(request.query), body))
        if failure := self._admission.take_failure(call):
            error = ApiError(failure.code, REASONS.get(failure.code, "Unknown"), "this answer was injected")
            headers = {} if failure.retry_after is None else {"Retry-After": str(failure.retry_after)}
            return _json(error.status, failure.code, headers)
        self._admission.check_rights(call)
        if call.verb == "watch":
            return await self._watch(request, call)
        if call.verb == "list":
            return self._list(request, call)
        return self._object(request, call, body)

    def _list(self, request: web.Request, call: Call) -> web.Response:
        query, predicate = request.query, _predicate(request, call)
        page = self._store.page(call.kind, call.namespace, predicate, _number(query, "limit", 0), query.get("continue", ""))
        shape = shape_of(request.headers.get("Accept", ""))
        return _json(list_body(call.kind, page, shape, counted=predicate is everything))

    def _object(self, request: web.Request, call: Call, body: object) -> web.Response:
        where = (call.kind, call.namespace, call.name)
        if call.verb == "get":
            return _json(shape_of(request.headers.get("Accept", ""))(self._store.get(*where)))
        if call.verb == "delete":
            return _json(self._store.delete(*where, _delete_options(request.query, body)))
        if call.verb == "patch":
            item = patched(self._store.get(*where), body, request.content_type)
            return _json(self._store.replace(*where, item, status=call.subresource == "status"))
        if not isinstance(body, dict):
            raise bad_request("the body is no object")
        if call.verb == "update":
            return _json(self._store.replace(*where, body, status=call.subresource == "status"))
        if call.kind == ACCESS_REVIEWS:
            return _json(self._admission.review(body), 201)
        return _json(self._store.create(call.kind, call.namespace, body), 201)

    async def _watch(self, request: web.Request, call: Call) -> web.StreamResponse:
        query = self._watch_query(request, call)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        transport = request.transport
        if transport is None:
            return response
        self._cuts.add(transport.abort)
        try:
            await response.prepare(request)
            async with aclosing(watch_lines(self._store, query)) as lines:
                async for piece in lines:
                    await response.write(piece)
        except ConnectionError:
            return response  # the client is gone: nobody is left to tell
        finally:
            self._cuts.discard(transport.abort)
        return response

    def _watch_query(self, request: web.Request, call: Call) -> WatchQuery:
        query = request.query
        initial = query.get("sendInitialEvents") == "true"
        if initial and query.get("resourceVersionMatch") != "NotOlderThan":
            raise ApiError(
                422, "Invalid", "resourceVersionMatch: Required value: NotOlderThan, because sendInitialEvents is set"
            )
        since = _number(query, "resourceVersion", 0)
        return WatchQuery(
            kind=call.kind,
            namespace=call.namespace,
            predicate=_predicate(request, call),
            shape=shape_of(request.headers.get("Accept", "")),
            since=None if initial or not since else since,
            initial_events=initial,
            bookmarks=query.get("allowWatchBookmarks") == "true",
            seconds=float(_number(query, "timeoutSeconds", 0)) or DEFAULT_WATCH_SECONDS,
            bookmark_interval=self._bookmark_interval,
        )


def _predicate(request: web.Request, call: Call) -> Predicate:
    fields = request.query.get("fieldSelector", "")
    if call.name:
        fields = f"metadata.name={call.name},{fields}"
    return selector(request.query.get("labelSelector", ""), fields)


def _number(query: Mapping[str, str], key: str, default: int) -> int:
    text = query.get(key, "")
    if text and not (text.isascii() and text.isdigit()):
        raise bad_request(f"invalid {key}: {text!r}")
    return int(text) if text else default


def _delete_options(query: Mapping[str, str], body: object) -> DeleteOptions:
    options: KubeObject = body if isinstance(body, dict) else {}
    grace = options.get("gracePeriodSeconds")
    if grace is None and "gracePeriodSeconds" in query:
        grace = _number(query, "gracePeriodSeconds", 0)
    wanted = options.get("preconditions") or {}
    return DeleteOptions(grace_seconds=grace, uid=wanted.get("uid"), version=wanted.get("resourceVersion"))


async def _read_body(request: web.Request) -> object:
    if not request.can_read_body:
        return None
    raw = await request.read()
    decode: Callable[[bytes], object] = json.loads
    try:
        return decode(raw) if raw else None
    except ValueError:
        raise bad_request("the body is no JSON") from None


def _json(body: KubeObject, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=encoded(body), status=status, content_type="application/json", headers=headers)
