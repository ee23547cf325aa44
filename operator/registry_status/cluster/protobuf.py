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

MAGIC = b"k8s\x00"
"""How every encoded object begins."""
VARINT, DELIMITED = 0, 2
WIDTHS: Mapping[int, int] = {1: 8, 5: 4}
"""Wire types: numbers, what tells its own length, and what has a fixed one."""
LONGEST_VARINT = 10


class MalformedError(ValueError):
    """These bytes are no object of Kubernetes."""


class Many(Enum):
    """How often a field may occur in a message."""

    ONE = auto()
    LIST = auto()
    MAP = auto()
    """A list of entries with a key and a value."""


Raw = int | bytes
"""A value as it stands on the wire."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message; `read` gives None for what the JSON API leaves out."""

    name: str
    read: Callable[[Raw], object]
    many: Many = Many.ONE


Message = Mapping[int, Field]
"""The fields by their numbers."""
Json = dict[str, object]


def _fields(data: bytes, position: int = 0) -> list[tuple[int, Raw]]:
    """Split a message into field numbers and values. Raises `MalformedError`."""
    found: list[tuple[int, Raw]] = []
    while position < len(data):
        tag, position = _varint(data, position)
        wire = tag & 7
        value: Raw
        if wire == VARINT:
            value, position = _varint(data, position)
        elif wire in WIDTHS or wire == DELIMITED:
            length, position = (WIDTHS[wire], position) if wire in WIDTHS else _varint(data, position)
            value, position = data[position : position + length], position + length
        else:
            raise MalformedError(f"a field of wire type {wire}")
        found.append((tag >> 3, value))
    if position != len(data):
        raise MalformedError("a message that is cut off")
    return found


def _varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    for at in range(position, min(position + LONGEST_VARINT, len(data))):
        byte = data[at]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at + 1
        shift += 7
    raise MalformedError("a number that does not end")


def _bytes(value: Raw) -> bytes:
    if isinstance(value, int):
        raise MalformedError("a number where a message belongs")
    return value


def _number(value: Raw) -> int:
    if isinstance(value, bytes):
        raise MalformedError("bytes where a number belongs")
    return value - (1 << 64) if value >= 1 << 63 else value


def _truth(value: Raw) -> bool:
    return bool(_number(value))


def _text(value: Raw) -> str | None:
    try:
        return _bytes(value).decode() or None
    except UnicodeDecodeError:
        raise MalformedError("a text that is none") from None


def _time(value: Raw) -> str | None:
    """RFC 3339 in whole seconds, as the JSON API has it."""
    seconds = next((_number(inner) for number, inner in _fields(_bytes(value)) if number == 1), None)
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        raise MalformedError("a time that no calendar has") from None


def _decode(value: Raw, message: Message) -> Json:
    found: Json = {}
    for number, inner in _fields(_bytes(value)):
        known = message.get(number)
        if known is None:
            continue
        read = known.read(inner)
        match known.many, found.get(known.name):
            case Many.ONE, _ if read is not None:
                found[known.name] = read
            case Many.LIST | Many.MAP, list(before):
                before.append(read)
            case Many.LIST | Many.MAP, _:
                found[known.name] = [read]
    for known in message.values():
        entries = found.get(known.name)
        if known.many is Many.MAP and isinstance(entries, list):
            found[known.name] = dict(entries)
    return found


def _entry(value: Raw) -> tuple[str, str]:
    entry = _decode(value, {1: Field("key", _text), 2: Field("value", _text)})
    return str(entry.get("key", "")), str(entry.get("value", ""))


def _message(name: str, message: Message) -> Field:
    return Field(name, lambda value: _decode(value, message))


def _list(name: str, message: Message) -> Field:
    return Field(name, lambda value: _decode(value, message), Many.LIST)


META: Message = {
    1: Field("name", _text),
    3: Field("namespace", _text),
    5: Field("uid", _text),
    6: Field("resourceVersion", _text),
    8: Field("creationTimestamp", _time),
    9: Field("deletionTimestamp", _time),
    10: Field("deletionGracePeriodSeconds", _number),
    11: Field("labels", _entry, Many.MAP),
    12: Field("annotations", _entry, Many.MAP),
}
CONTAINER: Message = {
    1: Field("name", _text), 6: _list("ports", {3: Field("containerPort", _number)}), 24: Field("restartPolicy", _text),
}  # fmt: skip
SPEC: Message = {
    2: _list("containers", CONTAINER),
    10: Field("nodeName", _text),
    11: Field("hostNetwork", _truth),
    16: Field("hostname", _text),
    20: _list("initContainers", CONTAINER),
    28: _list("readinessGates", {1: Field("conditionType", _text)}),
}
STATE: Message = {
    1: _message("waiting", {1: Field("reason", _text)}),
    2: _message("running", {1: Field("startedAt", _time)}),
    3: _message("terminated", {3: Field("reason", _text), 5: Field("startedAt", _time), 6: Field("finishedAt", _time)}),
}
CONTAINER_STATUS: Message = {
    1: Field("name", _text), 2: _message("state", STATE), 3: _message("lastState", STATE), 4: Field("ready", _truth),
    5: Field("restartCount", _number), 8: Field("containerID", _text), 9: Field("started", _truth),
}  # fmt: skip
CONDITION: Message = {
    1: Field("type", _text), 2: Field("status", _text), 4: Field("lastTransitionTime", _time), 5: Field("reason", _text),
}  # fmt: skip
STATUS: Message = {
    1: Field("phase", _text), 2: _list("conditions", CONDITION), 6: Field("podIP", _text), 7: Field("startTime", _time),
    8: _list("containerStatuses", CONTAINER_STATUS), 10: _list("initContainerStatuses", CONTAINER_STATUS),
    12: _list("podIPs", {1: Field("ip", _text)}),
}  # fmt: skip
POD: Message = {1: _message("metadata", META), 2: _message("spec", SPEC), 3: _message("status", STATUS)}
FAILURE: Message = {2: Field("status", _text), 3: Field("message", _text), 4: Field("reason", _text), 6: Field("code", _number)}
"""`Status`, what an ERROR carries."""
OBJECTS: Mapping[str, Message] = {"Pod": POD, "Status": FAILURE}
TYPES: Message = {1: Field("apiVersion", _text), 2: Field("kind", _text)}


def decode_event(frame: bytes) -> tuple[str, Json]:
    """Decode a watch event: its type, and its object as the JSON API has it. Raises `MalformedError`."""
    kind, extension = "", b""
    for number, value in _fields(frame):
        if number == 1:
            kind = _text(value) or ""
        elif number == 2:
            extension = _bytes(value)
    raw = next((_bytes(value) for number, value in _fields(extension) if number == 1), b"")
    return kind, decode_object(raw)


def decode_object(raw: bytes) -> Json:
    """Decode an object with its envelope. Raises `MalformedError`."""
    if not raw.startswith(MAGIC):
        raise MalformedError("an object that does not begin as one")
    types: Json = {}
    body = b""
    for number, value in _fields(raw, len(MAGIC)):
        if number == 1:
            types = _decode(value, TYPES)
        elif number == 2:
            body = _bytes(value)
    message = OBJECTS.get(str(types.get("kind")))
    if message is None:
        raise MalformedError(f"an object of kind {types.get('kind')}")
    return {**types, **_decode(body, message)}
