"""The API server's part of an election, in memory: one Lease, its versions, and what a request may suffer."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from registry_status.cluster.api import ApiError, Json
from registry_status.cluster.lease import LeaseRef

REF = LeaseRef("system", "status")


class LeaseStore:
    """Keeps one Lease as a real API server would."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.versions = 0
        self.kept: list[dict[str, Any]] = []
        """All versions that there ever were."""
        self.made = 0

    @property
    def holder(self) -> str:
        assert self.lease is not None
        holder: str = self.lease["spec"].get("holderIdentity", "")
        return holder

    def get(self) -> Json:
        if self.lease is None:
            raise ApiError(404, "NotFound", f'leases "{REF.name}" not found')
        found: Json = json.loads(json.dumps(self.lease))
        return found

    def post(self, body: Json) -> Json:
        if self.lease is not None:
            raise ApiError(409, "AlreadyExists", "already exists")
        self.made += 1
        return self._store(body, f"uid-{self.made}")

    def put(self, body: Json) -> Json:
        assert isinstance(body["metadata"], dict)
        named = body["metadata"]["uid"], body["metadata"]["resourceVersion"]
        if self.lease is None or named != (self.lease["metadata"]["uid"], self.lease["metadata"]["resourceVersion"]):
            raise ApiError(409, "Conflict", "the object has been modified")
        return self._store(body, named[0])

    # What people and other programs do.

    def delete(self) -> None:
        self.lease = None

    def edit(self, **spec: Any) -> None:
        """Change the specification, or with nothing given only an annotation."""
        if self.lease is not None:
            changed = json.loads(json.dumps(self.lease))
            changed["spec"] |= spec
            changed["metadata"]["annotations"] = {"edited": str(self.versions)}
            self._store(changed, changed["metadata"]["uid"])

    def put_back(self, version: dict[str, Any]) -> None:
        """What an older version said is there again: a backup."""
        self._store(version, version["metadata"]["uid"])

    def _store(self, body: Json, uid: str) -> Json:
        self.versions += 1
        stored = json.loads(json.dumps(body))
        stored["metadata"] |= {"uid": uid, "resourceVersion": str(self.versions)}
        self.lease = stored
        self.kept.append(stored)
        return self.get()


class FakeLeaseApi:
    """The store behind a network: each request takes a while, and `trouble` may spoil it."""

    def __init__(self, store: LeaseStore, latency: float = 0.01) -> None:
        self.store = store
        self.latency = latency
        self.trouble: Callable[[str], ApiError | None] = lambda _: None
        self.answer_lost = False
        """Requests are obeyed, but never answered."""
        self.calls: list[str] = []

    async def get(self, path: str) -> Json:
        return await self._call("get", path, self.store.get)

    async def post(self, path: str, body: Json) -> Json:
        return await self._call("post", path, lambda: self.store.post(body))

    async def put(self, path: str, body: Json) -> Json:
        return await self._call("put", path, lambda: self.store.put(body))

    async def _call(self, method: str, path: str, act: Callable[[], Json]) -> Json:
        assert path.startswith("/apis/coordination.k8s.io/v1/namespaces/system/leases"), path
        self.calls.append(method)
        await asyncio.sleep(self.latency / 2)
        if error := self.trouble(method):
            raise error
        answer = act()
        await asyncio.sleep(3600 if self.answer_lost else self.latency / 2)
        return answer
