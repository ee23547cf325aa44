"""The emulated cluster's state: objects, resourceVersions and the history that watches are fed from. It does no I/O.

As in etcd, one counter versions everything, each change keeps what was there before, and a compaction forgets the past. A
stored object is never changed in place: a change stores a new one, so readers may keep what they were given.
"""

import base64
import binascii
import json
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Final, NamedTuple

from registry_status.demo.clock import Clock
from registry_status.demo.kinds import (
    NAMESPACES,
    PODS,
    ApiError,
    Kind,
    KubeObject,
    already_exists,
    bad_request,
    conflict,
    expired,
    in_go_order,
    invalid,
    not_found,
)
from registry_status.demo.selectors import Predicate, everything
from registry_status.times import timestamp

HISTORY_LIMIT: Final = 20_000
SYSTEM_FIELDS: Final = (
    "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp",
    "deletionGracePeriodSeconds",
)  # fmt: skip
FINISHED: Final = ("Succeeded", "Failed")


class Key(NamedTuple):
    """Where an object is kept. Keys sort as in etcd, which is the order of lists."""

    plural: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Change:
    """One step of the history."""

    version: int
    type: str
    """`ADDED`, `MODIFIED` or `DELETED`."""
    key: Key
    item: KubeObject
    previous: KubeObject | None


class Seen(NamedTuple):
    """A change as one watch sees it."""

    version: int
    type: str
    item: KubeObject


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, which as a whole shows one moment."""

    items: Sequence[KubeObject]
    version: int
    token: str
    remaining: int


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """How an object is to be deleted; None: as its kind does by default."""

    grace_seconds: int | None = None
    uid: str | None = None
    version: str | None = None


class Store:
    """All objects of the cluster, with the rules of the API server's registries for them."""

    def __init__(self, clock: Clock, new_uid: Callable[[], str]) -> None:
        self._clock = clock
        self._new_uid = new_uid
        self._objects: dict[Key, KubeObject] = {}
        self._history: list[Change] = []
        self._compacted = 0
        self._version = 0
        self._listeners: set[Callable[[], None]] = set()
        for name in ("default", "kube-system"):
            self.create(NAMESPACES, "", {"metadata": {"name": name}})

    @property
    def version(self) -> int:
        """The newest resourceVersion."""
        return self._version

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have the listener called at each change. Returns the way out."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    # --- reading

    def get(self, kind: Kind, namespace: str, name: str) -> KubeObject:
        """Read one object. Raises `ApiError` 404."""
        try:
            return self._objects[Key(kind.plural, namespace, name)]
        except KeyError:
            raise not_found(kind, name) from None

    def select(self, kind: Kind, namespace: str = "", predicate: Predicate = everything) -> list[KubeObject]:
        """Read all objects of a namespace, or of all of them, in their order."""
        return _selected(self._objects, kind, namespace, predicate)

    def page(self, kind: Kind, namespace: str, predicate: Predicate, limit: int = 0, token: str = "") -> Page:
        """Read a list in pages. Each page shows the moment of the first; its `token` leads to the next."""
        version, after = _read_token(kind, token) if token else (self._version, None)
        if version < self._compacted:
            raise expired("The provided continue parameter is too old to display a consistent list result.")
        rest = _selected(self._objects_at(version), kind, namespace, predicate, after)
        items = rest[:limit] if limit else rest
        remaining = len(rest) - len(items)
        following = _write_token(version, items[-1]) if remaining else ""
        return Page(items, version, following, remaining)

    def changes(self, kind: Kind, namespace: str, predicate: Predicate, since: int) -> tuple[list[Seen], int]:
        """Tell what happened after a resourceVersion, and up to which one this goes. Raises `ApiError` 410 if forgotten."""
        if since < self._compacted:
            raise expired(f"too old resource version: {since} ({self._compacted})")
        start = bisect_right(self._history, since, key=lambda change: change.version)
        fresh = [c for c in self._history[start:] if c.key.plural == kind.plural and namespace in ("", c.key.namespace)]
        return [seen for change in fresh if (seen := _seen(change, predicate))], self._version

    def compact(self) -> None:
        """Forget the past, as etcd does every five minutes: who has not read up to the present must list again."""
        self._history.clear()
        self._compacted = self._version

    # --- writing

    def create(self, kind: Kind, namespace: str, item: KubeObject) -> KubeObject:
        """Add an object. Raises `ApiError`, 409 for instance where the name is taken."""
        given = item.get("metadata") or {}
        name = given.get("name") or (given["generateName"] + self._new_uid()[:5] if given.get("generateName") else "")
        if not name:
            raise invalid(kind, "", "metadata.name: Required value: name or generateName is required")
        self._check_creation(kind, namespace, given)
        key = Key(kind.plural, namespace, name)
        if key in self._objects:
            raise already_exists(kind, name)
        metadata = {**given, "name": name, "uid": self._new_uid(), "creationTimestamp": timestamp(self._clock())}
        if kind.namespaced:
            metadata["namespace"] = namespace
        body = {**deepcopy(item), "kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
        return self._write("ADDED", key, _with_defaults(kind, body), None)

    def replace(self, kind: Kind, namespace: str, name: str, item: KubeObject, *, status: bool = False) -> KubeObject:
        """Change an object, or its status. Raises `ApiError`, 409 where the caller's resourceVersion is not the newest."""
        old = self.get(kind, namespace, name)
        _check_identity(kind, old, item)
        new = _with_status(old, item) if status else _with_body(kind, old, item)
        return self._update(kind, old, new)

    def bind(self, namespace: str, name: str, node: str, conditions: Sequence[KubeObject]) -> KubeObject:
        """Put a pod on a node and tell so in its status, in one change: what the pod's `binding` subresource does."""
        pod = self.get(PODS, namespace, name)
        spec, status = {**pod["spec"], "nodeName": node}, {**pod["status"], "conditions": list(conditions)}
        return self._write("MODIFIED", _key(PODS, pod), {**pod, "spec": spec, "status": status}, pod)

    def delete(self, kind: Kind, namespace: str, name: str, options: DeleteOptions) -> KubeObject:
        """Delete an object: at once, or where it has a grace period or finalizers, mark it for deletion."""
        item = self.get(kind, namespace, name)
        _check_preconditions(kind, item, options)
        grace = _grace(kind, item, options.grace_seconds)
        if grace > 0:
            return self._mark(kind, item, grace)
        if kind.graceful or item["metadata"].get("finalizers"):
            item = self._mark(kind, item, 0)
        return item if item["metadata"].get("finalizers") else self._erase(kind, item)

    def _check_creation(self, kind: Kind, namespace: str, metadata: Mapping[str, object]) -> None:
        if metadata.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        if not kind.namespaced:
            return
        if metadata.get("namespace", namespace) != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        phase = self.get(NAMESPACES, "", namespace)["status"]["phase"]
        if phase == "Terminating":
            message = (
                f"{kind.qualified} is forbidden: unable to create new content in namespace {namespace} because it is being "
            )
            causes = [{"reason": "NamespaceTerminating", "message": f"namespace {namespace} is being terminated"}]
            raise ApiError(403, "Forbidden", message + "terminated", details={"kind": kind.plural, "causes": causes})

    def _update(self, kind: Kind, old: KubeObject, new: KubeObject) -> KubeObject:
        if new == old:
            return old
        metadata = dict(new["metadata"])
        if new.get("spec") != old.get("spec") and "generation" in metadata:
            metadata["generation"] += 1
        stored = self._write("MODIFIED", _key(kind, old), {**new, "metadata": metadata}, old)
        held = metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds")
        return stored if "deletionTimestamp" not in metadata or held else self._erase(kind, stored)

    def _mark(self, kind: Kind, item: KubeObject, grace: int) -> KubeObject:
        metadata = item["metadata"]
        before = metadata.get("deletionGracePeriodSeconds")
        if "deletionTimestamp" in metadata and before is not None and before <= grace:
            return item
        marked = {**metadata, "deletionTimestamp": timestamp(self._clock() + grace), "deletionGracePeriodSeconds": grace}
        if "generation" in metadata and "deletionTimestamp" not in metadata:
            marked["generation"] += 1
        return self._write("MODIFIED", _key(kind, item), {**item, "metadata": marked}, item)

    def _erase(self, kind: Kind, item: KubeObject) -> KubeObject:
        return self._write("DELETED", _key(kind, item), item, item)

    def _write(self, change: str, key: Key, item: KubeObject, previous: KubeObject | None) -> KubeObject:
        self._version += 1
        stored = in_go_order({**item, "metadata": {**item["metadata"], "resourceVersion": str(self._version)}})
        if change == "DELETED":
            del self._objects[key]
        else:
            self._objects[key] = stored
        self._history.append(Change(self._version, change, key, stored, previous))
        self._forget_the_oldest()
        for listener in tuple(self._listeners):
            listener()
        return stored

    def _forget_the_oldest(self) -> None:
        if len(self._history) > HISTORY_LIMIT:
            self._compacted = self._history[HISTORY_LIMIT // 2].version
            del self._history[: HISTORY_LIMIT // 2 + 1]

    def _objects_at(self, version: int) -> dict[Key, KubeObject]:
        if version == self._version:
            return self._objects
        objects = dict(self._objects)
        for change in reversed(self._history):
            if change.version <= version:
                break
            if change.previous is None:
                objects.pop(change.key, None)
            else:
                objects[change.key] = change.previous
        return objects


def _seen(change: Change, predicate: Predicate) -> Seen | None:
    """How a watch with a selector sees a change: an object that leaves the selection is DELETED for it."""
    now = change.type != "DELETED" and predicate(change.item)
    before = change.previous is not None and predicate(change.previous)
    if not now and not before:
        return None
    return Seen(change.version, ("MODIFIED" if before else "ADDED") if now else "DELETED", change.item)


def _selected(
    objects: Mapping[Key, KubeObject], kind: Kind, namespace: str, predicate: Predicate, after: Key | None = None
) -> list[KubeObject]:
    keys = (k for k in objects if k.plural == kind.plural and namespace in ("", k.namespace) and (after is None or k > after))
    return [item for key in sorted(keys) if predicate(item := objects[key])]


def _key(kind: Kind, item: KubeObject) -> Key:
    return Key(kind.plural, item["metadata"].get("namespace", ""), item["metadata"]["name"])


def _write_token(version: int, last: KubeObject) -> str:
    place = [version, last["metadata"].get("namespace", ""), last["metadata"]["name"]]
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def _read_token(kind: Kind, token: str) -> tuple[int, Key]:
    try:
        version, namespace, name = json.loads(base64.urlsafe_b64decode(token))
    except (binascii.Error, ValueError):
        raise bad_request("continue key is not valid") from None
    return int(version), Key(kind.plural, str(namespace), str(name))


def _with_defaults(kind: Kind, item: KubeObject) -> KubeObject:
    if kind == PODS:
        spec = {"restartPolicy": "Always", "terminationGracePeriodSeconds": 30} | (item.get("spec") or {})
        metadata = {**item["metadata"], "generation": 1}
        return {**item, "metadata": metadata, "spec": spec, "status": {"phase": "Pending", "qosClass": "BestEffort"}}
    if kind == NAMESPACES:
        labels = {"kubernetes.io/metadata.name": item["metadata"]["name"]} | (item["metadata"].get("labels") or {})
        metadata = {**item["metadata"], "labels": labels}
        return {**item, "metadata": metadata, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
    return item


def _with_body(kind: Kind, old: KubeObject, item: KubeObject) -> KubeObject:
    metadata = {key: value for key, value in item["metadata"].items() if key not in SYSTEM_FIELDS}
    metadata |= {key: old["metadata"][key] for key in SYSTEM_FIELDS if key in old["metadata"]}
    new = {**deepcopy(item), "kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
    if kind.status and "status" in old:
        new["status"] = old["status"]
    return in_go_order(new)


def _with_status(old: KubeObject, item: KubeObject) -> KubeObject:
    metadata = dict(old["metadata"])
    for key in ("labels", "annotations"):
        if key in item["metadata"]:
            metadata[key] = item["metadata"][key]
    return in_go_order({**old, "metadata": metadata, "status": deepcopy(item.get("status") or {})})


def _check_identity(kind: Kind, old: KubeObject, item: KubeObject) -> None:
    name, metadata = old["metadata"]["name"], item.get("metadata") or {}
    if metadata.get("name", name) != name:
        raise bad_request(f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})")
    if not metadata.get("resourceVersion") and not kind.unconditional_update:
        raise invalid(kind, name, "metadata.resourceVersion: Invalid value: 0: must be specified for an update")
    _check_preconditions(kind, old, DeleteOptions(uid=metadata.get("uid"), version=metadata.get("resourceVersion")))


def _check_preconditions(kind: Kind, item: KubeObject, wanted: DeleteOptions) -> None:
    metadata = item["metadata"]
    if wanted.uid and wanted.uid != metadata["uid"]:
        why = f"Precondition failed: UID in precondition: {wanted.uid}, UID in object meta: {metadata['uid']}"
        raise conflict(kind, metadata["name"], why)
    if wanted.version and wanted.version != metadata["resourceVersion"]:
        why = "the object has been modified; please apply your changes to the latest version and try again"
        raise conflict(kind, metadata["name"], why)


def _grace(kind: Kind, item: KubeObject, asked: int | None) -> int:
    """How long the deletion of an object takes: a pod that no node has, or that has finished, needs no goodbye."""
    if not kind.graceful or "nodeName" not in item["spec"] or item["status"].get("phase") in FINISHED:
        return 0
    return int(item["spec"]["terminationGracePeriodSeconds"]) if asked is None else max(0, asked)
