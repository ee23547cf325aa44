"""The manifests for those without Helm: what the chart says, and a demo that needs nothing but the operator's image."""

import copy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.charts.rendering import BASE, CHART, DEMO, ROOT, Chart, Object, kind, objects, one, settings
from tests.cluster.processes import run
from tests.docs.pages import page

GENERATE = ROOT / "manifests" / "generate.py"
SAMPLE = ROOT / "tests" / "e2e" / "sample" / "service.py"
NAMESPACE = "registry-status-system"
DEMO_NAMESPACE = "registry-status-demo"


@pytest.fixture(scope="module")
def base(kubectl: Path) -> list[Object]:
    return objects(run([kubectl, "kustomize", BASE]))


@pytest.fixture(scope="module")
def demo(kubectl: Path) -> list[Object]:
    return objects(run([kubectl, "kustomize", DEMO]))


def generate(helm: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, GENERATE, "--helm", helm, *words], capture_output=True, text=True, check=False)


def named(documents: list[Object], what: str, name: str) -> Object:
    (found,) = (document for document in kind(documents, what) if document["metadata"]["name"] == name)
    return found


class TestBase:
    def test_is_what_the_chart_says(self, helm: Path) -> None:
        done = generate(helm, "--check")
        assert done.returncode == 0, done.stderr

    def test_a_changed_chart_is_noticed_with_what_mends_it(self, helm: Path, tmp_path: Path) -> None:
        chart = Path(shutil.copytree(CHART, tmp_path / "chart"))
        rbac = chart / "templates" / "_helpers.tpl"
        rbac.write_text(rbac.read_text().replace("verbs: [get, list, watch]", "verbs: [get, list, watch, delete]"))
        done = generate(helm, "--check", "--chart", chart)
        assert done.returncode == 1
        assert "(clusterrole.yaml); to mend it: manifests/generate.py" in done.stderr

    def test_lists_all_its_files(self) -> None:
        listed = set(yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"])
        assert listed | {"kustomization.yaml", "settings.env"} == {path.name for path in BASE.iterdir()}

    def test_kustomize_builds_what_helm_renders(self, base: list[Object], chart: Chart) -> None:
        """The generator is not taken at its word: both are compared here, by what arrives in the cluster."""
        address = settings_of(base)["REGISTRY_STATUS_REGISTRY_ADDRESS"]
        values = {"registry": {"addresses": [address]}}
        rendered = chart.render(values, release="registry-status-operator", namespace=NAMESPACE)
        built = [document for document in base if document["kind"] not in {"Namespace", "ConfigMap"}]
        assert settings_of(base) == settings(container(rendered)["env"])
        assert sorted(map(comparable, built)) == sorted(map(comparable, rendered))

    def test_has_a_namespace_that_enforces_the_restricted_standard(self, base: list[Object]) -> None:
        namespace = one(base, "Namespace")["metadata"]
        assert namespace["name"] == NAMESPACE
        assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"

    def test_a_changed_setting_restarts_the_operator(self, base: list[Object]) -> None:
        name = one(base, "ConfigMap")["metadata"]["name"]
        assert name.startswith("registry-status-operator-"), "with a hash of its content"
        assert container(base)["envFrom"] == [{"configMapRef": {"name": name}}]

    def test_an_overlay_sets_registry_and_image_as_its_comment_says(self, kubectl: Path, tmp_path: Path) -> None:
        shutil.copytree(BASE, tmp_path / "base")
        comment = (BASE / "kustomization.yaml").read_text().split("apiVersion:")[0]
        overlay = "\n".join(
            line.removeprefix("#").removeprefix(" ") for line in comment.splitlines() if line.startswith("#   ")
        )
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "kustomization.yaml").write_text(overlay.replace("PATH-OR-URL-OF-THIS-FOLDER", "../base"))
        built = objects(run([kubectl, "kustomize", tmp_path / "mine"]))
        assert settings_of(built)["REGISTRY_STATUS_REGISTRY_ADDRESS"] == "http://registry.example:30100"
        assert settings_of(built).keys() == settings_of(objects(run([kubectl, "kustomize", BASE]))).keys()
        assert container(built)["image"].startswith("registry.example/registry-status-operator:")

    def test_an_overlay_lets_it_set_the_readiness_gate_as_the_documentation_says(
        self, kubectl: Path, chart: Chart, tmp_path: Path
    ) -> None:
        shutil.copytree(BASE, tmp_path / "base")
        (overlay,) = (block.text for block in page("docs/statuses.md").blocks if "READINESS_GATE=true" in block.text)
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "kustomization.yaml").write_text(overlay.replace("PATH-OF/manifests/base", "../base"))
        built = objects(run([kubectl, "kustomize", tmp_path / "mine"]))
        rendered = chart.render({"pods": {"readinessGate": True}})
        assert settings_of(built)["REGISTRY_STATUS_READINESS_GATE"] == "true"
        assert by_resource(one(built, "ClusterRole")) == by_resource(one(rendered, "ClusterRole"))


class TestDemo:
    def test_the_operator_is_told_of_the_demos_registry(self, demo: list[Object]) -> None:
        service = named(demo, "Service", "registry")
        (port,) = service["spec"]["ports"]
        address = f"http://registry.{service['metadata']['namespace']}:{port['port']}"
        operators = [configmap for configmap in kind(demo, "ConfigMap") if configmap["metadata"]["namespace"] == NAMESPACE]
        assert one(operators, "ConfigMap")["data"]["REGISTRY_STATUS_REGISTRY_ADDRESS"] == address

    def test_needs_only_the_operators_image(self, demo: list[Object]) -> None:
        pods = [deployment["spec"]["template"]["spec"] for deployment in kind(demo, "Deployment")]
        assert {container["image"].partition(":")[0] for pod in pods for container in pod["containers"]} == {
            "registry-status-operator"
        }
        assert len(pods) == 3

    def test_its_pods_meet_the_restricted_standard_that_their_namespaces_enforce(self, demo: list[Object]) -> None:
        for namespace in kind(demo, "Namespace"):
            assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
        for deployment in kind(demo, "Deployment"):
            pod = deployment["spec"]["template"]["spec"]
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            for each in pod["containers"]:
                assert each["securityContext"]["allowPrivilegeEscalation"] is False
                assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}

    def test_its_workload_is_annotated_with_what_it_registers(self, demo: list[Object]) -> None:
        workload = named(demo, "Deployment", "demo")
        assert workload["spec"]["replicas"] == 2
        annotations = workload["spec"]["template"]["metadata"]["annotations"]
        assert annotations == {"registry-status.io/service": "demo", "registry-status.io/app": "demo"}
        (sample,) = workload["spec"]["template"]["spec"]["containers"]
        environment = {entry["name"]: entry.get("value") for entry in sample["env"]}
        assert environment["SERVICE_NAME"] == annotations["registry-status.io/service"]
        assert environment["APP"] == annotations["registry-status.io/app"]

    def test_its_service_is_the_tests_sample(self) -> None:
        ours = DEMO / "service.py"
        assert ours.read_text() == SAMPLE.read_text(), f"to mend it: cp {SAMPLE.relative_to(ROOT)} {ours.relative_to(ROOT)}"


def container(documents: list[Object]) -> Object:
    (found,) = named(documents, "Deployment", "registry-status-operator")["spec"]["template"]["spec"]["containers"]
    operator: Object = found
    return operator


def by_resource(role: Object) -> dict[str, list[str]]:
    return {resource: rule["verbs"] for rule in role["rules"] for resource in rule["resources"]}


def settings_of(documents: list[Object]) -> dict[str, str]:
    data: dict[str, str] = one(documents, "ConfigMap")["data"]
    return data


def comparable(document: Object) -> str:
    """Take away what Helm and kustomize add of their own, and where the settings come from."""
    document = copy.deepcopy(document)
    labels = document["metadata"]["labels"]
    document["metadata"]["labels"] = {
        name: value for name, value in labels.items() if not name.startswith("helm.sh/") and value != "Helm"
    }
    if document["kind"] == "Deployment":
        (operator,) = document["spec"]["template"]["spec"]["containers"]
        operator["env"] = [entry for entry in operator["env"] if not entry["name"].startswith("REGISTRY_STATUS_")]
        operator.pop("envFrom", None)
    return yaml.safe_dump(document, sort_keys=True)
