"""Custom resources of the Prometheus Operator and the External Secrets Operator, as far as the chart writes them.

Closed where theirs are, so that a field in the wrong place is an error here as it is there. Neither operator is needed for it.
"""

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
DURATION: Schema = {"type": "string", "pattern": "^(0|([0-9]+(y|w|d|h|m|s|ms))+)$"}
ANYTHING: Schema = {"x-kubernetes-int-or-string": True}
NAMES: Schema = {"type": "object", "additionalProperties": TEXT}


def closed(*required: str, **properties: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": properties}


def many(items: Schema) -> Schema:
    return {"type": "array", "items": items}


SELECTOR = closed(matchLabels=NAMES)
RELABELING = closed(
    action=TEXT, regex=TEXT, replacement=TEXT, separator=TEXT, sourceLabels=many(TEXT), targetLabel=TEXT
)  # fmt: skip
ENDPOINT = closed(
    port=TEXT,
    path=TEXT,
    interval=DURATION,
    scrapeTimeout=DURATION,
    relabelings=many(RELABELING),
    metricRelabelings=many(RELABELING),
)
RULE = closed("expr", alert=TEXT, record=TEXT, expr=ANYTHING, labels=NAMES, annotations=NAMES, **{"for": DURATION})
MONITORED = {"namespaceSelector": closed(any={"type": "boolean"}, matchNames=many(TEXT)), "selector": SELECTOR}
STORE = closed(name=TEXT, kind={"type": "string", "enum": ["SecretStore", "ClusterSecretStore"]})
REMOTE = closed("key", key=TEXT, property=TEXT, version=TEXT)

SPECS: dict[tuple[str, str, str], Schema] = {
    ("monitoring.coreos.com", "servicemonitors", "ServiceMonitor"): closed(
        "endpoints", "selector", endpoints=many(ENDPOINT), **MONITORED
    ),
    ("monitoring.coreos.com", "podmonitors", "PodMonitor"): closed("selector", podMetricsEndpoints=many(ENDPOINT), **MONITORED),
    ("monitoring.coreos.com", "prometheusrules", "PrometheusRule"): closed(
        groups=many(closed("name", name=TEXT, interval=DURATION, rules=many(RULE)))
    ),
    ("external-secrets.io", "externalsecrets", "ExternalSecret"): closed(
        refreshInterval=TEXT,
        secretStoreRef=STORE,
        target=closed(name=TEXT),
        data=many(closed("secretKey", "remoteRef", secretKey=TEXT, remoteRef=REMOTE)),
    ),
}


def definitions() -> Iterator[dict[str, Any]]:
    for (group, plural, kind), spec in SPECS.items():
        version = {
            "name": "v1",
            "served": True,
            "storage": True,
            "schema": {"openAPIV3Schema": {"type": "object", "required": ["spec"], "properties": {"spec": spec}}},
        }
        yield {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"plural": plural, "kind": kind, "singular": kind.lower(), "listKind": f"{kind}List"},
                "versions": [version],
            },
        }


def names() -> list[str]:
    return [f"{plural}.{group}" for group, plural, _ in SPECS]
