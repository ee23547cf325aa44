"""Each variant of the chart is rendered to what was looked at when it was last changed."""

import difflib
import json
from pathlib import Path

import pytest

from tests.charts.golden import DASHBOARD, FOLDER, VARIANTS, rendered, write
from tests.charts.rendering import Chart, one
from tests.cluster.processes import run

MEND = ".venv/bin/python -m tests.charts.golden"


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_rendered_as_before(chart: Chart, name: str) -> None:
    path = FOLDER / f"{name}.yaml"
    before = path.read_text("utf-8") if path.exists() else ""
    now = rendered(chart, name)
    changes = "\n".join(difflib.unified_diff(before.splitlines(), now.splitlines(), "before", "now", lineterm=""))
    assert now == before, f"if this is meant: {MEND}\n{changes}"


def test_every_file_has_its_variant() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_lint_finds_nothing_in_a_variant(chart: Chart, name: str) -> None:
    values = {"registry": {"addresses": ["http://a"]}} | dict(VARIANTS[name])
    words: list[str | Path] = ["lint", "--strict", "--kube-version", "1.36.0", chart.folder, "--values", "-"]
    said = run([chart.helm, *words], input=json.dumps(values))
    assert "0 chart(s) failed" in said
    assert "[WARNING]" not in said


def test_the_files_are_written_by_one_command(chart: Chart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.charts.golden.FOLDER", tmp_path)
    (tmp_path / "of-old.yaml").touch()
    write(chart)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        path.name: path.read_text() for path in FOLDER.iterdir()
    }


def test_the_dashboard_arrives_as_it_is(chart: Chart) -> None:
    config = one(chart.render(VARIANTS["prometheus"]), "ConfigMap")
    assert json.loads(config["data"]["registry-status.json"]) == json.loads(DASHBOARD.read_text("utf-8"))
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
