"""The documentation as tests read it: pages, their links, headings, fenced blocks and inline code."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that it stands for, if it says so in its first line."""
        named = re.match(r"# ([\w.-]+\.ya?ml)\n", self.text)
        return named[1] if named else None

    @property
    def commands(self) -> list[str]:
        """What a shell would be given, a line each; in a console block only what stands behind a prompt."""
        lines = re.sub(r"\\\n\s*", "", self.text).splitlines()
        if self.language == "console":
            return [line[2:] for line in lines if line.startswith("$ ")]
        return [re.sub(r"\s+#.*$", "", line).removesuffix(" &") for line in lines if line.strip()]


@dataclass(frozen=True)
class Page:
    """A page of the documentation."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @property
    def prose(self) -> str:
        """The page without its fenced blocks."""
        return FENCE.sub("", self.text)

    @property
    def blocks(self) -> list[Block]:
        return [Block(self.name, found[1], found[2]) for found in FENCE.finditer(self.text)]

    @property
    def inline(self) -> list[str]:
        """Everything between backticks."""
        return re.findall(r"`([^`\n]+)`", self.prose)

    @property
    def anchors(self) -> set[str]:
        """What links may point at, as GitHub makes it of headings."""
        headings = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

    @property
    def links(self) -> list[str]:
        return re.findall(r"\]\(([^)\s]+)\)", self.prose)

    @property
    def rows(self) -> list[list[str]]:
        """The cells of all tables."""
        lines = [line for line in self.prose.splitlines() if line.startswith("|")]
        return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


PAGES = {
    path.name if path.parent == ROOT else str(path.relative_to(ROOT)): Page(path)
    for path in [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *sorted((ROOT / "docs").glob("*.md")),
    ]
}
BLOCKS = [block for page in PAGES.values() for block in page.blocks]


def page(name: str) -> Page:
    return PAGES[name]


def documents(block: Block) -> list[Any]:
    return [document for document in yaml.safe_load_all(block.text) if document is not None]


def mappings(tree: object) -> Iterator[dict[str, Any]]:
    """Every mapping in a document, the outermost first."""
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from mappings(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from mappings(value)
