#!/usr/bin/env python3
"""Makes manifests/base from the chart, so that the two cannot drift apart.

manifests/generate.py            writes the files
manifests/generate.py --check    says whether they are current, and exits with 1 if not

It renders the chart with Helm as a release `registry-status-operator` in the namespace `registry-status-system`, takes away
Helm's own labels, and moves the settings from the Deployment into settings.env, from which kustomize makes a ConfigMap: an
overlay changes a setting without knowing where in the Deployment it stands, and a changed setting restarts the operator.
kustomization.yaml and namespace.yaml are written by hand.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
BASE = ROOT / "manifests" / "base"
CHART = ROOT / "charts" / "registry-status-operator"
NAME = "registry-status-operator"
NAMESPACE = "registry-status-system"
ADDRESS = "http://service-center.example:30100"
HELM_LABELS = ("helm.sh/chart", "app.kubernetes.io/managed-by")
SETTING = "REGISTRY_STATUS_"
REMARK = "# Made from the chart by manifests/generate.py: change the chart, and run it again.\n"
SETTINGS_REMARK = "# The operator's settings: `registry-status run --help` says what each does. The first is yours to set.\n"


def render(helm: str, chart: Path) -> list[dict[str, Any]]:
    """Let Helm render the chart, with the newest Kubernetes in mind."""
    values = f"registry.addresses={{{ADDRESS}}}"
    command = [helm, "template", NAME, str(chart), "--namespace", NAMESPACE, "--kube-version", "1.36.0", "--skip-tests"]
    command += ["--set", values]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- no shell
    if done.returncode:
        raise SystemExit(done.stderr)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def files(documents: list[dict[str, Any]]) -> dict[str, str]:
    """Turn what Helm rendered into the files of manifests/base, by name."""
    made: dict[str, str] = {}
    for document in documents:
        for label in HELM_LABELS:
            document["metadata"].get("labels", {}).pop(label, None)
        if document["kind"] == "Deployment":
            made["settings.env"] = REMARK + SETTINGS_REMARK + _take_settings(document)
        name = f"{document['kind'].lower()}.yaml"
        if name in made:
            raise SystemExit(
                f"the chart has two objects of the kind {document['kind']}: teach manifests/generate.py about them"
            )
        made[name] = REMARK + yaml.safe_dump(document, sort_keys=False, width=120)
    return made


def _take_settings(deployment: dict[str, Any]) -> str:
    """Move the settings out of the container; return them as lines, the address first."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    settings = [variable for variable in container["env"] if variable["name"].startswith(SETTING)]
    settings.sort(key=lambda variable: (variable["value"] != ADDRESS, variable["name"]))
    container["env"] = [variable for variable in container["env"] if variable not in settings]
    container["envFrom"] = [{"configMapRef": {"name": NAME}}]
    return "".join(f"{setting['name']}={setting['value']}\n" for setting in settings)


def stale(made: dict[str, str]) -> list[str]:
    """Name the files that are not as the chart says."""
    old = {path.name: path.read_text("utf-8") for path in BASE.iterdir()}
    by_hand = ("kustomization.yaml", "namespace.yaml")
    wrong = [name for name, text in made.items() if old.get(name) != text]
    return sorted(wrong + [name for name in old if name not in made and name not in by_hand])


def main() -> int:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(description="Makes manifests/base from the chart.")
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 if a file is not current")
    parser.add_argument("--chart", type=Path, default=CHART, help="folder of the chart")
    parser.add_argument("--helm", help="path of helm; default: the one that tests/tools/build.sh builds")
    options = parser.parse_args()
    made = files(render(options.helm or _built_helm(), options.chart))
    wrong = stale(made)
    if options.check and wrong:
        sys.stderr.write(f"manifests/base is not what the chart says ({', '.join(wrong)}); to mend it: manifests/generate.py\n")
        return 1
    if not options.check:
        for name in wrong:
            if name not in made:
                (BASE / name).unlink()
        for name, text in made.items():
            (BASE / name).write_text(text, "utf-8")
    return 0


def _built_helm() -> str:
    build = subprocess.run(  # noqa: S603 -- our own script
        [ROOT / "tests" / "tools" / "build.sh", "helm"], stdout=subprocess.PIPE, text=True, check=False
    )
    if build.returncode:
        raise SystemExit("helm could not be built: name one by --helm")
    return str(Path(build.stdout.splitlines()[-1]) / "helm")


if __name__ == "__main__":
    sys.exit(main())
