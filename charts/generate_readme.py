#!/usr/bin/env python3
"""Writes the documentation of the chart's values: the tables in README.md and the descriptions in values.schema.json.

charts/generate_readme.py            writes them
charts/generate_readme.py --check    says whether they are current, and exits with 1 if not

The comments in values.yaml are the one source. `# -- text` documents the key below it, further `# ` lines go on with the text,
and `## Heading` begins a table.
"""

import argparse
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parent / "registry-status-operator"
BEGIN = "<!-- Written by charts/generate_readme.py from the comments in values.yaml: begin -->\n"
END = "<!-- end -->\n"
LONGEST_DEFAULT = 200


@dataclass(frozen=True)
class Value:
    """A documented value: where it is, under which heading, what it is by default, and what its comment says."""

    path: str
    heading: str
    default: object
    text: str


def documented_values(source: str) -> list[Value]:
    """Read the comments above the keys of values.yaml."""
    defaults = yaml.safe_load(source)
    values: list[Value] = []
    parents: list[tuple[int, str]] = []
    heading, comment = "", []
    for line in source.splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        elif begin := re.match(r" *# -- (.*)", line):
            comment = [begin[1]]
        elif comment and (more := re.match(r" *# (.*)", line)):
            comment.append(more[1])
        elif key := re.match(r"( *)([A-Za-z]+):", line):
            parents = [parent for parent in parents if parent[0] < len(key[1])] + [(len(key[1]), key[2])]
            path = [name for _, name in parents]
            if comment:
                values.append(Value(".".join(path), heading, _at(defaults, path), " ".join(comment)))
            comment = []
    return values


def _at(tree: Any, path: list[str]) -> object:  # noqa: ANN401 - YAML
    for name in path:
        tree = tree[name]
    return tree


def undocumented(source: str) -> list[str]:
    """Find the values that have no comment, neither of their own nor of the object they are part of."""
    paths = {value.path for value in documented_values(source)}

    def missing(tree: dict[str, Any], prefix: str) -> list[str]:
        found: list[str] = []
        for name, value in tree.items():
            path = prefix + name
            if path in paths:
                continue
            found += missing(value, path + ".") if isinstance(value, dict) and value else [path]
        return found

    return missing(yaml.safe_load(source), "")


def table(values: list[Value]) -> str:
    """Lay the values out as Markdown, a table for each heading."""
    lines: list[str] = []
    heading = None
    for value in values:
        if value.heading != heading:
            heading = value.heading
            lines += ["", f"### {heading}", "", "| value | default | what it does |", "|---|---|---|"]
        text = value.text.replace("|", "\\|")
        default = json.dumps(value.default, ensure_ascii=False)
        shown = f"`{default}`" if len(default) <= LONGEST_DEFAULT else "see [values.yaml](values.yaml)"
        lines.append(f"| `{value.path}` | {shown} | {text} |")
    return "\n".join([*lines, "", ""])


def readme(old: str, source: str) -> str:
    """Put the tables between the marks of README.md."""
    head, _, rest = old.partition(BEGIN)
    _, mark, tail = rest.partition(END)
    if not mark:
        raise SystemExit(f"{CHART / 'README.md'}: the marks {BEGIN.strip()} and {END.strip()} are missing")
    return head + BEGIN + table(documented_values(source)) + END + tail


def schema(old: str, source: str) -> str:
    """Put the comments into the schema as descriptions."""
    tree = json.loads(old)
    for value in documented_values(source):
        node = tree
        for name in value.path.split("."):
            node = node.get("properties", {}).get(name)
            if node is None:
                raise SystemExit(f"values.schema.json does not know {value.path}: give it a type there")
        rest = {name: item for name, item in node.items() if name != "description"}
        node.clear()
        node.update({"description": value.text.replace("**", "").replace("`", "'"), **rest})
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Write both files, or check them."""
    parser = argparse.ArgumentParser(description="Documents the chart's values from the comments in values.yaml.")
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 if a file is not current")
    parser.add_argument("--chart", type=Path, default=CHART, help="folder of the chart")
    options = parser.parse_args()
    source = (options.chart / "values.yaml").read_text("utf-8")
    if bare := undocumented(source):
        raise SystemExit(f"values.yaml: these values have no `# -- ` comment: {', '.join(bare)}")
    stale: list[str] = []
    for name, write in (("README.md", readme), ("values.schema.json", schema)):
        old = (options.chart / name).read_text("utf-8")
        new = write(old, source)
        if new != old:
            stale.append(name)
        if not options.check:
            (options.chart / name).write_text(new, "utf-8")
    if options.check and stale:
        sys.stderr.write(f"{' and '.join(stale)} not current; to mend it: charts/generate_readme.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
