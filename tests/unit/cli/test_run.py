"""What `run` does around the operator, in a process of its own."""

import errno
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

PROGRAM = """
import gc, sys
from registry_status.cli import main
code = main(["run", "--registry-address", "http://127.0.0.1:1", "--kubeconfig", "/no/such/file"])
print(code, gc.isenabled(), gc.get_freeze_count() > 10_000)
"""


def test_garbage_is_collected_after_the_imports_but_not_looked_for_among_modules() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["1", "True", "True"]
    assert "/no/such/file" in done.stderr


TOLD_EARLY = """
import asyncio, os, signal, sys
from registry_status import app, config
from registry_status.cli import main

read = config.read_settings

def told_early(*arguments):
    os.kill(os.getpid(), signal.SIGTERM)
    return read(*arguments)

async def operate(settings, *, stop):
    await asyncio.wait_for(stop.wait(), 5)
    print("told", signal.pthread_sigmask(signal.SIG_BLOCK, []))

config.read_settings, app.run_operator = told_early, operate
sys.exit(main(["run", "--registry-address", "http://127.0.0.1:1"]))
"""


def test_a_signal_before_anybody_minds_it_is_minded_later() -> None:
    """The first process of a container would never get one that came before there was a handler."""
    done = subprocess.run([sys.executable, "-c", TOLD_EARLY], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "told set()\n"), done.stderr


SCHEDULED = """
import asyncio, os, sys
from registry_status import app
from registry_status.cli import main

async def operate(settings, *, stop):
    policies = os.sched_getscheduler(0), await asyncio.to_thread(os.sched_getscheduler, 0)
    print(*({os.SCHED_OTHER: "other", os.SCHED_BATCH: "batch"}[policy] for policy in policies))

def refuse(*_):
    raise OSError(refusal, os.strerror(refusal))

refusal = int(sys.argv[1])
if refusal:
    os.sched_setscheduler = refuse
app.run_operator = operate
sys.exit(main(["run", "--registry-address", "http://127.0.0.1:1"]))
"""


@pytest.mark.parametrize(
    ("refusal", "scheduled"),
    [(0, "batch batch"), (errno.EPERM, "other other"), (errno.ENOSYS, "other other")],
    ids=["not refused", "by a seccomp profile", "by a sandbox that does not know it"],
)
def test_the_operator_takes_no_core_from_others_where_the_system_lets_it_ask_for_that(refusal: int, scheduled: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCHEDULED, str(refusal)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, f"{scheduled}\n"), done.stderr


FILES = {
    "a password that is not there": ["--registry-username", "me", "--registry-password-file", "{missing}"],
    "a password that is empty": ["--registry-username", "me", "--registry-password-file", "{empty}"],
    "an authority that is not there": ["--registry-ca-file", "{missing}"],
    "an authority that is none": ["--registry-ca-file", "{empty}"],
    "an access key": ["--registry-access-key-file", "{missing}", "--registry-secret-key-file", "{right}"],
    "an access key and its secret key": ["--registry-access-key-file", "{missing}", "--registry-secret-key-file", "{empty}"],
    "a certificate": ["--registry-client-cert-file", "{missing}", "--registry-client-key-file", "{right}"],
}


@pytest.mark.parametrize("words", FILES.values(), ids=FILES)
def test_each_file_of_the_settings_that_cannot_be_used_is_a_wrong_setting(words: list[str], tmp_path: Path) -> None:
    """The exit status of other wrong settings: whoever restarts on 1 need not on this."""
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "c", "context": {"cluster": "c"}}
    (tmp_path / "config").write_text(json.dumps({"clusters": [cluster], "contexts": [context], "current-context": "c"}))
    (tmp_path / "empty").write_text("")
    (tmp_path / "right").write_text("what is asked for")
    given = [word.format(**{name: tmp_path / name for name in ("missing", "empty", "right")}) for word in words]
    place = ["--kubeconfig", str(tmp_path / "config"), "--listen", "127.0.0.1:0", "--registry-address", "https://127.0.0.1:1"]
    command = [sys.executable, "-m", "registry_status", "run", *place, *given]
    clean = {key: text for key, text in os.environ.items() if not key.startswith("REGISTRY_STATUS_")}
    ran = subprocess.run(command, env=clean, capture_output=True, text=True, check=False, timeout=60)
    complaints = [line for line in ran.stderr.splitlines() if line.startswith("registry-status: ")]
    named = [complaint.removeprefix("registry-status: ").split(" ")[:2] for complaint in complaints]
    wrong = [(flag, file) for flag, file in pairwise(given) if file in (str(tmp_path / "missing"), str(tmp_path / "empty"))]
    assert ran.returncode == 2
    assert named == [[f"{flag}:", file] for flag, file in wrong]
    assert "Traceback" not in ran.stderr
