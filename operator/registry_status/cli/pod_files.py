"""Pods from files, in the forms in which people have them: YAML or JSON, one or many, Lists too."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import yaml

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # a PyYAML built without libyaml
    from yaml import SafeLoader  # type: ignore[assignment]  # the slower of the same

RawObject = Mapping[str, object]


class BadFileError(Exception):
    """The file cannot be read, or holds something else than pods; the message says what is wrong and where."""


class _Loader(SafeLoader):
    """Reads YAML as Kubernetes does: what looks like a time is a text, quoted or not."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own way
        first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in SafeLoader.yaml_implicit_resolvers.items()
    }


def read_pod_file(file: str) -> Sequence[RawObject]:
    """Read the pods of a file; - is standard input. Raises `BadFileError`."""
    where = "standard input" if file == "-" else file
    return list(pods_in(_documents(file, where), where))


def _documents(file: str, where: str) -> Sequence[object]:
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise BadFileError(f"cannot read {where}: {error.strerror}") from error
    try:
        return _parsed(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadFileError(f"{where} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
        # The last four are what PyYAML lets through: numbers without end, `!!int x`, `!!timestamp x`, too deep a nesting.
        raise BadFileError(f"{where} is neither YAML nor JSON: {' '.join(str(error).split())}") from error


def _parsed(text: str) -> Sequence[object]:
    """The documents. JSON is YAML, but its own parser is a hundred times as fast, and knows its escapes better."""
    if text.lstrip().startswith(("{", "[")):
        with suppress(json.JSONDecodeError):
            return [json.loads(text)]
    return list(yaml.load_all(text, _Loader))


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
    for key, value in annotations.items() if isinstance(annotations, Mapping) else ():
        if not isinstance(value, str):
            raise BadFileError(f"{where}: annotation {key} is no text, which Kubernetes refuses; put its value in quotes")
    return pod
