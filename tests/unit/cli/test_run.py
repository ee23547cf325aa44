"""What `run` does around the operator, in a process of its own."""

import subprocess
import sys

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
