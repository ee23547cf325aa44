"""A pod watch in protobuf: frames, sifted before anybody decodes them. Why, and what must never happen, is told in `lines`."""

import json
import re

from registry_status.cluster.lines import WatchFault, WatchStream
from registry_status.cluster.protobuf import Json, MalformedError, decode_event

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
ACCEPT = f"{CONTENT_TYPE};stream=watch, application/json"
"""Servers that know no protobuf, as emulators do, answer with JSON."""
LENGTH = 4
"""Bytes before each frame that tell its length, most significant first."""
HEAD = re.compile(rb"\n[\x05\x07\x08](ADDED|MODIFIED|DELETED)\x12")
"""How the frame of a pod's event begins: field 1, the type; field 2, the object."""
POD = re.compile(rb"\*\x24(?P<uid>[0-9a-f-]{36})2(?P<length>[\x01-\x1f])(?=[0-9])")
"""A pod's uid, and where its version begins: fields 5 and 6 of its metadata. Before them stand its type and its names, which
hold no `*`, so the first match is the pod's own."""
HEAD_SIZE = 1024
"""Bytes in which they stand: names are no longer than 253."""


class WatchFrames(WatchStream):
    """A watch stream of protobuf, one event a frame."""

    def take(self, data: bytes | bytearray, size: int, *, may_be_ours: bool = True) -> tuple[bytes, int]:
        """Judge each whole frame. Hot: for most frames this is two regex matches and one look-up."""
        kept: list[bytes] = []
        dropped: re.Match[bytes] | None = None
        hit = data.find(self.needle, 0, size) if may_be_ours else -1
        end = 0
        while self.fault is None and end + LENGTH <= size:
            begin = end + LENGTH
            stop = begin + int.from_bytes(data[end:begin], "big")
            if stop > size:
                self.check_length(stop - begin, kept)
                break
            end = stop
            if 0 <= hit < begin:
                hit = data.find(self.needle, begin, size)
            pod = None
            if self.filtering and not begin <= hit < stop and HEAD.match(data, begin, stop):
                pod = POD.search(data, begin, min(stop, begin + HEAD_SIZE))
            if pod is None or pod["uid"].decode() in self.known:
                kept.append(self._decode(bytes(data[begin:stop])))
                dropped = None
            else:
                dropped = pod
        if dropped is not None:
            self.dropped(bytes(data[dropped.end() : dropped.end() + dropped["length"][0]]))
        return b"".join(kept), end

    def _decode(self, frame: bytes) -> bytes:
        """Let an event through, in kopf's language where it goes there."""
        try:
            kind, body = decode_event(frame)
        except MalformedError as error:
            return self.fail(WatchFault.MALFORMED, f"a frame that cannot be decoded: {error}")
        return self.pass_parsed(kind, body, lambda: _line(kind, body))


def _line(kind: str, body: Json) -> bytes:
    return json.dumps({"type": kind, "object": body}, separators=(",", ":")).encode() + b"\n"
