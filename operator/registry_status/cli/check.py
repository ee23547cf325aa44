"""Find what is wrong, and say what to do: settings, Kubernetes, registry, annotated pods, and the operators that run.

It takes the flags and variables of `run`, and uses them as `run` would. Best run where the operator runs, so that account and
network are the operator's own:

  kubectl -n registry-status-system exec deployment/registry-status-operator -- registry-status check

It writes nothing and logs in to the registry at most once. Each finding is OK, SKIPPED (not looked at), WARNING or ERROR.

Exit status: 0 no errors, 1 errors, 2 wrong use.
"""

import argparse
import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from registry_status import config
from registry_status.cli.show import Form, Styles, add_output, print_data, print_styled, safe

if TYPE_CHECKING:
    from registry_status.cli.checks.finding import Finding

STYLES: Styles = {"OK": "green", "SKIPPED": "dim", "WARNING": "yellow", "ERROR": "bold red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every setting, as in `run`."""
    parser.add_argument("-n", dest="namespaces", action="append", metavar="NAME", help="The same as --namespace.")
    add_output(parser, Form.TEXT, Form.JSON, Form.YAML)
    config.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check, and show what was found."""
    from registry_status.cli.checks import finding, settings  # noqa: PLC0415 - help need not wait for it
    from registry_status.cli.checks.all import check_all  # noqa: PLC0415 - help need not wait for it

    try:
        found = asyncio.run(check_all(config.read_settings(arguments, os.environ), os.environ))
    except config.SettingsError as error:
        found = settings.refused(error)
    show(found, Form(arguments.output))
    return 1 if finding.failed(found) else 0


def show(findings: Sequence["Finding"], form: Form) -> None:
    """Print them."""
    if form.data:
        print_data(as_data(findings), form)
        return
    for found in findings:
        fix = f"; to do: {safe(found.fix)}" if found.fix else ""
        print_styled(f"{found.level:<8}", f" {found.area:<10} {safe(found.what)}{fix}", STYLES)
    print()
    print(", ".join(f"{count} {level}" for level, count in Counter(found.level for found in findings).items()))


def as_data(findings: Sequence["Finding"]) -> dict[str, object]:
    """The documented form (docs/cli.md)."""
    from registry_status.cli.checks.finding import Level, failed  # noqa: PLC0415 - help need not wait for it

    counts = Counter(found.level for found in findings)
    return {
        "kind": "Check",
        "schema": 1,
        "ok": not failed(findings),
        "summary": {level.value: counts[level] for level in Level},
        "findings": [
            {"level": found.level.value, "area": found.area.value, "what": safe(found.what), "fix": safe(found.fix)}
            for found in findings
        ],
    }
