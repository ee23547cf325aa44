"""One version everywhere: what must agree before anything is built."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

CHART = "charts/registry-status-operator/Chart.yaml"
PACKAGE = "operator/registry_status/__init__.py"
PROJECT = "pyproject.toml"
CHANGELOG = "CHANGELOG.md"
FILES = (PROJECT, PACKAGE, CHART, CHANGELOG)
VERSION = re.compile(r"\d+\.\d+\.\d+")


class VersionError(ValueError):
    """Versions disagree; names each place."""


@dataclass(frozen=True)
class Versions:
    """The version that the release has, and what speaks against it."""

    version: str
    faults: tuple[str, ...]


def versions(files: Mapping[str, str], tag: str | None = None) -> Versions:
    """Compare the places that hold a version, given the text of FILES.

    Without a tag the changelog may still call the version unreleased; a tag is the promise that all is done.
    """
    version = str(tomllib.loads(files[PROJECT])["project"]["version"])
    chart = yaml.safe_load(files[CHART])
    package = re.search(r'^__version__ = "([^"]*)"', files[PACKAGE], re.MULTILINE)
    found = {
        f"{PACKAGE} __version__": package and package[1],
        f"{CHART} version": str(chart.get("version")),
        f"{CHART} appVersion": str(chart.get("appVersion")),
    }
    faults = [f"{place} is {value}, but {PROJECT} says {version}" for place, value in found.items() if value != version]
    if not VERSION.fullmatch(version):
        faults.append(f"{PROJECT} has version {version}: a release needs MAJOR.MINOR.PATCH")
    if tag is not None and tag != f"v{version}":
        faults.append(f"the tag is {tag}, but {PROJECT} says {version}: it must be v{version}")
    if not _has_section(files[CHANGELOG], version, released=tag is not None):
        faults.append(_missing(version, released=tag is not None))
    return Versions(version, tuple(faults))


def _has_section(changelog: str, version: str, *, released: bool) -> bool:
    name = re.escape(version)
    if re.search(rf"^## \[{name}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE):
        return True
    return not released and bool(re.search(rf"^## \[Unreleased\]\n+To be {name}\.$", changelog, re.MULTILINE))


def _missing(version: str, *, released: bool) -> str:
    heading = f'{CHANGELOG} has no heading "## [{version}] - YEAR-MONTH-DAY"'
    return heading if released else f'{heading}, nor "## [Unreleased]" with "To be {version}."'
