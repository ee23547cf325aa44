"""Faults as JSON, for tests that run in another process than the server.

    {"effect": "answer", "status": 429, "body": "slow down", "contentType": "text/plain", "headers": {"Retry-After": "2"}}
    {"effect": "answer", "mebibytes": 64}       a huge body
    {"effect": "hang", "seconds": 30}           then a 500
    {"effect": "delay", "seconds": 0.5}         then the truth
    {"effect": "drop"}                          the connection
    {"effect": "truncate", "abrupt": true}      the answer

and with any of them `method`, `path` (a regular expression), `count` and `when` (`before` or `after` the request is applied).
"""

import re
from collections.abc import Callable, Mapping, Sequence

from registry_status.registry.devserver.faults import Answer, Delay, Drop, Effect, Fault, Hang, Truncate, When
from registry_status.registry.devserver.records import Json, JsonObject

MOST = 1_000_000
"""The greatest number that a fault may name: seconds, or requests."""
MOST_MEBIBYTES = 1024
SURROGATE = re.compile("[\ud800-\udfff]")
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
COMMON = frozenset(("effect", "method", "path", "count", "when"))


class BadFaultError(ValueError):
    """The JSON describes no fault; the message says why."""


def parse_faults(said: Json) -> Sequence[Fault]:
    """One fault or a list of them."""
    return [_parse(one) for one in (said if isinstance(said, list) else [said])]


def fault_to_json(fault: Fault, left: int | None) -> JsonObject:
    """What is in force, in short: a body by its length."""
    return {
        "effect": type(fault.effect).__name__.lower(),
        **_details(fault.effect),
        "method": fault.method,
        "path": fault.path,
        "left": left,
        "when": fault.when.value,
    }


def _details(effect: Effect) -> JsonObject:
    match effect:
        case Answer():
            return {"status": effect.status, "bodyLength": len(effect.body), "headers": dict(effect.headers)}
        case Hang() | Delay():
            return {"seconds": effect.seconds}
        case Truncate():
            return {"abrupt": effect.abrupt}
        case Drop():
            return {}


def _parse(said: Json) -> Fault:
    if not isinstance(said, Mapping):
        raise BadFaultError("a fault is an object")
    name = _text(said, "effect", "")
    if name not in _EFFECTS:
        raise BadFaultError(f"effect must be one of {', '.join(_EFFECTS)}, not {name!r}")
    members, parse = _EFFECTS[name]
    unknown = said.keys() - COMMON - members
    if unknown:
        raise BadFaultError(f"{name} knows no {', '.join(sorted(unknown))}")
    return Fault(parse(said), method=_method(said), path=_path(said), count=_count(said), when=_when(said))


def _answer(said: JsonObject) -> Effect:
    status = _whole(said, "status", 200 if "mebibytes" in said else 500)
    if not 200 <= status <= 599:
        raise BadFaultError("status must be from 200 to 599")
    if "mebibytes" in said:
        return Answer.mebibytes(_whole(said, "mebibytes", 0, MOST_MEBIBYTES), status)
    return Answer(
        status=status,
        body=_text(said, "body", "").encode(),
        content_type=_line(said, "contentType", "application/json"),
        headers=_headers(said),
    )


def _hang(said: JsonObject) -> Effect:
    return Hang(_number(said, "seconds", 30.0))


def _delay(said: JsonObject) -> Effect:
    return Delay(_number(said, "seconds", 1.0))


def _drop(_said: JsonObject) -> Effect:
    return Drop()


def _truncate(said: JsonObject) -> Effect:
    return Truncate(abrupt=said.get("abrupt") is True)


_EFFECTS: Mapping[str, tuple[frozenset[str], Callable[[JsonObject], Effect]]] = {
    "answer": (frozenset(("status", "body", "contentType", "headers", "mebibytes")), _answer),
    "hang": (frozenset(("seconds",)), _hang),
    "delay": (frozenset(("seconds",)), _delay),
    "drop": (frozenset(), _drop),
    "truncate": (frozenset(("abrupt",)), _truncate),
}


def _text(said: JsonObject, member: str, default: str) -> str:
    value = said.get(member, default)
    if not isinstance(value, str):
        raise BadFaultError(f"{member} must be a string")
    if SURROGATE.search(value):
        raise BadFaultError(f"{member} must be Unicode text, without lone surrogates")
    return value


def _line(said: JsonObject, member: str, default: str) -> str:
    """A header's value: a line break in it would begin another header."""
    value = _text(said, member, default)
    if CONTROL.search(value):
        raise BadFaultError(f"{member} must be one line without control characters")
    return value


def _number(said: JsonObject, member: str, default: float, most: int = MOST) -> float:
    value = said.get(member, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:  # NaN is not either
        raise BadFaultError(f"{member} must be a number from 0 to {most}")
    return value


def _whole(said: JsonObject, member: str, default: int, most: int = MOST) -> int:
    value = _number(said, member, default, most)
    if value != int(value):
        raise BadFaultError(f"{member} must be a whole number")
    return int(value)


def _headers(said: JsonObject) -> dict[str, str]:
    value = said.get("headers", {})
    if not isinstance(value, Mapping):
        raise BadFaultError("headers must be an object")
    for name in value:
        if not HEADER_NAME.fullmatch(name):
            raise BadFaultError(f"headers must have names of letters, digits and '-', not {name!r}")
    return {name: _line(value, name, "") for name in value}


def _method(said: JsonObject) -> str | None:
    return None if said.get("method") is None else _text(said, "method", "").upper()


def _path(said: JsonObject) -> str | None:
    if said.get("path") is None:
        return None
    path = _text(said, "path", "")
    try:
        re.compile(path)
    except (re.error, OverflowError, RecursionError) as error:
        raise BadFaultError(f"path is no regular expression: {error}") from error
    return path


def _count(said: JsonObject) -> int | None:
    return None if said.get("count") is None else _whole(said, "count", 0)


def _when(said: JsonObject) -> When:
    when = _text(said, "when", When.BEFORE.value)
    try:
        return When(when)
    except ValueError as error:
        raise BadFaultError("when must be before or after") from error
