"""Compare what the pods say with what the registry says, and show what the operator would write.

It writes nothing. The pods are those that `run` would watch with the same settings:

  registry-status plan                                 all annotated pods
  registry-status plan -n shop -n stock --differences  only what is out of step, in two namespaces
  registry-status plan -o json | jq '.summary'

States: in-step; would-change: the operator would write; unmatched: the pod runs, and no instance is found for it; conflict: it
would be a guess whose instance it is; invalid: an annotation is wrong; paused; waiting: it has not registered yet.

Exit status: 0 all in step (paused and waiting pods are), 1 something is out of step, 2 wrong use or settings, 3 the cluster or
the registry could not be asked.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from registry_status import config
from registry_status.cli.show import Form, Progress, Styles, add_output, print_data, print_table

if TYPE_CHECKING:
    from registry_status.cli.judging import Judged, Step
    from registry_status.cli.planning import Plan

OUT_OF_STEP, WRONG_USE, CANNOT_TELL = 1, 2, 3
SETTINGS = (
    "kubeconfig", "context", "namespaces", "label_selector", "shard", "registry_address", "registry_project", "registry_domain",
    "registry_username", "registry_password_file", "registry_access_key_file", "registry_secret_key_file",
    "registry_access_key_project", "registry_ca_file", "registry_client_cert_file", "registry_client_key_file",
    "allowed_projects", "allowed_domains", "request_timeout", "connect_timeout", "concurrency", "annotation_prefix",
    "operator_class", "terminating_status", "starting_status", "not_ready_status", "trust_instance_ids",
)  # fmt: skip
"""Those of `run` that say which pods, which registry, and what is wanted."""
HEAD = ("NAMESPACE", "POD", "STATE", "REGISTRY", "DESIRED", "WHY")
WIDE = ("SERVICE", "INSTANCE", "PROJECT")
STYLES: Styles = {
    "in-step": "green", "would-change": "yellow", "unmatched": "red", "conflict": "red", "invalid": "red", "paused": "dim",
    "waiting": "cyan", "UP": "green", "STARTING": "cyan", "OUTOFSERVICE": "yellow", "DOWN": "red",
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which pods and which registry, as in `run`."""
    parser.add_argument("-n", dest="namespaces", action="append", metavar="NAME", help="The same as --namespace.")
    parser.add_argument("--differences", action="store_true", help="Show only the pods that are out of step.")
    add_output(parser, Form.TABLE, Form.WIDE, Form.JSON, Form.YAML)
    config.add_arguments(parser, SETTINGS)


def run(arguments: argparse.Namespace) -> int:
    """Make the plan and show it."""
    try:
        settings = config.read_settings(arguments, os.environ)
        config.require(settings, "registry_address")
    except config.SettingsError as error:
        return _refuse(error.problems, WRONG_USE)
    from registry_status.cli.planning import make_plan  # noqa: PLC0415 - help and wrong settings need not wait for it
    from registry_status.cli.reading import CannotTellError  # noqa: PLC0415 - help and wrong settings need not wait for it

    try:
        with Progress() as progress:
            plan = asyncio.run(make_plan(settings, os.environ, progress))
    except config.SettingsError as error:
        return _refuse(error.problems, WRONG_USE)
    except CannotTellError as error:
        return _refuse([f"{error}; `registry-status check` says what to do"], CANNOT_TELL)
    show(plan, Form(arguments.output), differences=arguments.differences)
    return 0 if plan.in_step else OUT_OF_STEP


def _refuse(problems: Sequence[str], status: int) -> int:
    for problem in problems:
        print(f"registry-status plan: {problem}", file=sys.stderr)
    return status


def show(plan: "Plan", form: Form, *, differences: bool = False) -> None:
    """Print it."""
    judged = [one for one in plan.judged if one.state.out_of_step or not differences]
    judged.sort(key=lambda one: (one.pod.namespace, one.pod.name))
    if form.data:
        print_data(as_data(plan, judged), form)
        return
    wide = form is Form.WIDE
    if judged:
        print_table(HEAD + (WIDE if wide else ()), [row for one in judged for row in _rows(one, wide=wide)], STYLES)
        print()
    print(summary(plan))


def summary(plan: "Plan") -> str:
    """One line on all pods."""
    counts = ", ".join(f"{count} {state}" for state, count in sorted(plan.counts.items()))
    return f"annotated pods: {len(plan.judged)}" + (f" ({counts})" if counts else "") + f"; others: {plan.unmanaged}"


def _rows(one: "Judged", *, wide: bool) -> Iterator[tuple[str, ...]]:
    """Return a line for each instance, or one for a pod that has none."""
    for step in one.steps or (None,):
        yield (
            one.pod.namespace,
            one.pod.name,
            one.state,
            step.instance.status if step is not None else "",
            (step.to if step is not None else one.status) or "",
            _why(one, step),
            *(_more(one, step) if wide else ()),
        )


def _why(one: "Judged", step: "Step | None") -> str:
    if step is not None and step.leftover:
        return "left over from an earlier life of the container"
    return "; ".join(part for part in (one.desired.message, one.note) if part)


def _more(one: "Judged", step: "Step | None") -> tuple[str, ...]:
    target = one.desired.target
    instance = step.instance.instance_id if step is not None else ""
    return (target.where, instance, target.tenant.project) if target is not None else ("", instance, "")


def as_data(plan: "Plan", judged: Sequence["Judged"]) -> dict[str, object]:
    """The documented form (docs/cli.md)."""
    from registry_status.cli.judging import State  # noqa: PLC0415 - help and wrong settings need not wait for it

    return {
        "kind": "Plan",
        "schema": 1,
        "inStep": plan.in_step,
        "summary": {state.value: plan.counts.get(state, 0) for state in State} | {"unmanaged": plan.unmanaged},
        "pods": [_pod(one) for one in judged],
    }


def _pod(one: "Judged") -> dict[str, object]:
    target = one.desired.target
    return {
        "namespace": one.pod.namespace,
        "name": one.pod.name,
        "state": one.state.value,
        "desired": one.status.value if one.status is not None else None,
        "reason": one.desired.reason.value,
        "message": one.desired.message,
        "note": one.note,
        "service": target.where if target is not None else None,
        "project": target.tenant.project if target is not None else None,
        "domain": target.tenant.domain if target is not None else None,
        "instances": [
            {
                "instanceId": step.instance.instance_id,
                "serviceId": step.instance.service_id,
                "leftover": step.leftover,
                "registry": step.instance.status,
                "desired": step.to.value,
                "changes": step.changes,
            }
            for step in one.steps
        ],
        "problems": [{"key": found.key, "value": found.value, "allowed": found.allowed} for found in one.desired.problems],
    }
