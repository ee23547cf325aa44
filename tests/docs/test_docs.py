"""The documentation says what is so: names exist, what exists is named, generated parts are current, commands do as shown."""

import argparse
import dataclasses
import importlib
import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from registry_status import cli, config
from registry_status.cluster import lease
from registry_status.cluster.lines import WatchFault
from registry_status.config import Settings
from registry_status.model import OutcomeKind, Reason
from registry_status.pods import annotations
from registry_status.pods.status import desired
from registry_status.registry.base import Operation
from registry_status.report import event_policy
from registry_status.report.event_policy import DropCause, EventReason
from registry_status.sync import resync
from registry_status.sync.resync import Cause
from tests.docs.pages import BLOCKS, PAGES, ROOT, Block, Page, documents, mappings, page

CHART = ROOT / "charts" / "registry-status-operator"
SETTINGS = dataclasses.fields(Settings)
FLAGS = {config.flag(field.name) for field in SETTINGS}
VARIABLES = {config.variable(field.name) for field in SETTINGS}
PREFIX = Settings().prefix
EVERYTHING_ALLOWED = Settings(allowed_projects=("*",), allowed_domains=("*",))

pages = pytest.mark.parametrize("page", PAGES.values(), ids=lambda page: page.name)


def script(name: str) -> ModuleType:
    """Load one of the scripts in docs/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- links --------------------------------------------------------------------------------------


@pages
def test_links_lead_somewhere(page: Page) -> None:
    broken = []
    for link in page.links:
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.path.parent / path).resolve() if path else page.path
        if not target.exists() or (anchor and anchor not in Page(target).anchors):
            broken.append(link)
    assert broken == []


def test_every_page_and_every_picture_is_linked() -> None:
    linked = {(page.path.parent / link.partition("#")[0]).resolve() for page in PAGES.values() for link in page.links}
    files = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "images").iterdir()]
    assert [str(path.relative_to(ROOT)) for path in files if path not in linked] == []


# --- generated parts ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["generate_reference", "draw_timelines", "draw_dashboard"])
def test_what_is_generated_is_current(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", [name, "--check"])
    assert script(name).main() == 0


# --- names --------------------------------------------------------------------------------------


def command_parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(name, allow_abbrev=False, exit_on_error=False)
    importlib.import_module(f"registry_status.cli.{name}").add_arguments(parser)
    return parser


def command_flags() -> set[str]:
    return {option for name in cli.COMMANDS for action in command_parser(name)._actions for option in action.option_strings}


FOREIGN_FLAGS = {"--build-arg", "--strict", "--check"}
FOREIGN_PROGRAMS = re.compile(r"(?:kubectl|helm|docker|curl|\S*python)\b")


@pages
def test_flags_and_variables_exist(page: Page) -> None:
    own = [code for code in page.inline if not FOREIGN_PROGRAMS.match(code)]
    flags = {word for code in own for word in re.findall(r"(?<!\S)--[a-z][a-z-]*", code)}
    assert flags - command_flags() - FOREIGN_FLAGS - {"--registry-"} == set()
    assert set(re.findall(r"REGISTRY_STATUS_[A-Z_]+", page.text)) - VARIABLES - {"REGISTRY_STATUS_"} == set()


def test_every_setting_is_documented() -> None:
    text = page("docs/configuration.md").text
    assert [name for name in sorted(FLAGS | VARIABLES) if f"`{name}`" not in text] == []


def test_every_setting_that_the_chart_has_is_documented_with_its_value_there() -> None:
    chart = script("generate_reference").chart_values()
    assert {name for name in VARIABLES if not chart.get(name)} == {"REGISTRY_STATUS_KUBECONFIG", "REGISTRY_STATUS_CONTEXT"}
    defaults = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    for path in (path for paths in chart.values() for path in paths):
        value = defaults
        for part in path.split("."):
            value = value[part]
        assert not isinstance(value, dict), path
    assert chart["REGISTRY_STATUS_REGISTRY_PASSWORD_FILE"] == ("registry.auth.passwordKey",)
    assert chart["REGISTRY_STATUS_REGISTRY_CA_FILE"] == ("registry.tls.caKey",)


def test_every_command_is_documented() -> None:
    assert [name for name in cli.COMMANDS if f"`registry-status {name}`" not in page("README.md").text] == []


@pages
def test_annotation_keys_exist(page: Page) -> None:
    named = set(re.findall(rf"{re.escape(PREFIX)}([a-z-]*[a-z])", page.text))
    assert named - set(annotations.KEYS) - {"registered"} == set()


def test_every_annotation_key_is_documented_with_its_form_and_told_in_the_readme() -> None:
    told = page("docs/annotations.md")
    keys = [row[0].strip("`") for row in told.rows]
    assert [key for key in annotations.KEYS if key not in keys] == []
    assert [key for key in annotations.KEYS if f"`{key}`" not in page("README.md").text] == []
    forms = (annotations.NAME_FORM, annotations.ID_FORM, annotations.SERVICE_ID_FORM, annotations.VERSION_FORM)
    assert [form for form in forms if form not in told.text] == []
    assert [name for name in annotations.TEMPLATE_FIELDS if f"`{{{name}}}`" not in told.text] == []


CODE_WORDS = re.compile(r"(?:Registry|InvalidRegistry|Pod|Node|Container|Readiness|NotManaged|Paused)[A-Za-z]*")


@pages
def test_reason_codes_exist(page: Page) -> None:
    named = {code for code in page.inline if CODE_WORDS.fullmatch(code)}
    assert named - set(Reason) - set(EventReason) == set()


@pytest.mark.parametrize("name", ["README.md", "docs/statuses.md"])
def test_every_reason_code_is_documented(name: str) -> None:
    assert [reason for reason in Reason if f"`{reason}`" not in page(name).text] == []


def test_every_event_is_documented_with_its_type() -> None:
    told = {row[0].strip("`"): row[1] for row in page("docs/operations.md").rows if len(row) > 2}
    assert {reason: told.get(reason) for reason in EventReason} == {reason: reason.type for reason in EventReason}


def test_every_warning_has_its_part_of_the_troubleshooting() -> None:
    headings = page("docs/troubleshooting.md").anchors
    warnings = [reason for reason in EventReason if reason.type == "Warning"]
    assert [reason for reason in warnings if f"event-{reason.lower()}" not in headings] == []


def test_every_warning_is_in_the_readmes_table_of_symptoms() -> None:
    told = {row[0] for row in page("README.md").rows}
    assert [reason for reason in EventReason if reason.type == "Warning" and f"Event `{reason}`" not in told] == []


@pages
def test_metrics_exist(page: Page) -> None:
    known = {metric.name for metric in script("generate_reference").all_metrics()}
    named = set(re.findall(r"registry_status_[a-z_]+", page.text))
    assert named - known - {"registry_status_"} == set()


@pytest.mark.parametrize(
    ("label", "of", "values"),
    [
        ("kind", "outcomes_total", OutcomeKind),
        ("operation", "requests_total", Operation),
        ("cause", "drift_total", Cause),
        ("kind", "watch_faults_total", WatchFault),
        ("cause", "events_dropped_total", DropCause),
    ],
)
def test_every_value_of_a_label_is_documented(label: str, of: str, values: Any) -> None:
    (told,) = [row[2] for row in page("docs/operations.md").rows if row[:2] == [f"`{label}`", f"`registry_status_{of}`"]]
    assert set(re.findall(r"`([a-z-]+)`", told)) == {value.value for value in values}


def test_every_watch_fault_has_its_place_in_the_troubleshooting() -> None:
    named = set(page("docs/troubleshooting.md").inline)
    assert [fault for fault in WatchFault if fault not in named] == []


def test_every_code_of_a_request_that_fails_has_its_place_in_the_troubleshooting() -> None:
    codes = set(re.findall(r"(?:Transient|Permanent|Unavailable)Error\(\s*\"([a-z-]+)\"", source())) - {"fenced"}
    assert {"broken", "connect", "tls", "unavailable"} <= codes
    assert codes - set(page("docs/troubleshooting.md").inline) == set()


# --- numbers and words that the code decides ----------------------------------------------------


def test_the_paces_of_events_are_as_told() -> None:
    text = page("docs/operations.md").text
    assert (event_policy.GLOBAL_BURST, event_policy.GLOBAL_RATE) == (50, 10)
    assert (event_policy.POD_BURST, event_policy.POD_RATE) == (20, 1 / 60)
    assert "50 at once and 10 a second for all pods together, 20 at once and one a minute for each pod" in " ".join(
        text.split()
    )
    assert (event_policy.OUTAGE_PODS, event_policy.OUTAGE_WITHIN) == (10, 30)
    assert "When 10 pods come into trouble within 30 s" in text
    assert (event_policy.HOLD_BACK, event_policy.REPEAT_AFTER) == (5, 300)


def source() -> str:
    """All of the operator's code, with texts that span several lines joined."""
    joined = re.compile(r'"\s*\n\s*f?"')
    return "\n".join(joined.sub("", path.read_text("utf-8")) for path in (ROOT / "operator").rglob("*.py"))


def test_messages_in_the_troubleshooting_are_the_operators_own() -> None:
    told = page("docs/troubleshooting.md")
    first_cells = [row[0] for row in told.rows]
    heads = re.findall(r"^- (`[^`]+`):", told.text, re.MULTILINE)
    messages = [code for text in [*first_cells, *heads] for code in re.findall(r"`([^`]+ [^`]*)`", text)]
    assert len(messages) > 8
    code = source()
    hole = r"(?:\{[^}]*\}|[^\"\n])*"
    missing = []
    for message in messages:
        parts = [re.escape(part.strip()) for part in message.removeprefix("--registry-address").split("...") if part.strip()]
        if not re.search(hole.join(parts), code):
            missing.append(message)
    assert not missing, missing


def test_times_of_a_takeover_are_as_told() -> None:
    text = page("docs/high-availability.md").text
    assert f"unchanged for {lease.DURATION:g} s" in text
    assert f"succeeded for {lease.DEADLINE:g} s" in text
    assert f"under way {lease.FENCE:g} s after" in text
    assert lease.RETRY == 1


def test_values_of_high_availability_have_the_defaults_that_are_told() -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    told = {row[0].strip("`"): row[1].strip("`") for row in page("docs/high-availability.md").rows if len(row) == 3}
    for path in (
        "replicaCount",
        "podDisruptionBudget.enabled",
        "antiAffinity",
        "topologySpreadConstraints",
        "priorityClassName",
    ):
        value = defaults
        for part in path.split("."):
            value = value[part]
        assert told[path] == (str(value).lower() if value else "none")


def test_what_is_said_of_repairs_is_so() -> None:
    assert (resync.FIGHT_REPAIRS, resync.FIGHT_WINDOW) == (3, 300)
    assert "Three corrections of one instance within 5 minutes" in " ".join(page("docs/faq.md").text.split())
    assert Settings().resync_interval == 30


# --- guides for SDKs ----------------------------------------------------------------------------

SDK_PAGES = [told for name, told in PAGES.items() if name.startswith("docs/sdk-") and name != "docs/sdk-guide.md"]


def test_each_sdk_has_its_page_and_its_column() -> None:
    columns = page("docs/sdk-guide.md").rows[0][1:]
    assert {told.text.splitlines()[0].removeprefix("# ") for told in SDK_PAGES} == set(columns)


@pytest.mark.parametrize("told", SDK_PAGES, ids=lambda told: told.name)
def test_each_sdk_page_has_all_its_parts_and_says_what_is_not_sure(told: Page) -> None:
    assert re.findall(r"^## (.+)$", told.text, re.MULTILINE) == ["What it does", "Settings that fit", "Not confirmed"]
    assert {row[0] for row in told.rows} >= {"start", "heartbeats", "expired", "SIGTERM", "as caller"}


def hooks(tree: object) -> Iterator[tuple[int, int]]:
    """The seconds of each preStop hook, and the grace period that it counts towards."""
    for pod in (found for found in mappings(tree) if "containers" in found and "terminationGracePeriodSeconds" in found):
        for container in pod["containers"]:
            if "lifecycle" in container:
                yield int(container["lifecycle"]["preStop"]["exec"]["command"][1]), pod["terminationGracePeriodSeconds"]


def test_hooks_leave_time_for_an_sdks_own_wait_within_the_grace_period() -> None:
    found = [pair for block in BLOCKS if block.language == "yaml" for tree in documents(block) for pair in hooks(tree)]
    assert len(found) >= 2
    assert [pair for pair in found if pair[0] + 15 >= pair[1]] == []


# --- YAML ---------------------------------------------------------------------------------------

YAML_BLOCKS = [block for block in BLOCKS if block.language == "yaml"]
block_id = lambda block: f"{block.page}-{block.file or BLOCKS.index(block)}"  # noqa: E731


def annotated(tree: object) -> Iterator[dict[str, Any]]:
    """Whatever bears annotations of ours: pods, templates, and fragments of them."""
    for found in mappings(tree):
        own = (found.get("metadata") or {}).get("annotations") or {} if isinstance(found.get("metadata"), dict) else {}
        if any(key.startswith(PREFIX) for key in own):
            yield found


@pytest.mark.parametrize("block", YAML_BLOCKS, ids=block_id)
def test_yaml_parses_and_its_pods_are_annotated_rightly(block: Block) -> None:
    trees = documents(block)
    assert trees
    for found in (found for tree in trees for found in annotated(tree)):
        metadata = {"namespace": "shop", "name": "cart-0", **found["metadata"]}
        pod = {"kind": "Pod", "metadata": metadata, "spec": found.get("spec") or {"containers": [{"name": "main"}]}}
        operator_class = metadata["annotations"].get(f"{PREFIX}class", "")
        wanted = desired(pod, dataclasses.replace(EVERYTHING_ALLOWED, operator_class=operator_class))
        if "# wrong on purpose" in block.text:
            assert wanted.problems
        else:
            assert (wanted.problems, wanted.managed) == ((), True)


def test_enough_of_the_yaml_bears_annotations() -> None:
    assert len([found for block in YAML_BLOCKS for tree in documents(block) for found in annotated(tree)]) >= 5


@pytest.mark.parametrize("block", [block for block in YAML_BLOCKS if block.file == "values.yaml"], ids=block_id)
def test_values_are_the_charts(block: Block) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    for values in documents(block):
        jsonschema.validate(values, schema)


def test_values_named_in_the_text_are_the_charts() -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    heads = "|".join(name for name in defaults if isinstance(defaults[name], dict))
    for told in PAGES.values():
        named = {code for code in told.inline if re.fullmatch(rf"(?:{heads})\.[\w.]+", code)}
        named |= set(re.findall(r"--set '?([\w.]+)=", told.text))
        for path in named:
            tree = defaults
            for part in path.split("."):
                assert part in tree, f"{told.name}: {path}"
                tree = tree[part]


# --- commands -----------------------------------------------------------------------------------

OWN = [(block, line) for block in BLOCKS for line in block.commands if re.match(r"(\S*/)?registry-status\s", line)]


@pytest.mark.parametrize(("block", "line"), OWN, ids=lambda part: part if isinstance(part, str) else "")
def test_commands_of_ours_are_used_rightly(block: Block, line: str) -> None:
    words = shlex.split(line)[1:]
    parsed = command_parser(words[0]).parse_args(words[1:])
    if words[0] == "run" and block.language != "console":
        config.read_settings(parsed, {})


CONSOLE = [block for block in BLOCKS if block.language == "console" and block.text.startswith("$ registry-status ")]


@pytest.mark.parametrize("block", CONSOLE, ids=block_id)
def test_commands_print_what_is_shown(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for other in BLOCKS:
        if other.page == block.page and other.file:
            (tmp_path / other.file).write_text(other.text)
    command, _, shown = block.text.partition("\n")
    status = cli.main(shlex.split(command)[2:])
    printed = capsys.readouterr()
    assert printed.out + printed.err == shown
    assert status == (0 if not printed.err and "problem:" not in shown else 2 if printed.err else 1)


def test_some_commands_are_run() -> None:
    assert len(CONSOLE) >= 3


SHELL = [(block, line) for block in BLOCKS if block.language in {"sh", "console"} for line in block.commands]
PROGRAMS = {"make", "docker", "kind", "kubectl", "helm", "curl", "grep", "sleep", "source", "registry-status"}
OURS = re.compile(r"(?<![\w/-])registry[-_]status (\w[^|>)]*)")
RELEASE, SYSTEM = "registry-status-operator", "registry-status-system"
WORKLOADS = {f"deployment/{RELEASE}", f"service/{RELEASE}", "deployment/demo", "service/registry"}
"""What the chart and manifests/demo make, as far as commands of the documentation speak of it."""


def programs(line: str) -> Iterator[str]:
    """What a line runs: its first word, and the first after each pipe."""
    words = shlex.shlex(line, posix=True, punctuation_chars="|")
    words.whitespace_split = True
    before = "|"
    for word in words:
        if before == "|":
            yield word
        before = word


def test_commands_are_of_programs_that_a_reader_has_or_was_told_to_get() -> None:
    named = {program for _, line in SHELL for program in programs(line)}
    assert named - PROGRAMS == {".venv/bin/python"}


def test_commands_of_ours_are_used_rightly_inside_of_other_commands_too() -> None:
    inside = [found[1] for _, line in SHELL if not line.startswith("registry-status ") for found in OURS.finditer(line)]
    assert len(inside) >= 5
    for command in inside:
        name, *words = shlex.split(command)
        command_parser(name).parse_args(words)


def test_commands_agree_on_the_release_its_namespace_and_what_is_in_them() -> None:
    for _, line in SHELL:
        if helm := re.match(r"helm (?:upgrade(?: --install)?|install|test|rollback|uninstall) ([\w-]+)", line):
            assert helm[1] == RELEASE, line
            assert re.search(rf"(?:-n|--namespace) {SYSTEM}\b", line), line
        for named in re.findall(r"(?<!\S)(?:deployment|service)/[\w-]+", line):
            assert named in WORKLOADS, line
        for path in re.findall(r"(?<!\S)(?:charts|manifests)/[\w/.-]+", line):
            assert (ROOT / path).exists(), line


def test_logs_are_those_of_all_replicas() -> None:
    """Of a Deployment kubectl shows one pod's: maybe the standby's, or one that has not been restarted."""
    told = [line for _, line in SHELL if re.search(r"\slogs\s", line)]
    assert len(told) >= 5
    for line in told:
        assert f"-l app.kubernetes.io/name={RELEASE} --prefix" in line, line
        assert "--previous" not in line or "--ignore-errors" in line, line
        assert "--tail" in line, f"{line}: with a selector kubectl shows 10 lines"


def test_upgrades_take_the_new_charts_values() -> None:
    """`--reuse-values` alone would lack those that the release before did not have."""
    assert [line for _, line in SHELL if re.search(r"\s--reuse-values\b", line)] == []


@pages
def test_targets_of_make_exist(page: Page) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = [line for block in page.blocks for line in block.commands]
    named = {word for line in lines for word in re.findall(r"^make ([a-z0-9-]+)", line)}
    named |= {word for code in page.inline for word in re.findall(r"^make ([a-z0-9-]+)", code)}
    assert named - targets == set()


@pages
def test_paths_named_in_the_text_exist(page: Page) -> None:
    tops = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
    rooms = "|".join(path.name for path in (ROOT / "operator" / "registry_status").iterdir() if path.is_dir())
    missing = []
    for code in page.inline:
        if re.fullmatch(rf"(?:{tops}|{rooms})/[\w./-]*", code):
            places = (ROOT / code, ROOT / "operator" / "registry_status" / code)
            if not any(place.exists() for place in places):
                missing.append(code)
    assert missing == []


def test_the_changelog_knows_the_version() -> None:
    version = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert version[1] in page("CHANGELOG.md").text
