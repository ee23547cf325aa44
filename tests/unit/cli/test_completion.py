"""`registry-status completion`: scripts that the shells take, and that complete what the parsers know."""

import shutil
import subprocess
from pathlib import Path

import pytest

from registry_status.cli import COMMANDS, main


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.fixture
def bash(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Path:
    file = tmp_path / "completion.bash"
    file.write_text(script("bash", capsys))
    return file


def complete(bash: Path, *words: str, cwd: Path | None = None) -> list[str]:
    """What bash offers for the last of the words."""
    program = """
        source "$1"; shift
        COMP_WORDS=(registry-status "$@"); COMP_CWORD=$#
        _registry_status
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    ran = subprocess.run(
        ["bash", "--norc", "-uc", program, "bash", bash, *words],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
        timeout=30,
    )
    assert ran.stderr == ""
    return ran.stdout.split()


def test_bash_completes_commands(bash: Path) -> None:
    assert complete(bash, "") == [*COMMANDS, "--help", "--version"]
    assert complete(bash, "pl") == ["plan"]
    assert complete(bash, "co") == ["completion"]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["plan", "--diff"], ["--differences"]),
        (["plan", "--registry-pa"], ["--registry-password-file"]),
        (["plan", "--differences", "--conn"], ["--connect-timeout"]),
        (["plan", "-o", ""], ["table", "wide", "json", "yaml"]),
        (["plan", "--output", "y"], ["yaml"]),
        (["check", "-o", ""], ["text", "json", "yaml"]),
        (["run", "--leader-elect", ""], ["true", "false"]),
        (["run", "--not-ready-status", ""], ["auto", "OUTOFSERVICE", "STARTING", "DOWN"]),
        (["run", "--terminating-status", "D"], ["DOWN"]),
        (["run", "--log-format", ""], ["plain", "json"]),
        (["run", "--dry"], ["--dry-run"]),
        (["run", "--lease-name", ""], []),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["completion", "f"], ["fish"]),
        (["nonsense", "--x"], []),
    ],
)
def test_bash_completes_flags_and_their_values(bash: Path, words: list[str], offered: list[str]) -> None:
    assert complete(bash, *words) == offered


def test_bash_completes_files_where_a_flag_wants_one(bash: Path, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    assert complete(bash, "check", "--registry-ca-file", "ca", cwd=tmp_path) == ["ca.pem"]
    assert complete(bash, "explain", "-f", "ca", cwd=tmp_path) == ["ca.pem"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_every_command_and_flag(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = script(shell, capsys)
    for command in COMMANDS:
        assert command in text
    for flag in ("differences", "registry-address", "dry-run", "not-ready-status"):
        assert flag in text
    if program := shutil.which(shell):  # not on every machine
        subprocess.run([program, "-n", "/dev/stdin"], input=text, text=True, check=True, timeout=30)


def test_fish_offers_files_only_where_a_flag_wants_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = script("fish", capsys)
    flags = {name: [line for line in text.splitlines() if f" -l {name} " in line] for name in ("kubeconfig", "log-format")}
    assert all(" -r -F " in line for line in flags["kubeconfig"])
    assert all(" -x " in line for line in flags["log-format"])
    if program := shutil.which("fish"):  # not on every machine
        (tmp_path / "completion.fish").write_text(text)
        asked = f"source {tmp_path}/completion.fish; complete -C 'registry-status plan -o '"
        told = subprocess.run([program, "-c", asked], capture_output=True, text=True, check=True, timeout=30).stdout
        assert [line.split("\t")[0] for line in told.splitlines()] == ["json", "table", "wide", "yaml"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_help_texts_are_whole(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "%(" not in script(shell, capsys)


def test_another_shell_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["completion", "tcsh"])
    assert caught.value.code == 2
    assert "invalid choice: 'tcsh'" in capsys.readouterr().err
