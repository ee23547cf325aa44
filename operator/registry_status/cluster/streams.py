"""Between kopf and the API server: every pod watch and pod list passes here.

kopf's own reading of the Kubernetes API is right for a cluster that behaves. What it gets wrong for us is put right in the HTTP
session that it is given, so that kopf itself stays as it is:

- it parses every line: `lines` drops those of no interest first, and hands over past kopf what changes after the list;
- it goes on from the last object when the connection breaks within the initial list, and so misses the rest: an unfinished
  list ends with a 410, on which kopf lists again;
- it ends on every other error within a stream, on 401 and on most 4xx: they all become a 410, a patient repetition, or another
  listing;
- it asks again at once when a server closes at once: requests keep a growing distance;
- it never tells when a list is complete: the listener learns it here.
"""

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Container, Mapping
from contextlib import suppress
from typing import Protocol, cast

import aiohttp

from registry_status.cluster import frames
from registry_status.cluster.access import AccessError
from registry_status.cluster.api import NOT_FOUND, NOT_REACHED, mapping
from registry_status.cluster.connection import UNAUTHORIZED, Handler
from registry_status.cluster.frames import WatchFrames
from registry_status.cluster.lines import (
    EXPIRED,
    GONE,
    Known,
    MalformedPageError,
    Queued,
    WatchFault,
    WatchLines,
    WatchStream,
    json_object,
    sift_page,
)
from registry_status.cluster.protobuf import MalformedError, decode_object
from registry_status.cluster.tap import Tap, tap
from registry_status.cluster.words import concealed, message, said, shown

logger = logging.getLogger(__name__)
PODS = re.compile(r"/api/v1/(?:namespaces/(?P<namespace>[^/]+)/)?pods$")
CORE = "/api/v1"
"""Where an API server tells that there are pods."""
PACE = 0.5
"""Seconds between the starts of two watches (or lists) of the same pods."""
SLOWEST_PACE = 10.0
"""Seconds between them at most, where each ends soon after it began."""
EARLY = 10.0
"""Seconds by which a watch may end before its time: the server counts from the request, which may have waited for its turn."""
SHORT_LIVED = 5.0
"""Seconds. A watch that lived less was no success, whatever ended it."""
LONGEST_WAIT = 30.0
"""Seconds of a wait that a server asks for (`Retry-After`) which are granted: a watch that waits for longer looks stuck."""
LIST_SILENCE = 60.0
"""Seconds without a byte within a list after which it is begun anew."""
HEAD_WITHIN = 60.0
"""Seconds in which the answer to a request for pods must begin. A watch's does before its first event, and a page's when the
server has read it: a server gives up on its own requests after a minute. A peer that lives and says nothing, as a server behind
a load balancer may, answers the probes of its connection for ever."""
ANSWER_WITHIN = 20.0
"""Seconds for the whole answer to any other request: all are short, but a busy server lets them wait for 15."""
MESSAGE_WITHIN = 5.0
"""Seconds for the words behind a refusal, which is known without them."""
LONGEST_MESSAGE = 64 * 1024
"""Bytes of them."""
BREATH = 0.005
"""Seconds between two reads within a list. Bytes pile up meanwhile: one wake-up for 256 KiB instead of one for each few pods.
With 10,000 pods on two cores that are the server's too: half the CPU time, and done sooner as the server gets the rest."""
ENOUGH = 64 * 1024
"""Bytes at once that are worth a wake-up: then there is no need to wait for more."""
BOOKMARK_EVERY = 5.0
"""Seconds after which kopf, having heard nothing, is told how far the stream has come."""
SILENCE = 70.0
"""Seconds without a byte after which a watch is resumed on another connection; servers send a bookmark a minute at least.
kopf's own limit does not know of what goes past it, and is turned off.

One that has never brought a byte is listed anew: an API server whose etcd was restored from a backup takes a watch from a
version that it has yet to come to, and keeps silent until then."""
PROGRESS_EVERY = 1.0
"""Seconds after which it is worth telling once more that bytes arrive."""
OK, BAD_REQUEST, FORBIDDEN, NOT_ACCEPTABLE, INVALID = 200, 400, 403, 406, 422
UPGRADE_REQUIRED, THROTTLED, SERVER_ERROR, UNAVAILABLE, VERSION_REFUSED = 426, 429, 500, 503, 505


class WatchListener(Protocol):
    """Who takes pods, and wants to know how the watches do. `namespace` is empty for a watch of the whole cluster."""

    def take(self, kind: str | None, pod: Mapping[str, object]) -> None:
        """One event of one pod, of no older state than those before; `kind` None: an entry of a list. Must not wait."""

    def listing_started(self, namespace: str) -> None:
        """All pods of the watch are about to be listed."""

    def listing_finished(self, namespace: str, uids: frozenset[str]) -> None:
        """The list is complete. Of its pods those with these uids were passed on; the handlers see them in a moment."""

    def progressed(self, namespace: str) -> None:
        """Bytes arrived."""

    def suffered(self, namespace: str, fault: WatchFault, detail: str) -> None:
        """Something went wrong; it is being repeated already."""


class IncompleteListError(RuntimeError):
    """kopf would go on watching although the list before it is not complete: it has to start from nothing."""


class SilentError(TimeoutError):
    """The answer to a request did not begin in time."""


class Pace:
    """Keeps the starts of successive watches apart: half a second, and ever more while they end soon after they began."""

    def __init__(self) -> None:
        self._gap = PACE
        self._started = float("-inf")

    def due(self, now: float) -> float:
        """Return the seconds to wait before the next start."""
        return max(0.0, self._started + self._gap - now)

    def started(self, now: float) -> None:
        """Note a start."""
        self._started = now

    def ended(self, now: float) -> None:
        """Note an end."""
        self._gap = PACE if now - self._started >= SHORT_LIVED else min(self._gap * 2, SLOWEST_PACE)


class PodStreams:
    """The middleware that does it, for all watches of one operator; it outlives sessions and kopf's restarts."""

    def __init__(
        self,
        *,
        prefix: str,
        listener: WatchListener,
        tracked: Container[str],
        filtering: bool = True,
        without_lists: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`prefix` is the annotations' (with its slash); lines of `tracked` uids always pass; `filtering` off: all pass.

        `without_lists` is called when the server refuses to send lists within watches, although its version can.
        """
        self.prefix = prefix.encode()
        self.listener = listener
        self.tracked = tracked
        self.filtering = filtering
        self.clock = clock
        self.protobuf = filtering
        """Whether to ask for protobuf; without the filter kopf is to see each line as the server has written it."""
        self.direct = filtering
        """Whether to take watches right from their connections, for which HTTP/1.0 is asked for."""
        self.refuses_direct: bool | None = None
        """Whether a 400 means that HTTP/1.0 is not spoken: suspected until the next answer to HTTP/1.1; None: no suspicion."""
        self.answered_direct = False
        """Whether a request in HTTP/1.0 was ever answered as it should be."""
        self.lists_in_watches = True
        """Whether the server sends lists within watches, for all that is known."""
        self.answered_list = False
        """Whether the last list within a watch that was answered with OK or 400 was answered with OK."""
        self._without_lists = without_lists
        self.queued = Queued()
        self._watches: dict[str, Watch] = {}

    async def __call__(self, request: aiohttp.ClientRequest, handler: Handler) -> aiohttp.ClientResponse:
        """Send a request of kopf's; what it answers about pods is sifted."""
        found = PODS.search(request.url.path)
        namespace = (found and found["namespace"]) or ""
        watch = self._watches.setdefault(namespace, Watch(namespace, self))
        if found is None:
            return await watch.ask(request, handler)
        if request.url.query.get("watch") == "true":
            return await watch.stream(request, handler)
        return await watch.page(request, handler)

    def come_through(self, kind: str | None, pod: Mapping[str, object]) -> None:
        """Take what comes out of kopf's queues."""
        self.queued.brought(str(mapping(pod.get("metadata")).get("uid")))
        self.listener.take(kind, pod)

    def hand_over(self, kind: str | None, pod: Mapping[str, object]) -> None:
        """Take an event past kopf. As in a handler of kopf's, an error of ours must not end the watch."""
        try:
            self.listener.take(kind, pod)
        except Exception:
            logger.exception("internal error while taking an event of pod %s", mapping(pod.get("metadata")).get("name"))

    def doubts_direct(self, *, direct: bool) -> bool:
        """Judge a 400; returns whether it may mean HTTP/1.0, as from some proxies, so that the next request goes without.

        Where that earns a 400, too, HTTP/1.0 was not to blame for it, nor is it for any later one. Nor is it where it was
        answered well before: that 400 is a stray one.
        """
        if direct and not self.answered_direct and self.refuses_direct is not False:
            if self.direct:  # it is not the late answer to another watch, after which all may be decided
                self.direct, self.refuses_direct = False, True
            return True
        if not direct and self.refuses_direct:
            self.direct, self.refuses_direct = self.filtering, False
        return False

    def note_answer(self, *, listing: bool, direct: bool) -> None:
        """Note that a watch was answered as it should be."""
        self.answered_list |= listing
        self.answered_direct |= direct
        if not direct and self.refuses_direct:
            self.refuses_direct = None  # HTTP/1.0 was to blame: it stays off, whatever earns a 400 later

    def doubts_list(self) -> bool:
        """Judge a 400 to a list within a watch; returns whether it may be a stray one, as such lists were answered before."""
        doubted, self.answered_list = self.answered_list, False
        return doubted

    def refuse_lists(self) -> None:
        """Note that the server does not send lists within watches: an API server whose feature gate WatchList is off."""
        self.lists_in_watches = False
        self._without_lists()


class Watch:
    """The pods of one namespace, or of the whole cluster: their list, then their changes."""

    def __init__(self, namespace: str, streams: PodStreams) -> None:
        self.namespace = namespace
        self.streams = streams
        self.known = Known(streams.tracked)
        self.pace = Pace()
        self.complete = False
        self._listed: set[str] = set()
        self._just_listed = False

    async def stream(self, request: aiohttp.ClientRequest, handler: Handler) -> aiohttp.ClientResponse:
        """Open a watch stream, with the list in it or after one."""
        listing = request.url.query.get("sendInitialEvents") == "true"
        if not listing and not self.complete:
            raise IncompleteListError("a watch was resumed within its list")
        if not self._just_listed:  # a list and the watch behind it are one step
            await self._wait()
        self._just_listed = False
        if listing:
            self._begin_list()
        direct = self._ask_for_speed(request)
        try:
            response = await self.send(request, handler, HEAD_WITHIN)
        except SilentError:
            if not self.streams.answered_direct:
                self.streams.direct = False  # perhaps a proxy keeps back what it cannot send in chunks
            raise
        self._learn(response.status, listing=listing, direct=direct)
        if response.status == OK:
            self.progressed()
            response.content = cast("aiohttp.StreamReader", SiftedStream(response, self, self._events(response, listing)))
        elif _is_final(response.status):
            self._begin_anew(response)
        return response

    def _ask_for_speed(self, request: aiohttp.ClientRequest) -> bool:
        """Returns whether HTTP/1.0 is asked for."""
        if self.streams.protobuf:
            request.headers["Accept"] = frames.ACCEPT
        if self.streams.direct:
            request.update_version(aiohttp.HttpVersion10)
            request.headers["Connection"] = "close"
        return self.streams.direct

    def _learn(self, status: int, *, listing: bool, direct: bool) -> None:
        """Leave out from now on what the server does not know."""
        if status == OK:
            self.streams.note_answer(listing=listing, direct=direct)
        elif status in (UPGRADE_REQUIRED, VERSION_REFUSED):
            self.streams.direct = False
        elif status == NOT_ACCEPTABLE:
            self.streams.protobuf = False
        elif status == BAD_REQUEST and self.streams.doubts_direct(direct=direct):
            pass
        elif listing and (status == INVALID or (status == BAD_REQUEST and not self.streams.doubts_list())):
            self.streams.refuse_lists()

    def _begin_anew(self, response: aiohttp.ClientResponse) -> None:
        """Tell kopf of a refusal as of a watch that has to start anew."""
        self.ended()
        response.content = cast("aiohttp.StreamReader", RestartedStream(response.content))
        response.status = OK

    async def page(self, request: aiohttp.ClientRequest, handler: Handler) -> aiohttp.ClientResponse:
        """Fetch one page of a list."""
        if "continue" not in request.url.query:
            await self._wait()
            self._begin_list()
        response = await self.send(request, handler, HEAD_WITHIN)
        if response.status == OK:
            response.content = cast("aiohttp.StreamReader", SiftedPage(response.content, self))
        elif _is_final(response.status):
            self.ended()
            raise aiohttp.ClientPayloadError(f"the list was refused with {response.status}; it begins anew")
        return response

    async def ask(self, request: aiohttp.ClientRequest, handler: Handler) -> aiohttp.ClientResponse:
        """Send a request that is about no pods. Its answer is taken as a whole, so that no fault of it goes untold."""
        path = request.url.path

        async def whole(request: aiohttp.ClientRequest) -> aiohttp.ClientResponse:
            response = await handler(request)
            if response.status < BAD_REQUEST:
                body = await response.read()
                if response.status == OK and not path.endswith("/version") and not _is_json(response, body):
                    # Of any other answer kopf would make an error that shows the request's headers, and end.
                    raise aiohttp.ClientConnectionError(f"{path}: the answer is no JSON object")
            elif response.status == NOT_FOUND and path.endswith(CORE):
                # kopf would take it that there are no pods in the world, and wait until there are.
                raise aiohttp.ClientConnectionError(f"{path}: {NOT_FOUND}, so this is no API server, or not yet")
            return response

        return await self.send(request, whole, ANSWER_WITHIN)

    async def send(self, request: aiohttp.ClientRequest, handler: Handler, within: float) -> aiohttp.ClientResponse:
        """Send a request, for as long as the server does not take our credentials: a rotated token is there in a moment."""
        patience = Pace()
        while True:
            patience.started(self.streams.clock())
            response = await self._try(request, handler, within)
            if response.status >= BAD_REQUEST:
                await self._hear(response)
            if response.status == THROTTLED:
                await asyncio.sleep(_wait_asked_for(response))
                response.status = UNAVAILABLE  # kopf ends on a wait that is no number, and grants any that is one
            if response.status != UNAUTHORIZED:
                return response
            response.close()
            patience.ended(self.streams.clock())
            await asyncio.sleep(patience.due(self.streams.clock()))

    async def _try(self, request: aiohttp.ClientRequest, handler: Handler, within: float) -> aiohttp.ClientResponse:
        try:
            async with asyncio.timeout(within) as limit:
                return await handler(request)
        except AccessError as error:
            self.suffered(WatchFault.UNAUTHORIZED, str(error))
            raise aiohttp.ClientConnectionError(str(error)) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if limit.expired():
                silent = SilentError(f"no answer within {within:g} s")
                self.suffered(WatchFault.DISCONNECTED, str(silent))
                raise silent from None
            self.suffered(WatchFault.DISCONNECTED, said(error))
            raise

    async def _hear(self, response: aiohttp.ClientResponse) -> None:
        """Tell of a refusal and why; kopf, which ends on words that it cannot read, is spared them."""
        words = await _words(response)
        response.content = cast("aiohttp.StreamReader", Refusal(response.content))
        why = message(json_object(words), response.request_info.headers)
        what = f"{response.status} {shown(response.reason or '')} for {response.url.path}"
        self.suffered(fault_of(response.status), f"{what}: {why}" if why else what)

    async def _wait(self) -> None:
        await asyncio.sleep(self.pace.due(self.streams.clock()))
        self.pace.started(self.streams.clock())

    def _begin_list(self) -> None:
        self.complete = self._just_listed = False
        self._listed = set()
        self.streams.listener.listing_started(self.namespace)

    def _events(self, response: aiohttp.ClientResponse, listing: bool) -> WatchStream:
        """Read what the server has chosen to send."""
        streams = self.streams
        kind = WatchFrames if response.content_type == frames.CONTENT_TYPE else WatchLines
        return kind(
            prefix=streams.prefix, known=self.known, listing=listing, filtering=streams.filtering,
            hand_over=streams.hand_over if streams.filtering else None, queued=streams.queued,
        )  # fmt: skip

    def sift_page(self, body: bytes) -> bytes:
        """Take a page of the list."""
        self.progressed()
        streams = self.streams
        try:
            page = sift_page(body, prefix=streams.prefix, known=self.known, filtering=streams.filtering)
        except MalformedPageError as error:
            self.suffered(WatchFault.MALFORMED, str(error))
            self.ended()
            raise aiohttp.ClientPayloadError(str(error)) from None
        self._listed |= page.uids
        for uid in page.uids:
            self.known.add(uid)
            streams.queued.given(uid)
        if page.last:
            self.known.keep_only(self._listed)
            self._just_listed = True
            self.finish_list(self._listed)
        return page.body

    def finish_list(self, uids: set[str]) -> None:
        """Note that the list is complete."""
        self.complete = True
        self.streams.listener.listing_finished(self.namespace, frozenset(uids))

    def progressed(self) -> None:
        """Note that bytes arrived."""
        self.streams.listener.progressed(self.namespace)

    def suffered(self, fault: WatchFault, detail: str) -> None:
        """Note a fault."""
        self.streams.listener.suffered(self.namespace, fault, detail)

    def ended(self) -> None:
        """Note that a stream or a list is over."""
        self.pace.ended(self.streams.clock())


class _Content:
    """What kopf reads instead of the response's own stream; aiohttp only wants to close it."""

    def __init__(self, inner: aiohttp.StreamReader) -> None:
        self.inner = inner

    def exception(self) -> BaseException | None:
        return self.inner.exception()

    def set_exception(self, error: BaseException) -> None:
        self.inner.set_exception(error)


class SiftedStream(_Content):
    """A watch stream without the lines that are none of ours."""

    def __init__(self, response: aiohttp.ClientResponse, watch: Watch, lines: WatchStream) -> None:
        super().__init__(response.content)
        self._watch = watch
        self._lines = lines
        self._kept: list[bytes] = []
        self._rest = bytearray()
        self._clock = watch.streams.clock
        self._tell_at = 0.0
        self._heard_at = self._clock()
        self._is_mute = True
        """Not a byte has come."""
        self._tap: Tap | None = None
        self._sent = response.request_info.headers
        self._due = self._clock() + float(response.url.query.get("timeoutSeconds", "0"))
        if watch.streams.direct:
            self._tap = tap(response, self._take)
            self._hurry_for_ours()

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Yield what kopf is to see, as it comes."""
        self.inner.set_read_chunk_size(size)
        broken: Exception | None = None
        try:
            while await self._more():
                if self._kept:
                    yield self._all_kept()
            self._check_end()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._watch.suffered(WatchFault.DISCONNECTED, said(error))
            if self._lines.in_list and isinstance(error, TimeoutError):
                self._watch.streams.direct = False  # perhaps a proxy keeps back what it cannot send in chunks
            broken = None if self._lines.in_list else error
        finally:
            self._watch.ended()
            if self._tap is not None:
                self._tap.stop()
        if last := self._lines.finish():
            self._tell()
            yield last
        if broken is not None:
            raise broken

    async def _more(self) -> bool:
        """Wait for more; returns False once the stream is over and all that was kept has been yielded."""
        if self._kept:
            return True
        if self._lines.fault is not None:
            return False
        if self._lines.in_list:
            async with asyncio.timeout(LIST_SILENCE):
                return await self._next()
        try:
            async with asyncio.timeout(BOOKMARK_EVERY) as limit:
                return await self._next()
        except TimeoutError:
            if not limit.expired():
                raise
        silent = self._clock() - self._heard_at
        if silent >= SILENCE:
            self._give_up(f"nothing came for {silent:.0f} s")
        elif told := self._lines.bookmark():
            self._kept.append(told)
        return True

    def _give_up(self, why: str) -> None:
        """End a silent watch, from which kopf is to go on, or to list anew. Raises `TimeoutError`."""
        if not self._is_mute:
            raise TimeoutError(why)
        self._kept.append(self._lines.fail(WatchFault.DISCONNECTED, f"{why}, from the beginning on: all pods are listed anew"))
        self._tell()

    async def _next(self) -> bool:
        """Wait for something for kopf, within the list for anything; returns False at the end."""
        if self._tap is not None:
            return await self._wait(self._tap)
        more = await self._read()
        while more and not (self._kept or self._lines.in_list):
            more = await self._read()
        return more

    async def _read(self) -> bool:
        if self._lines.in_list:
            await asyncio.sleep(BREATH)
        data = await self.inner.readany()
        self._rest += data
        taken, _ = self._take(self._rest, len(self._rest), True)
        del self._rest[:taken]
        return bool(data)

    async def _wait(self, tapped: Tap) -> bool:
        """Wait for the tap, which calls `_take`."""
        if not tapped.over:
            await tapped.news()
        if self._kept or not tapped.over:
            return True
        if error := tapped.error():
            raise error
        return False

    def _check_end(self) -> None:
        """Without chunks a connection that was cut looks like one that was ended, but for its time."""
        early = self._due - self._clock()
        if self._lines.fault is None and early > EARLY:
            raise aiohttp.ClientPayloadError(f"the connection was closed {early:.0f} s before the watch's end")

    def _take(self, data: bytes | bytearray, size: int, may_be_ours: bool) -> tuple[int, bool]:
        """Sift the first `size` bytes; returns how many of them were taken, and whether that was worth a look.

        Hot: most bring nothing for kopf.
        """
        lines = self._lines
        now = self._heard_at = self._clock()
        if now >= self._tell_at:
            self._tell_at = now + PROGRESS_EVERY
            self._is_mute = False
            self._watch.progressed()
        was_in_list = lines.in_list
        kept, taken = lines.take(data, size, may_be_ours=may_be_ours)
        if not (kept or was_in_list):
            return taken, False
        if kept:
            self._kept.append(kept)
        self._tell()
        if was_in_list:
            self._go_on_with_list(size)
        return taken, True

    def _go_on_with_list(self, size: int) -> None:
        if not self._lines.in_list:
            self._watch.finish_list(self._lines.listed)
            self._hurry_for_ours()
        elif self._tap is not None and size < ENOUGH:
            self._tap.rest(BREATH)

    def _hurry_for_ours(self) -> None:
        """After the list only events that name our annotations matter at once; a tracked pod without any is to be let go."""
        if self._tap is not None and not self._lines.in_list:
            self._tap.hurry_for(self._lines.needle)

    def _all_kept(self) -> bytes:
        kept, self._kept = self._kept, []
        return b"".join(kept)

    def _tell(self) -> None:
        if self._lines.fault is not None:
            self._watch.suffered(self._lines.fault, shown(concealed(self._lines.detail, self._sent)))


class RestartedStream(_Content):
    """A watch that was refused, told to kopf as one that has to start anew."""

    async def iter_chunked(self, _size: int) -> AsyncIterator[bytes]:
        """Yield the one line on which kopf starts anew."""
        yield EXPIRED


class Refusal(_Content):
    """An error that has been read, and told: it is known by its status."""

    async def read(self) -> bytes:
        """Return an object that says nothing."""
        return b"{}"


class SiftedPage(_Content):
    """A page of a list without the pods that are none of ours."""

    def __init__(self, inner: aiohttp.StreamReader, watch: Watch) -> None:
        super().__init__(inner)
        self._watch = watch

    async def read(self) -> bytes:
        """Return the page."""
        try:
            async with asyncio.timeout(LIST_SILENCE):
                body = await self.inner.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._watch.suffered(WatchFault.DISCONNECTED, said(error))
            raise
        return self._watch.sift_page(body)


def _is_final(status: int) -> bool:
    """Whether kopf would end on this status; the others it repeats."""
    return BAD_REQUEST <= status < SERVER_ERROR and status != FORBIDDEN


def _wait_asked_for(response: aiohttp.ClientResponse) -> float:
    """Seconds; 0 for what is no number, as kopf makes a pause of its own. API servers write numbers, no dates."""
    text = response.headers.get("Retry-After", "").strip()
    return min(float(text), LONGEST_WAIT) if text.isascii() and text.isdigit() else 0.0


def _is_json(response: aiohttp.ClientResponse, body: bytes) -> bool:
    return "json" in response.content_type and json_object(body) is not None


async def _words(response: aiohttp.ClientResponse) -> bytes:
    """Read why something was refused, in JSON where the server says it in protobuf; as much of it as comes in good time."""
    words = bytearray()
    with suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with asyncio.timeout(MESSAGE_WITHIN):
            while len(words) < LONGEST_MESSAGE and (more := await response.content.readany()):
                words += more
    if response.content_type != frames.CONTENT_TYPE:
        return bytes(words)
    try:
        return json.dumps(decode_object(bytes(words))).encode()
    except MalformedError:
        return b""


def fault_of(status: int) -> WatchFault:
    """What an answer of this status is to a watch; 0: there was none."""
    named = {
        NOT_REACHED: WatchFault.DISCONNECTED,
        UNAUTHORIZED: WatchFault.UNAUTHORIZED,
        FORBIDDEN: WatchFault.FORBIDDEN,
        THROTTLED: WatchFault.THROTTLED,
        GONE: WatchFault.EXPIRED,
    }
    return WatchFault.SERVER_ERROR if status >= SERVER_ERROR else named.get(status, WatchFault.REFUSED)
