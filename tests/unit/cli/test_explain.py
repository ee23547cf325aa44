"""`registry-status explain`: pods from a file or a cluster, answers for people and programs, and a clear word on bad input."""

import asyncio
import io
import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry_status.cli import main
from registry_status.cli.explain import as_text
from registry_status.cli.explaining import RULES, EventSeen, explain_offline
from registry_status.cluster import read
from registry_status.config import Settings
from registry_status.demo.emulator import Emulator
from registry_status.model import Reason
from tests.pods import pod, running, terminated, waiting

ASKED = {"service-id": "svc-1"}
HISTORIES = sorted((Path(__file__).parents[2] / "data" / "pods").glob("*.json"))
KEYS = [
    "namespace", "name", "status", "reason", "message", "target", "problems", "rule", "saw", "registry", "events", "unasked",
]  # fmt: skip


@dataclass
class Ran:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def pods(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.out)
        return found

    @property
    def complaint(self) -> str:
        """The one line on standard error of a command that could not do its work, and wrote nothing else."""
        assert (self.status, self.out) == (2, "")
        assert self.err.endswith("\n")
        assert self.err.count("\n") == 1
        assert self.err.startswith("registry-status explain: ")
        return self.err.strip().removeprefix("registry-status explain: ")


Explain = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Explain:
    """Run `explain` with these words, and these bytes on standard input; None: it is closed."""

    def run(*words: str, stdin: bytes | None = b"") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)) if stdin is not None else None)
        status = main(["explain", *words])
        got = capsys.readouterr()
        return Ran(status, got.out, got.err)

    return run


@pytest.fixture
def explain(run: Explain, tmp_path: Path) -> Explain:
    """Explain a file with this content: bytes, text, or an object that is written as JSON."""

    def explain(content: object, *words: str) -> Ran:
        file = tmp_path / "pods.yaml"
        text = content if isinstance(content, bytes | str) else json.dumps(content)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return run("-f", str(file), *words)

    return explain


# --- the forms of pods --------------------------------------------------------------------------

ONE, TWO = pod(ASKED, name="one"), pod(ASKED, name="two", uid="uid-2", ready="False")
WITHOUT_KIND = {key: value for key, value in TWO.items() if key not in ("kind", "apiVersion")}
FORMS: dict[str, object] = {
    "two documents": yaml.safe_dump_all([ONE, TWO]),
    "empty documents between": f"---\n---\n{yaml.safe_dump(ONE)}---\n# nothing\n---\n{yaml.safe_dump(TWO)}...\n",
    "a List": {"kind": "List", "apiVersion": "v1", "items": [ONE, TWO]},
    "a List in YAML": yaml.safe_dump({"kind": "List", "items": [ONE, TWO]}),
    "a PodList whose items have no kind": {"kind": "PodList", "items": [ONE, WITHOUT_KIND]},
    "a List beside a Pod": yaml.safe_dump_all([{"kind": "List", "items": [ONE]}, TWO]),
    "an empty List beside pods": yaml.safe_dump_all([{"kind": "List", "items": None}, ONE, TWO]),
    "a byte order mark": b"\xef\xbb\xbf" + yaml.safe_dump_all([ONE, TWO]).encode(),
    "Windows' line ends": yaml.safe_dump_all([ONE, TWO]).replace("\n", "\r\n"),
}


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS)
def test_pods_come_in_many_forms(explain: Explain, content: object) -> None:
    ran = explain(content, "-o", "json")
    assert (ran.status, ran.err) == (0, "")
    assert [(found["name"], found["status"]) for found in ran.pods] == [("one", "UP"), ("two", "OUTOFSERVICE")]


def test_a_single_pod_is_an_array_of_one(explain: Explain) -> None:
    assert [found["name"] for found in explain(ONE, "-o", "json").pods] == ["one"]


def test_a_dash_is_standard_input(run: Explain) -> None:
    assert [found["name"] for found in run("-f", "-", "-o", "json", stdin=json.dumps(ONE).encode()).pods] == ["one"]


def test_json_may_escape_characters_as_yaml_may_not(explain: Explain) -> None:
    text = json.dumps(pod(ASKED | {"note.example/smile": "\U0001f600"}, name="one"))
    assert "\\ud83d\\ude00" in text
    assert [found["name"] for found in explain(text, "-o", "json").pods] == ["one"]


def test_flow_style_yaml_that_begins_like_json_is_yaml(explain: Explain) -> None:
    text = "{kind: Pod, metadata: {name: one, annotations: {registry-status.io/service-id: svc-1}}}"
    assert [found["status"] for found in explain(text, "-o", "json").pods] == ["STARTING"]


@pytest.mark.parametrize("quote", ["", "'"], ids=["plain", "quoted"])
def test_a_time_is_a_time_whether_quoted_or_not(explain: Explain, quote: str) -> None:
    text = f"""
        kind: Pod
        metadata: {{name: one, namespace: shop, uid: u, annotations: {{registry-status.io/service-id: svc-1}}}}
        spec: {{containers: [{{name: main}}]}}
        status:
          conditions:
          - {{type: Ready, status: "False", lastTransitionTime: {quote}2026-11-25T10:00:09Z{quote}}}
          containerStatuses:
          - {{name: main, started: true, state: {{running: {{startedAt: {quote}2026-11-25T10:00:02Z{quote}}}}}}}
    """
    assert [found["reason"] for found in explain(text, "-o", "json").pods] == ["ReadinessLost"]


# --- answers ------------------------------------------------------------------------------------

VERDICTS: list[tuple[str, dict[str, Any], str | None, str]] = [
    ("ready", pod(ASKED), "UP", "PodReady"),
    ("starting", pod(ASKED, ready="False", ready_since=1), "STARTING", "ContainerStarting"),
    ("waiting", pod(ASKED, ready="False", statuses=[waiting()]), "STARTING", "ContainerNotStarted"),
    ("readiness lost", pod(ASKED, ready="False"), "OUTOFSERVICE", "ReadinessLost"),
    ("crashed", pod(ASKED, ready="False", statuses=[terminated()]), "DOWN", "ContainerExited"),
    ("terminating", pod(ASKED, deleting=True), "DOWN", "PodTerminating"),
    ("finished", pod(ASKED, phase="Succeeded"), "DOWN", "PodFinished"),
    ("lost node", pod(ASKED, ready="Unknown"), "OUTOFSERVICE", "NodeLost"),
    ("not annotated", pod(), None, "NotManaged"),
    ("of another class", pod(ASKED | {"class": "blue"}), None, "NotManaged"),
    ("paused", pod(ASKED | {"paused": "true"}), None, "Paused"),
]


@pytest.mark.parametrize(("raw", "status", "reason"), [row[1:] for row in VERDICTS], ids=[row[0] for row in VERDICTS])
def test_json_tells_status_and_reason_and_null_where_nothing_would_be_written(
    explain: Explain, raw: dict[str, Any], status: str | None, reason: str
) -> None:
    ran = explain(raw, "-o", "json")
    (found,) = ran.pods
    assert list(found) == KEYS
    assert (found["namespace"], found["name"], found["status"], found["reason"]) == ("shop", "cart-1", status, reason)
    assert found["message"]
    assert (found["target"] is None) is (status is None)
    assert (ran.status, found["problems"]) == (0, [])


def target_of(explain: Explain, annotations: dict[str, str], *words: str) -> Any:
    (found,) = explain(pod(annotations), "-o", "json", *words).pods
    return found["target"]


EMPTY_TARGET = {
    "project": "default", "domain": "default", "serviceId": None, "service": None, "app": None, "environment": None,
    "version": None, "instanceId": None, "match": "auto",
}  # fmt: skip
TARGETS: list[tuple[dict[str, str], dict[str, Any]]] = [
    (ASKED, {"serviceId": "svc-1"}),
    (ASKED | {"match": "hostname"}, {"serviceId": "svc-1", "match": "hostname"}),
    (ASKED | {"instance-id": "{pod.namespace}.{pod.name}"}, {"serviceId": "svc-1", "instanceId": "shop.cart-1", "match": None}),
    ({"service": "cart"}, {"service": "cart", "app": "default", "environment": ""}),
    (
        {"service": "cart", "app": "shop", "environment": "production", "version": "1.0"},
        {"service": "cart", "app": "shop", "environment": "production", "version": "1.0"},
    ),
]


@pytest.mark.parametrize(("annotations", "expected"), TARGETS)
def test_json_tells_the_target_that_the_annotations_name(
    explain: Explain, annotations: dict[str, str], expected: dict[str, Any]
) -> None:
    assert target_of(explain, annotations) == EMPTY_TARGET | expected


def test_an_id_that_waits_for_the_pods_ip_is_null(explain: Explain) -> None:
    raw = pod(ASKED | {"instance-id": "{pod.ip}"}, ip="")
    (found,) = explain(raw, "-o", "json").pods
    assert (found["status"], found["target"]["instanceId"], found["target"]["match"]) == ("UP", None, None)
    assert "does not have yet" in explain(raw).out


def test_invalid_annotations_are_told_with_key_value_and_allowed_form(explain: Explain) -> None:
    ran = explain({"kind": "List", "items": [pod(ASKED | {"match": "luck", "paused": "yes"}), ONE]}, "-o", "json")
    assert ran.status == 1
    wrong, right = ran.pods
    assert (wrong["status"], wrong["reason"], wrong["target"]) == (None, "InvalidRegistryAnnotation", None)
    assert {found["key"]: found["value"] for found in wrong["problems"]} == {
        "registry-status.io/match": "luck",
        "registry-status.io/paused": "yes",
    }
    assert all(list(found) == ["key", "value", "allowed"] and found["allowed"] for found in wrong["problems"])
    assert right["status"] == "UP"


def test_text_is_for_people(explain: Explain) -> None:
    ran = explain({"kind": "List", "items": [ONE, TWO, pod(), pod(ASKED | {"match": "luck"}, name="wrong")]})
    assert ran.status == 1
    one, two, nothing, wrong = ran.out.strip().split("\n\n")
    assert one.splitlines() == [
        "shop/one: UP",
        "  reason:   PodReady",
        "  because:  the pod is Ready",
        "  rule:     4 (docs/statuses.md), which saw:",
        "              phase: Running",
        "              Ready: True since 2026-01-05T10:00:05Z",
        "              ContainersReady: not set",
        "              container main: running since 2026-01-05T10:00:02Z",
        "              IPs: 10.244.0.7",
        "              host name: one",
        "  service:  svc-1",
        "  instance: found by what it registered (match: auto)",
        "  tenant:   domain default, project default",
    ]
    assert "not-ready-status is auto" in two
    assert nothing.startswith("shop/cart-1: nothing to write\n  reason:   NotManaged\n")
    assert wrong.splitlines()[2].startswith("  problem:  registry-status.io/match: 'luck' is not allowed; allowed: auto,")


SAW: list[tuple[str, dict[str, Any], str, str]] = [
    ("deletion", {"deleting": True}, "deletion", "asked for at 2026-01-05T10:00:30Z"),
    ("a reason", {"ready": "False", "ready_reason": "ContainersNotReady"}, "Ready",
     "False since 2026-01-05T10:00:05Z (ContainersNotReady)"),
    ("no condition", {"ready": None}, "Ready", "not set"),
    ("a gate", {"readinessGates": [{"conditionType": "example.org/gate"}]}, "example.org/gate", "not set"),
    ("no status", {"statuses": []}, "container main", "no status yet"),
    ("waiting", {"statuses": [waiting()]}, "container main", "waiting (ContainerCreating)"),
    ("a crash loop", {"statuses": [waiting("CrashLoopBackOff", restarts=2)]}, "container main",
     "waiting (CrashLoopBackOff), has run before, 2 restarts"),
    ("the end", {"statuses": [terminated()]}, "container main", "terminated at 2026-01-05T10:00:09Z (Error)"),
    ("a startup probe", {"statuses": [running(startup_done=False)]}, "container main",
     "running since 2026-01-05T10:00:02Z, its startup probe not done"),
    ("no IP", {"ip": ""}, "IPs", "none"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "name", "value"), [row[1:] for row in SAW], ids=[row[0] for row in SAW])
def test_the_values_that_the_rule_saw_are_told(explain: Explain, changes: dict[str, Any], name: str, value: str) -> None:
    (found,) = explain(pod(ASKED, **changes), "-o", "json").pods
    assert found["saw"][name] == value


def test_every_reason_has_the_number_of_its_rule(explain: Explain) -> None:
    assert set(RULES) == set(Reason)
    told = (Path(__file__).parents[3] / "docs" / "statuses.md").read_text()
    numbers = dict(re.findall(r"^\| (\d) \|.*`(\w+)` \|$", told, re.MULTILINE))
    assert {number: RULES[Reason(reason)] for number, reason in numbers.items()} == {number: int(number) for number in numbers}
    assert len(numbers) == 9


def test_yaml_says_the_same_as_json(explain: Explain) -> None:
    pods = {"kind": "List", "items": [ONE, TWO, pod(), pod(ASKED | {"match": "luck"})]}
    assert yaml.safe_load(explain(pods, "-o", "yaml").out) == explain(pods, "-o", "json").pods


def test_a_character_that_cannot_be_printed_is_escaped(explain: Explain) -> None:
    ran = explain(json.dumps(pod(ASKED, ready="False", statuses=[terminated(reason="\ud800")])))
    assert ran.status == 0
    assert "(\\ud800)" in ran.out


ESCAPE = "\x1b[2J\x1b]0;owned\x07\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        pod(ASKED, name=f"cart{ESCAPE}"),
        pod(ASKED, namespace=f"shop{ESCAPE}"),
        pod(ASKED | {"match": f"luck{ESCAPE}"}),
        pod(ASKED | {f"servce{ESCAPE}": "x"}),
        pod(ASKED, phase="Failed", reason=f"Evicted{ESCAPE}"),
        pod(ASKED, ready="False", statuses=[terminated(reason=f"Error{ESCAPE}")]),
    ],
)
def test_no_pod_writes_escapes_to_a_terminal(explain: Explain, raw: dict[str, Any]) -> None:
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", explain(json.dumps(raw)).out)


def test_what_others_say_in_a_clusters_answers_is_made_safe_as_well() -> None:
    found = explain_offline(pod(ASKED), Settings())
    event = EventSeen(ESCAPE, ESCAPE, ESCAPE, 1, ESCAPE)
    odd = replace(found, desired=replace(found.desired, message=ESCAPE), events=[event])
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", as_text(odd))


@pytest.mark.parametrize("form", ["text", "json", "yaml"])
def test_no_character_and_no_time_makes_it_fall(explain: Explain, form: str) -> None:
    odd = pod(ASKED | {"version": "\ud800"}, ready="False", statuses=[terminated(reason="\ud800")])
    late = pod(ASKED)
    for condition in late["status"]["conditions"]:
        condition["lastTransitionTime"] = "9999-12-31T23:59:59-23:59"
    ran = explain(json.dumps({"kind": "List", "items": [odd, late]}), "-o", form)
    assert (ran.status, ran.err) == (1, "")
    assert "9999-12-31T23:59:59Z" in ran.out


@pytest.mark.parametrize("history", HISTORIES, ids=lambda path: path.stem)
def test_a_recorded_history_yields_the_statuses_expected_of_it(explain: Explain, history: Path) -> None:
    events = [one for one in json.loads(history.read_text())["events"] if one["event"]["type"] != "DELETED"]
    ran = explain({"kind": "List", "items": [one["event"]["object"] for one in events]}, "-o", "json")
    assert ran.status == 0
    assert [found["status"] for found in ran.pods] == [one["expect"] for one in events]


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "annotations", "changes", "status"),
    [
        (["--terminating-status", "OUTOFSERVICE"], ASKED, {"deleting": True}, "OUTOFSERVICE"),
        (["--starting-status", "DOWN"], ASKED, {"ready": None}, "DOWN"),
        (["--not-ready-status", "DOWN"], ASKED, {"ready": "False"}, "DOWN"),
        (["--class", "blue"], ASKED, {}, None),
        (["--class", "blue"], ASKED | {"class": "blue"}, {}, "UP"),
        (["--annotation-prefix", "corp.example"], {"corp.example/service-id": "s"}, {}, "UP"),
        (["--annotation-prefix", "corp.example"], ASKED, {}, None),
        (["--allow-project", "shop/eu-*"], ASKED | {"project": "eu-1"}, {}, "UP"),
    ],
)
def test_the_operators_settings_count(
    explain: Explain, words: list[str], annotations: dict[str, str], changes: dict[str, Any], status: str | None
) -> None:
    (found,) = explain(pod(annotations, **changes), "-o", "json", *words).pods
    assert found["status"] == status


def test_settings_come_from_the_environment_too(explain: Explain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_STATUS_REGISTRY_PROJECT", "eu-1")
    assert target_of(explain, ASKED)["project"] == "eu-1"
    assert target_of(explain, ASKED, "--registry-project", "us-1")["project"] == "us-1"


def test_a_wrong_setting_is_told(explain: Explain) -> None:
    assert explain(ONE, "--starting-status", "UP").complaint.startswith("--starting-status: 'UP' is not allowed; allowed:")


# --- bad input ----------------------------------------------------------------------------------

WHERE = "pods.yaml"


def annotated(annotations: str) -> str:
    return f"kind: Pod\nmetadata: {{name: a, annotations: {annotations}}}\n"


BAD: list[tuple[str, object, str]] = [
    ("nothing", "", f"{WHERE} holds no Pod"),
    ("comments only", "# nothing\n---\n", f"{WHERE} holds no Pod"),
    ("an empty List", {"kind": "List", "items": []}, f"{WHERE} holds no Pod"),
    ("a List without items", {"kind": "PodList"}, f"{WHERE} holds no Pod"),
    ("a text", "hello", f"{WHERE}, document 1: a str is no object of Kubernetes; allowed: Pod, PodList, List"),
    ("a list", "[]", f"{WHERE}, document 1: a list is no object of Kubernetes; allowed: Pod, PodList, List"),
    ("no kind", "a: b", f"{WHERE}, document 1: a kind is missing; allowed: Pod, PodList, List"),
    ("a kind that is none", "kind: [Pod]", f"{WHERE}, document 1: a kind is missing; allowed: Pod, PodList, List"),
    ("another kind", {"kind": "Deployment"}, f"{WHERE}, document 1: kind 'Deployment' is not allowed; allowed: Pod, PodList,"),
    ("a long kind", {"kind": "x" * 5000}, f"kind '{'x' * 100}' is not allowed"),
    ("another kind after a pod", yaml.safe_dump_all([ONE, {"kind": "Service"}]), f"{WHERE}, document 2: kind 'Service' is not"),
    ("another kind in a List", {"kind": "List", "items": [ONE, {"kind": "Job"}]}, "document 1, item 1: kind 'Job' is not"),
    ("a List in a List", {"kind": "List", "items": [{"kind": "List", "items": [ONE]}]}, "item 0: kind 'List' is not allowed"),
    ("a null in a List", {"kind": "List", "items": [None]}, "document 1, item 0: a NoneType is no object of Kubernetes"),
    ("items that are no list", {"kind": "List", "items": {"a": 1}}, f"{WHERE}, document 1: items must be a list"),
    ("no metadata", {"kind": "Pod"}, "a Pod needs metadata.name"),
    ("no name", {"kind": "Pod", "metadata": {}}, "a Pod needs metadata.name"),
    ("a number for a name", {"kind": "Pod", "metadata": {"name": 1}}, "a Pod needs metadata.name"),
    ("a list for a spec", {"kind": "Pod", "metadata": {"name": "a"}, "spec": []}, "spec must be a mapping"),
    ("a text for a status", {"kind": "Pod", "metadata": {"name": "a"}, "status": "Running"}, "status must be a mapping"),
    (
        "an annotation without quotes",
        "kind: Pod\nmetadata:\n  name: a\n  annotations:\n    registry-status.io/paused: true\n",
        "annotation registry-status.io/paused is no text, which Kubernetes refuses; put its value in quotes",
    ),
    ("a number as an annotation's key", annotated("{1: x}"), "the key of an annotation is no text (int), which Kubernetes"),
    ("a truth as one", annotated("{true: x}"), "the key of an annotation is no text (bool)"),
    ("nothing as one", annotated("{null: x}"), "the key of an annotation is no text (NoneType)"),
    ("bad YAML", "kind: Pod\n\tname: x", f"{WHERE} is neither YAML nor JSON: "),
    ("truncated JSON", '{"kind": "Pod", "metadata": {"name": "on', f"{WHERE} is neither YAML nor JSON: "),
    ("a Python object", "!!python/object/apply:os.system [echo]", f"{WHERE} is neither YAML nor JSON: could not determine"),
    ("an unknown alias", "*nowhere", f"{WHERE} is neither YAML nor JSON: "),
    ("a number that is none", "!!int x", f"{WHERE} is neither YAML nor JSON: "),
    ("an empty number", "!!int ''", f"{WHERE} is neither YAML nor JSON: "),
    ("a truth that is none", "!!bool x", f"{WHERE} is neither YAML nor JSON: "),
    ("a time that is none", "!!timestamp x", f"{WHERE} is neither YAML nor JSON: "),
    ("a number of base 60 without end", "a: " + ":".join(["1"] * 300) + ".0", f"{WHERE} is neither YAML nor JSON: "),
    ("a number without end", "9" * 5000, f"{WHERE} is neither YAML nor JSON: "),
    ("a number of base 16 without end", "0x" + "f" * 5000, f"{WHERE} is neither YAML nor JSON: "),
    ("a list as a key", "? [a]\n: b", f"{WHERE} is neither YAML nor JSON: "),
    ("binary", bytes(range(256)), f"{WHERE} is not UTF-8 text: invalid start byte at byte 128"),
    ("UTF-16", "kind: Pod".encode("utf-16"), f"{WHERE} is not UTF-8 text: "),
    ("control characters", b"kind: \x00\x01", f"{WHERE} is neither YAML nor JSON: "),
    ("endless brackets", "[" * 100_000, f"{WHERE} is neither YAML nor JSON: "),
    ("endless braces", '{"a":' * 100_000, f"{WHERE} is neither YAML nor JSON: "),
    ("endless dashes", "- " * 100_000, f"{WHERE} is neither YAML nor JSON: "),
    ("a List that holds itself", "&a\nkind: List\nitems: [*a]", "item 0: kind 'List' is not allowed"),
]


@pytest.mark.parametrize(("content", "complaint"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input_is_told_in_one_line(explain: Explain, content: object, complaint: str) -> None:
    assert complaint in explain(content, "-o", "json").complaint


def test_bad_standard_input_is_called_that(run: Explain) -> None:
    assert run("-f", "-", stdin=b"\xff").complaint == "standard input is not UTF-8 text: invalid start byte at byte 0"
    assert run("-f", "-", stdin=b"{").complaint.startswith("standard input is neither YAML nor JSON: ")
    assert run("-f", "-", stdin=b"a").complaint.startswith("standard input, document 1: ")


def test_a_closed_standard_input_is_told(run: Explain) -> None:
    assert run("-f", "-", stdin=None).complaint == "cannot read standard input: it is closed"


def test_a_missing_file_is_told(run: Explain) -> None:
    assert run("-f", "/nowhere/pods.yaml").complaint == "cannot read /nowhere/pods.yaml: No such file or directory"


def test_a_directory_is_told(run: Explain, tmp_path: Path) -> None:
    assert run("-f", str(tmp_path)).complaint == f"cannot read {tmp_path}: Is a directory"


@pytest.mark.parametrize("words", [[], ["shop/cart-1", "-f", "-"]])
def test_either_a_pod_or_a_file_is_needed(run: Explain, words: list[str]) -> None:
    assert run(*words).complaint == "give either NAMESPACE/POD or -f FILE"


@pytest.mark.parametrize("word", ["cart-1", "shop/", "/cart-1", "shop/cart/1", ""])
def test_a_pod_is_named_with_its_namespace(run: Explain, word: str) -> None:
    assert run(word).complaint == f"{word!r} is not of the form NAMESPACE/POD"


NO_NAMES = {
    "a namespace": ["..", ".", "Shop", "sh_op", "shop-", "a.b", "a b", "sh%2fop", "shöp", "shop\n", "x" * 64],
    "a pod": ["..", ".", "Cart", "ca_rt", "-cart", "cart-", "a..b", ".a", "a b", "a?x=1", "a%2f", "cärt", "cart\n", "x" * 254],
}


@pytest.mark.parametrize(("what", "name"), [(what, name) for what, names in NO_NAMES.items() for name in names])
def test_a_name_that_kubernetes_does_not_give_is_told_before_anybody_is_asked(run: Explain, what: str, name: str) -> None:
    complaint = run(f"{name}/cart-1" if what == "a namespace" else f"shop/{name}").complaint
    assert complaint.startswith(f"{name!r} is not allowed as the name of {what}; allowed: ")


BOMB = "\n".join(
    ["x-bomb:", "- &a0 [boom, boom, boom, boom, boom, boom, boom, boom, boom, boom]"]
    + [f"- &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
)
BOMBS = {
    "in passing": ("kind: Pod\nmetadata: {name: one}", "UP"),
    "as annotations": ("kind: Pod\nmetadata: {name: one, annotations: *a29}", "UP"),
    "as an annotation": ("kind: Pod\nmetadata: {name: one, annotations: {x: *a29}}", "no text"),
    "as containers": ("kind: Pod\nmetadata: {name: one}\nspec: {containers: *a29}\nstatus: {conditions: *a29}", "UP"),
    "as a name": ("kind: Pod\nmetadata: {name: *a29}", "metadata.name"),
    "as a kind": ("kind: *a29", "a kind is missing"),
    "as a List": ("kind: List\nitems: *a29", "no object of Kubernetes"),
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize(("rest", "expected"), BOMBS.values(), ids=BOMBS)
def test_a_yaml_bomb_does_not_go_off(explain: Explain, rest: str, expected: str) -> None:
    ran = explain(f"{BOMB}\n{rest}\n", "-o", "json")
    if expected == "UP":
        assert [found["reason"] for found in ran.pods] == ["NotManaged"]
    else:
        assert expected in ran.complaint
        assert len(ran.complaint) < 500


def test_ten_thousand_pods_are_explained_in_seconds(run: Explain) -> None:
    listed = {"kind": "List", "items": [pod(ASKED, name=f"cart-{number}", uid=str(number)) for number in range(10_000)]}
    began = time.process_time()
    ran = run("-f", "-", "-o", "json", stdin=json.dumps(listed).encode())
    assert time.process_time() - began < 15
    assert [found["name"] for found in ran.pods] == [f"cart-{number}" for number in range(10_000)]


# --- from a cluster -----------------------------------------------------------------------------


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    return tmp_path / "kubeconfig"


async def test_a_pod_of_a_cluster_is_explained(run: Explain, kubeconfig: Path) -> None:
    emulator = Emulator()
    async with emulator.listening():
        emulator.kubeconfig(kubeconfig)
        emulator.create_pod(pod(ASKED))
        ran = await asyncio.to_thread(run, "shop/cart-1", "--kubeconfig", str(kubeconfig), "-o", "json")
    assert [(found["namespace"], found["name"], found["status"]) for found in ran.pods] == [("shop", "cart-1", "UP")]
    assert emulator.writes == ()


async def test_a_pod_that_is_not_there_is_told(run: Explain, kubeconfig: Path) -> None:
    emulator = Emulator()
    async with emulator.listening():
        emulator.kubeconfig(kubeconfig)
        ran = await asyncio.to_thread(run, "shop/cart-1", "--kubeconfig", str(kubeconfig))
    assert ran.complaint == "there is no pod cart-1 in namespace shop"


@pytest.mark.parametrize("kind", ["Namespace", "PodList", "Status", None, 5])
async def test_an_answer_that_is_no_pod_is_not_explained(
    run: Explain, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch, kind: object
) -> None:
    async def answer(*_: object) -> object:
        return {**pod(ASKED), "kind": kind}

    monkeypatch.setattr(read, "read_pod", answer)
    emulator = Emulator()
    async with emulator.listening():
        emulator.kubeconfig(kubeconfig)
        ran = await asyncio.to_thread(run, "shop/cart-1", "--kubeconfig", str(kubeconfig))
    assert ran.complaint == f"shop/cart-1: the API server's answer is no Pod; its kind is {kind!r}"


@pytest.mark.parametrize("name", ["cart-1", "cart.1-a", "0", "x" * 253])
async def test_any_name_that_kubernetes_gives_is_asked_for(run: Explain, kubeconfig: Path, name: str) -> None:
    emulator = Emulator()
    async with emulator.listening():
        emulator.kubeconfig(kubeconfig)
        ran = await asyncio.to_thread(run, f"shop/{name}", "--kubeconfig", str(kubeconfig))
    assert ran.complaint == f"there is no pod {name} in namespace shop"


async def test_a_pod_that_may_not_be_read_is_told(run: Explain, kubeconfig: Path) -> None:
    emulator = Emulator()
    async with emulator.listening():
        emulator.kubeconfig(kubeconfig)
        emulator.deny("get", "pods")
        ran = await asyncio.to_thread(run, "shop/cart-1", "--kubeconfig", str(kubeconfig))
    assert "403" in ran.complaint


async def test_a_cluster_that_does_not_answer_is_told(run: Explain, kubeconfig: Path) -> None:
    emulator = Emulator()
    async with emulator.listening() as url:
        emulator.kubeconfig(kubeconfig)
    ran = await asyncio.to_thread(run, "shop/cart-1", "--kubeconfig", str(kubeconfig))
    assert url in ran.complaint


def test_a_kubeconfig_that_is_not_there_is_told(run: Explain, kubeconfig: Path) -> None:
    complaint = run("shop/cart-1", "--kubeconfig", str(kubeconfig)).complaint
    assert complaint == f"kubeconfig {kubeconfig}: No such file or directory"
