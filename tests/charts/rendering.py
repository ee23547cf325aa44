"""The chart as tests use it: rendered by the real Helm, read back as objects."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import yaml

from tests.cluster.processes import CommandError, run

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "registry-status-operator"
BASE = ROOT / "manifests" / "base"
DEMO = ROOT / "manifests" / "demo"
ADDRESS = "http://registry.example:30100"
# Only an installation asks the API server what it is; a rendering needs to be told.
KUBERNETES = "1.36.0"

Object = dict[str, Any]
Values = dict[str, Any]

FULL: Values = yaml.safe_load(Path(__file__).with_name("full-values.yaml").read_text("utf-8"))
"""A value for everything."""


class Where(TypedDict, total=False):
    """How the release is called and where it lies; the pod of `helm test` only where it is asked for."""

    release: str
    namespace: str
    tests: bool
    kubernetes: str


@dataclass(frozen=True)
class Chart:
    """The chart in a folder, and the Helm that renders it."""

    helm: Path
    folder: Path = CHART

    def text(
        self,
        values: Values | None = None,
        *,
        release: str = "status",
        namespace: str = "system",
        tests: bool = False,
        kubernetes: str = KUBERNETES,
    ) -> str:
        """Render it, with an address of a registry unless the values say something about the registry; the pod of `helm test`
        only where it is asked for."""
        given = {"registry": {"addresses": [ADDRESS]}} | (values or {})
        words: list[str | Path] = [
            self.helm,
            "template",
            release,
            self.folder,
            "--namespace",
            namespace,
            "--kube-version",
            kubernetes,
            *(() if tests else ("--skip-tests",)),
        ]
        return run([*words, "--values", "-"], input=json.dumps(given))

    def render(self, values: Values | None = None, **where: Unpack[Where]) -> list[Object]:
        """Render it into objects."""
        return objects(self.text(values, **where))

    def test_pod(self, values: Values | None = None) -> Object:
        """Return the pod of `helm test`."""
        return one(self.render(values, tests=True), "Pod")

    def notes(self, folder: Path, values: Values | None = None) -> str:
        """Return what `helm install` would say at its end; Helm tells only those who have a cluster, so a copy is made to."""
        copy = Path(shutil.copytree(self.folder, folder / "chart"))
        (copy / "templates" / "NOTES.txt").rename(copy / "notes.txt")
        (copy / "templates" / "notes.yaml").write_text(
            'kind: Notes\ntext: {{ tpl (.Files.Get "notes.txt") . | quote }}\n', "utf-8"
        )
        text: str = one(Chart(self.helm, copy).render(values), "Notes")["text"]
        return text

    def refusal(self, values: Values) -> str:
        """Return why it cannot be rendered so."""
        try:
            self.render(values)
        except CommandError as error:
            return str(error)
        raise AssertionError(f"Helm took {values}")

    def pod(self, values: Values | None = None) -> Object:
        """Return the specification of the operator's pod."""
        spec: Object = one(self.render(values), "Deployment")["spec"]["template"]["spec"]
        return spec

    def container(self, values: Values | None = None) -> Object:
        (container,) = self.pod(values)["containers"]
        found: Object = container
        return found

    def settings(self, values: Values | None = None) -> dict[str, str]:
        """Return the settings in the operator's environment."""
        return settings(self.container(values)["env"])


def objects(text: str) -> list[Object]:
    return [document for document in yaml.safe_load_all(text) if document]


def kind(documents: Iterable[Object], name: str) -> list[Object]:
    return [document for document in documents if document["kind"] == name]


def one(documents: Iterable[Object], name: str) -> Object:
    (found,) = kind(documents, name)
    return found


def settings(environment: Iterable[Object]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in environment if entry["name"].startswith("REGISTRY_STATUS_")}


def at(path: str, value: object) -> Values:
    """Return the values that have this one at `a.b.c`, and an address of a registry."""
    tree: Values = {"registry": {"addresses": [ADDRESS]}}
    *parents, last = path.split(".")
    node = tree
    for name in parents:
        node = node.setdefault(name, {})
    node[last] = value
    return tree
