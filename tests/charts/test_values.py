"""The chart's values: documented, typed, and refused where the operator would refuse them."""

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from registry_status.config import Settings
from tests.charts.rendering import CHART, ROOT, Chart, at

GENERATE = ROOT / "charts" / "generate_readme.py"
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
PARSE = {field.name: field.metadata["parse"] for field in dataclasses.fields(Settings)}


def generate(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, GENERATE, *words], capture_output=True, text=True, check=False)


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference into the definitions; the description beside it counts, as editors show it."""
    if "$ref" not in node:
        return node
    found: dict[str, Any] = SCHEMA["definitions"][node["$ref"].removeprefix("#/definitions/")]
    return found | {key: value for key, value in node.items() if key != "$ref"}


def nodes(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node of the schema, by its path."""
    node = resolved(node)
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}".lstrip("."))
    if "items" in node:
        yield from nodes(node["items"], path + "[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from nodes(node["additionalProperties"], path + ".*")


class TestDocumentation:
    def test_readme_and_schema_are_current(self) -> None:
        done = generate("--check")
        assert done.returncode == 0, done.stderr

    def test_a_changed_comment_is_noticed_with_what_mends_it(self, tmp_path: Path) -> None:
        chart = Path(shutil.copytree(CHART, tmp_path / "chart"))
        values = (chart / "values.yaml").read_text()
        (chart / "values.yaml").write_text(values.replace("Project whose instances", "The project whose instances"))
        done = generate("--check", "--chart", chart)
        assert done.returncode == 1
        assert "to mend it: charts/generate_readme.py" in done.stderr
        assert generate("--chart", chart).returncode == 0
        assert generate("--check", "--chart", chart).returncode == 0
        assert "The project whose instances" in (chart / "README.md").read_text()

    @pytest.mark.parametrize(("added", "complaint"), [
        ("bare: 1\n", "these values have no `# -- ` comment: bare"),
        ("# -- New.\nfresh: 1\n", "values.schema.json does not know fresh"),
    ])  # fmt: skip
    def test_a_new_value_needs_a_comment_and_a_type(self, tmp_path: Path, added: str, complaint: str) -> None:
        chart = Path(shutil.copytree(CHART, tmp_path / "chart"))
        with (chart / "values.yaml").open("a") as values:
            values.write(added)
        assert complaint in generate("--check", "--chart", chart).stderr

    def test_each_value_is_in_the_readme(self) -> None:
        readme = (CHART / "README.md").read_text()

        def leaves(values: dict[str, Any], above: str = "") -> Iterator[str]:
            for name, value in values.items():
                path = f"{above}{name}"
                if isinstance(value, dict) and value and f"| `{path}` |" not in readme:
                    yield from leaves(value, f"{path}.")
                else:
                    yield path

        paths = list(leaves(DEFAULTS))
        assert len(paths) > 50
        assert not [path for path in paths if f"| `{path}` |" not in readme]


class TestSchema:
    def test_the_defaults_fit(self) -> None:
        jsonschema.Draft7Validator.check_schema(SCHEMA)
        jsonschema.Draft7Validator(SCHEMA).validate(DEFAULTS)

    def test_everything_is_typed_and_described(self) -> None:
        found = dict(nodes(SCHEMA))
        del found[""]
        assert not [path for path, node in found.items() if "type" not in node]
        assert not [path for path, node in found.items() if not node.get("description")]

    def test_every_object_is_closed_but_kubernetes_own(self) -> None:
        kubernetes = {
            "affinity", "podSecurityContext", "securityContext", "global", "extraEnv[].valueFrom", "extraEnvFrom[]",
            "extraVolumes[]", "extraVolumeMounts[]", "hostAliases[]", "dnsConfig", "tolerations[]",
            "topologySpreadConstraints[]",
            *(f"registry.{part}.externalSecret.data[]{rest}" for part in ("auth", "tls") for rest in ("", ".remoteRef")),
            *(f"monitoring.{what}Monitor.{part}elabelings[]" for what in ("service", "pod") for part in ("r", "metricR")),
            *(f"networkPolicy.{part}[]" for part in ("scrapeFrom", "dns.to", "registry.to", "extraIngress", "extraEgress")),
        }  # fmt: skip
        opened = {
            path for path, node in nodes(SCHEMA) if node["type"] == "object" and "additionalProperties" not in node
        }  # fmt: skip
        assert opened == kubernetes

    def test_it_knows_the_values_and_no_others(self) -> None:
        assert set(SCHEMA["properties"]) == set(DEFAULTS) | {"enabled", "global"}
        for name, value in DEFAULTS.items():
            node = resolved(SCHEMA["properties"][name])
            if isinstance(value, dict) and node.get("additionalProperties") is False and not name.endswith("Probe"):
                assert set(node["properties"]) == set(value), name

    @pytest.mark.parametrize(("path", "value"), [
        ("registry.adresses", []), ("replicas", 2), ("pods.startingStatus", "UP"), ("pods.terminatingStatus", "down"),
        ("pods.notReadyStatus", "UP"), ("pods.trustInstanceIds", "yes"), ("pods.readinessGate", "yes"),
        ("log.level", "trace"), ("log.format", "xml"),
        ("registry.concurrency", "32"), ("image.digest", "sha256:abc"), ("image.pullPolicy", "Sometimes"),
        ("service.port", 0), ("podLabels", {"a": True}), ("extraEnv", [{"name": "A", "value": 1}]),
        ("resources", {"limit": {}}), ("monitoring.podMonitor.interval", "15"), ("networkPolicy.registry.cidrs", ["10.0.0.1"]),
        ("monitoring.prometheusRule.alerts.RegistryStatusNoLeader", {"threshold": 1}), ("helmTest.enabled", "yes"),
        ("monitoring.prometheusRule.alerts.RegistryStatusNoLeader", {"severity": "Very High"}),
        ("monitoring.prometheusRule.alerts.NoSuchAlert", {}), ("monitoring.prometheusRule.selector", "job=x"),
        ("registry.auth.externalSecret.storeKind", "Vault"),
        ("livenessProbe.httpGet", {}), ("terminationGracePeriodSeconds", 0), ("revisionHistoryLimit", -1),
        ("revisionHistoryLimit", 1000000),
        ("livenessProbe", {"successThreshold": 2}), ("startupProbe", {"successThreshold": 2}),
        ("networkPolicy.apiServer.ports", []), ("deploymentAnnotations", {"a": True}), ("hostAliases", ["a"]),
        *((name, value) for name in ("nameOverride", "fullnameOverride") for value in ("a.b", "1a", "a-", "A", "a" * 64)),
    ])  # fmt: skip
    def test_what_is_wrong_is_refused_by_its_name(self, chart: Chart, path: str, value: object) -> None:
        said = chart.refusal(at(path, value))
        assert "values don't meet the specifications of the schema" in said
        assert path.rpartition(".")[2] in said

    @pytest.mark.parametrize(("path", "value"), [
        ("nameOverride", "a-1"), ("fullnameOverride", "a" * 63), ("readinessProbe", {"successThreshold": 2}),
        ("livenessProbe", {"successThreshold": 1}), ("livenessProbe", None), ("resources", {"limits": {"cpu": 0.5}}),
        ("serviceAccount.name", "a.b"), ("priorityClassName", "a.b"), ("revisionHistoryLimit", 0),
        ("networkPolicy.apiServer.ports", [6443]), ("networkPolicy.registry.ports", []),
    ])  # fmt: skip
    def test_what_kubernetes_takes_is_taken(self, chart: Chart, path: str, value: object) -> None:
        assert jsonschema.Draft7Validator(SCHEMA).is_valid(at(path, value)), "to an editor"
        assert chart.render(at(path, value)), "to Helm"


# Of each setting: where it is in the values, what both must take, and what both must refuse.
SETTINGS = {
    "namespaces": ("watch.namespaces", ["a", "a-1", "a" * 63], ["A", "-a", "a-", "a" * 64, "a.b", "a,b", "*"]),
    "shard": ("watch.shard", ["", "1/1", "2/4"], ["1", "1/", "/4", "a/b", "-1/4", "1/4/2"]),
    "registry_address": (
        "registry.addresses",
        ["http://a", "https://a.example:30100", "http://10.0.0.1:1/", "http://[::1]:30100", "http://a:9999", "http://a:65535"],
        [
            *("a:30100", "ftp://a", "http://", "http://a/v4", "http://a?x=1", "http://u:p@a", "http://a b", "http://a:30100#x"),
            *(f"http://a:{port}" for port in (0, 65536, 65540, 65600, 66000, 70000, 99999, 100000)),
        ],
    ),
    "registry_project": ("registry.project", ["default", "A_b.c-1", "x" * 64], ["a/b", "..", ".", "x" * 65, "a b"]),
    "registry_domain": ("registry.domain", ["default", "A_b.c-1"], ["a/b", "..", "."]),
    "allowed_projects": ("registry.allowProjects", ["*", "team-?", "shop-*/x"], ["a b", "[ab]", "a,b"]),
    "allowed_domains": ("registry.allowDomains", ["*", "team-?", "shop-*/x"], ["a b", "[ab]"]),
    "lease_name": ("leaderElection.leaseName", ["a", "a-b.c", "a" * 253], ["A", "-a", "a/b", "a..b", "a" * 254]),
    "lease_namespace": ("leaderElection.leaseNamespace", ["", "a-b"], ["A", "a.b", "a" * 64]),
    "registry_username": ("registry.auth.username", ["", "operator", "a@b"], ["a b", "x" * 257]),
    "registry_access_key_project": ("registry.auth.accessKeyProject", ["", "gate"], ["a/b", "..", "a b"]),
    "request_timeout": ("registry.requestTimeout", [0.1, 5, 60], [0, 0.05, 60.5, -1]),
    "connect_timeout": ("registry.connectTimeout", [0.1, 5, 60], [0, 0.05, 60.5, -1]),
    "concurrency": ("registry.concurrency", [1, 1000], [0, 1001, 1.5]),
    "annotation_prefix": (
        "pods.annotationPrefix",
        ["registry-status.io", "x"],
        ["a/b", "A.io", ".io", "a..b", "x" * 254, "-a"],
    ),
    "operator_class": ("pods.class", ["", "blue", "a" * 63], ["-a", "a b", "a" * 64]),
    "terminating_status": ("pods.terminatingStatus", ["DOWN", "OUTOFSERVICE", "STARTING"], ["UP", "TESTING", "down"]),
    "starting_status": ("pods.startingStatus", ["DOWN", "OUTOFSERVICE", "STARTING"], ["UP", "TESTING", "down"]),
    "not_ready_status": ("pods.notReadyStatus", ["auto", "DOWN", "OUTOFSERVICE", "STARTING"], ["UP", "Auto"]),
    "resync_interval": ("delivery.resyncInterval", [1, 30.5, 3600], [0, 0.5, 3601]),
    "registration_window": ("delivery.registrationWindow", [0, 120, 3600], [-1, 3601]),
    "log_level": ("log.level", ["debug", "info", "warning", "error"], ["trace", "INFO"]),
    "log_format": ("log.format", ["plain", "json"], ["text"]),
}
LISTS = {name for name in SETTINGS if isinstance(Settings.__dataclass_fields__[name].default, tuple)}


def cases(column: int) -> list[Any]:
    return [
        pytest.param(name, value, id=f"{name}={str(value)[:24]}")
        for name, case in SETTINGS.items()
        for value in case[column]  # type: ignore[attr-defined]
    ]


def refused_by_schema(name: str, value: object) -> bool:
    values = at(SETTINGS[name][0], [value] if name in LISTS else value)
    return not jsonschema.Draft7Validator(SCHEMA).is_valid(values)


def refused_by_operator(name: str, value: object) -> bool:
    texts = str(value).split(",") if name in LISTS else [str(value)]
    try:
        for text in texts:
            PARSE[name](text)
    except ValueError:
        return True
    return False


class TestSchemaAndOperatorAgree:
    @pytest.mark.parametrize(("name", "value"), cases(1))
    def test_on_what_is_allowed(self, name: str, value: object) -> None:
        assert not refused_by_schema(name, value)
        assert not refused_by_operator(name, value)

    @pytest.mark.parametrize(("name", "value"), cases(2))
    def test_on_what_is_not(self, name: str, value: object) -> None:
        assert refused_by_schema(name, value)
        if "," not in str(value):  # the operator would read two
            assert refused_by_operator(name, value)

    def test_on_every_setting_that_can_be_wrong(self) -> None:
        files = {name for name in PARSE if name.endswith("_file")}  # paths that the chart makes from keys of Secrets
        free = files | {
            "leader_elect",
            "label_selector",
            "trust_instance_ids",
            "readiness_gate",
            "dry_run",
            "watch_filter",
            "report_updates",
            "listen",
            "kubeconfig",
            "context",
        }
        assert set(SETTINGS) | free == set(PARSE)
