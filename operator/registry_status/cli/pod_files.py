"""Pods from files, in the forms in which people have them: YAML or JSON, one or many, Lists too."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import yaml

from registry_status.kubeyaml import NOT_YAML, Loader

RawObject = Mapping[str, object]


class BadFileError(Exception):
    """The file cannot be read, or holds something else than pods; the message says what is wrong and where."""


def read_pod_file(file: str) -> Sequence[RawObject]:
    """Read the pods of a file; - is standard input. Raises `BadFileError`."""
    where = "standard input" if file == "-" else file
    return list(pods_in(_documents(file, where), where))


def _documents(file: str, where: str) -> Sequence[object]:
    try:
        content = _standard_input() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise BadFileError(f"cannot read {where}: {error.strerror}") from error
    try:
        return _parsed(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadFileError(f"{where} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except NOT_YAML as error:
        raise BadFileError(f"{where} is neither YAML nor JSON: {' '.join(str(error).split())}") from error


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise BadFileError("cannot read standard input: it is closed")
    return sys.stdin.buffer.read()


def _parsed(text: str) -> Sequence[object]:
    """The documents. JSON is YAML, but its own parser is a hundred times as fast, and knows its escapes better."""
    if text.lstrip().startswith(("{", "[")):
        with suppress(json.JSONDecodeError):
            return [json.loads(text)]
    return list(yaml.load_all(text, Loader))


def pods_in(documents: Sequence[object], where: str) -> Iterator[RawObject]:
    """The pods in YAML documents: each a Pod or a List of Pods; empty documents are passed over."""
    found = False
    for number, document in enumerate(documents, start=1):
        for pod in _flattened(document, f"{where}, document {number}"):
            found = True
            yield pod
    if not found:
        raise BadFileError(f"{where} holds no Pod")


def _flattened(document: object, where: str) -> Iterator[RawObject]:
    if document is None:
        return
    if not isinstance(document, Mapping) or document.get("kind") not in ("PodList", "List"):
        yield _checked(document, where, "Pod, PodList, List")
        return
    items = document.get("items") or []
    if not isinstance(items, list):
        raise BadFileError(f"{where}: items must be a list")
    for index, item in enumerate(items):
        inner = {"kind": "Pod", **item} if isinstance(item, Mapping) else item
        yield _checked(inner, f"{where}, item {index}", "Pod")


def _checked(pod: object, where: str, allowed: str) -> RawObject:
    if not isinstance(pod, Mapping):
        raise BadFileError(f"{where}: a {type(pod).__name__} is no object of Kubernetes; allowed: {allowed}")
    kind = pod.get("kind")
    if kind != "Pod":
        shown = f"kind {kind[:100]!r} is not allowed" if isinstance(kind, str) else "a kind is missing"
        raise BadFileError(f"{where}: {shown}; allowed: {allowed}")
    metadata = pod.get("metadata")
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str):
        raise BadFileError(f"{where}: a Pod needs metadata.name")
    for part in ("spec", "status"):
        if not isinstance(pod.get(part, {}), Mapping | None):
            raise BadFileError(f"{where}: {part} must be a mapping")
    annotations = metadata.get("annotations")
    if isinstance(annotations, Mapping):
        _check_annotations(annotations, where)
    return pod


def _check_annotations(annotations: Mapping[object, object], where: str) -> None:
    for key, value in annotations.items():
        if not isinstance(key, str):
            kind = type(key).__name__
            raise BadFileError(
                f"{where}: the key of an annotation is no text ({kind}), which Kubernetes refuses; put it in quotes"
            )
        if not isinstance(value, str):
            raise BadFileError(f"{where}: annotation {key} is no text, which Kubernetes refuses; put its value in quotes")
