"""The house keeps its rules: DESIGN section 2, as far as a test can see them."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "operator" / "registry_status"
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_folder_operator_is_no_package_as_it_would_hide_pythons_own_module() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()
    ran = subprocess.run([sys.executable, "-c", "import collections, operator; print(operator.add(1, 2))"],
                         cwd=ROOT, capture_output=True, text=True, check=False)  # fmt: skip
    assert (ran.stdout, ran.stderr) == ("3\n", "")


def test_tests_are_no_packages() -> None:
    assert [name_of(path) for path in (ROOT / "tests").rglob("__init__.py")] == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text()))
    assert text
    assert len(text) > 20


def test_every_folder_of_modules_is_a_package() -> None:
    assert {path.parent for path in MODULES} == {path.parent for path in PACKAGE.rglob("__init__.py")}


def test_the_arrows_between_the_rooms_hold() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "0 broken" in ran.stdout


# --- what is imported when ----------------------------------------------------------------------

HEAVY = ("kopf", "kubernetes", "httpx", "aiohttp", "prometheus_client", "rich", "yaml")
IMPORTS: list[tuple[str, tuple[str, ...]]] = [
    ("registry_status", HEAVY),
    ("registry_status.model", HEAVY),
    ("registry_status.config", HEAVY),
    ("registry_status.cli", HEAVY),
    ("registry_status.cli.run", HEAVY),
    ("registry_status.cli.explain", tuple(name for name in HEAVY if name != "yaml")),
    ("registry_status.cli.plan", HEAVY),
    ("registry_status.cli.check", HEAVY),
    ("registry_status.cli.completion", HEAVY),
    ("registry_status.cli.devregistry", ("kopf", "kubernetes", "httpx", "rich")),
    ("registry_status.pods.status", HEAVY),
    ("registry_status.sync.engine", ("kopf", "kubernetes", "httpx")),
]


@pytest.mark.parametrize(("module", "absent"), IMPORTS, ids=[row[0] for row in IMPORTS])
def test_a_module_does_not_import_what_it_does_not_need_at_once(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*sorted(set({absent!r}) & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (ran.stdout.strip(), ran.stderr) == ("", "")


# --- requirements -------------------------------------------------------------------------------

REQUIREMENTS = sorted((ROOT / "requirements").iterdir())


@pytest.mark.parametrize("path", [*REQUIREMENTS, ROOT / "pyproject.toml"], ids=name_of)
def test_no_requirement_names_where_it_is_downloaded_from(path: Path) -> None:
    text = path.read_text()
    assert re.findall(r"\w+://\S+", text) == []
    assert re.findall(r"(?m)^\s*(?:-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host)\b", text) == []
    assert re.findall(r"(?m)^[^#\n]*\s@\s", text) == []


@pytest.mark.parametrize("path", [path for path in REQUIREMENTS if path.suffix == ".txt"], ids=name_of)
def test_every_requirement_is_pinned_and_hashed(path: Path) -> None:
    entries = re.split(r"(?m)^(?=[A-Za-z0-9])", path.read_text())[1:]
    assert len(entries) > 3
    loose = [
        entry.splitlines()[0] for entry in entries if not re.match(r"[\w.\[\],-]+==\S+", entry) or "--hash=sha256:" not in entry
    ]
    assert loose == []
