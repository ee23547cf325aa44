"""Build all that a release has into dist/, try each part in an empty environment, publish nothing.

  python -m release.build [--tag v1.2.3] [--source URL] [--image auto|required|no]

SOURCE_DATE_EPOCH, by default the time of the last commit, is the time that everything bears: wheel, sdist, chart and the bill
of materials come out the same, byte by byte, whenever they are built. That is tried: they are built twice.
"""

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from release import archives, sbom
from release.versions import FILES, VersionError, versions
from tests.cluster import images, tools
from tests.cluster.processes import CommandError, run

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
CHART = ROOT / "charts" / "registry-status-operator"
SUMS = "SHA256SUMS"
INSTALL_TIMEOUT = 600.0
DEMO_TIMEOUT = 120.0
IMAGE_TIMEOUT = 600.0


class ReleaseError(RuntimeError):
    """A part of the release is not as it must be; the message says which and why."""


@dataclass(frozen=True)
class Release:
    """What is built."""

    version: str
    revision: str
    source: str
    """Where the source can be had: a URL, or `unknown`."""
    made: int
    """Unix seconds."""

    @property
    def wheel(self) -> str:
        """Return the name that the build gives to the wheel."""
        return f"registry_status_operator-{self.version}-py3-none-any.whl"

    @property
    def sdist(self) -> str:
        """Return the name that the build gives to the sdist."""
        return f"registry_status_operator-{self.version}.tar.gz"

    @property
    def chart(self) -> str:
        """Return the name that Helm gives to the chart package."""
        return f"registry-status-operator-{self.version}.tgz"

    @property
    def bill(self) -> str:
        """Return the name of the bill of materials."""
        return f"registry-status-operator-{self.version}.cdx.json"

    @property
    def image(self) -> str:
        """Return the name of the image's archive."""
        return f"registry-status-operator-{self.version}-image.tar"

    @property
    def image_arguments(self) -> dict[str, str]:
        """Return the build arguments of the Dockerfile."""
        created = datetime.fromtimestamp(self.made, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"VERSION": self.version, "REVISION": self.revision, "SOURCE": self.source, "CREATED": created}

    @property
    def image_labels(self) -> dict[str, str]:
        """Return the labels that the image must then have."""
        return {f"{archives.LABEL}.{name.lower()}": value for name, value in self.image_arguments.items()}


# --- build --------------------------------------------------------------------------------------


def build(release: Release, target: Path) -> None:
    """Make wheel, sdist, chart and bill of materials."""
    env = os.environ | {"SOURCE_DATE_EPOCH": str(release.made)}
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", target, ROOT], env=env, timeout=INSTALL_TIMEOUT)
    run([tools.program("helm"), "package", CHART, "--destination", target])
    archives.normalise(target / release.chart, release.made)
    parts = sbom.requirements((ROOT / "requirements" / "run.txt").read_text("utf-8"))
    (target / release.bill).write_text(sbom.bill(release.version, parts, release.made), "utf-8")


def build_image(release: Release, target: Path) -> None:
    """Make the image's archive, with docker or buildah."""
    builder: images.Builder = images.Buildah() if images.Docker.why_not() else images.Docker()
    name = f"localhost/registry-status-operator:{release.version}"
    builder.build(ROOT / "Dockerfile", ROOT, name, release.image_arguments)
    shutil.copyfile(builder.archive(name), target / release.image)


def why_no_image() -> str | None:
    """Say why no image can be built here, or None."""
    if not images.Docker.why_not():
        return None
    if not shutil.which("buildah"):
        return f"{images.Docker.why_not()}, and buildah is not installed"
    return None if os.geteuid() == 0 else f"{images.Docker.why_not()}, and buildah needs root here"


def differing(first: Path, second: Path) -> list[str]:
    """Name the files that two builds did not make alike."""
    names = sorted({path.name for folder in (first, second) for path in folder.iterdir()})
    return [name for name in names if _digest(first / name) != _digest(second / name)]


def sums(folder: Path) -> str:
    """Return the lines of SHA256SUMS, for `sha256sum --check`."""
    return "".join(f"{_digest(path)}  {path.name}\n" for path in sorted(folder.iterdir()) if path.name != SUMS)


def _digest(path: Path) -> str | None:
    if not path.exists():
        return None
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


# --- try ----------------------------------------------------------------------------------------


def try_python(package: Path, version: str, *, from_source: bool) -> None:
    """Install a wheel or an sdist into an empty environment, then let it say its version and play its demo."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run([sys.executable, "-m", "venv", folder / "venv"])
        python = folder / "venv" / "bin" / "python"
        pinned = [ROOT / "requirements" / f"{one}.txt" for one in (["run", "build"] if from_source else ["run"])]
        for file in pinned:
            _pip(python, "--require-hashes", "--requirement", file)
        _pip(python, "--no-index", "--no-deps", *(["--no-build-isolation"] if from_source else []), package)
        run([python, "-m", "pip", "check"])
        program = python.with_name("registry-status")
        said = run([program, "--version"], cwd=folder).strip()
        if said != f"registry-status {version}":
            raise ReleaseError(f"{package.name}: --version says {said!r}, not {version}")
        run([program, "demo", "--speed", "4"], cwd=folder, timeout=DEMO_TIMEOUT)


def _pip(python: Path, *words: str | Path) -> None:
    run([python, "-m", "pip", "install", "--quiet", *words], timeout=INSTALL_TIMEOUT)


def try_chart(package: Path, version: str) -> None:
    """Lint and render the package as it would be installed: from the archive, not from the source."""
    helm = tools.program("helm")
    values = ["--set", "registry.addresses={http://registry.example:30100}"]
    run([helm, "lint", "--strict", package, *values])
    rendered = run([helm, "template", "status", package, "--kube-version", "1.36.0", *values])
    if f"app.kubernetes.io/version: {version}" not in rendered:
        raise ReleaseError(f"{package.name}: what it renders has no label with version {version}")


def try_image(archive: Path, release: Release) -> None:
    """Look into the image's archive."""
    if faults := archives.image_faults(archives.read_image(archive), release.image_labels):
        raise ReleaseError("\n".join([archive.name, *faults]))


# --- all of it ----------------------------------------------------------------------------------


def make(release: Release, image: str) -> None:
    """Build everything twice, try everything, write the sums."""
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    say(f"{release.version} of {release.revision}: wheel, sdist, chart, bill of materials")
    build(release, DIST)
    with tempfile.TemporaryDirectory() as again:
        build(release, Path(again))
        if names := differing(DIST, Path(again)):
            raise ReleaseError(f"built twice, these differ: {', '.join(names)}")
    say("built twice: the same bytes")
    for name, from_source in ((release.wheel, False), (release.sdist, True)):
        try_python(DIST / name, release.version, from_source=from_source)
        say(f"{name}: installed into an empty environment, its demo ran")
    try_chart(DIST / release.chart, release.version)
    say(f"{release.chart}: linted and rendered")
    make_image(release, image)
    (DIST / SUMS).write_text(sums(DIST), "utf-8")
    say(f"in {DIST}:\n{(DIST / SUMS).read_text('utf-8')}nothing was published")


def make_image(release: Release, wanted: str) -> None:
    """Build and try the image where it is wanted and can be had; say it loudly where not."""
    missing = "--image no" if wanted == "no" else why_no_image()
    if missing is None:
        build_image(release, DIST)
        try_image(DIST / release.image, release)
        say(f"{release.image}: user, entry point and labels are right")
    elif wanted == "required":
        raise ReleaseError(f"the image cannot be built here: {missing}")
    else:
        say(f"*** NO IMAGE: not built, so not tried: {missing} ***")


def describe(tag: str | None, source: str, env: Mapping[str, str]) -> Release:
    """Say what is to be built; raise where versions disagree."""
    found = versions({name: (ROOT / name).read_text("utf-8") for name in FILES}, tag)
    if found.faults:
        raise VersionError("\n".join(found.faults))
    made = env.get("SOURCE_DATE_EPOCH") or run(["git", "log", "-1", "--format=%ct"], cwd=ROOT).strip()
    if not made.isdecimal():
        raise ReleaseError(f"SOURCE_DATE_EPOCH is {made!r}: it must be whole seconds since 1970")
    return Release(found.version, revision(ROOT, tagged=tag is not None), source, int(made))


def revision(root: Path, *, tagged: bool) -> str:
    """Return the commit; files that differ from it make another thing of it, which must not get a tag."""
    commit = run(["git", "rev-parse", "HEAD"], cwd=root).strip()
    if not run(["git", "status", "--porcelain"], cwd=root).strip():
        return commit
    if tagged:
        raise ReleaseError("files differ from the commit (git status): a tagged release is made of what is committed only")
    return f"{commit}-dirty"


def say(line: str) -> None:
    """Tell at once how far it is."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 all is built and right, 1 something is not."""
    parser = argparse.ArgumentParser(prog="python -m release.build", description="Build a release; publish nothing.")
    parser.add_argument("--tag", help="the git tag of the release; the changelog must then have the version's heading")
    parser.add_argument("--source", default="unknown", help="URL of the source, for the image's label")
    parser.add_argument("--image", choices=("auto", "required", "no"), default="auto", help="default: where it can be built")
    options = parser.parse_args(arguments)
    try:
        make(describe(options.tag, options.source, os.environ), options.image)
    except (ReleaseError, VersionError, sbom.RequirementError, CommandError, OSError) as error:
        sys.stderr.write(f"release: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
