"""The threat model: each of its lines names a test that exists."""

import ast

import pytest

from tests.docs.pages import ROOT, page

ROWS = [row for row in page("docs/security.md").rows if len(row) == 4 and row[0] not in ("who", "---")]
WHO = {
    "a pod's author",
    "who registers instances",
    "a hostile registry",
    "the network",
    "who is in the operator's container",
    "who holds the service-account token",
}
"""Those of whom a threat model of this operator must speak, whoever else it speaks of."""


def names_in(body: list[ast.stmt], within: str = "") -> set[str]:
    """The names of the tests in a module, those in classes with the class before."""
    found: set[str] = set()
    for node in body:
        if isinstance(node, ast.ClassDef):
            found |= names_in(node.body, f"{node.name}::")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            found.add(within + node.name)
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}: {row[1][:40]}")
def test_each_threat_names_a_test_that_exists(row: list[str]) -> None:
    file, _, name = row[3].strip("`").partition("::")
    assert name in names_in(ast.parse((ROOT / file).read_text("utf-8")).body)


def test_the_threat_model_speaks_of_all_who_could_do_harm() -> None:
    assert {row[0] for row in ROWS} >= WHO
    assert all(all(row) for row in ROWS)
