"""Say which status each pod calls for, which rule decided by what it saw, and which instance its annotations name.

It writes nothing.

  registry-status explain -f pods.yaml             offline: a Pod, a List of Pods, or many YAML documents; - is stdin
  kubectl get pods -A -o json | registry-status explain -f - -o json
  registry-status explain shop/cart-5d4f8-x2x7p    asks the cluster, and the registry where --registry-address names one

Of a pod in the cluster it also says what the registry has now, which of the service's instances is the pod's and why the others
are not, and the last Events of the pod.

Exit status: 0 explained, 1 an annotation is invalid, 2 wrong use: no such pod, unreadable file, no access to the cluster, 3 the
registry could not be asked, and all else is told.
"""

import argparse
import asyncio
import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence

from registry_status import config
from registry_status.cli import plan
from registry_status.cli.explaining import Explained, explain_offline, explain_online
from registry_status.cli.pod_files import BadFileError, read_pod_file
from registry_status.cli.show import Form, add_output, print_data, safe
from registry_status.dns import LABEL, SUBDOMAIN
from registry_status.model import Reason, Target

NOT_USED = ("namespaces", "label_selector", "shard")
SETTINGS = tuple(name for name in plan.SETTINGS if name not in NOT_USED)
CANNOT_TELL = 3
CANDIDATES = 20
"""How many instances of a service the text tells of."""


class ExplainError(Exception):
    """What was asked for cannot be explained; the message says what is wrong and where."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the pods come from, how the answer looks, and the settings that matter."""
    parser.add_argument("pod", nargs="?", metavar="NAMESPACE/POD", help="A pod in the cluster.")
    parser.add_argument("-f", "--file", metavar="FILE", help="File with pods, YAML or JSON; - is standard input.")
    add_output(parser, Form.TEXT, Form.JSON, Form.YAML)
    config.add_arguments(parser, SETTINGS)


def run(arguments: argparse.Namespace) -> int:
    """Explain and print."""
    try:
        settings = config.read_settings(arguments, os.environ)
        explained = _explained(arguments, settings)
    except (config.SettingsError, BadFileError, ExplainError) as error:
        print(f"registry-status explain: {error}", file=sys.stderr)
        return 2
    form = Form(arguments.output)
    if form.data:
        print_data([as_json(one) for one in explained], form)
    else:
        print("\n\n".join(as_text(one) for one in explained))
    for one in explained:
        if one.trouble:
            print(f"registry-status explain: {one.trouble}", file=sys.stderr)
            return CANNOT_TELL
    return 1 if any(one.desired.problems for one in explained) else 0


def as_json(explained: Explained) -> dict[str, object]:
    """The documented form (docs/cli.md); `status` is null where nothing would be written."""
    one = explained.desired
    return {
        "namespace": one.pod.namespace,
        "name": one.pod.name,
        "status": one.status,
        "reason": one.reason,
        "message": one.message,
        "target": _target_as_json(one.target) if one.target is not None else None,
        "problems": [{"key": found.key, "value": found.value, "allowed": found.allowed} for found in one.problems],
        "rule": explained.rule,
        "saw": dict(explained.saw),
        "registry": _registry_as_json(explained),
        "events": None if explained.events is None else [dataclasses.asdict(event) for event in explained.events],
        "unasked": list(explained.unasked),
    }


def _registry_as_json(explained: Explained) -> dict[str, object] | None:
    judged = explained.judged
    if judged is None:
        return None
    return {
        "state": judged.state,
        "status": judged.status,
        "note": judged.note,
        "candidates": [
            {
                "instanceId": found.instance.instance_id,
                "serviceId": found.instance.service_id,
                "status": found.instance.status,
                "hostName": found.instance.host_name,
                "endpoints": list(found.instance.endpoints),
                "taken": found.taken,
                "why": found.why,
            }
            for found in explained.verdicts or ()
        ],
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


def as_text(explained: Explained) -> str:
    """For people."""
    one = explained.desired
    lines = [f"{safe(str(one.pod))}: {one.status or 'nothing to write'}", f"  reason:   {one.reason}"]
    lines += [f"  because:  {safe(one.message)}"]
    if explained.saw:
        lines += [f"  rule:     {explained.rule} (docs/statuses.md), which saw:"]
        lines += [f"              {safe(name)}: {safe(value)}" for name, value in explained.saw.items()]
    if one.target is not None:
        lines += [f"  service:  {safe(one.target.where)}", f"  instance: {safe(_instance_text(one.target))}"]
        lines += [f"  tenant:   {safe(f'domain {one.target.tenant.domain}, project {one.target.tenant.project}')}"]
    if one.auto:
        lines += ["  note:     not-ready-status is auto: DOWN is written instead beside live Java Chassis 3 services"]
    if one.reason is Reason.INVALID:
        lines[2:3] = [f"  problem:  {safe(str(found))}" for found in one.problems]
    return "\n".join([*lines, *_registry_text(explained), *_events_text(explained)])


def _registry_text(explained: Explained) -> Iterator[str]:
    judged = explained.judged
    if judged is None:
        return
    yield f"  registry: {judged.state}" + (f": {safe(judged.note)}" if judged.note else "")
    for step in judged.steps:
        arrow = f"{safe(step.instance.status)} -> {step.to}" if step.changes else f"{step.to}, as it should be"
        yield f"              {safe(step.instance.instance_id)}: {arrow}"
    found = explained.verdicts or ()
    yield f"  looked at {len(found)} instances of the service:"
    for verdict in found[:CANDIDATES]:
        place = safe(", ".join((verdict.instance.host_name, *verdict.instance.endpoints[:2])))
        head = "taken    " if verdict.taken else "not taken"
        yield f"              {head} {safe(verdict.instance.instance_id)} ({place}): {safe(verdict.why)}"
    if len(found) > CANDIDATES:
        yield f"              and {len(found) - CANDIDATES} more, not taken"


def _events_text(explained: Explained) -> Iterator[str]:
    if explained.events is not None:
        yield "  events:   " + ("the operator's last ones:" if explained.events else "none of the operator's")
    for event in explained.events or ():
        yield f"              {safe(f'{event.at} {event.type} {event.reason} x{event.count}: {event.message}')}"
    yield from (f"  unasked:  {safe(why)}" for why in explained.unasked)


def _instance_text(target: Target) -> str:
    if target.pending:
        return "the annotated instance-id names something that the pod does not have yet"
    return target.instance_id or f"found by what it registered (match: {target.match})"


def _explained(arguments: argparse.Namespace, settings: config.Settings) -> Sequence[Explained]:
    if (arguments.pod is None) == (arguments.file is None):
        raise ExplainError("give either NAMESPACE/POD or -f FILE")
    if arguments.file is not None:
        return [explain_offline(pod, settings) for pod in read_pod_file(arguments.file)]
    namespace, slash, name = arguments.pod.partition("/")
    if not slash or not namespace or not name or "/" in name:
        raise ExplainError(f"{arguments.pod!r} is not of the form NAMESPACE/POD")
    _check_names(namespace, name)
    return [_online(settings, namespace, name)]


def _check_names(namespace: str, name: str) -> None:
    """Refuse what Kubernetes does not give: as part of a path it might ask for something else than a pod."""
    if not LABEL.fullmatch(namespace):
        allowed = "lower-case letters, digits and '-' between them, at most 63"
        raise ExplainError(f"{namespace!r} is not allowed as the name of a namespace; allowed: {allowed}")
    if not SUBDOMAIN.fullmatch(name):
        allowed = "lower-case letters, digits, and '-' and '.' between them, at most 253"
        raise ExplainError(f"{name!r} is not allowed as the name of a pod; allowed: {allowed}")


def _online(settings: config.Settings, namespace: str, name: str) -> Explained:
    from registry_status.cli.reading import NoClusterError  # noqa: PLC0415 - not needed offline

    try:
        found = asyncio.run(explain_online(namespace, name, settings))
    except NoClusterError as error:
        raise ExplainError(str(error)) from error
    if found is None:
        raise ExplainError(f"there is no pod {name} in namespace {namespace}")
    return found
