"""The chart's variants, and what each is rendered to: tests/charts/golden/NAME.yaml.

.venv/bin/python -m tests.charts.golden    writes the files anew, after a change of the chart that is meant
"""

from collections.abc import Mapping
from pathlib import Path

from tests.charts.rendering import ADDRESS, CHART, FULL, Chart, Values
from tests.cluster import tools

FOLDER = Path(__file__).with_name("golden")
DASHBOARD = CHART / "dashboards" / "registry-status.json"
REGISTRY = {"addresses": [ADDRESS, "https://two.example"]}

VARIANTS: Mapping[str, Values] = {
    "default": {},
    "full": FULL,
    "single-replica": {"replicaCount": 1},
    "namespaces": {"watch": {"namespaces": ["shop", "stock"]}},
    "rights-by-others": {
        "rbac": {"create": False},
        "serviceAccount": {"create": False, "name": "theirs"},
        "leaderElection": {"createLease": False},
    },
    "spread": {
        "antiAffinity": "hard",
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
        ],
        "priorityClassName": "system-cluster-critical",
    },
    "digest": {"image": {"repository": "registry.example/ops/status", "digest": "sha256:" + "a" * 64}},
    "network-policy": {"networkPolicy": {"enabled": True}, "registry": REGISTRY},
    "prometheus": {
        "monitoring": {
            "serviceMonitor": {"enabled": True, "interval": "15s"},
            "prometheusRule": {"enabled": True},
            "dashboard": {"enabled": True},
        }
    },
    "pod-monitor": {"monitoring": {"podMonitor": {"enabled": True}}, "service": {"enabled": False}},
    "login": {"registry": REGISTRY | {"auth": {"username": "operator", "existingSecret": "login"}}},
    "external-secrets": {
        "registry": REGISTRY
        | {
            "auth": {
                "username": "operator",
                "externalSecret": {
                    "enabled": True,
                    "storeName": "vault",
                    "data": [{"secretKey": "password", "remoteRef": {"key": "registry", "property": "password"}}],
                },
            },
            "tls": {
                "externalSecret": {
                    "enabled": True,
                    "storeKind": "SecretStore",
                    "storeName": "vault",
                    "refreshInterval": "15m",
                    "data": [{"secretKey": "ca.crt", "remoteRef": {"key": "registry", "property": "ca"}}],
                }
            },
        }
    },
}
"""What users set, a thing at a time; `full` is all at once."""


def rendered(chart: Chart, name: str) -> str:
    """Render a variant; in the place of the dashboard stands where it comes from."""
    text = chart.text(VARIANTS[name], tests=True)
    indented = "".join(f"    {line}\n".replace("    \n", "\n") for line in DASHBOARD.read_text("utf-8").splitlines())
    return text.replace(indented, "    (dashboards/registry-status.json)\n")


def write(chart: Chart) -> None:
    """Write all files anew."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.yaml"):
        old.unlink()
    for name in VARIANTS:
        (FOLDER / f"{name}.yaml").write_text(rendered(chart, name), "utf-8")


if __name__ == "__main__":
    write(Chart(tools.program("helm")))
