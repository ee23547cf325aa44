"""Say which status each pod calls for, which rule decided, and which instance its annotations name.

It writes nothing.

  registry-status explain -f pods.yaml             offline: a Pod, a List of Pods, or many YAML documents; - is stdin
  kubectl get pods -A -o json | registry-status explain -f - -o json
  registry-status explain shop/cart-5d4f8-x2x7p    asks the cluster

Exit status: 0 explained, 1 an annotation is invalid, 2 wrong use: no such pod, unreadable file, no access.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import yaml

from registry_status import config
from registry_status.model import Desired, Reason, Target
from registry_status.pods.status import desired

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # a PyYAML built without libyaml
    from yaml import SafeLoader  # type: ignore[assignment]

SETTINGS = (
    "kubeconfig", "context", "annotation_prefix", "operator_class", "registry_project", "registry_domain", "allowed_projects",
    "allowed_domains", "terminating_status", "starting_status", "not_ready_status",
)  # fmt: skip
RawObject = Mapping[str, object]


class ExplainError(Exception):
    """What was asked for cannot be explained; the message says what is wrong and where."""


class _Loader(SafeLoader):
    """Reads YAML as Kubernetes does: what looks like a time is a text, quoted or not."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own way
        first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in SafeLoader.yaml_implicit_resolvers.items()
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the pods come from, how the answer looks, and the settings that matter."""
    parser.add_argument("pod", nargs="?", metavar="NAMESPACE/POD", help="A pod in the cluster.")
    parser.add_argument("-f", "--file", metavar="FILE", help="File with pods, YAML or JSON; - is standard input.")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="Form of the answer. Default: text.")
    config.add_arguments(parser, SETTINGS)


def run(arguments: argparse.Namespace) -> int:
    """Explain and print."""
    try:
        settings = config.read_settings(arguments, os.environ)
        explained = [desired(pod, settings) for pod in _pods(arguments, settings)]
    except (config.SettingsError, ExplainError) as error:
        print(f"registry-status explain: {error}", file=sys.stderr)
        return 2
    if arguments.output == "json":
        print(json.dumps([as_json(one) for one in explained], indent=2))
    else:
        print("\n\n".join(as_text(one) for one in explained))
    return 1 if any(one.problems for one in explained) else 0


def as_json(one: Desired) -> dict[str, object]:
    """The documented form; `status` is null where nothing would be written."""
    return {
        "namespace": one.pod.namespace,
        "name": one.pod.name,
        "status": one.status,
        "reason": one.reason,
        "message": one.message,
        "target": _target_as_json(one.target) if one.target is not None else None,
        "problems": [{"key": found.key, "value": found.value, "allowed": found.allowed} for found in one.problems],
    }


def _target_as_json(target: Target) -> dict[str, object]:
    service = target.service
    return {
        "project": target.tenant.project,
        "domain": target.tenant.domain,
        "serviceId": target.service_id,
        "service": service.name if service else None,
        "app": service.app if service else None,
        "environment": service.environment if service else None,
        "version": service.version if service else None,
        "instanceId": target.instance_id,
        "match": None if target.instance_id is not None or target.pending else target.match,
    }


def as_text(one: Desired) -> str:
    """For people."""
    lines = [f"{one.pod}: {one.status or 'nothing to write'}", f"  reason:   {one.reason}", f"  because:  {one.message}"]
    if one.target is not None:
        lines += [f"  service:  {one.target.where}", f"  instance: {_instance_text(one.target)}"]
        lines += [f"  tenant:   domain {one.target.tenant.domain}, project {one.target.tenant.project}"]
    if one.auto:
        lines += ["  note:     not-ready-status is auto: DOWN is written instead beside live Java Chassis 3 services"]
    if one.reason is Reason.INVALID:
        lines[2:3] = [f"  problem:  {found}" for found in one.problems]
    return "\n".join(lines)


def _instance_text(target: Target) -> str:
    if target.pending:
        return "the annotated instance-id names something that the pod does not have yet"
    return target.instance_id or f"found by what it registered (match: {target.match})"


def _pods(arguments: argparse.Namespace, settings: config.Settings) -> Sequence[RawObject]:
    if (arguments.pod is None) == (arguments.file is None):
        raise ExplainError("give either NAMESPACE/POD or -f FILE")
    if arguments.file is not None:
        where = "standard input" if arguments.file == "-" else arguments.file
        return list(pods_in(_documents(arguments.file, where), where))
    namespace, slash, name = arguments.pod.partition("/")
    if not slash or not namespace or not name or "/" in name:
        raise ExplainError(f"{arguments.pod!r} is not of the form NAMESPACE/POD")
    return [asyncio.run(_read_pod(settings, namespace, name))]


async def _read_pod(settings: config.Settings, namespace: str, name: str) -> RawObject:
    from registry_status.cluster.access import AccessError, load_access  # noqa: PLC0415 - not needed offline
    from registry_status.cluster.api import ApiError, ApiServer  # noqa: PLC0415
    from registry_status.cluster.read import read_pod  # noqa: PLC0415

    try:
        access = await load_access(settings.kubeconfig, settings.context, os.environ)
        async with ApiServer(access) as api:
            pod = await read_pod(api, namespace, name)
    except (AccessError, ApiError) as error:
        raise ExplainError(str(error)) from error
    if pod is None:
        raise ExplainError(f"there is no pod {name} in namespace {namespace}")
    return pod


def _documents(file: str, where: str) -> Sequence[object]:
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise ExplainError(f"cannot read {where}: {error.strerror}") from error
    try:
        return _parsed(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ExplainError(f"{where} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
        # The last four are what PyYAML lets through: numbers without end, `!!int x`, `!!timestamp x`, too deep a nesting.
        raise ExplainError(f"{where} is neither YAML nor JSON: {' '.join(str(error).split())}") from error


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
        raise ExplainError(f"{where} holds no Pod")


def _flattened(document: object, where: str) -> Iterator[RawObject]:
    if document is None:
        return
    if not isinstance(document, Mapping) or document.get("kind") not in ("PodList", "List"):
        yield _checked(document, where, "Pod, PodList, List")
        return
    items = document.get("items") or []
    if not isinstance(items, list):
        raise ExplainError(f"{where}: items must be a list")
    for index, item in enumerate(items):
        inner = {"kind": "Pod", **item} if isinstance(item, Mapping) else item
        yield _checked(inner, f"{where}, item {index}", "Pod")


def _checked(pod: object, where: str, allowed: str) -> RawObject:
    if not isinstance(pod, Mapping):
        raise ExplainError(f"{where}: a {type(pod).__name__} is no object of Kubernetes; allowed: {allowed}")
    kind = pod.get("kind")
    if kind != "Pod":
        shown = f"kind {kind[:100]!r} is not allowed" if isinstance(kind, str) else "a kind is missing"
        raise ExplainError(f"{where}: {shown}; allowed: {allowed}")
    metadata = pod.get("metadata")
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str):
        raise ExplainError(f"{where}: a Pod needs metadata.name")
    for part in ("spec", "status"):
        if not isinstance(pod.get(part, {}), Mapping | None):
            raise ExplainError(f"{where}: {part} must be a mapping")
    annotations = metadata.get("annotations")
    for key, value in annotations.items() if isinstance(annotations, Mapping) else ():
        if not isinstance(value, str):
            raise ExplainError(f"{where}: annotation {key} is no text, which Kubernetes refuses; put its value in quotes")
    return pod
