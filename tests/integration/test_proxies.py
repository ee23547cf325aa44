"""The watch through what stands before API servers: real proxies that read HTTP, and speak it anew."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.cluster import levels
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kube import write_kubeconfig
from tests.cluster.processes import Daemon, free_port, wait_for
from tests.integration.running import EVENTS, PODS, Pods, account, operator, register, registry, wait_status

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"
AT_ONCE = 1.0
"""Seconds from a change to the registry: nothing may wait for a buffer to be full."""
NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors.log; events {{}}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass https://{upstream}; {how} }} }}
}}
"""
HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  {how}
frontend api
  bind 127.0.0.1:{port}
  default_backend servers
backend servers
  server one {upstream} ssl verify none
"""


@contextmanager
def proxy(config: pytest.Config, program: str, how: str, upstream: str, folder: Path) -> Iterator[str]:
    """A proxy on the loopback before an API server; yields its URL."""
    executable = shutil.which(program, path=PATH)
    if executable is None:
        levels.not_run(config, "proxies", f"{program} is not installed: tests/cluster/packages.sh installs it")
    port, written = free_port(), folder / f"{program}.conf"
    written.write_text((NGINX if program == "nginx" else HAPROXY).format(folder=folder, port=port, upstream=upstream, how=how))
    flags = ["-e", folder / "start.log", "-p", folder, "-c"] if program == "nginx" else ["-db", "-f"]
    daemon = Daemon(program, [executable, *flags, written], folder / f"{program}.log")
    daemon.start()
    try:
        wait_for(lambda: _listens(port), 10, f"{program} listening ({daemon.log.read_text()})")
        yield f"http://127.0.0.1:{port}"
    finally:
        daemon.stop()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("filtered", ["true", "false"], ids=["filtered", "plain kopf"])
@pytest.mark.parametrize(("program", "how"), [
    ("nginx", "proxy_buffering off;"),
    ("nginx", "proxy_http_version 1.1; proxy_set_header Connection '';"),
    ("haproxy", ""),
    ("haproxy", "option http-server-close"),
], ids=["nginx that does not buffer", "nginx that speaks HTTP/1.1", "haproxy", "haproxy that closes connections"])  # fmt: skip
def test_each_change_comes_through_at_once(
    request: pytest.FixtureRequest,
    control_plane: ControlPlane,
    pods: Pods,
    tmp_path: Path,
    program: str,
    how: str,
    filtered: str,
) -> None:
    who = account(control_plane, pods.namespace, PODS, EVENTS)
    given = yaml.safe_load(who.kubeconfig.read_text())
    upstream = given["clusters"][0]["cluster"]["server"].removeprefix("https://")
    with registry() as (server, url), proxy(request.config, program, how, upstream, tmp_path) as address:
        kubeconfig = write_kubeconfig(tmp_path / "proxied", server=address, ca=b"", token=given["users"][0]["user"]["token"])
        flags = ("--namespace", pods.namespace, "--watch-filter", filtered)
        with operator(kubeconfig, url, tmp_path, *flags) as run:
            pods.create("cart")
            instance = register(server, "cart", status="STARTING")
            wait_status(server, instance, "UP")
            for number in range(10):
                ready, status = (("True", "UP"), ("False", "OUTOFSERVICE"))[number % 2 == 0]
                pods.show("cart", ready, 9 + number)
                assert wait_status(server, instance, status) < AT_ONCE
            faults = [line for line in run.metrics().splitlines() if line.startswith("registry_status_watch_faults_total")]
            assert {line.rpartition(" ")[2] for line in faults} == {"0.0"}
