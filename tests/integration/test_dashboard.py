"""The dashboard and the alerts on a real Prometheus that scrapes two real operators at work: every query returns data.

For about a minute their pods change, the registry fails, somebody else writes statuses, an instance comes back with its own
status, the API server restarts, and the leader stops. What Prometheus has seen of it is asked by the dashboard's own queries.

    RECORD_DASHBOARD=1 .venv/bin/pytest tests/integration/test_dashboard.py

keeps the answers, from which docs/draw_dashboard.py draws docs/images/dashboard.svg.
"""

import json
import math
import os
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry_status.registry.devserver import Answer, DevServer, Fault
from tests.charts.rendering import CHART, ROOT, Chart, one
from tests.cluster import levels, tools
from tests.cluster.control_plane import ControlPlane
from tests.cluster.processes import wait_for
from tests.docs.pages import Page
from tests.integration import prometheus as monitoring
from tests.integration.prometheus import Prometheus, Series, Target
from tests.integration.running import SERVICE, Operator, Pods, register, registry, wait_status
from tests.pods import START

BOARD = CHART / "dashboards" / "registry-status.json"
ANSWERS = ROOT / "tests" / "data" / "dashboard" / "answers.json"
NAMESPACE, RELEASE = "system", "status"
JOB = f"{RELEASE}-registry-status-operator"
PODS = 12
PACE = 0.4
"""Seconds between two changes of a pod."""
WORDS = {"$__rate_interval": "5s", "$namespace": NAMESPACE, "$job": JOB}
"""What Grafana would put in for a scrape each second."""

pytestmark = pytest.mark.timeout(240, func_only=True)


@dataclass(frozen=True)
class Query:
    """One query of the dashboard: of which panel, which of its targets, and what it asks."""

    panel: str
    ref: str
    expression: str
    legend: str

    @property
    def concrete(self) -> str:
        """The query as Grafana would send it."""
        text = self.expression
        for word, value in WORDS.items():
            text = text.replace(word, value)
        return text


@dataclass(frozen=True)
class Story:
    """What happened, as Prometheus saw it."""

    prometheus: Prometheus
    began: float
    ended: float

    def ask(self, expression: str) -> list[Series]:
        return self.prometheus.range(expression, self.began, self.ended)


DASHBOARD: dict[str, Any] = json.loads(BOARD.read_text("utf-8"))
QUERIES = [
    Query(panel["title"], target["refId"], target["expr"], target["legendFormat"])
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
]


class Fleet:
    """Pods with an instance each, which lose and regain their readiness in turn."""

    def __init__(self, pods: Pods, server: DevServer) -> None:
        self._pods, self._server = pods, server
        self._ips = {f"cart-{number}": f"10.244.0.{number + 7}" for number in range(PODS)}
        for name, ip in self._ips.items():
            pods.create(name, ip=ip)
        self._instances = {name: register(server, name, ip, status="STARTING") for name, ip in self._ips.items()}
        self._ready = dict.fromkeys(self._ips, True)
        self._turns = deque(self._ips)
        """The pod whose turn is next comes first; the one changed last is the last."""

    def work(self, seconds: float) -> None:
        """Change one pod after the other, as a kubelet would: with the time of now."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            name = self._turns[0]
            self._turns.rotate(-1)
            self._ready[name] = not self._ready[name]
            self._pods.show(name, str(self._ready[name]), time.time() - START)
            time.sleep(PACE)

    def meddle(self) -> None:
        """Write a status as a console would, and register an instance anew as an SDK does after its expiry.

        It happens to pods that have just changed, so that the operator finds it before they change again.
        """
        other, anew = self._turns[-2], self._turns[-3]
        self._server.registry.put_status(SERVICE, self._instances[other], "DOWN" if self._ready[other] else "UP")
        self._server.registry.delete_instance(SERVICE, self._instances[anew])
        status = "DOWN" if self._ready[anew] else "UP"
        register(self._server, anew, self._ips[anew], status=status, instance_id=self._instances[anew])

    def retire(self) -> None:
        """Delete a pod, which takes its time to end."""
        name = self._turns[-4]
        self._turns.remove(name)
        self._pods.delete(name)

    def wait_all(self, status: str) -> None:
        for instance in self._instances.values():
            wait_status(self._server, instance, status, 30)


@contextmanager
def scraped(operators: Mapping[str, Operator], folder: Path) -> Iterator[Prometheus]:
    """Let a Prometheus with the chart's rules scrape the operators."""
    release = {"namespace": NAMESPACE, "job": JOB}
    targets = [Target(each.listen, release | {"pod": pod}) for pod, each in operators.items()]
    rendered = Chart(tools.program("helm")).render(
        {"monitoring": {"prometheusRule": {"enabled": True}}}, release=RELEASE, namespace=NAMESPACE
    )
    with monitoring.prometheus(folder, targets, one(rendered, "PrometheusRule")["spec"]) as running:
        wait_for(lambda: running.healthy_targets() == len(targets), 30, "the operators scraped")
        yield running


@pytest.fixture(scope="module")
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Let it all happen, once for all tests."""
    if why := tools.why_not(*tools.CONTROL_PLANE, "helm") or monitoring.why_not():
        levels.not_run(request.config, "dashboard", why)
    folder = tmp_path_factory.mktemp("dashboard")
    with ExitStack() as stack:
        plane = stack.enter_context(ControlPlane())
        server, url = stack.enter_context(registry())
        pods = Pods(plane.kube, "shop")
        operators = {}
        for pod in ("operator-0", "operator-1"):
            flags = ["--namespace", "shop", "--leader-elect", "true", "--lease-name", "status", "--lease-namespace", "shop"]
            flags += ["--resync-interval", "2"]
            operators[pod] = Operator(plane.kubeconfig, url, folder, *flags, environment={"POD_NAME": pod})
            stack.callback(operators[pod].stop)
        for each in operators.values():
            each.wait_ready()
        running = stack.enter_context(scraped(operators, folder))
        began = time.time()
        fleet = Fleet(pods, server)
        fleet.wait_all("UP")
        wait_for(lambda: has_seen_all_up(running), 20, "a scrape while all are UP")
        happen(plane, server, operators, fleet)
        yield Story(running, began, time.time())


def happen(plane: ControlPlane, server: DevServer, operators: Mapping[str, Operator], fleet: Fleet) -> None:
    """A bad day, in about a minute."""
    fleet.work(10)
    server.faults.set(Fault(Answer(status=503, body=b"down")))
    fleet.work(5)
    server.faults.clear()
    fleet.work(5)
    fleet.meddle()
    fleet.retire()
    fleet.work(5)
    plane.kill_apiserver()
    time.sleep(2)
    plane.start_apiserver()
    fleet.work(5)
    leader = wait_leader(operators.values())
    leader.stop()
    wait_leader(each for each in operators.values() if each is not leader)
    fleet.work(5)


def has_seen_all_up(prometheus: Prometheus) -> bool:
    """Whether Prometheus knows that the registry has confirmed all pods, for long enough that a range's steps meet it."""
    expression = f'min_over_time(registry_status_acknowledged_pods{{status="UP"}}[3s]) == {PODS}'
    return bool(prometheus.get("query", query=expression)["result"])


def wait_leader(operators: Iterable[Operator]) -> Operator:
    """Wait until one of them leads."""
    candidates = list(operators)
    wait_for(lambda: any(leads(each) for each in candidates), 30, "a leader")
    return next(each for each in candidates if leads(each))


def leads(operator: Operator) -> bool:
    return "registry_status_leader 1.0" in operator.metrics()


def numbers(found: list[Series]) -> list[float]:
    return [value for series in found for _, value in series.values if math.isfinite(value)]


def test_no_two_panels_share_a_place_or_a_number() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) == 23


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: f"{query.panel}-{query.ref}")
def test_every_query_of_the_dashboard_returns_data(story: Story, query: Query) -> None:
    found = story.ask(query.concrete)
    assert numbers(found), f"{query.concrete}: no data"
    labels = re.findall(r"{{(\w+)}}", query.legend)
    assert all(label in series.labels for label in labels for series in found), "its legend names labels that it has"


def test_the_variables_find_the_release(story: Story) -> None:
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert list(variables) == ["datasource", "namespace", "job"]
    for name, expected in (("namespace", NAMESPACE), ("job", JOB)):
        asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variables[name]["query"]["query"])
        assert asked
        match = replace(QUERIES[0], expression=asked[1]).concrete
        values = story.prometheus.get(f"label/{asked[2]}/values", **{"match[]": match})
        assert values == [expected]


def test_the_annotations_of_the_dashboard_can_be_asked(story: Story) -> None:
    for each in DASHBOARD["annotations"]["list"]:
        assert numbers(story.ask(replace(QUERIES[0], expression=each["expr"]).concrete)), each["name"]


class TestWhatItShows:
    """A glance at the panels tells what happened."""

    def shown(self, story: Story, panel: str, ref: str = "A") -> list[Series]:
        (query,) = (query for query in QUERIES if (query.panel, query.ref) == (panel, ref))
        return story.ask(query.concrete)

    def labels(self, story: Story, panel: str, label: str) -> set[str]:
        """The labels of the series that were ever above 0."""
        return {series.labels[label] for series in self.shown(story, panel) if max(numbers([series]), default=0) > 0}

    def test_how_many_instances_are_wanted_and_confirmed_in_which_status(self, story: Story) -> None:
        for ref in "AB":
            shown = {series.labels["status"]: numbers([series]) for series in self.shown(story, "Instances by status", ref)}
            assert max(shown["UP"]) == PODS
            assert max(shown["OUTOFSERVICE"]) >= PODS / 2
            assert shown["DOWN"][-1] == 1, "the one that was deleted"

    def test_how_long_a_status_takes(self, story: Story) -> None:
        """Pods tell their times in whole seconds, and the registry was away for five of them."""
        half, nearly_all = (numbers(self.shown(story, "Pod to registry", ref)) for ref in "AC")
        assert min(half) < 1.5
        assert 2 < max(nearly_all) < 30

    def test_why_requests_failed(self, story: Story) -> None:
        assert "http-503" in self.labels(story, "Failures by code", "code")

    def test_who_else_writes(self, story: Story) -> None:
        assert self.labels(story, "Drift by cause", "cause") >= {"changed-by-others", "registered-anew"}

    def test_that_the_circuit_was_open_and_is_closed(self, story: Story) -> None:
        (circuit,) = self.shown(story, "Circuit by address")
        assert {0.0, 1.0} == set(numbers([circuit]))
        assert circuit.values[-1][1] == 0

    def test_who_leads(self, story: Story) -> None:
        led = {series.labels["pod"]: series.values for series in self.shown(story, "Leader")}
        assert len(led) == 2
        assert all(max(value for _, value in values) == 1 for values in led.values()), "one after the other"

    def test_that_the_api_server_was_away(self, story: Story) -> None:
        assert "disconnected" in self.labels(story, "Watch faults", "kind")


class TestAlerts:
    def test_every_rule_is_evaluated_without_an_error(self, story: Story) -> None:
        rules = story.prometheus.rules()
        assert len(rules) >= 10
        assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}

    def test_every_rule_asks_for_series_that_there_are(self, story: Story) -> None:
        """A misspelt name would be evaluated all the same, and never fire."""
        for rule in story.prometheus.rules():
            names = set(re.findall(r"\b(?:registry_status|process)_\w+", rule["query"]))
            assert names, rule["query"]
            assert [name for name in sorted(names) if not story.ask(f'count({{__name__="{name}"}})')] == [], rule["name"]


def test_the_documented_configuration_is_one(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Debian's Prometheus is built without the discovery of pods, so that something else takes its place."""
    if why := monitoring.why_not():
        levels.not_run(request.config, "dashboard", why)
    (block,) = (block for block in Page(ROOT / "docs" / "monitoring.md").blocks if block.file == "prometheus.yaml")
    config = yaml.safe_load(block.text)
    (job,) = config["scrape_configs"]
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod", "namespaces": {"names": ["registry-status-system"]}}]
    job["static_configs"] = [{"targets": ["127.0.0.1:1"]}]
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    monitoring.check_config(tmp_path / "prometheus.yaml")


def legend(query: Query, series: Series) -> str:
    return re.sub(r"{{(\w+)}}", lambda found: series.labels[found[1]], query.legend)


def test_the_answers_can_be_kept_for_the_picture(story: Story, tmp_path: Path) -> None:
    """They hold no time of day and no address of this run, so that the picture differs only where the story does."""
    answers = {
        f"{query.panel}/{query.ref}": {
            "expression": query.expression,
            "series": [
                {
                    "legend": re.sub(r"127\.0\.0\.1:\d+", "registry.example:30100", legend(query, series)),
                    "values": [[round(at - story.began), value] for at, value in series.values if math.isfinite(value)],
                }
                for series in story.ask(query.concrete)
            ],
        }
        for query in QUERIES
    }
    target = ANSWERS if os.environ.get("RECORD_DASHBOARD") else tmp_path / "answers.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in answers.items())
    target.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    assert all(answer["series"] for answer in json.loads(target.read_text("utf-8")).values())
