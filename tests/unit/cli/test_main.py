"""The command line as a whole: help that teaches, exit statuses, and `run` where it cannot begin."""

import argparse
import dataclasses
import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from registry_status import __version__
from registry_status.cli import COMMANDS, build_parser, explain, main
from registry_status.config import Settings, flag, variable
from tests.pods import pod

ADDRESS = "http://127.0.0.1:30100"


def registry_status(*words: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "registry_status", *words]
    clean = {key: text for key, text in os.environ.items() if not key.startswith("REGISTRY_STATUS_")}
    return subprocess.run(
        command, input=stdin, env=clean | environment, capture_output=True, text=True, check=False, timeout=60
    )


def ended(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    """How argparse ends the command: exit status, standard output, standard error."""
    with pytest.raises(SystemExit) as caught:
        main(words)
    got = capsys.readouterr()
    return caught.value.code, got.out, got.err


# --- help and usage -----------------------------------------------------------------------------


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = ended(["--help"], capsys)
    assert status == 0
    listed = " ".join(out.split())
    for name, text in COMMANDS.items():
        assert f"{name} {text}" in listed


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_teaches_by_its_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = ended([command, "--help"], capsys)
    assert status == 0
    assert out.startswith(f"usage: registry-status {command} ")
    assert len(out.splitlines()) > 8


def test_the_help_of_run_names_every_flag_and_variable(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = ended(["run", "--help"], capsys)
    text = " ".join(out.split())
    for field in dataclasses.fields(Settings):
        assert f"{flag(field.name)} " in text
        assert f"[{variable(field.name)}]" in text


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_the_terminal_and_keeps_examples_whole(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = ended([*filter(None, [command]), "--help"], capsys)
    prose = [line for line in out.splitlines() if not line.startswith("  ")]
    assert max(map(len, prose)) <= 80
    told = build_parser([command])[0].description if not command else build_parser([command])[1][command].__doc__
    assert told is not None
    for example in [line for line in told.splitlines() if line.startswith("  ")]:
        assert example in out.splitlines()


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(["--version"], capsys)[:2] == (0, f"registry-status {__version__}\n")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "COMMAND"),
        (["walk"], "invalid choice: 'walk'"),
        (["--loud"], "COMMAND"),
        (["explain", "--loud"], "--loud"),
        (["explain", "-o", "xml"], "invalid choice: 'xml'"),
        (["explain", "--fil", "x"], "--fil"),
        (["run", "--registry", ADDRESS], "--registry"),
        (["run", "surplus"], "surplus"),
        (["run", "--concurrency"], "--concurrency"),
    ],
)
def test_wrong_use_is_exit_status_2_with_the_reason(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = ended(words, capsys)
    assert (status, out) == (2, "")
    assert complaint in err.splitlines()[-1]


def arguments_of(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    build_parser([command])[1][command].add_arguments(parser)
    return parser


@pytest.mark.parametrize("command", COMMANDS)
def test_what_may_be_chosen_is_told_in_the_words_to_type(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    for action in arguments_of(command)._actions:
        choices = list(action.choices or ())
        if not choices:
            continue
        words = [action.option_strings[0], "no-such-word"] if action.option_strings else ["no-such-word"]
        status, _, err = ended([command, *words], capsys)
        assert status == 2
        told = err.splitlines()[-1].rpartition("choose from ")[2].rstrip(")").replace("'", "").split(", ")
        assert told == [str(choice) for choice in choices]
        assert {type(choice) for choice in choices} == {str}


# --- how a command ends -------------------------------------------------------------------------


def test_an_interrupt_is_exit_status_130_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(explain, "run", interrupted)
    assert main(["explain", "-f", "-"]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("pods", [1, 2000], ids=["little to say", "much to say"])
def test_output_that_nobody_reads_to_its_end_is_no_crash(pods: int, tmp_path: Path) -> None:
    file = tmp_path / "pods.json"
    file.write_text(json.dumps({"kind": "List", "items": [pod({"service-id": "s"})] * pods}))
    command = [sys.executable, "-m", "registry_status", "explain", "-f", str(file)]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as output:
        ran = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stderr) == (141, "")


OUTPUTS = {
    "explain": ["explain", "-f", "{pods}"],
    "explain much": ["explain", "-f", "{many}", "-o", "yaml"],
    "completion": ["completion", "bash"],
    "help": ["--help"],
    "help of a command": ["run", "--help"],
    "version": ["--version"],
    "devregistry": ["devregistry", "--listen", "127.0.0.1:0"],
}
NOWHERE = {
    "a full disk": ('"$@" >/dev/full', "No space left on device"),
    "a closed stream": ('"$@" >&-', "it is closed"),
    "a stream for reading": ('"$@" 1</dev/null', "it is closed"),
}


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["kept until it is much", "written at once"])
@pytest.mark.parametrize(("script", "why"), NOWHERE.values(), ids=NOWHERE)
@pytest.mark.parametrize("words", OUTPUTS.values(), ids=OUTPUTS)
def test_output_that_cannot_be_written_is_told_in_one_line(
    tmp_path: Path, words: list[str], script: str, why: str, unbuffered: str
) -> None:
    one = pod({"service-id": "s"})
    (tmp_path / "pods").write_text(json.dumps(one))
    (tmp_path / "many").write_text(json.dumps({"kind": "List", "items": [one] * 500}))
    given = [word.format(pods=tmp_path / "pods", many=tmp_path / "many") for word in words]
    command = ["sh", "-c", script, "sh", sys.executable, "-m", "registry_status", *given]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stderr) == (2, f"registry-status: cannot write to standard output: {why}\n")


def test_a_command_with_nothing_to_say_needs_no_output() -> None:
    command = ["sh", "-c", '"$@" >&- <&-', "sh", sys.executable, "-m", "registry_status", "run"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stderr) == (
        2,
        "registry-status: --registry-address is needed (or REGISTRY_STATUS_REGISTRY_ADDRESS)\n",
    )


@pytest.mark.parametrize("words", [["explain", "-f", "/nowhere"], ["run"], ["plan"], ["devregistry", "--tls-key", "x"]])
def test_complaints_do_not_land_in_the_output_where_errors_have_no_place(words: list[str]) -> None:
    command = ["sh", "-c", '"$@" 2>&-', "sh", sys.executable, "-m", "registry_status", *words]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stdout) == (2, "")


def test_an_error_that_is_not_the_outputs_is_not_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fallen(_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "/somewhere")

    monkeypatch.setattr(explain, "run", fallen)
    with pytest.raises(OSError, match="/somewhere"):
        main(["explain", "-f", "-"])


def test_the_module_is_the_command() -> None:
    ran = registry_status("explain", "-f", "-", stdin=json.dumps(pod({"service-id": "svc-1"})))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("shop/cart-1: UP\n")


def test_text_of_any_language_is_printed_wherever_it_runs() -> None:
    raw = pod({"service-id": "ä"})
    ran = registry_status("explain", "-f", "-", stdin=json.dumps(raw, ensure_ascii=False), LC_ALL="C", PYTHONUTF8="0")
    assert ran.returncode == 1
    assert "service-id: 'ä' is not allowed" in ran.stdout.replace("\\xe4", "ä")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_yaml_says_the_same_in_every_encoding_of_the_output(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "pod.json"
    file.write_text(json.dumps(pod({"service": "k\u00e4rt \u5b57"})))
    command = [sys.executable, "-m", "registry_status", "explain", "-f", str(file), "-o", "yaml"]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    ran = subprocess.run(command, capture_output=True, env=environment, check=False, timeout=60)
    assert yaml.safe_load(ran.stdout)[0]["problems"][0]["value"] == "k\u00e4rt \u5b57"


# --- run ----------------------------------------------------------------------------------------


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Run `run` with settings that are wrong; the value is what it complains about."""

    def run(*words: str) -> list[str]:
        assert main(["run", *words]) == 2
        got = capsys.readouterr()
        assert got.out == ""
        assert all(line.startswith("registry-status: ") for line in got.err.splitlines())
        return [line.removeprefix("registry-status: ") for line in got.err.splitlines()]

    return run


Run = Callable[..., list[str]]


def test_run_needs_the_registrys_address(run: Run) -> None:
    assert run() == ["--registry-address is needed (or REGISTRY_STATUS_REGISTRY_ADDRESS)"]


@pytest.mark.parametrize("url", ["registry:30100", "http://registry/v4", "http://", "ftp://registry"])
def test_run_tells_what_a_url_may_be(run: Run, url: str) -> None:
    (complaint,) = run("--registry-address", url)
    assert complaint.startswith(f"--registry-address: {url!r} is not allowed; allowed: a URL such as http://registry:30100")


def test_run_tells_a_wrong_variable_by_its_name(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_STATUS_REGISTRY_ADDRESS", "registry")
    monkeypatch.setenv("REGISTRY_STATUS_LOGLEVEL", "debug")
    found = run("--log-format", "xml")
    assert [line.split(":")[0] for line in found] == [
        "REGISTRY_STATUS_REGISTRY_ADDRESS",
        "--log-format",
        "REGISTRY_STATUS_LOGLEVEL",
    ]


KUBECONFIGS: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "No such file or directory"),
    "binary": (b"\xff\xfe\x00", "is not a text file"),
    "not YAML": (b"a: [", "is not YAML"),
    "no mapping": (b"- a", "is no kubeconfig"),
    "no current context": (b"{contexts: []}", "current-context"),
    "a context that is not there": (b"{current-context: nowhere, contexts: []}", "nowhere"),
}


@pytest.mark.parametrize(("content", "complaint"), KUBECONFIGS.values(), ids=KUBECONFIGS)
def test_run_tells_an_unreadable_kubeconfig_in_one_line(content: bytes | None, complaint: str, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    if content is not None:
        kubeconfig.write_bytes(content)
    ran = registry_status("run", "--registry-address", ADDRESS, "--kubeconfig", str(kubeconfig), "--listen", "127.0.0.1:0")
    assert (ran.returncode, ran.stdout) == (1, "")
    (line,) = ran.stderr.splitlines()
    assert line.startswith("registry-status: ")
    assert str(kubeconfig) in line
    assert complaint in line


def test_run_tells_that_its_port_is_taken(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "c", "context": {"cluster": "c"}}
    kubeconfig.write_text(json.dumps({"clusters": [cluster], "contexts": [context], "current-context": "c"}))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        ran = registry_status("run", "--registry-address", ADDRESS, "--kubeconfig", str(kubeconfig), "--listen", listen)
    assert (ran.returncode, ran.stdout) == (1, "")
    line = ran.stderr.splitlines()[-1]
    assert line.startswith("registry-status: ")
    assert listen in line
    assert "Traceback" not in ran.stderr
