"""The bill of materials: what is in the image besides Python, as CycloneDX, out of the pinned requirements."""

import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

PRODUCT = "registry-status-operator"
ENTRY = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==(?P<version>[^\s;\\]+)")
HASH = re.compile(r"--hash=(?P<algorithm>\w+):(?P<value>[0-9a-f]+)")
VIA = re.compile(r"^ +# (?:via |  )(?P<name>[A-Za-z0-9][\w.-]*)", re.MULTILINE)
ALGORITHMS = {"sha256": "SHA-256", "sha384": "SHA-384", "sha512": "SHA-512"}

Json = dict[str, object]


class RequirementError(ValueError):
    """A requirement that says not exactly what is installed; names the entry."""


@dataclass(frozen=True)
class Requirement:
    """One pinned package: the hashes of all files that may be installed of it, and the packages that asked for it."""

    name: str
    version: str
    hashes: tuple[tuple[str, str], ...]
    wanted_by: tuple[str, ...]

    @property
    def purl(self) -> str:
        """Return its package URL."""
        return purl(self.name, self.version)


def purl(name: str, version: str) -> str:
    """Return the package URL; names of the Python index know neither case nor a difference between `_`, `.` and `-`."""
    return f"pkg:pypi/{normal(name)}@{version.replace('+', '%2B')}"


def normal(name: str) -> str:
    """Return the one spelling of a name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(text: str) -> list[Requirement]:
    """Read what pip-compile wrote; raise RequirementError for an entry without a pin or without a hash."""
    return [_requirement(entry) for entry in re.split(r"(?m)^(?=[^\s#])", text) if re.match(r"[^\s#]", entry)]


def _requirement(entry: str) -> Requirement:
    first = entry.splitlines()[0].rstrip(" \\")
    found = ENTRY.match(entry)
    hashes = tuple((ALGORITHMS[algorithm], value) for algorithm, value in HASH.findall(entry) if algorithm in ALGORITHMS)
    if not found or not hashes:
        raise RequirementError(f"{first!r}: every requirement needs NAME==VERSION and at least one --hash=sha256:...")
    return Requirement(normal(found["name"]), found["version"], tuple(sorted(hashes)), tuple(map(normal, VIA.findall(entry))))


def bill(version: str, parts: Sequence[Requirement], made: int) -> str:
    """Write the bill: the same bytes for the same parts, version and time (Unix seconds)."""
    root = purl(PRODUCT, version)
    parts = sorted(parts, key=lambda part: part.name)
    content: Json = {
        "metadata": {
            "timestamp": datetime.fromtimestamp(made, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {"type": "application", "bom-ref": root, "name": PRODUCT, "version": version, "purl": root}
            | {"licenses": [{"license": {"id": "Apache-2.0"}}]},
        },
        "components": [_component(part) for part in parts],
        "dependencies": [
            _dependency(root, [part for part in parts if PRODUCT in part.wanted_by]),
            *(_dependency(one.purl, [part for part in parts if one.name in part.wanted_by]) for one in parts),
        ],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(content, sort_keys=True))
    head: Json = {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{serial}", "version": 1}
    return json.dumps(head | content, indent=2) + "\n"


def _component(part: Requirement) -> Json:
    hashes = [{"alg": algorithm, "content": value} for algorithm, value in part.hashes]
    names: Json = {"type": "library", "bom-ref": part.purl, "name": part.name, "version": part.version, "purl": part.purl}
    return names | {"hashes": hashes}


def _dependency(reference: str, needed: Sequence[Requirement]) -> Json:
    return {"ref": reference, "dependsOn": [part.purl for part in needed]}
