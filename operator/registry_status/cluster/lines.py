"""The bytes of pod watches and pod lists, sifted before anybody parses them.

Most pods of a cluster are none of ours. Parsing their JSON would cost more than all else that the operator does, so lines are
judged by their bytes: a line passes that holds the annotation prefix, or tells of a pod that passed before.

Go writes an object's fields in the order of its type: kind, apiVersion, metadata; in it name, generateName, namespace, uid,
resourceVersion, and only later labels, annotations, ownerReferences (with other objects' uids) and managedFields. `POD`
matches that beginning and nothing else, so the uid it finds is the pod's own. Whatever it does not match is parsed.

Once the list is over, what passes is handed over at once, past kopf, whose queues would take it most of a millisecond and as
much work as all else that a change needs. kopf is told how far the stream has come. While anything of a pod is still in its
queues, the pod's next events queue up there too: they come in their order, and none is left out.

What this must never do is drop a line that matters. To pass one too many is harmless.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, cast

PLAIN = rb'"(?:[ !#-\[\]-~]+)"'
"""A JSON text of ASCII characters that need no escapes, as every name, uid and version of a pod is."""
META = rb'"metadata":\{"name":%s,(?:"generateName":%s,)?(?:"namespace":%s,)?(?:"selfLink":%s,)?' % (
    (PLAIN,) * 4
) + rb'"uid":%s,"resourceVersion":%s' % (PLAIN.replace(b"(?:", b"(?P<uid>"), PLAIN.replace(b"(?:", b"(?P<version>"))
POD = re.compile(rb'\{"type":"(?P<type>ADDED|MODIFIED|DELETED)","object":\{"kind":"Pod","apiVersion":"v1",' + META)
ITEM = re.compile(rb"\{" + META)
NEXT_ITEM = b'},{"metadata":{"name":"'
LIST_HEAD = re.compile(rb'\{"kind":"PodList","apiVersion":"v1","metadata":\{[^{}]*\},"items":\[')

LIST_ENDS = "k8s.io/initial-events-end"
"""The annotation of the bookmark that ends the list within a watch."""
GONE = 410

LONGEST_LINE = 32 * 1024 * 1024
"""Bytes; etcd takes no object above 1.5 MiB."""

EXPIRED = (
    b'{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired",'
    b'"message":"The watch has to start anew.","code":410}}\n'
)
"""The one error on which kopf lists again; on every other it ends."""


class WatchFault(StrEnum):
    """What can go wrong with a watch; a closed set, so that it can label a metric."""

    INITIAL_CUT = "initial-cut"
    """The stream ended before the list in it was complete."""
    EXPIRED = "expired"
    """410: the server no longer knows what happened since."""
    STREAM_ERROR = "stream-error"
    """Another error within the stream."""
    MALFORMED = "malformed"
    """Bytes that are no watch line, or a page that is no list."""
    DISCONNECTED = "disconnected"
    """The connection broke, or could not be made."""
    UNAUTHORIZED = "unauthorized"
    """401 with fresh credentials."""
    FORBIDDEN = "forbidden"
    """403."""
    THROTTLED = "throttled"
    """429."""
    SERVER_ERROR = "server-error"
    """5xx."""
    REFUSED = "refused"
    """Any other 4xx: the request itself is wrong."""
    MISSED = "missed"
    """A pod went and the watch did not tell; the hourly count found it."""
    RESTARTED = "restarted"
    """kopf ended unasked and was started anew."""


Take = Callable[[str | None, Mapping[str, object]], None]
"""Takes an event of a pod, as its type (None: an entry of a list) and the pod."""


class Known:
    """The pods of one watch whose lines pass whatever they hold: tracked by the operator, or passed before.

    A pod may lose its annotation before the handlers have seen that it had one, so the watch remembers by itself.
    """

    __slots__ = ("_passed", "_tracked")

    def __init__(self, tracked: Container[str] = ()) -> None:
        self._tracked = tracked
        self._passed: set[str] = set()

    def __contains__(self, uid: str) -> bool:
        return uid in self._passed or uid in self._tracked

    def add(self, uid: str) -> None:
        """Remember a pod whose line passed."""
        self._passed.add(uid)

    def discard(self, uid: str) -> None:
        """Forget a deleted pod."""
        self._passed.discard(uid)

    def keep_only(self, uids: AbstractSet[str]) -> None:
        """Forget the pods that a complete list no longer holds."""
        self._passed &= uids


class Queued:
    """How many events of each pod kopf was given and has not brought yet. It brings each, and those of a pod in their order."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def __contains__(self, uid: str) -> bool:
        return uid in self._counts

    def given(self, uid: str) -> None:
        """Count an event that kopf was given."""
        self._counts[uid] = self._counts.get(uid, 0) + 1

    def brought(self, uid: str) -> None:
        """Count an event that kopf has brought."""
        left = self._counts.pop(uid, 0) - 1
        if left > 0:
            self._counts[uid] = left

    def lost(self) -> None:
        """Count anew: kopf has ended, with all that was in its queues."""
        self._counts.clear()


class WatchStream(ABC):
    """What arrives in one watch stream, and what becomes of it.

    `take` judges events, `bookmark` tells how far they have come and `finish` ends the stream; all return whole lines of JSON
    for kopf. Once `fault` is set the stream is over, and its last line was `EXPIRED`, on which kopf lists anew. How the bytes
    are cut into events is the business of a subclass: `WatchLines` for JSON, `frames.WatchFrames` for protobuf.
    """

    BEFORE_PREFIX: ClassVar[bytes] = b""
    """What stands before the annotation prefix wherever it begins a key."""

    def __init__(
        self,
        *,
        prefix: bytes,
        known: Known,
        listing: bool,
        queued: Queued,
        filtering: bool = True,
        hand_over: Take | None = None,
    ) -> None:
        """`prefix` is the annotation prefix; `listing`: the stream begins with all that exists (`sendInitialEvents`).

        `queued` is what kopf's queues hold. Without `hand_over` all that passes goes there, also after the list.
        """
        self.listed: set[str] = set()
        """The pods of the list that were passed on."""
        self.in_list = listing
        """Whether the list within the stream is still arriving."""
        self.fault: WatchFault | None = None
        self.detail = ""
        self.needle = self.BEFORE_PREFIX + prefix
        self.known = known
        self.filtering = filtering
        self._hand_over = hand_over
        self._queued = queued
        self._untold = ""
        """The version that the stream has come to, if kopf has not been told."""

    @abstractmethod
    def take(self, data: bytes | bytearray, size: int, *, may_be_ours: bool = True) -> tuple[bytes, int]:
        """Take the whole events among the first `size` bytes; return what kopf must see of them, and how many bytes they are.

        The bytes that are left are offered again, with what comes next behind them. `may_be_ours` False: the needle was looked
        for in these, and is not there.
        """

    def bookmark(self) -> bytes:
        """Tell kopf how far the stream has come, if it does not know: from there it resumes the watch."""
        version, self._untold = self._untold, ""
        return _bookmark(version) if version and self.fault is None else b""

    def finish(self) -> bytes:
        """End the stream. An event that lacks its end is dropped: the server sends it again."""
        if self.fault is None and self.in_list:
            return self.fail(WatchFault.INITIAL_CUT, "the stream ended within its list")
        return self.bookmark()

    # What subclasses need.

    def check_length(self, size: int, kept: list[bytes]) -> None:
        """See to it that an event that is not whole yet can become one."""
        if size > LONGEST_LINE:
            kept.append(self.fail(WatchFault.MALFORMED, f"an event of more than {LONGEST_LINE} bytes"))

    def way_past_kopf(self, uid: str) -> Take | None:
        """Who takes the pod's event at this point of the stream; None: kopf."""
        return None if self.in_list or uid in self._queued else self._hand_over

    def pass_parsed(self, kind: object, body: object, line: Callable[[], bytes]) -> bytes:
        """Judge an event that was parsed, and send it its way; returns what kopf must see of it, in most cases its `line`."""
        metadata = self._judge(kind, body)
        if metadata is None:
            return EXPIRED if self.fault is not None else b""
        if kind == "BOOKMARK":
            self._untold = ""
            return line()
        uid = str(metadata["uid"])
        take = self.way_past_kopf(uid)
        self.passed(uid, deleted=kind == "DELETED", to_kopf=take is None)
        if take is None:
            return line()
        take(str(kind), cast("Mapping[str, object]", body))
        self._untold = str(metadata.get("resourceVersion", ""))
        return b""

    def passed(self, uid: str, *, deleted: bool, to_kopf: bool = True) -> None:
        """Note that a pod's event is passed on."""
        if to_kopf:
            self._queued.given(uid)
            self._untold = ""
        if deleted:
            self.known.discard(uid)
            return
        self.known.add(uid)
        if self.in_list:
            self.listed.add(uid)

    def dropped(self, version: bytes) -> None:
        """Note how far the stream has come with an event that was dropped."""
        if not self.in_list:
            self._untold = version.decode()

    def _judge(self, kind: object, body: object) -> Mapping[str, object] | None:
        """Judge an event that was parsed: its metadata if it is a pod's, or a bookmark that is to be passed on.

        None: it is to be dropped, or `fault` is set.
        """
        if not isinstance(body, dict):
            self.fail(WatchFault.MALFORMED, "an event without an object")
            return None
        if kind == "ERROR":
            code = body.get("code")
            fault = WatchFault.EXPIRED if code == GONE else WatchFault.STREAM_ERROR
            self.fail(fault, f"{code}: {body.get('message', '')}")
            return None
        metadata = body.get("metadata")
        if not isinstance(metadata, dict):
            self.fail(WatchFault.MALFORMED, "an object without metadata")
            return None
        if kind == "BOOKMARK":
            return metadata if self._passes_bookmark(metadata) else None
        if kind not in ("ADDED", "MODIFIED", "DELETED"):
            return None
        uid = metadata.get("uid")
        if isinstance(uid, str) and uid:
            return metadata
        self.fail(WatchFault.MALFORMED, "a pod without a uid")
        return None

    def _passes_bookmark(self, metadata: dict[str, object]) -> bool:
        """Within the list only the one that ends it passes: kopf takes the first one for that."""
        if self.in_list:
            annotations = metadata.get("annotations")
            if not isinstance(annotations, dict) or annotations.get(LIST_ENDS) != "true":
                return False
            self.in_list = False
            self.known.keep_only(self.listed)
        return True

    def fail(self, fault: WatchFault, detail: str) -> bytes:
        """End the stream; returns the line on which kopf lists anew."""
        self.fault, self.detail = fault, detail
        return EXPIRED


class WatchLines(WatchStream):
    """A watch stream of JSON, one event a line."""

    BEFORE_PREFIX = b'"'
    _searched = 0
    """So many of the bytes that were left hold no end of a line."""

    def take(self, data: bytes | bytearray, size: int, *, may_be_ours: bool = True) -> tuple[bytes, int]:
        """Judge each whole line."""
        if self.fault is not None:
            return b"", size
        end = data.rfind(b"\n", self._searched, size) + 1
        self._searched = size - end
        kept = [self._sift(bytes(data[:end]), may_be_ours=may_be_ours)] if end else []
        self.check_length(size - end, kept)
        return b"".join(kept), end

    def _sift(self, data: bytes, *, may_be_ours: bool) -> bytes:
        """Judge each line of the data. Hot: for most lines this is one regex match and one set look-up."""
        kept: list[bytes] = []
        dropped: re.Match[bytes] | None = None
        hit = data.find(self.needle) if may_be_ours else -1
        start = 0
        while start < len(data) and self.fault is None:
            stop = data.index(b"\n", start) + 1
            if 0 <= hit < start:
                hit = data.find(self.needle, start)
            pod = POD.match(data, start, stop)
            if pod is None:
                kept.append(self._unusual(data[start:stop]))
            elif start <= hit < stop or not self.filtering or pod["uid"].decode() in self.known:
                kept.append(self._pass(data[start:stop], pod))
                dropped = None
            else:
                dropped = pod
            start = stop
        if dropped is not None:
            self.dropped(dropped["version"])
        return b"".join(kept)

    def _pass(self, line: bytes, pod: re.Match[bytes]) -> bytes:
        """Let a pod's line through, if it is JSON: kopf would not survive it otherwise.

        kopf is about to parse it anyway, so what looks whole is believed. A line that is broken all the same costs a restart of
        kopf, which `watch` sees to.
        """
        uid = pod["uid"].decode()
        if self.way_past_kopf(uid) is not None or not _looks_whole(line):
            return self._unusual(line)
        self.passed(uid, deleted=pod["type"] == b"DELETED")
        return line

    def _unusual(self, line: bytes) -> bytes:
        """Judge what has to be parsed: a bookmark, an error, another server's JSON, or no JSON at all."""
        event = json_object(line)
        if event is None:
            return b"" if line.isspace() else self.fail(WatchFault.MALFORMED, "a line that is no JSON")
        return self.pass_parsed(event.get("type"), event.get("object"), lambda: line)


def _bookmark(version: str) -> bytes:
    """Make a bookmark like the server's own."""
    metadata = {"resourceVersion": version}
    event = {"type": "BOOKMARK", "object": {"kind": "Pod", "apiVersion": "v1", "metadata": metadata}}
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


class MalformedPageError(ValueError):
    """The answer to a list request is no list of pods."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list, as kopf is given it."""

    body: bytes
    uids: frozenset[str]
    last: bool


def sift_page(body: bytes, *, prefix: bytes, known: Known, filtering: bool = True) -> Page:
    """Drop the pods of a page that are none of ours. Raises `MalformedPageError`."""
    page = _page(_without_strangers(body, b'"' + prefix, known)) if filtering else None
    page = page or _page(body)
    if page is None:
        raise MalformedPageError("the answer is no list of pods")
    return page


def _without_strangers(body: bytes, needle: bytes, known: Known) -> bytes:
    """Cut the pods out that neither hold the needle nor are known; nothing is left of a page that Go did not write."""
    head, tail = LIST_HEAD.match(body), body.rfind(b"]}")
    if head is None or tail < head.end():
        return b""
    kept = []
    for item in _items(body[head.end() : tail]):
        pod = ITEM.match(item)
        if pod is None or not item.endswith(b"}"):
            return b""
        if needle in item or pod["uid"].decode() in known:
            kept.append(item)
    return head[0] + b",".join(kept) + b"]}"


def _items(text: bytes) -> list[bytes]:
    """Split the inside of a list of pods. No array within a pod holds objects that begin with metadata."""
    if not text:
        return []
    pieces = text.split(NEXT_ITEM)
    return [
        (NEXT_ITEM[2:] if number else b"") + piece + (b"}" if number < len(pieces) - 1 else b"")
        for number, piece in enumerate(pieces)
    ]


def _page(body: bytes) -> Page | None:
    """Read what the page holds; None if it is no list of pods that kopf would survive."""
    parsed = json_object(body)
    if parsed is None:
        return None
    metadata, items = parsed.get("metadata"), parsed.get("items")
    listed = [] if items is None else items
    if not isinstance(metadata, dict) or not isinstance(listed, list):
        return None
    uids = [_uid(item) for item in listed]
    if not all(uids) or not isinstance(metadata.get("resourceVersion"), str):
        return None
    if items is None:
        body = json.dumps({**parsed, "items": []}).encode()
    return Page(body, frozenset(uids), last=not metadata.get("continue"))


def _uid(item: object) -> str:
    metadata = item.get("metadata") if isinstance(item, dict) else None
    uid = metadata.get("uid") if isinstance(metadata, dict) else None
    return uid if isinstance(uid, str) else ""


def _looks_whole(line: bytes) -> bool:
    return line.endswith((b"}}\n", b"}}\r\n")) and line.count(b"{") == line.count(b"}") and line.count(b"[") == line.count(b"]")


def json_object(text: bytes) -> dict[str, object] | None:
    """Read a JSON object; None if it is none."""
    try:
        parsed = json.loads(text.decode())
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None
