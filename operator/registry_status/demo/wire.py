"""How the emulated API server writes: JSON as Go's encoder makes it, one object a line in watches."""

import json
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from registry_status.demo.kinds import KINDS, PODS, Kind, KubeObject
from registry_status.demo.store import Page

Shape: TypeAlias = Callable[[KubeObject], KubeObject]
"""What of an object is sent."""

INITIAL_EVENTS_END: Final = "k8s.io/initial-events-end"
METADATA_API: Final = "meta.k8s.io/v1"
VERSION: Final = {"major": "1", "minor": "36", "gitVersion": "v1.36.0+emulator", "platform": "linux/amd64"}


def encoded(item: KubeObject) -> bytes:
    """Write an object without spaces and with a line's end, as Go does."""
    return json.dumps(item, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def watch_line(change: str, item: KubeObject) -> bytes:
    """Write one event of a watch."""
    return encoded({"type": change, "object": item})


def bookmark(kind: Kind, version: int, *, ends_initial_events: bool = False) -> KubeObject:
    """An empty object that tells only how far a watch has come."""
    metadata: KubeObject = {"resourceVersion": str(version)}
    if ends_initial_events:
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    body: KubeObject = {"spec": {"containers": None}, "status": {}} if kind == PODS else {}
    return {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata} | body


def whole(item: KubeObject) -> KubeObject:
    """Send everything."""
    return item


def metadata_only(item: KubeObject) -> KubeObject:
    """Send what a client gets that asks for PartialObjectMetadata."""
    return {"kind": "PartialObjectMetadata", "apiVersion": METADATA_API, "metadata": item["metadata"]}


def shape_of(accept: str) -> Shape:
    """Read the form that the Accept header asks for."""
    return metadata_only if "as=PartialObjectMetadata" in accept.partition(",")[0] else whole


def list_body(kind: Kind, page: Page, shape: Shape, *, counted: bool) -> KubeObject:
    """Write a page of a list; like a real server's, its items leave out the kind that the list has told."""
    metadata: KubeObject = {"resourceVersion": str(page.version)}
    if page.token:
        metadata |= {"continue": page.token} | ({"remainingItemCount": page.remaining} if counted else {})
    if shape is metadata_only:
        items = [metadata_only(item) for item in page.items]
        return {"kind": "PartialObjectMetadataList", "apiVersion": METADATA_API, "metadata": metadata, "items": items}
    items = [{key: value for key, value in item.items() if key not in ("kind", "apiVersion")} for item in page.items]
    return {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": metadata, "items": items}


def discovery(path: str) -> KubeObject | None:
    """Answer the paths by which clients find out what there is; None for all other paths."""
    if path == "/version":
        return dict(VERSION)
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(kind) for kind in KINDS if kind.group]}
    kinds = [kind for kind in KINDS if kind.prefix == path]
    if not kinds:
        return None
    resources = [row for kind in kinds for row in _resources(kind)]
    group_version = kinds[0].api_version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}


def _group(kind: Kind) -> KubeObject:
    version = {"groupVersion": kind.api_version, "version": kind.version}
    return {"name": kind.group, "versions": [version], "preferredVersion": version}


def _resources(kind: Kind) -> Sequence[KubeObject]:
    row: KubeObject = {"name": kind.plural, "singularName": kind.kind.lower(), "namespaced": kind.namespaced, "kind": kind.kind}
    row |= {"verbs": list(kind.verbs)} | ({"shortNames": [kind.short_name]} if kind.short_name else {})
    return [row, row | {"name": f"{kind.plural}/status", "singularName": "", "verbs": ["get", "patch", "update"]}][
        : 1 + kind.status
    ]
