"""Images for the tests: the machine's own Debian as base, our Dockerfiles built by docker or, where there is none, buildah."""

import ast
import functools
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tests.cluster import tools
from tests.cluster.archive import write_archive
from tests.cluster.processes import CommandError, run

PAUSE_SOURCE = Path(__file__).with_name("pause") / "pause.go"
BASE_PACKAGES = "python3,python3-venv,ca-certificates"
BASE_RECIPE = "1"  # raise it when what make_base does changes
# What nobody reads in a test image: half of its size.
BASE_LEAVES_OUT = (
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
)
MOST_LAYERS = 500  # pruning also removes the stages that the next build would reuse: done once in some dozens of builds
CA_IN_BUILD = "/run/secrets/ca.crt"


class Builder(Protocol):
    """Builds images, and hands them over as archives."""

    def build(self, dockerfile: Path, context: Path, image: str, args: Mapping[str, str] | None = None) -> None:
        """Build one; unchanged layers are reused."""

    def archive(self, image: str) -> Path:
        """Return an archive of it."""


class Docker:
    """The Docker daemon, with its own base images."""

    @staticmethod
    def why_not() -> str | None:
        if not shutil.which("docker"):
            return "docker is not installed"
        try:
            run(["docker", "info"], timeout=20)
        except CommandError:
            return "the Docker daemon does not run"
        return None

    def build(self, dockerfile: Path, context: Path, image: str, args: Mapping[str, str] | None = None) -> None:
        with tempfile.TemporaryDirectory() as folder:
            command: list[str | Path] = ["docker", "build", "--tag", image, "--file", dockerfile, *_build_args(args or {})]
            run([*command, *_secrets(Path(folder)), context], timeout=1800)

    def archive(self, image: str) -> Path:
        target = _folder() / f"{_file_name(image)}.tar"
        run(["docker", "save", "--output", target, image], timeout=300)
        return target


class Buildah:
    """buildah as root, without a daemon, with storage of its own in the cache folder."""

    def build(self, dockerfile: Path, context: Path, image: str, args: Mapping[str, str] | None = None) -> None:
        build_args = {"BASE": self._base()} | dict(args or {})
        options: list[str | Path] = [
            "--isolation",
            "chroot",
            "--network",
            "host",
            "--layers",
            "--tag",
            image,
            "--file",
            dockerfile,
        ]
        with tempfile.TemporaryDirectory() as folder:
            secrets = _secrets(Path(folder))
            self._run("bud", *options, *_build_args(build_args), *secrets, *_wheel_volumes(), context, timeout=1800)
        if len(self._run("images", "--all", "--quiet").splitlines()) > MOST_LAYERS:
            self._run("rmi", "--prune", timeout=300)

    def archive(self, image: str) -> Path:
        identity = self._run("inspect", "--type", "image", "--format", "{{.FromImageID}}", image).strip()
        target = _folder() / f"{_file_name(image)}-{identity[:12]}.tar"
        if not target.exists():
            for old in _folder().glob(f"{_file_name(image)}-*.tar"):
                old.unlink()
            unfinished = target.with_suffix(".new")
            unfinished.unlink(missing_ok=True)
            self._run("push", image, f"docker-archive:{unfinished}:{image}", timeout=300)
            unfinished.rename(target)
        return target

    def _base(self) -> str:
        archive = base_archive()
        image = _base_image(archive)
        try:
            self._run("inspect", "--type", "image", image)
        except CommandError:
            self._run("pull", f"docker-archive:{archive}", timeout=300)
        return image

    def _run(self, *args: str | Path, timeout: float = 60) -> str:
        return run([*_buildah(), *args], timeout=timeout)


@functools.cache
def _buildah() -> tuple[str | Path, ...]:
    """Return the buildah command; overlay is several times faster than vfs, but does not work on top of another overlay."""
    storage = tools.cache() / "buildah"

    def command(driver: str) -> tuple[str | Path, ...]:
        folders = ("--root", storage / driver, "--runroot", storage / f"{driver}-run")
        return ("buildah", "--storage-driver", driver, *folders)

    try:
        run([*command("overlay"), "images"])
    except CommandError:
        return command("vfs")
    return command("overlay")


# --- base images -------------------------------------------------------------------------------


def pause_archive(image: str) -> Path:
    """Return an archive of the program that holds a pod's namespaces, built from the source beside this file."""
    digest = hashlib.sha256(PAUSE_SOURCE.read_bytes() + image.encode()).hexdigest()[:12]
    target = _folder() / f"pause-{digest}.tar"
    if not target.exists():
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "pause"
            build = ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(program), PAUSE_SOURCE.name]
            run(["env", "CGO_ENABLED=0", *build], cwd=PAUSE_SOURCE.parent, timeout=300)
            write_archive(image, Path(folder), target, ["/pause"])
    return target


def base_archive() -> Path:
    """Return an archive of the base image; the first call on a machine takes about a minute."""
    codename = _codename()
    recipe = "\n".join([BASE_RECIPE, codename, BASE_PACKAGES, *BASE_LEAVES_OUT])
    target = _folder() / f"base-{codename}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.tar"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=_folder()) as folder:
            root = Path(folder) / "root"
            _debootstrap(codename, root, apt_mirror(codename))
            write_archive(_base_image(target), root, target, ["/bin/sh"])
    return target


def apt_mirror(codename: str) -> str:
    """Return the mirror that this machine's apt uses for a release."""
    fields = "$(REPO_URI) $(RELEASE) $(CODENAME) $(COMPONENT)"
    for line in run(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"]).splitlines():
        uri, *names, component = line.split()
        if codename in names and component == "main":
            return uri
    raise CommandError(f"apt knows no source of {codename or 'this release'}")


def _codename() -> str:
    """Return the name of the machine's own release: its mirror has it, and its keys are there."""
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return release.get("VERSION_CODENAME", "").strip('"')


def _debootstrap(codename: str, root: Path, mirror: str) -> None:
    proxy = run(["apt-config", "dump", "--format", "%v", "Acquire::http::Proxy"]).strip()
    # In a mount namespace of its own: what it mounts goes with it, even when it is killed.
    command = ["unshare", "--mount", "--propagation", "private", "debootstrap", "--variant=minbase"]
    environment = ["env", *([f"http_proxy={proxy}"] if proxy else [])]
    run([*environment, *command, f"--include={BASE_PACKAGES}", codename, root, mirror], timeout=900)
    for folder in BASE_LEAVES_OUT:
        for path in (root / folder).glob("*"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _base_image(archive: Path) -> str:
    return f"localhost/registry-status-base:{archive.stem}"


# --- what pip needs inside a build -------------------------------------------------------------


def _secrets(folder: Path) -> list[str]:
    """Give the build pip's settings of this machine as secrets: they never get into a layer, nor into a Dockerfile."""
    settings = dict(_pip_settings())
    options = []
    if certificate := settings.pop("cert", None):
        options += ["--secret", f"id=ca,src={certificate}"]
        settings["cert"] = CA_IN_BUILD
    configuration = folder / "pip.conf"
    lines = [f"{name} = {value}".replace("\n", "\n    ") for name, value in settings.items()]
    configuration.write_text("\n".join(["[global]", *lines, ""]))
    return [*options, "--secret", f"id=pip,src={configuration}"]


@functools.cache
def _pip_settings() -> dict[str, str]:
    """Return what pip here is told by its files and its environment: another index, a certificate, folders of wheels."""
    found = {}
    for line in run([sys.executable, "-m", "pip", "config", "list"]).splitlines():
        name, _, value = line.partition("=")
        found[name.rpartition(".")[2]] = str(ast.literal_eval(value))
    return found


def _wheel_volumes() -> list[str]:
    """Show the build the local folders that pip looks for wheels in."""
    folders = [Path(word) for word in _pip_settings().get("find-links", "").split() if Path(word).is_dir()]
    return [word for folder in folders for word in ("--volume", f"{folder}:{folder}:ro")]


# --- small things ------------------------------------------------------------------------------


def revision(root: Path) -> str:
    """Return the commit that an image is built from, for its label."""
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else "unknown"


def _build_args(args: Mapping[str, str]) -> list[str]:
    return [word for name, value in args.items() for word in ("--build-arg", f"{name}={value}")]


def _file_name(image: str) -> str:
    return image.replace("/", "_").replace(":", "_")


def _folder() -> Path:
    folder = tools.cache() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
