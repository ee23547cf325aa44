"""What a release promises: one version, a bill of what is in it, archives that come out the same, safe workflows."""

import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from release import archives, build, sbom
from release.versions import CHANGELOG, CHART, FILES, PACKAGE, PROJECT, versions
from tests.cluster.backends import _kind_configuration
from tests.cluster.processes import run

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
TEXTS = {name: (ROOT / name).read_text("utf-8") for name in FILES}
NOON = 1_700_000_000
RELEASE = build.Release("1.2.3", "abc", "https://git.example/project", NOON)

# --- versions -----------------------------------------------------------------------------------


def house(version: str = "1.2.3", heading: str = "## [1.2.3] - 2026-11-25") -> dict[str, str]:
    return {
        PROJECT: f'[project]\nversion = "{version}"\n',
        PACKAGE: f'"""About."""\n\n__version__ = "{version}"\n',
        CHART: f"version: {version}\nappVersion: {version}\n",
        CHANGELOG: f"# Changelog\n\n{heading}\n\n### Added\n",
    }


def test_the_versions_of_this_house_agree() -> None:
    assert versions(TEXTS).faults == ()


@pytest.mark.parametrize(
    ("place", "old", "new", "named"),
    [
        (PACKAGE, "1.2.3", "1.2.4", f"{PACKAGE} __version__ is 1.2.4"),
        (PACKAGE, "__version__", "version", f"{PACKAGE} __version__ is None"),
        (CHART, "\nappVersion: 1.2.3", "\nappVersion: 9.9.9", f"{CHART} appVersion is 9.9.9"),
        (CHART, "version: 1.2.3\n", "version: 0.0.1\n", f"{CHART} version is 0.0.1"),
        (CHANGELOG, "[1.2.3]", "[1.2.2]", f"{CHANGELOG} has no heading"),
        (CHANGELOG, " - 2026-11-25", "", f"{CHANGELOG} has no heading"),
    ],
)
def test_a_place_with_another_version_is_named(place: str, old: str, new: str, named: str) -> None:
    files = house()
    files[place] = files[place].replace(old, new, 1)
    (fault,) = versions(files).faults
    assert fault.startswith(named)


@pytest.mark.parametrize("version", ["1.2", "1.2.3rc1", "1.2.3+local"])
def test_a_version_that_is_not_three_numbers_is_refused(version: str) -> None:
    (fault,) = versions(house(version, f"## [{version}] - 2026-11-25")).faults
    assert "MAJOR.MINOR.PATCH" in fault


def test_what_is_to_be_a_version_may_be_tried_but_not_tagged() -> None:
    files = house(heading="## [Unreleased]\n\nTo be 1.2.3.")
    assert versions(files).faults == ()
    (fault,) = versions(files, tag="v1.2.3").faults
    assert "## [1.2.3] - YEAR-MONTH-DAY" in fault


@pytest.mark.parametrize("tag", ["v1.2.4", "1.2.3"])
def test_a_tag_must_be_the_version(tag: str) -> None:
    assert versions(house(), tag="v1.2.3").faults == ()
    (fault,) = versions(house(), tag=tag).faults
    assert "must be v1.2.3" in fault


# --- the bill of materials ----------------------------------------------------------------------

PINS = f"""\
Big_Thing==2.0 \\
    --hash=sha256:{"b" * 64} \\
    --hash=sha256:{"a" * 64}
    # via registry-status-operator (pyproject.toml)
small[extra]==1.0.post1 ; python_version < "3.12" \\
    --hash=sha256:{"c" * 64}
    # via
    #   big-thing
    #   registry-status-operator (pyproject.toml)
"""


def bill(text: str = PINS, made: int = NOON) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sbom.bill("1.2.3", sbom.requirements(text), made))
    return found


def test_the_bill_has_every_pin_with_its_hashes() -> None:
    assert bill()["components"] == [
        {
            "type": "library",
            "bom-ref": "pkg:pypi/big-thing@2.0",
            "name": "big-thing",
            "version": "2.0",
            "purl": "pkg:pypi/big-thing@2.0",
            "hashes": [{"alg": "SHA-256", "content": "a" * 64}, {"alg": "SHA-256", "content": "b" * 64}],
        },
        {
            "type": "library",
            "bom-ref": "pkg:pypi/small@1.0.post1",
            "name": "small",
            "version": "1.0.post1",
            "purl": "pkg:pypi/small@1.0.post1",
            "hashes": [{"alg": "SHA-256", "content": "c" * 64}],
        },
    ]


def test_the_bill_says_who_needs_whom() -> None:
    big, small = "pkg:pypi/big-thing@2.0", "pkg:pypi/small@1.0.post1"
    needs = {entry["ref"]: entry["dependsOn"] for entry in bill()["dependencies"]}
    assert needs == {"pkg:pypi/registry-status-operator@1.2.3": [big, small], big: [small], small: []}


def test_the_same_pins_and_time_give_the_same_bill_and_others_another_serial_number() -> None:
    big, small = PINS.split("small[")
    assert bill() == bill(f"small[{small}{big}")
    others = [bill(made=NOON + 1), bill(PINS.replace("2.0", "2.1"))]
    assert len({found["serialNumber"] for found in [bill(), *others]}) == 3


def test_the_bill_calls_itself_cyclonedx_and_says_what_it_is_about_and_when_it_was_made() -> None:
    found = bill()
    assert (found["bomFormat"], found["specVersion"], found["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", found["serialNumber"])
    assert found["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    assert found["metadata"]["component"]["version"] == "1.2.3"


@pytest.mark.parametrize("entry", ["httpx", "httpx>=0.28 --hash=sha256:" + "a" * 64, "httpx==0.28", "-e ."])
def test_a_requirement_without_a_pin_or_a_hash_is_refused_by_name(entry: str) -> None:
    with pytest.raises(sbom.RequirementError, match=re.escape(entry.split(" --", maxsplit=1)[0])):
        sbom.requirements(f"{PINS}{entry}\n")


def test_of_our_own_requirements_none_is_left_out_and_none_is_needed_by_nobody() -> None:
    text = (ROOT / "requirements" / "run.txt").read_text("utf-8")
    found = bill(text)
    assert len(found["components"]) == len(re.findall(r"(?m)^[A-Za-z0-9].*==", text))
    needed = {reference for entry in found["dependencies"] for reference in entry["dependsOn"]}
    assert needed == {component["bom-ref"] for component in found["components"]}


# --- archives -----------------------------------------------------------------------------------


def add(tar: tarfile.TarFile, name: str, content: bytes, made: int = 0) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime = len(content), made
    tar.addfile(member, io.BytesIO(content))


def image_archive(path: Path, config: dict[str, object]) -> Path:
    with tarfile.open(path, "w") as tar:
        add(tar, "c.json", json.dumps({"config": config}).encode())
        add(tar, "manifest.json", json.dumps([{"Config": "c.json", "Layers": []}]).encode())
    return path


GOOD: dict[str, object] = {
    "User": archives.USER,
    "Entrypoint": list(archives.ENTRYPOINT),
    "Labels": RELEASE.image_labels | {"more": "x"},
}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"User": "0"}, "the image's user is 0"),
        ({"User": ""}, "the image's user is "),
        ({"Entrypoint": None}, "the image's entry point is ()"),
        (
            {"Labels": {**RELEASE.image_labels, f"{archives.LABEL}.version": "0.0.0"}},
            f"label {archives.LABEL}.version is 0.0.0",
        ),
        ({"Labels": dict(list(RELEASE.image_labels.items())[1:])}, f"label {archives.LABEL}.version is absent"),
    ],
)
def test_an_image_that_is_not_as_promised_is_told_apart(tmp_path: Path, change: dict[str, object], named: str) -> None:
    build.try_image(image_archive(tmp_path / "good.tar", GOOD), RELEASE)
    with pytest.raises(build.ReleaseError, match=re.escape(named)):
        build.try_image(image_archive(tmp_path / "bad.tar", GOOD | change), RELEASE)


def test_the_dockerfile_makes_a_label_of_everything_that_a_release_tells_it() -> None:
    for name in RELEASE.image_arguments:
        assert re.search(rf"^ARG {name}=", DOCKERFILE, re.MULTILINE), name
        assert f'{archives.LABEL}.{name.lower()}="${{{name}}}"' in DOCKERFILE
    assert RELEASE.image_labels[f"{archives.LABEL}.created"] == "2023-11-14T22:13:20Z"


def test_the_dockerfile_has_the_promised_user_and_entry_point() -> None:
    assert f"\nUSER {archives.USER}\n" in DOCKERFILE
    assert f"\nENTRYPOINT {json.dumps(list(archives.ENTRYPOINT))}\n" in DOCKERFILE


def test_packages_made_at_other_times_and_in_another_order_become_the_same_bytes(tmp_path: Path) -> None:
    files = {"chart/Chart.yaml": b"name: chart", "chart/values.yaml": b"{}"}
    for name, order, made in (("one.tgz", 1, 5), ("two.tgz", -1, 6)):
        with tarfile.open(tmp_path / name, "w:gz") as tar:
            for path, content in list(files.items())[::order]:
                add(tar, path, content, made)
        archives.normalise(tmp_path / name, NOON)
    assert (tmp_path / "one.tgz").read_bytes() == (tmp_path / "two.tgz").read_bytes()
    assert int.from_bytes((tmp_path / "one.tgz").read_bytes()[4:8], "little") == NOON  # gzip's own time
    with tarfile.open(tmp_path / "one.tgz") as tar:
        assert {member.name: (member.mtime, archives._content(tar, member.name)) for member in tar} == {
            name: (NOON, content) for name, content in files.items()
        }


def test_files_that_two_builds_made_differently_or_only_once_are_named(tmp_path: Path) -> None:
    for folder, files in {"one": {"a": "1", "b": "1"}, "two": {"a": "1", "b": "2", "c": "3"}}.items():
        (tmp_path / folder).mkdir()
        for name, content in files.items():
            (tmp_path / folder / name).write_text(content)
    assert build.differing(tmp_path / "one", tmp_path / "two") == ["b", "c"]


def test_sha256sum_takes_the_sums(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    for _ in range(2):  # the sums are not summed
        (tmp_path / build.SUMS).write_text(build.sums(tmp_path))
    assert run(["sha256sum", "--check", "--strict", build.SUMS], cwd=tmp_path) == "a: OK\n"


# --- what is built ------------------------------------------------------------------------------


def test_uncommitted_files_are_told_and_get_no_tag(tmp_path: Path) -> None:
    run(["git", "init", "--quiet", tmp_path])
    (tmp_path / "a").write_text("1")
    run(["git", "add", "a"], cwd=tmp_path)
    run(["git", "-c", "user.name=n", "-c", "user.email=e", "commit", "--quiet", "--no-gpg-sign", "-m", "m"], cwd=tmp_path)
    commit = build.revision(tmp_path, tagged=True)
    assert re.fullmatch(r"[0-9a-f]{40}", commit)
    (tmp_path / "a").write_text("2")
    assert build.revision(tmp_path, tagged=False) == f"{commit}-dirty"
    with pytest.raises(build.ReleaseError, match="differ from the commit"):
        build.revision(tmp_path, tagged=True)


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(build.ReleaseError, match="SOURCE_DATE_EPOCH is 'today'"):
        build.describe(None, "unknown", {"SOURCE_DATE_EPOCH": "today"})


def test_an_image_that_is_not_built_is_told_loudly_and_is_an_error_where_required(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "why_no_image", lambda: "no builder here")
    build.make_image(RELEASE, "auto")
    assert "*** NO IMAGE" in capsys.readouterr().out
    with pytest.raises(build.ReleaseError, match="no builder here"):
        build.make_image(RELEASE, "required")


# --- workflows ----------------------------------------------------------------------------------

WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
LEVELS = {"lint", "unit", "charts", "integration", "e2e"}
WRITER = "draft"  # the one job that may write; it has only what the others made

Workflow = dict[str, Any]


def workflow(path: Path) -> Workflow:
    """Read it with every scalar as a string: YAML would take `on` for a boolean and 3.10 for 3.1."""
    found: Workflow = yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader)
    return found


JOBS = [(path, name, job) for path in WORKFLOWS for name, job in workflow(path)["jobs"].items()]
STEPS = [(name, step) for _, name, job in JOBS for step in job.get("steps", [])]
ALLOWED = {
    "workflow": {"name", "on", "permissions", "concurrency", "jobs"},
    "job": {"name", "needs", "uses", "runs-on", "timeout-minutes", "strategy", "permissions", "env", "steps"},
    "step": {"uses", "with", "run", "if"},
}
jobs = pytest.mark.parametrize(("path", "name", "job"), JOBS, ids=[f"{path.stem}-{name}" for path, name, _ in JOBS])
workflows = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def commands() -> dict[str, list[str]]:
    """Return what each job runs, with each value of its matrix set in."""
    found: dict[str, list[str]] = {}
    for _, name, job in JOBS:
        runs = [step["run"] for step in job.get("steps", []) if "run" in step]
        for key, values in job.get("strategy", {}).get("matrix", {}).items():
            place = f"${{{{ matrix.{key} }}}}"
            runs = [run.replace(place, value) for run in runs for value in (values if place in run else [""])]
        found[name] = runs
    return found


@workflows
def test_a_workflow_has_the_form_that_github_reads(path: Path) -> None:
    found = workflow(path)
    assert set(found) <= ALLOWED["workflow"]
    assert {"name", "on", "permissions", "jobs"} <= set(found)
    for job in found["jobs"].values():
        needs = job.get("needs", [])
        assert set([needs] if isinstance(needs, str) else needs) <= set(found["jobs"])
        if "uses" in job:
            assert (ROOT / job["uses"]).is_file()


@jobs
def test_a_job_has_the_form_that_github_reads_and_an_end(path: Path, name: str, job: Workflow) -> None:
    assert set(job) <= ALLOWED["job"]
    if "uses" not in job:
        assert {"runs-on", "timeout-minutes", "steps"} <= set(job)
    for step in job.get("steps", []):
        assert set(step) <= ALLOWED["step"]
        assert ("uses" in step) != ("run" in step)


def test_every_level_is_run_and_every_command_is_a_target_of_the_makefile() -> None:
    ran = commands()
    assert ran.pop(WRITER) == ["sha256sum --check SHA256SUMS", 'gh release create "$TAG" --draft --verify-tag --title "$TAG" *']
    words = [command.split(" ") for runs in ran.values() for command in runs]
    assert {make for make, *_ in words} == {"make"}
    assert {tuple(targets) for _, *targets in words} == {(target,) for target in LEVELS | {"release"}}
    assert LEVELS | {"release"} <= TARGETS


@workflows
def test_a_workflow_may_only_read(path: Path) -> None:
    assert workflow(path)["permissions"] == {"contents": "read"}


@jobs
def test_only_the_last_job_of_a_release_may_write_and_it_runs_nothing_of_ours(path: Path, name: str, job: Workflow) -> None:
    assert job.get("permissions", {}) == ({"contents": "write"} if name == WRITER else {})
    if name == WRITER:
        assert [step["uses"].split("@")[0] for step in job["steps"] if "uses" in step] == ["actions/download-artifact"]
        assert path.stem == "release"


def test_a_release_needs_all_of_ci_and_a_tag_that_is_a_version() -> None:
    release = workflow(ROOT / ".github" / "workflows" / "release.yml")
    assert release["on"] == {"push": {"tags": ["v[0-9]+.[0-9]+.[0-9]+"]}}
    assert (release["jobs"]["build"]["needs"], release["jobs"][WRITER]["needs"]) == ("ci", "build")
    assert release["jobs"]["build"]["env"]["IMAGE"] == "required"


@workflows
def test_actions_are_pinned_by_commit_and_each_by_one(path: Path) -> None:
    lines = re.findall(r"uses: (.*)", path.read_text("utf-8"))
    pinned = [line for line in lines if re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)]
    assert [line for line in lines if line not in pinned] in ([], ["./.github/workflows/ci.yml"])
    pins = {re.sub(r"@.*", "", line): line for line in pinned}
    assert set(pinned) == set(pins.values())


def test_strangers_words_do_not_get_into_a_command() -> None:
    for _, step in STEPS:
        assert set(re.findall(r"\$\{\{(.*?)\}\}", step.get("run", ""))) <= {" matrix.level "}


def test_no_checkout_leaves_its_token_behind() -> None:
    checkouts = [step for _, step in STEPS if step.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) == 5
    assert {step["with"]["persist-credentials"] for step in checkouts} == {"false"}


@workflows
def test_no_workflow_names_where_packages_come_from(path: Path) -> None:
    text = path.read_text("utf-8")
    assert re.findall(r"\w+://\S+", text) == []
    assert re.findall(r"(?i)pip_\w+|index.url|goproxy|npmrc|registry-url", text) == []


def test_e2e_runs_on_several_versions_of_kubernetes_each_pinned_by_digest_and_none_may_be_left_out() -> None:
    e2e = workflow(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["e2e"]
    newest, *older = e2e["strategy"]["matrix"]["include"]
    assert newest == {"kubernetes": "newest", "image": ""}
    assert len(older) >= 3
    for entry in older:
        assert re.fullmatch(rf"kindest/node:v{re.escape(entry['kubernetes'])}\.\d+@sha256:[0-9a-f]{{64}}", entry["image"])
    assert e2e["env"] == {"E2E": "required", "E2E_BACKEND": "kind", "E2E_KIND_IMAGE": "${{ matrix.image }}"}


@pytest.mark.parametrize(
    ("image", "node"),
    [("", {"role": "control-plane"}), ("node:v1", {"role": "control-plane", "image": "node:v1"})],
)
def test_kind_takes_the_image_of_the_version_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, image: str, node: dict[str, str]
) -> None:
    monkeypatch.setenv("E2E_KIND_IMAGE", image)
    assert _kind_configuration()["nodes"] == [node]
