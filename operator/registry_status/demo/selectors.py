"""Label and field selectors: which objects a list or a watch is about."""

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from registry_status.demo.kinds import KubeObject, bad_request

Predicate: TypeAlias = Callable[[KubeObject], bool]

TERM: Final = re.compile(
    r"(?P<absent>!)?\s*(?P<key>[A-Za-z0-9._/-]+)\s*(?:(?P<operator>==|=|!=)\s*(?P<value>[A-Za-z0-9._:-]*))?"
)


def everything(_: KubeObject) -> bool:
    """Select all objects."""
    return True


def selector(labels: str, fields: str = "") -> Predicate:
    """Read a label and a field selector. Set-based terms (`in`, `notin`) are refused, rather than misread."""
    tests = [_term(text, _labels) for text in _terms(labels)] + [_term(text, _fields) for text in _terms(fields)]
    return (lambda item: all(test(item) for test in tests)) if tests else everything


def _terms(text: str) -> list[str]:
    return [term.strip() for term in text.split(",") if term.strip()]


def _term(text: str, values: Callable[[KubeObject, str], str | None]) -> Predicate:
    match = TERM.fullmatch(text)
    if not match or (match["absent"] and match["operator"]):
        raise bad_request(f"unable to parse requirement: {text!r}: the emulator knows key, !key, key=value and key!=value")
    key, operator, wanted = match["key"], match["operator"], match["value"]
    if operator is None:
        return lambda item: (values(item, key) is None) == bool(match["absent"])
    if operator == "!=":
        return lambda item: values(item, key) != wanted
    return lambda item: values(item, key) == wanted


def _labels(item: KubeObject, key: str) -> str | None:
    value = (item["metadata"].get("labels") or {}).get(key)
    return None if value is None else str(value)


def _fields(item: KubeObject, path: str) -> str:
    value: object = item
    for step in path.split("."):
        value = value.get(step, "") if isinstance(value, Mapping) else ""
    return str(value)
