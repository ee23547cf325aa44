"""Kubernetes' protobuf, as much of it as a pod's status takes.

The API server encodes pods as protobuf in a third of the time that JSON takes it, and a cold start is mostly its time. Field
numbers are part of Kubernetes' API and never change their meaning (staging/src/k8s.io/api/core/v1/generated.proto and
apimachinery/pkg/apis/meta/v1/generated.proto); what is not listed here is skipped. Decoded objects are those of the JSON API,
without the fields that nobody here reads.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto
from functools import lru_cache
from typing import cast

MAGIC = b"k8s\x00"
"""How every encoded object begins."""
VARINT, DELIMITED = 0, 2
WIDTHS: Mapping[int, int] = {1: 8, 5: 4}
"""Wire types: numbers, what tells its own length, and what has a fixed one."""
LONGEST_VARINT = 10
REMEMBERED = 1024
"""So many values of a kind are not decoded again when they come again: most of a pod says what it said before."""
LONGEST_REMEMBERED = 4096
"""Bytes, so that what is remembered of a kind takes some MiB at most."""


class MalformedError(ValueError):
    """These bytes are no object of Kubernetes."""


class Many(Enum):
    """How often a field may occur in a message."""

    ONE = auto()
    LIST = auto()
    MAP = auto()
    """A list of entries with a key and a value."""


Read = Callable[[bytes, int, int], object]
"""Reads the value that stands between two positions. Nothing is copied on the way to it: this is the hot path of a change."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message; `read` gives None for what the JSON API leaves out."""

    name: str
    read: Read
    many: Many = Many.ONE
    wire: int = DELIMITED


Message = Mapping[int, Field]
"""The fields by their numbers."""
Json = dict[str, object]


def _decode(data: bytes, position: int, end: int, message: Message) -> Json:
    """Read a message. Raises `MalformedError`, and `IndexError` where the data ends within a field."""
    found: Json = {}
    while position < end:
        tag, position = _varint(data, position) if data[position] > 0x7F else (data[position], position + 1)
        wire = tag & 7
        if wire == DELIMITED and data[position] <= 0x7F:  # nearly all, so not by a call of `_span`
            begin = position + 1
            position = begin + data[position]
        else:
            begin, position = _span(data, position, wire)
        if position > end:
            raise MalformedError("a message that is cut off")
        field = message.get(tag >> 3)
        if field is None:
            continue
        if wire != field.wire:
            raise MalformedError(f"{field.name} of wire type {wire}")
        value = field.read(data, begin, position)
        if field.many is Many.ONE:
            if value is not None:
                found[field.name] = value
        elif field.many is Many.LIST:
            cast("list[object]", found.setdefault(field.name, [])).append(value)
        else:
            cast("dict[str, str]", found.setdefault(field.name, {})).update(cast("dict[str, str]", value))
    return found


def _span(data: bytes, position: int, wire: int) -> tuple[int, int]:
    """Where a value begins and ends. Raises `MalformedError`."""
    if wire == DELIMITED:
        length, begin = _varint(data, position)
        return begin, begin + length
    if wire == VARINT:
        return position, _varint(data, position)[1]
    if wire in WIDTHS:
        return position, position + WIDTHS[wire]
    raise MalformedError(f"a field of wire type {wire}")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    for at in range(position, position + LONGEST_VARINT):
        byte = data[at]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at + 1
        shift += 7
    raise MalformedError("a number that does not end")


def _number(data: bytes, begin: int, _: int) -> int:
    value = _varint(data, begin)[0]
    return value - (1 << 64) if value >= 1 << 63 else value


def _truth(data: bytes, begin: int, end: int) -> bool:
    return bool(_number(data, begin, end))


def _text(data: bytes, begin: int, end: int) -> str | None:
    try:
        return data[begin:end].decode() or None
    except UnicodeDecodeError:
        raise MalformedError("a text that is none") from None


def _time(data: bytes, begin: int, end: int) -> str | None:
    """RFC 3339 in whole seconds, as the JSON API has it."""
    seconds = _decode(data, begin, end, SECONDS).get("seconds")
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(cast("int", seconds), UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        raise MalformedError("a time that no calendar has") from None


def _remembering(read: Read) -> Read:
    """Make a reader that looks up what it has read before. What it gives is shared, and nobody changes it."""

    @lru_cache(REMEMBERED)
    def read_once(raw: bytes) -> object:
        return read(raw, 0, len(raw))

    def look_up(data: bytes, begin: int, end: int) -> object:
        return read_once(data[begin:end]) if end - begin <= LONGEST_REMEMBERED else read(data, begin, end)

    return look_up


def _entry(data: bytes, begin: int, end: int) -> dict[str, str]:
    entry = _decode(data, begin, end, ENTRY)
    return {str(entry.get("key", "")): str(entry.get("value", ""))}


def _reading(message: Message) -> Read:
    return lambda data, begin, end: _decode(data, begin, end, message)


def _message(name: str, message: Message, many: Many = Many.ONE) -> Field:
    return Field(name, _reading(message), many)


def _unchanging(name: str, message: Message) -> Field:
    return Field(name, _remembering(_reading(message)))


def _list(name: str, message: Message) -> Field:
    return _message(name, message, Many.LIST)


def _integer(name: str) -> Field:
    return Field(name, _number, wire=VARINT)


def _flag(name: str) -> Field:
    return Field(name, _truth, wire=VARINT)


def _place(_: bytes, begin: int, end: int) -> tuple[int, int]:
    """What is read later."""
    return begin, end


SECONDS: Message = {1: _integer("seconds")}
TIME = _remembering(_time)
ENTRY: Message = {1: Field("key", _text), 2: Field("value", _text)}
META: Message = {
    1: Field("name", _text),
    3: Field("namespace", _text),
    5: Field("uid", _text),
    6: Field("resourceVersion", _text),
    8: Field("creationTimestamp", TIME),
    9: Field("deletionTimestamp", TIME),
    10: _integer("deletionGracePeriodSeconds"),
    12: Field("annotations", _remembering(_entry), Many.MAP),
}
CONTAINER: Message = {
    1: Field("name", _text), 6: _list("ports", {3: _integer("containerPort")}), 24: Field("restartPolicy", _text),
}  # fmt: skip
SPEC: Message = {
    2: _list("containers", CONTAINER),
    10: Field("nodeName", _text),
    11: _flag("hostNetwork"),
    16: Field("hostname", _text),
    20: _list("initContainers", CONTAINER),
    28: _list("readinessGates", {1: Field("conditionType", _text)}),
}
STATE: Message = {
    1: _message("waiting", {1: Field("reason", _text)}),
    2: _message("running", {1: Field("startedAt", TIME)}),
    3: _message("terminated", {3: Field("reason", _text), 5: Field("startedAt", TIME), 6: Field("finishedAt", TIME)}),
}
CONTAINER_STATUS: Message = {
    1: Field("name", _text), 2: _message("state", STATE), 3: _message("lastState", STATE), 4: _flag("ready"),
    5: _integer("restartCount"), 8: Field("containerID", _text), 9: _flag("started"),
}  # fmt: skip
CONDITION: Message = {
    1: Field("type", _text), 2: Field("status", _text), 4: Field("lastTransitionTime", TIME), 5: Field("reason", _text),
}  # fmt: skip
STATUS: Message = {
    1: Field("phase", _text), 2: _list("conditions", CONDITION), 6: Field("podIP", _text), 7: Field("startTime", TIME),
    8: _list("containerStatuses", CONTAINER_STATUS), 10: _list("initContainerStatuses", CONTAINER_STATUS),
    12: _list("podIPs", {1: Field("ip", _text)}),
}  # fmt: skip
POD: Message = {1: _message("metadata", META), 2: _unchanging("spec", SPEC), 3: _message("status", STATUS)}
FAILURE: Message = {2: Field("status", _text), 3: Field("message", _text), 4: Field("reason", _text), 6: _integer("code")}
"""`Status`, what an ERROR carries."""
OBJECTS: Mapping[str, Message] = {"Pod": POD, "Status": FAILURE}
TYPES: Message = {1: Field("apiVersion", _text), 2: Field("kind", _text)}
ENVELOPE: Message = {1: _message("types", TYPES), 2: Field("body", _place)}
EVENT: Message = {1: Field("type", _text), 2: _message("object", {1: Field("raw", _place)})}


def decode_event(frame: bytes) -> tuple[str, Json]:
    """Decode a watch event: its type, and its object as the JSON API has it. Raises `MalformedError`."""
    event = _whole(frame, 0, len(frame), EVENT)
    begin, end = cast("Mapping[str, tuple[int, int]]", event.get("object", {})).get("raw", (0, 0))
    return str(event.get("type", "")), _object(frame, begin, end)


def decode_object(raw: bytes) -> Json:
    """Decode an object with its envelope. Raises `MalformedError`."""
    return _object(raw, 0, len(raw))


def _object(data: bytes, begin: int, end: int) -> Json:
    if not data.startswith(MAGIC, begin, end):
        raise MalformedError("an object that does not begin as one")
    envelope = _whole(data, begin + len(MAGIC), end, ENVELOPE)
    types = cast("Json", envelope.get("types", {}))
    message = OBJECTS.get(str(types.get("kind")))
    if message is None:
        raise MalformedError(f"an object of kind {types.get('kind')}")
    return {**types, **_whole(data, *cast("tuple[int, int]", envelope.get("body", (0, 0))), message)}


def _whole(data: bytes, begin: int, end: int, message: Message) -> Json:
    try:
        return _decode(data, begin, end, message)
    except IndexError:
        raise MalformedError("a message that is cut off") from None
