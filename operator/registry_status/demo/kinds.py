"""What the emulated API server knows of its kinds: names, paths, verbs, and the order in which Go writes their fields."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

KubeObject: TypeAlias = dict[str, Any]
"""A Kubernetes object as JSON: its shape is its kind's, which the emulator does not need to know."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of objects: `pods` of the core group, say."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short_name: str = ""
    status: bool = False
    """It has a `status` subresource, which alone may change its status."""
    graceful: bool = False
    """It is deleted in two steps: marked with a grace period first, removed when its node says so."""
    unconditional_update: bool = True
    """A PUT may leave the resourceVersion out."""
    verbs: Sequence[str] = ("create", "delete", "get", "list", "patch", "update", "watch")

    @property
    def api_version(self) -> str:
        """As objects name it: `v1`, `coordination.k8s.io/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def prefix(self) -> str:
        """Where its paths begin."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    @property
    def qualified(self) -> str:
        """As error messages name it: `pods`, `leases.coordination.k8s.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


PODS: Final = Kind("", "v1", "pods", "Pod", short_name="po", status=True, graceful=True)
EVENTS: Final = Kind("", "v1", "events", "Event", short_name="ev")
NAMESPACES: Final = Kind("", "v1", "namespaces", "Namespace", namespaced=False, short_name="ns", status=True)
LEASES: Final = Kind("coordination.k8s.io", "v1", "leases", "Lease", unconditional_update=False)
CRDS: Final = Kind(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False, short_name="crd"
)
ACCESS_REVIEWS: Final = Kind(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False, verbs=("create",)
)
KINDS: Final = (PODS, EVENTS, NAMESPACES, LEASES, CRDS, ACCESS_REVIEWS)

OBJECT_ORDER: Final = ("kind", "apiVersion", "metadata", "spec", "status")
METADATA_ORDER: Final = (
    "name", "generateName", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp",
    "deletionGracePeriodSeconds", "labels", "annotations", "ownerReferences", "finalizers", "managedFields",
)  # fmt: skip


def in_go_order(item: KubeObject) -> KubeObject:
    """Put an object's fields in the order in which a real API server, a Go program, writes them.

    JSON does not care, but the operator's byte filter does: it knows a line by how Go begins it, and reads the uid there.
    """
    ordered = _ordered(item, OBJECT_ORDER)
    if "metadata" in ordered:
        ordered["metadata"] = _ordered(ordered["metadata"], METADATA_ORDER)
    return ordered


def _ordered(mapping: Mapping[str, Any], order: Sequence[str]) -> KubeObject:
    known = {key: mapping[key] for key in order if key in mapping}
    return known | {key: value for key, value in mapping.items() if key not in known}


class ApiError(Exception):
    """A refusal, as the API server words it; `str()` is its message."""

    def __init__(self, code: int, reason: str, message: str, *, details: KubeObject | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = details or {}

    @property
    def status(self) -> KubeObject:
        """The Status object that carries it over the wire."""
        body: KubeObject = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        body |= {"message": str(self), "reason": self.reason}
        if self.details:
            body["details"] = self.details
        return body | {"code": self.code}


def not_found(kind: Kind, name: str) -> ApiError:
    """There is no such object."""
    return ApiError(404, "NotFound", f'{kind.qualified} "{name}" not found', details=_details(kind, name))


def already_exists(kind: Kind, name: str) -> ApiError:
    """The name is taken."""
    return ApiError(409, "AlreadyExists", f'{kind.qualified} "{name}" already exists', details=_details(kind, name))


def conflict(kind: Kind, name: str, why: str) -> ApiError:
    """The caller has not seen the object's newest state, or means another object."""
    message = f'Operation cannot be fulfilled on {kind.qualified} "{name}": {why}'
    return ApiError(409, "Conflict", message, details=_details(kind, name))


def invalid(kind: Kind, name: str, why: str) -> ApiError:
    """The object breaks its kind's rules."""
    return ApiError(422, "Invalid", f'{kind.kind}.{kind.group} "{name}" is invalid: {why}', details=_details(kind, name))


def bad_request(message: str) -> ApiError:
    """The request makes no sense."""
    return ApiError(400, "BadRequest", message)


def expired(message: str) -> ApiError:
    """What was asked for is older than the history that is kept."""
    return ApiError(410, "Expired", message)


def _details(kind: Kind, name: str) -> KubeObject:
    return {"name": name} | ({"group": kind.group} if kind.group else {}) | {"kind": kind.plural}
