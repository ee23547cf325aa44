"""The bare control plane: a real API that can crash and come back."""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.kube import Kube
from tests.cluster.processes import CommandError, wait_for
from tests.cluster.tools import ROOT

pytestmark = pytest.mark.usefixtures("control_plane")  # says aloud when it can't run


def config_map(name: str, **data: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pids(control_plane: ControlPlane) -> list[int]:
    return [daemon.pid for daemon in (control_plane.etcd, control_plane.apiserver) if daemon.pid]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() != b""


def test_it_is_a_real_api(control_plane: ControlPlane) -> None:
    control_plane.kube.apply(config_map("real", a="b"))
    assert control_plane.kube.get("configmap", "real")["data"] == {"a": "b"}
    with pytest.raises(CommandError, match="unknown field"):
        control_plane.kube.apply({**config_map("wrong"), "dta": {}})


def test_what_it_was_asked_is_known(control_plane: ControlPlane) -> None:
    control_plane.kube.apply(config_map("audited"))
    asked = [(e["verb"], e["objectRef"]["name"]) for e in control_plane.audit() if "name" in e.get("objectRef", {})]
    assert ("create", "audited") in asked


def test_users_have_the_rights_they_are_given() -> None:
    with ControlPlane(users={"eve": ["readers"]}, feature_gates={"AllAlpha": False}) as control_plane:
        admin, eve = control_plane.kube, control_plane.user("eve")
        with pytest.raises(CommandError, match="Forbidden"):
            eve.kubectl("get", "configmaps")
        admin.kubectl("create", "clusterrole", "readers", "--verb=get", "--resource=configmaps")
        admin.kubectl("create", "clusterrolebinding", "readers", "--clusterrole=readers", "--group=readers")
        wait_for(lambda: can(eve, "get", "configmaps"), 10, "the new right")
        assert not can(eve, "create", "configmaps")


def test_service_accounts_have_the_rights_they_are_given(control_plane: ControlPlane) -> None:
    control_plane.kube.kubectl("create", "serviceaccount", "reader")
    reader = control_plane.service_account("default", "reader")
    assert not can(reader, "get", "pods")
    control_plane.kube.kubectl("create", "role", "reader", "--verb=get", "--resource=pods")
    control_plane.kube.kubectl("create", "rolebinding", "reader", "--role=reader", "--serviceaccount=default:reader")
    wait_for(lambda: can(reader, "get", "pods"), 10, "the new right")


def can(kube: Kube, *question: str) -> bool:
    try:
        kube.kubectl("auth", "can-i", *question)
    except CommandError:
        return False
    return True


def test_it_comes_back_with_its_data_and_leaves_nothing() -> None:
    with ControlPlane() as control_plane:
        control_plane.kube.apply(config_map("kept"))
        first = pids(control_plane)
        control_plane.kill_apiserver()
        with control_plane.kube.http() as http, pytest.raises(httpx.ConnectError):
            http.get("/readyz")
        control_plane.kill_etcd()
        control_plane.start_etcd()
        control_plane.start_apiserver()
        assert control_plane.kube.get("configmap", "kept")
        control_plane.stop_apiserver()
        control_plane.start_apiserver()
        assert control_plane.kube.get("configmap", "kept")
        last = pids(control_plane)
        assert not any(alive(pid) for pid in first)
        assert all(alive(pid) for pid in last)
        folder = control_plane.folder
    assert not any(alive(pid) for pid in last)
    assert not folder.exists()


START_AND_WAIT = """
import time
from tests.cluster.control_plane import ControlPlane
control_plane = ControlPlane().start()
print(control_plane.etcd.pid, control_plane.apiserver.pid, flush=True)
time.sleep(600)
"""


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", START_AND_WAIT]
    env = os.environ | {"TMPDIR": str(tmp_path)}  # what it could not remove goes with the folder of this test
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=env) as run:
        assert run.stdout is not None
        etcd, apiserver = run.stdout.readline().split()
        run.kill()
    began = time.monotonic()
    wait_for(lambda: not (alive(int(etcd)) or alive(int(apiserver))), 5, "end of both")
    assert time.monotonic() - began < 5
