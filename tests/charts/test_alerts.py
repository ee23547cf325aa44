"""The alerts: valid to Prometheus, configurable, documented, and due when they should be (`promtool test rules`)."""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.rendering import CHART, ROOT, Chart, Object, at, one
from tests.cluster import levels
from tests.cluster.processes import CommandError, run

ALERTS: dict[str, dict[str, str]] = yaml.safe_load((CHART / "alerts.yaml").read_text("utf-8"))
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))["monitoring"]["prometheusRule"]["alerts"]
RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text("utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")
OURS = 'namespace="system",job="status-registry-status-operator"'
SERIES = {"namespace": "system", "job": "status-registry-status-operator"}


@pytest.fixture(scope="session")
def promtool(request: pytest.FixtureRequest) -> Path:
    found = shutil.which("promtool")
    if found is None:
        levels.not_run(request.config, "alerts", "promtool is not installed: tests/cluster/packages.sh installs it")
    return Path(found)


def test_the_dashboard_counts_as_out_of_step_what_the_alert_does() -> None:
    panels = json.loads((CHART / "dashboards" / "registry-status.json").read_text("utf-8"))["panels"]
    (panel,) = [found for found in panels if found["title"] == "Out of step"]
    for expression in (panel["targets"][0]["expr"], ALERTS["RegistryStatusOutOfStep"]["expr"]):
        desired, _, acknowledged = expression.partition("registry_status_acknowledged_pods")
        assert re.search(r'registry_status_desired_pods\{[^}]*status!="DOWN"\}', desired)
        assert acknowledged


def rules(chart: Chart, **values: Any) -> list[Object]:
    rendered = chart.render(at("monitoring.prometheusRule", {"enabled": True, **values}))
    (group,) = one(rendered, "PrometheusRule")["spec"]["groups"]
    found: list[Object] = group["rules"]
    return found


def by_name(found: list[Object]) -> dict[str, Object]:
    return {rule["alert"]: rule for rule in found}


def written(folder: Path, found: list[Object]) -> Path:
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "alerts", "rules": found}]}))
    return path


@dataclass(frozen=True)
class Case:
    """Series a value a minute, as promtool writes them, and what an alert makes of them."""

    alert: str
    series: Mapping[str, str]
    at: str
    description: str = ""
    """What the one that fires says; empty: none does."""
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.alert.removeprefix('RegistryStatus')} {self.at} {'fires' if self.description else 'is silent'}"

    def unit_test(self, rule: Object) -> Object:
        """Write it as promtool reads it; every series gets the labels of a scrape."""
        expected = {
            "exp_labels": {
                **rule["labels"],
                **SERIES,
                **self.labels,
            },
            "exp_annotations": {**rule["annotations"], "description": self.description},
        }
        series = [{"series": name.replace("{", "{" + OURS + ","), "values": values} for name, values in self.series.items()]
        check = {"eval_time": self.at, "alertname": self.alert, "exp_alerts": [expected] if self.description else []}
        return {"interval": "1m", "input_series": series, "alert_rule_test": [check]}


LEADER_A, LEADER_B = (f'registry_status_leader{{instance="{name}"}}' for name in "ab")
LEADS, STANDS_BY = {LEADER_A: "1x60"}, {LEADER_B: "0x60"}
INFO = 'registry_status_build_info{instance="a"}'
ONE, TWO = "http://one:30100", "http://two:30100"
CIRCUITS = {address: f'registry_status_circuit_open{{instance="a",address="{address}"}}' for address in (ONE, TWO)}
OLD_CIRCUIT = f'registry_status_circuit_open{{instance="b",address="{ONE}"}}'
OK, TIMEOUT, GONE = (
    f'registry_status_requests_total{{instance="a",operation="write-status",code="{c}"}}' for c in ("ok", "timeout", "400017")
)
REJECTED = 'registry_status_outcomes_total{instance="a",kind="rejected"}'
UP_WANTED, UP_SAID = (f'registry_status_{what}_pods{{instance="a",status="UP"}}' for what in ("desired", "acknowledged"))
DOWN_WANTED, DOWN_SAID = UP_WANTED.replace("UP", "DOWN"), UP_SAID.replace("UP", "DOWN")
STANDBY_WANTED, STANDBY_SAID = UP_WANTED.replace('"a"', '"b"'), UP_SAID.replace('"a"', '"b"')
DELIVERY = {
    bound: f'registry_status_delivery_seconds_bucket{{instance="a",le="{bound}"}}' for bound in ("0.5", "10", "30", "+Inf")
}
OTHERS = 'registry_status_drift_total{instance="a",cause="changed-by-others"}'
AGE = 'registry_status_watch_age_seconds{instance="a"}'
FORBIDDEN = 'registry_status_watch_faults_total{instance="a",kind="forbidden"}'
LAG = {
    bound: f'registry_status_event_loop_lag_seconds_bucket{{instance="a",le="{bound}"}}'
    for bound in ("0.1", "0.5", "2.5", "+Inf")
}
STARTED = 'process_start_time_seconds{instance="a"}'

CASES = [
    Case("RegistryStatusOperatorAbsent", {}, "5m", ALERTS["RegistryStatusOperatorAbsent"]["description"]),
    Case("RegistryStatusOperatorAbsent", {}, "4m"),
    Case("RegistryStatusOperatorAbsent", {INFO: "1x60"}, "30m"),
    Case("RegistryStatusNoLeader", STANDS_BY, "2m", ALERTS["RegistryStatusNoLeader"]["description"]),
    Case("RegistryStatusNoLeader", STANDS_BY | LEADS, "2m"),
    Case("RegistryStatusNoLeader", {LEADER_A: "1x5 _x9", LEADER_B: "0x4 1x9"}, "6m"),
    Case(
        "RegistryStatusSeveralLeaders",
        {LEADER_A: "1x60", LEADER_B: "1x60"},
        "2m",
        "2 replicas say that they lead. They run without leader election, or with different Leases, and undo each other's "
        "writes.",
    ),
    Case("RegistryStatusSeveralLeaders", LEADS | STANDS_BY, "10m"),
    Case(
        "RegistryStatusRegistryUnreachable",
        LEADS | {CIRCUITS[ONE]: "1x60", CIRCUITS[TWO]: "1x60"},
        "2m",
        ALERTS["RegistryStatusRegistryUnreachable"]["description"],
    ),
    Case("RegistryStatusRegistryUnreachable", LEADS | {CIRCUITS[ONE]: "1x60", CIRCUITS[TWO]: "0x60"}, "10m"),
    Case("RegistryStatusRegistryUnreachable", LEADS | STANDS_BY | {OLD_CIRCUIT: "1x60", CIRCUITS[ONE]: "0x60"}, "10m"),
    Case(
        "RegistryStatusAddressFailing",
        LEADS | {CIRCUITS[ONE]: "1x60", CIRCUITS[TWO]: "0x60"},
        "5m",
        f"{ONE} fails and is only probed. Other addresses take its place, if there are any.",
        {"address": ONE},
    ),
    Case("RegistryStatusAddressFailing", LEADS | STANDS_BY | {OLD_CIRCUIT: "1x60", CIRCUITS[ONE]: "0x60"}, "30m"),
    Case(
        "RegistryStatusRequestsFailing",
        {OK: "0+60x60", TIMEOUT: "0+20x60"},
        "20m",
        "25% of the requests to the registry get no answer, or none that a registry gives.",
    ),
    Case("RegistryStatusRequestsFailing", {OK: "0+60x60", TIMEOUT: "0+5x60"}, "30m"),
    Case("RegistryStatusRequestsFailing", {OK: "0+60x60", GONE: "0+60x60"}, "30m"),
    Case(
        "RegistryStatusRefused",
        {REJECTED: "0x5 1x60"},
        "10m",
        "Within 10 minutes the outcome rejected came up about 1 times. Events on the pods say which ones, and why.",
        {"kind": "rejected"},
    ),
    Case("RegistryStatusRefused", {REJECTED: "0x5 1x60"}, "20m"),
    Case("RegistryStatusRefused", {'registry_status_outcomes_total{instance="a",kind="delivered"}': "0+9x60"}, "10m"),
    Case(
        "RegistryStatusOutOfStep",
        LEADS | {UP_WANTED: "5x60", UP_SAID: "3x60"},
        "15m",
        "For 2 pods the registry does not say what it should, or has no instance at all.",
    ),
    Case("RegistryStatusOutOfStep", LEADS | {UP_WANTED: "5x60", UP_SAID: "3x10 5x50"}, "15m"),
    Case("RegistryStatusOutOfStep", LEADS | {DOWN_WANTED: "2x60", DOWN_SAID: "0x60"}, "30m"),
    Case("RegistryStatusOutOfStep", LEADS | STANDS_BY | {STANDBY_WANTED: "5x60", STANDBY_SAID: "0x60"}, "30m"),
    Case(
        "RegistryStatusSlowDelivery",
        {DELIVERY["0.5"]: "0+5x60", DELIVERY["10"]: "0+5x60", DELIVERY["30"]: "0+10x60", DELIVERY["+Inf"]: "0+10x60"},
        "20m",
        "One in twenty statuses takes more than 28s from the pod to the registry.",
    ),
    Case("RegistryStatusSlowDelivery", {DELIVERY["0.5"]: "0+99x60", DELIVERY["+Inf"]: "0+100x60"}, "30m"),
    Case(
        "RegistryStatusChangedByOthers",
        {OTHERS: "0x5 4x60"},
        "10m",
        "About 4 statuses were changed within 15 minutes, and put back: by a second operator, a console, or a script.",
    ),
    Case("RegistryStatusChangedByOthers", {OTHERS: "0x5 2x60"}, "10m"),
    Case(
        "RegistryStatusWatchStale",
        {AGE: "30x5 200x20"},
        "10m",
        "a has heard nothing for 3m 20s: it does not know what pods do.",
        {"instance": "a"},
    ),
    Case("RegistryStatusWatchStale", {AGE: "90x60"}, "10m"),
    Case(
        "RegistryStatusKubernetesAccess",
        {FORBIDDEN: "0x5 6x60"},
        "10m",
        "Its watches were refused (forbidden) about 6 times within 10 minutes: its token or its rights are gone.",
        {"kind": "forbidden"},
    ),
    Case("RegistryStatusKubernetesAccess", {FORBIDDEN: "0x5 1x60"}, "10m"),
    Case(
        "RegistryStatusLoopLag",
        {LAG["0.1"]: "0+30x60", LAG["0.5"]: "0+30x60", LAG["2.5"]: "0+60x60", LAG["+Inf"]: "0+60x60"},
        "20m",
        "The event loop of a comes up to 2.46s late.",
        {"instance": "a"},
    ),
    Case("RegistryStatusLoopLag", {LAG["0.1"]: "0+60x60", LAG["0.5"]: "0+60x60", LAG["+Inf"]: "0+60x60"}, "30m"),
    Case(
        "RegistryStatusRestarts",
        {STARTED: "1+1x4 5x60"},
        "10m",
        "a was started 4 times anew within 30 minutes.",
        {"instance": "a"},
    ),
    Case("RegistryStatusRestarts", {STARTED: "1+1x4 5x60"}, "40m"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_an_alert_is_due_when_it_should_be(chart: Chart, promtool: Path, tmp_path: Path, case: Case) -> None:
    found = rules(chart)
    written(tmp_path, found)
    unit = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [case.unit_test(by_name(found)[case.alert])]}
    (tmp_path / "unit.yaml").write_text(yaml.safe_dump(unit))
    run([promtool, "test", "rules", tmp_path / "unit.yaml"])


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    for expected in (True, False):
        assert {case.alert for case in CASES if bool(case.description) is expected} == set(ALERTS)


@pytest.mark.parametrize("values", [{}, {"alertLabels": {"team": "a"}, "selector": 'job=~"a.*"'}], ids=["default", "full"])
def test_prometheus_takes_the_rules(chart: Chart, promtool: Path, tmp_path: Path, values: dict[str, Any]) -> None:
    said = run([promtool, "check", "rules", written(tmp_path, rules(chart, **values))])
    assert f"{len(ALERTS)} rules found" in said


def test_it_would_not_take_a_broken_one(chart: Chart, promtool: Path, tmp_path: Path) -> None:
    found = rules(chart)
    found[0]["expr"] += ")"
    with pytest.raises(CommandError, match="could not parse expression"):
        run([promtool, "check", "rules", written(tmp_path, found)])


class TestValues:
    def test_name_the_alerts_that_there_are(self, chart: Chart) -> None:
        assert set(DEFAULTS) == set(ALERTS) == set(by_name(rules(chart)))
        assert {name for name, values in DEFAULTS.items() if "threshold" in values} == {
            name for name, alert in ALERTS.items() if "THRESHOLD" in alert["expr"]
        }

    def test_decide_of_each_when_it_is_due(self, chart: Chart) -> None:
        theirs = {"RegistryStatusOutOfStep": {"for": "1h", "severity": "page", "threshold": 2.5}}
        rule = by_name(rules(chart, alerts=theirs))["RegistryStatusOutOfStep"]
        assert (rule["for"], rule["labels"], rule["expr"][-5:]) == ("1h", {"severity": "page"}, "> 2.5")

    def test_can_leave_each_out(self, chart: Chart) -> None:
        for name in ALERTS:
            assert set(by_name(rules(chart, alerts={name: {"enabled": False}}))) == set(ALERTS) - {name}

    def test_of_a_dry_run_leave_out_what_is_always_so_in_one(self, chart: Chart) -> None:
        values = at("monitoring.prometheusRule.enabled", True) | {"delivery": {"dryRun": True}}
        (group,) = one(chart.render(values), "PrometheusRule")["spec"]["groups"]
        left_out = {"RegistryStatusNoLeader", "RegistryStatusSeveralLeaders", "RegistryStatusOutOfStep"}
        assert set(by_name(group["rules"])) == set(ALERTS) - left_out

    def test_add_labels_but_not_another_severity(self, chart: Chart) -> None:
        for name, rule in by_name(rules(chart, alertLabels={"team": "platform", "severity": "none"})).items():
            assert rule["labels"] == {"team": "platform", "severity": DEFAULTS[name]["severity"]}

    def test_select_the_releases_own_series_or_others(self, chart: Chart) -> None:
        assert all("{" + OURS in rule["expr"] and "SERIES" not in rule["expr"] for rule in rules(chart))
        for rule in rules(chart, selector='job="operators"'):
            selectors = re.findall(r"\{(.*?)\}", rule["expr"])
            assert selectors
            assert all(selector.startswith('job="operators"') for selector in selectors)


class TestRunbooks:
    def test_the_table_of_alerts_leads_to_all_of_them(self) -> None:
        linked = re.findall(r"^\| \[(\w+)\]\(runbooks\.md#(\w+)\)", OPERATIONS, re.MULTILINE)
        assert [name for name, _ in linked] == list(ALERTS)
        assert [anchor for _, anchor in linked] == [name.lower() for name in ALERTS]

    def test_each_alert_leads_to_its_section(self, chart: Chart) -> None:
        anchors = {heading.lower() for heading in re.findall(r"^## (\w+)$", RUNBOOKS, re.MULTILINE)}
        assert anchors == {name.lower() for name in ALERTS}
        for name, rule in by_name(rules(chart, runbookUrl="https://runbooks.example/r.md")).items():
            assert rule["annotations"]["runbook_url"] == f"https://runbooks.example/r.md#{name.lower()}"

    def test_each_section_says_what_it_means_what_users_notice_how_to_find_the_cause_and_how_to_mend_it(self) -> None:
        for section in re.split(r"^## ", RUNBOOKS, flags=re.MULTILINE)[1:]:
            parts = re.findall(r"^\*\*(.+?)\.\*\*", section, re.MULTILINE)
            assert parts == ["What it means", "What users notice", "Find the cause", "Mend it"], section.splitlines()[0]
            assert "```sh\n" in section
