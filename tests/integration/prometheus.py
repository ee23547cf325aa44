"""A Prometheus of the tests' own: Debian's package, on the loopback, with a folder of its own. Its service never runs."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.cluster.processes import Daemon, free_port, run, wait_for

INTERVAL = 1
"""Seconds between two scrapes, and between two evaluations of the rules."""


def why_not() -> str | None:
    """Say why there is no Prometheus, or None."""
    missing = [name for name in ("prometheus", "promtool") if not shutil.which(name)]
    return f"{' and '.join(missing)}: not installed (Debian's package prometheus; make packages)" if missing else None


@dataclass(frozen=True)
class Target:
    """What is to be scraped, and the labels that a ServiceMonitor would give it."""

    address: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Series:
    """One series of an answer: its labels, and its values by epoch seconds."""

    labels: Mapping[str, str]
    values: Sequence[tuple[float, float]]


class Prometheus:
    """Its HTTP API."""

    def __init__(self, address: str) -> None:
        self._http = httpx.Client(base_url=f"http://{address}", timeout=10, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def ready(self) -> bool:
        try:
            return self._http.get("/-/ready").is_success
        except httpx.TransportError:
            return False

    def get(self, path: str, **query: str | float) -> Any:
        """The data of an answer; an error of Prometheus is raised with its words."""
        answer = self._http.get(f"/api/v1/{path}", params=query).json()
        if answer["status"] != "success":
            raise ValueError(f"{path} {query}: {answer['error']}")
        return answer["data"]

    def range(self, expression: str, begin: float, end: float) -> list[Series]:
        """Evaluate an expression at each second of a time."""
        found = self.get("query_range", query=expression, start=begin, end=end, step=INTERVAL)["result"]
        return [Series(one["metric"], [(at, float(value)) for at, value in one["values"]]) for one in found]

    def rules(self) -> list[dict[str, Any]]:
        """Each rule, with its health, its last error and what fires."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def healthy_targets(self) -> int:
        return sum(target["health"] == "up" for target in self.get("targets")["activeTargets"])


def check_config(file: Path) -> None:
    """Raise with promtool's words where a configuration is wrong."""
    run(["promtool", "check", "config", file])


@contextmanager
def prometheus(folder: Path, targets: Sequence[Target], rules: Mapping[str, Any]) -> Iterator[Prometheus]:
    """Run it while the block runs."""
    (folder / "rules.yaml").write_text(yaml.safe_dump(dict(rules)))
    static = [{"targets": [target.address], "labels": dict(target.labels)} for target in targets]
    config = {
        "global": {"scrape_interval": f"{INTERVAL}s", "scrape_timeout": f"{INTERVAL}s", "evaluation_interval": f"{INTERVAL}s"},
        "rule_files": [str(folder / "rules.yaml")],
        "scrape_configs": [{"job_name": "operators", "static_configs": static}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command: list[str | Path] = ["prometheus", f"--config.file={folder / 'prometheus.yaml'}"]
    command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"]
    daemon, client = Daemon("prometheus", command, folder / "prometheus.log"), Prometheus(address)
    daemon.start()
    try:
        wait_for(client.ready, 30, "Prometheus ready")
        yield client
    finally:
        client.close()
        daemon.stop()
