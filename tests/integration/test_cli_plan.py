"""`registry-status plan` and `explain` against a real kube-apiserver and the development server; they write nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from registry_status.registry.devserver import Answer, DevServer, Fault, NewInstance
from tests.cluster.control_plane import ControlPlane
from tests.cluster.processes import free_port
from tests.integration.cli_runs import Ran, registry, run
from tests.integration.running import SERVICE, Pods, operator, register, wait_status, wait_until
from tests.pods import START, running, terminated


@pytest.fixture
def server() -> Iterator[tuple[DevServer, str]]:
    with registry(clock=lambda: START + 3) as (server, url):
        yield server, url
        assert server.writes == [], "a command that only looks has written"
        assert {request.method for request in server.requests} <= {"GET"}


class Cli:
    """The commands, with the flags that lead to this test's cluster, namespace and registry."""

    def __init__(self, control_plane: ControlPlane, pods: Pods, url: str) -> None:
        self.flags = ["--kubeconfig", str(control_plane.kubeconfig), "--registry-address", url]
        self.namespace = pods.namespace

    def plan(self, *words: str) -> Ran:
        return run("plan", "-n", self.namespace, *self.flags, *words)

    def states(self) -> dict[str, str]:
        return {pod["name"]: pod["state"] for pod in self.plan("-o", "json").data["pods"]}

    def explain(self, pod: str, *words: str) -> Ran:
        return run("explain", f"{self.namespace}/{pod}", *self.flags, *words)


@pytest.fixture
def cli(control_plane: ControlPlane, pods: Pods, server: tuple[DevServer, str]) -> Cli:
    return Cli(control_plane, pods, server[1])


Server = tuple[DevServer, str]


# --- plan ---------------------------------------------------------------------------------------


def test_pods_that_are_in_step_are_exit_status_0(cli: Cli, pods: Pods, server: Server) -> None:
    pods.create("cart")
    register(server[0], "cart")
    pods.create("stranger", {})
    ran = cli.plan()
    assert (ran.status, ran.err) == (0, "")
    head, row, _, summary = ran.out.splitlines()
    assert head.split() == ["NAMESPACE", "POD", "STATE", "REGISTRY", "DESIRED", "WHY"]
    assert row.split(maxsplit=5) == [pods.namespace, "cart", "in-step", "UP", "UP", "the pod is Ready"]
    assert summary == "annotated pods: 1 (1 in-step); others: 1"


def test_what_would_be_written_is_told_with_its_reason_and_is_exit_status_1(cli: Cli, pods: Pods, server: Server) -> None:
    pods.create("cart")
    pods.show("cart", "False", 9)
    instance = register(server[0], "cart")
    ran = cli.plan("-o", "json")
    assert ran.status == 1
    told = ran.data
    assert (told["kind"], told["schema"], told["inStep"], told["summary"]["would-change"]) == ("Plan", 1, False, 1)
    (found,) = told["pods"]
    assert (found["state"], found["desired"], found["reason"]) == ("would-change", "OUTOFSERVICE", "ReadinessLost")
    assert found["instances"] == [
        {
            "instanceId": instance,
            "serviceId": SERVICE,
            "leftover": False,
            "registry": "UP",
            "desired": "OUTOFSERVICE",
            "changes": True,
        }
    ]
    assert yaml.safe_load(cli.plan("-o", "yaml").out) == told


def test_each_pod_has_the_state_that_it_is_in(cli: Cli, pods: Pods, server: Server) -> None:
    pods.create("in-step", ip="10.244.0.11")
    register(server[0], "in-step", "10.244.0.11")
    pods.create("changes", ip="10.244.0.12")
    register(server[0], "changes", "10.244.0.12", status="DOWN")
    pods.create("unmatched", ip="10.244.0.13")
    pods.create("invalid", {"service-id": SERVICE, "match": "luck"}, ip="10.244.0.14")
    pods.create("paused", {"service-id": SERVICE, "paused": "true"}, ip="10.244.0.15")
    pods.create("starting", ip="10.244.0.16")
    pods.show("starting", "False", 1)
    pods.create("conflict", ip="10.244.0.17")
    for port in (8080, 8081):
        new = NewInstance(host_name="conflict", endpoints=(f"rest://10.244.0.17:{port}",), interval=3600, times=100)
        server[0].registry.register(SERVICE, new)
    assert cli.states() == {
        "in-step": "in-step",
        "changes": "would-change",
        "unmatched": "unmatched",
        "invalid": "invalid",
        "paused": "paused",
        "starting": "waiting",
        "conflict": "conflict",
    }
    shown = cli.plan("--differences")
    assert shown.status == 1
    rows = [line.split()[1] for line in shown.out.splitlines()[1:-2]]
    assert rows == ["changes", "conflict", "invalid", "unmatched"]


def test_a_leftover_of_an_earlier_life_would_get_down(control_plane: ControlPlane, pods: Pods) -> None:
    now = [START + 3]
    with registry(clock=lambda: now[0]) as (server, url):
        pods.create("cart")
        older = register(server, "cart")
        now[0] = START + 103
        newer = register(server, "cart")
        again = running(100, restarts=1) | {"image": "example/none", "imageID": "", "ready": True}
        pods.show("cart", "True", 110, ip="10.244.0.7", containerStatuses=[again])
        (found,) = Cli(control_plane, pods, url).plan("-o", "json").data["pods"]
        steps = {step["instanceId"]: (step["leftover"], step["registry"], step["desired"]) for step in found["instances"]}
        assert steps == {newer: (False, "UP", "UP"), older: (True, "UP", "DOWN")}
        assert found["state"] == "would-change"
        assert server.writes == []


def test_of_two_pods_that_claim_one_instance_the_ready_one_owns_it(cli: Cli, pods: Pods, server: Server) -> None:
    named = {"service-id": SERVICE, "instance-id": "one"}
    pods.create("ready", named)
    pods.create("other", named)
    pods.show("other", "False", 9)
    register(server[0], "ready", instance_id="one")
    ran = cli.plan("-o", "json", "--trust-instance-ids", "true")
    notes = {pod["name"]: (pod["state"], pod["note"]) for pod in ran.data["pods"]}
    assert notes["ready"] == ("in-step", "")
    assert notes["other"][0] == "conflict"
    assert f"claimed by pod {pods.namespace}/ready too" in notes["other"][1]


def test_a_service_that_is_not_registered_is_told_with_the_nearest_names(cli: Cli, pods: Pods) -> None:
    pods.create("cart", {"service": "carts", "app": "shop"})
    pods.create("card", {"service": "cart"}, ip="10.244.0.8")
    notes = {pod["name"]: pod["note"] for pod in cli.plan("-o", "json").data["pods"]}
    assert "service shop/carts is not registered in project default of domain default; did you mean cart?" in notes["cart"]
    assert "the name is registered as shop/cart version" in notes["card"]


def test_what_plan_foretells_is_what_run_does(control_plane: ControlPlane, pods: Pods, tmp_path: Path) -> None:
    with registry(clock=lambda: START + 3) as (server, url):
        pods.create("cart")
        pods.show("cart", "False", 9)
        pods.create("gone", ip="10.244.0.8")
        ended = terminated(9) | {"image": "example/none", "imageID": "", "ready": False}
        pods.show("gone", "False", 9, ip="10.244.0.8", phase="Failed", containerStatuses=[ended])
        instances = {"cart": register(server, "cart"), "gone": register(server, "gone", "10.244.0.8")}
        cli = Cli(control_plane, pods, url)
        told = {step["instanceId"]: step["desired"] for pod in cli.plan("-o", "json").data["pods"] for step in pod["instances"]}
        assert told == {instances["cart"]: "OUTOFSERVICE", instances["gone"]: "DOWN"}
        with operator(control_plane.kubeconfig, url, tmp_path, "--namespace", pods.namespace):
            for instance, status in told.items():
                wait_status(server, instance, status)
        assert cli.plan().status == 0


def test_long_names_are_never_cut_in_a_pipe(cli: Cli, pods: Pods, server: Server) -> None:
    name = "c" * 60 + "-" + "d" * 120
    pods.create(name)
    register(server[0], name[:63])
    (line,) = [line for line in cli.plan("-o", "wide").out.splitlines() if name in line]
    assert line.split()[2] == "in-step"
    assert SERVICE in line
    assert "\x1b" not in line


def test_settings_come_from_the_environment_as_in_run(control_plane: ControlPlane, pods: Pods, server: Server) -> None:
    pods.create("cart")
    register(server[0], "cart")
    ran = run(
        "plan",
        REGISTRY_STATUS_KUBECONFIG=str(control_plane.kubeconfig),
        REGISTRY_STATUS_REGISTRY_ADDRESS=server[1],
        REGISTRY_STATUS_NAMESPACE=pods.namespace,
    )
    assert ran.status == 0
    assert "1 in-step" in ran.out


def test_a_dead_address_is_passed_over(control_plane: ControlPlane, pods: Pods, server: Server) -> None:
    pods.create("cart")
    register(server[0], "cart")
    cli = Cli(control_plane, pods, f"http://127.0.0.1:{free_port()},{server[1]}")
    assert cli.plan().status == 0


def test_what_cannot_be_asked_is_exit_status_3(control_plane: ControlPlane, pods: Pods, server: Server, cli: Cli) -> None:
    pods.create("cart")
    server[0].faults.set(Fault(Answer(status=503, body=b"down")))
    ran = cli.plan()
    assert (ran.status, ran.out) == (3, "")
    assert ran.err.startswith("registry-status plan: the registry cannot be asked: HTTP 503")
    nowhere = Cli(control_plane, pods, server[1])
    nowhere.flags[1] = "/nowhere"
    ran = nowhere.plan()
    assert (ran.status, ran.out) == (3, "")
    assert "kubeconfig /nowhere: No such file" in ran.err


@pytest.mark.parametrize("words", [["-o", "xml"], ["--resync-interval", "1"], ["--registry-address", "ftp://x"], ["surplus"]])
def test_wrong_use_is_exit_status_2(words: list[str]) -> None:
    assert run("plan", "--registry-address", "http://127.0.0.1:1", *words).status == 2
    assert run("plan").status == 2


# --- explain ------------------------------------------------------------------------------------


def test_explain_tells_the_rule_the_candidates_the_registry_and_the_events(cli: Cli, pods: Pods, server: Server) -> None:
    pods.create("cart", {"service": "cart", "app": "shop"})
    pods.show("cart", "False", 9)
    mine = register(server[0], "cart")
    theirs = register(server[0], "other", "10.244.0.9")
    uid = pods.http.get("/pods/cart").json()["metadata"]["uid"]
    about = {"kind": "Pod", "namespace": pods.namespace, "name": "cart", "uid": uid}
    event = {
        "metadata": {"name": "cart.1"}, "involvedObject": about, "type": "Warning", "reason": "RegistryStatusDrifted",
        "message": "someone else has changed it", "count": 3, "lastTimestamp": "2026-01-05T10:00:00Z",
        "source": {"component": "registry-status-operator"},
    }  # fmt: skip
    pods.http.post("/events", json=event).raise_for_status()
    ran = cli.explain("cart", "-o", "json")
    assert ran.status == 0
    (told,) = ran.data
    assert (told["rule"], told["reason"]) == (9, "ReadinessLost")
    assert told["saw"]["Ready"] == "False since 2026-01-05T10:00:09Z"
    assert told["saw"]["container main"] == "running since 2026-01-05T10:00:02Z"
    assert told["registry"]["state"] == "would-change"
    why = {found["instanceId"]: (found["taken"], found["why"]) for found in told["registry"]["candidates"]}
    assert why == {
        mine: (True, "agrees in endpoint and host name"),
        theirs: (False, "differs in endpoint and host name: another pod's"),
    }
    assert [(event["reason"], event["count"]) for event in told["events"]] == [("RegistryStatusDrifted", 3)]
    text = cli.explain("cart").out
    assert f"{mine}: UP -> OUTOFSERVICE" in text
    assert "Warning RegistryStatusDrifted x3: someone else has changed it" in text
    assert f"not taken {theirs}" in text


def test_explain_finds_the_events_of_a_static_pod_by_the_uid_of_its_kubelet(
    control_plane: ControlPlane, pods: Pods, tmp_path: Path
) -> None:
    metadata = {
        "name": "static-node-1",
        "annotations": {"kubernetes.io/config.mirror": "6a1f33d2b3e9410c", "registry-status.io/servce": "cart"},
    }
    spec = {"nodeName": "node-1", "containers": [{"name": "main", "image": "example/none"}]}
    pods.http.post("/pods", json={"metadata": metadata, "spec": spec}).raise_for_status()
    with operator(control_plane.kubeconfig, "http://127.0.0.1:1", tmp_path, "--namespace", pods.namespace):
        wait_until(lambda: bool(pods.events("static-node-1")), 10, "an Event")
    ran = run("explain", f"{pods.namespace}/static-node-1", "--kubeconfig", control_plane.kubeconfig, "-o", "json")
    assert [event["reason"] for event in ran.data[0]["events"]] == ["InvalidRegistryAnnotation"]


def test_explain_without_a_registry_says_that_it_was_not_asked(control_plane: ControlPlane, pods: Pods) -> None:
    pods.create("cart")
    ran = run("explain", f"{pods.namespace}/cart", "--kubeconfig", control_plane.kubeconfig)
    assert ran.status == 0
    assert "the registry is not asked: no --registry-address" in ran.out


def test_who_refuses_is_named_where_the_api_server_does(
    control_plane: ControlPlane, cli: Cli, pods: Pods, tmp_path: Path
) -> None:
    pods.create("cart")
    document = yaml.safe_load(control_plane.kubeconfig.read_text())
    document["users"][0]["user"] = {"token": "outdated"}
    outdated = tmp_path / "kubeconfig"
    outdated.write_text(yaml.safe_dump(document))
    why = f"the API server {control_plane.url}: 401: Unauthorized"
    for command, ran in {
        "explain": cli.explain("cart", "--kubeconfig", str(outdated)),
        "plan": cli.plan("--kubeconfig", str(outdated)),
    }.items():
        assert ran.err.startswith(f"registry-status {command}: {why}")


def test_explain_with_a_registry_that_does_not_answer_tells_all_else_and_is_exit_status_3(
    cli: Cli, pods: Pods, server: Server
) -> None:
    pods.create("cart")
    server[0].faults.set(Fault(Answer(status=503, body=b"down")))
    ran = cli.explain("cart")
    assert ran.status == 3
    assert ran.err.startswith("registry-status explain: the registry cannot be asked: HTTP 503")
    assert ran.out.startswith(f"{pods.namespace}/cart: UP")
    assert "rule:     " in ran.out
    assert "events:   none of the operator's" in ran.out
    assert "unasked:  the registry cannot be asked: HTTP 503" in ran.out
