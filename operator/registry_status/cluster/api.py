"""Single requests to the API server, answered as plain JSON: no models, no library that takes time to import."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp

from registry_status.cluster.access import Access, AccessError
from registry_status.cluster.connection import open_session
from registry_status.cluster.lines import json_object
from registry_status.cluster.words import message, said, shown

Json = dict[str, object]

TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)
NOT_REACHED, UNREACHABLE = 0, "Unreachable"
BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT, INVALID = 400, 401, 403, 404, 409, 422
THROTTLED, SERVER_ERROR = 429, 500
MANAGER = "registry-status-operator"
"""Who has set a field, as `managedFields` tell."""
STRATEGIC_MERGE = "application/strategic-merge-patch+json"
"""A patch that knows by what the entries of a list are told apart: a pod's conditions by their types."""


class ApiError(Exception):
    """The API server did not do what was asked."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        """`status` is HTTP's, or 0 if there was no answer; `reason` is Kubernetes' word (`Forbidden`, `NotFound`)."""
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed in a moment."""
        return self.reason == UNREACHABLE or self.status >= SERVER_ERROR or self.status == THROTTLED

    @property
    def not_found(self) -> bool:
        """Whether the object is not there; a path that the server does not know has another reason."""
        return self.status == NOT_FOUND and self.reason == "NotFound"


@dataclass(frozen=True, slots=True)
class Permission:
    """Something that the operator must be allowed to do."""

    verb: str
    resource: str
    group: str = ""
    namespace: str = ""
    """Empty: in the whole cluster."""
    name: str = ""
    """Empty: on all objects."""

    def __str__(self) -> str:
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        where = f"in namespace {self.namespace}" if self.namespace else "in all namespaces"
        return f"{self.verb} {resource}{f'/{self.name}' if self.name else ''} {where}"


class ApiServer:
    """A session with the API server. Close it, or use it in `async with`."""

    def __init__(self, access: Access, session: aiohttp.ClientSession | None = None) -> None:
        """Needs a running loop. A session that is given stays the caller's."""
        self.access = access
        self._session = session or open_session(access)
        self._owned = session is None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._owned:
            await self._session.close()

    async def get(self, path: str, query: Mapping[str, str] | None = None, *, accept: str = "application/json") -> Json:
        """Read one object. Raises `ApiError`."""
        return await self._request("GET", path, query=query, accept=accept)

    async def post(self, path: str, body: Json) -> Json:
        """Create one object. Raises `ApiError`."""
        return await self._request("POST", path, body=body)

    async def put(self, path: str, body: Json) -> Json:
        """Replace one object. Raises `ApiError`; with a `resourceVersion` in it only if that is still the newest."""
        return await self._request("PUT", path, body=body)

    async def patch(self, path: str, body: Json) -> Json:
        """Merge this into one object, strategically. Raises `ApiError`."""
        return await self._request("PATCH", path, query={"fieldManager": MANAGER}, body=body, kind=STRATEGIC_MERGE)

    async def _request(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Json | None = None,
        accept: str = "application/json", kind: str = "application/json",
    ) -> Json:  # fmt: skip
        headers = {"Accept": accept} if body is None else {"Accept": accept, "Content-Type": kind}
        try:
            async with self._session.request(
                method, self.access.server + path, params=query, json=body, headers=headers, timeout=TIMEOUT,
                allow_redirects=False,
            ) as response:  # fmt: skip
                return _answer(response, await response.read())
        except (AccessError, aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiError(NOT_REACHED, UNREACHABLE, f"{self.access.server}: {said(error)}") from None


def mapping(value: object) -> Mapping[str, object]:
    """A part of an object that should be one itself; empty where it is not there, or something else."""
    return value if isinstance(value, Mapping) else {}


def _answer(response: aiohttp.ClientResponse, body: bytes) -> Json:
    answer = json_object(body)
    if answer is None:
        raise ApiError(response.status, "NoJson", f"{response.status} {response.reason}: the answer is no JSON object")
    if response.status >= 300:
        status: dict[str, object] = answer if answer.get("kind") == "Status" else {}
        told = message(answer, response.request_info.headers) or shown(response.reason or "")
        raise ApiError(response.status, str(status.get("reason") or response.reason), f"{response.status}: {told}")
    return answer


async def server_version(api: ApiServer) -> tuple[int, int]:
    """Return the API server's version, such as (1, 36). Raises `ApiError`."""
    answer = await api.get("/version")
    # Vendors write "34+".
    numbers = [re.match(r"\d+", str(answer.get(part))) for part in ("major", "minor")]
    if numbers[0] is None or numbers[1] is None:
        raise ApiError(NOT_REACHED, "NoVersion", f"{api.access.server}/version does not say major and minor")
    return int(numbers[0][0]), int(numbers[1][0])


async def missing_permissions(api: ApiServer, needed: Sequence[Permission]) -> tuple[Permission, ...]:
    """Return those of the permissions that the operator does not have. Raises `ApiError`."""
    return tuple([permission for permission in needed if not await _is_allowed(api, permission)])


async def _is_allowed(api: ApiServer, permission: Permission) -> bool:
    resource, _, subresource = permission.resource.partition("/")
    attributes = {
        "verb": permission.verb, "group": permission.group, "resource": resource, "subresource": subresource,
        "namespace": permission.namespace, "name": permission.name,
    }  # fmt: skip
    review: Json = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
    }
    answer = await api.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    return mapping(answer.get("status")).get("allowed") is True
