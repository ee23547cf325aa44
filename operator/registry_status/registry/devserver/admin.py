"""The admin surface, for tests that reach the server only over HTTP. See the package's docstring for what there is."""

import json
from collections.abc import Iterable
from typing import TypeVar

from aiohttp import web

from registry_status.registry.devserver.answers import done, json_answer
from registry_status.registry.devserver.faults import Faults
from registry_status.registry.devserver.faultspec import fault_to_json, parse_faults
from registry_status.registry.devserver.journal import Journal, RequestRecord, StatusWrite
from registry_status.registry.devserver.records import InstanceRecord, JsonObject
from registry_status.registry.devserver.state import RegistryState

ADMIN_PREFIX = "/devserver/"

LONGEST_LIMIT = 9
"""Digits of a `?limit=`."""

Item = TypeVar("Item")


class Admin:
    """Handlers under `/devserver/`. They are never journaled, and no fault hits them."""

    def __init__(self, registry: RegistryState, journal: Journal, faults: Faults) -> None:
        self._registry = registry
        self._journal = journal
        self._faults = faults

    def routes(self) -> Iterable[web.RouteDef]:
        """All that is answered."""
        return [
            web.get(f"{ADMIN_PREFIX}writes", self.writes),
            web.get(f"{ADMIN_PREFIX}requests", self.requests),
            web.get(f"{ADMIN_PREFIX}instances", self.instances),
            web.get(f"{ADMIN_PREFIX}faults", self.faults),
            web.put(f"{ADMIN_PREFIX}faults", self.set_faults),
            web.delete(f"{ADMIN_PREFIX}faults", self.clear_faults),
            web.post(f"{ADMIN_PREFIX}reset", self.reset),
        ]

    async def writes(self, request: web.Request) -> web.Response:
        """Tell the status writes."""
        writes = _newest(self._journal.writes, request)
        return json_answer(
            {
                "total": self._journal.total_writes,
                "redundant": self._journal.redundant_writes,
                "writes": [_write_to_json(write) for write in writes],
            }
        )

    async def requests(self, request: web.Request) -> web.Response:
        """Tell the requests."""
        requests = _newest(self._journal.requests, request)
        return json_answer(
            {
                "total": self._journal.total_requests,
                "inFlight": self._journal.in_flight,
                "peakInFlight": self._journal.peak_in_flight,
                "requests": [_request_to_json(one) for one in requests],
            }
        )

    async def instances(self, _request: web.Request) -> web.Response:
        """Tell the instances of all tenants."""
        instances = [_instance_to_json(instance) for instance in self._registry.all_instances()]
        return json_answer({"expired": self._registry.expired, "instances": instances})

    async def faults(self, _request: web.Request) -> web.Response:
        """Tell the faults in force."""
        return json_answer({"faults": [fault_to_json(fault, left) for fault, left in self._faults.active]})

    async def set_faults(self, request: web.Request) -> web.Response:
        """Put one fault or several in force, in place of all others."""
        try:
            faults = parse_faults(json.loads(await request.read()))
        except RecursionError:
            return json_answer({"error": "the JSON is nested too deeply"}, status=400)
        except ValueError as error:  # no JSON, no fault, or a number too long to be read
            return json_answer({"error": str(error)}, status=400)
        self._faults.set(*faults)
        return await self.faults(request)

    async def clear_faults(self, _request: web.Request) -> web.Response:
        """Behave again."""
        self._faults.clear()
        return done()

    async def reset(self, request: web.Request) -> web.Response:
        """Forget everything, or only what `?only=` names."""
        forget = {"registry": self._registry.clear, "journal": self._journal.clear, "faults": self._faults.clear}
        parts = request.query["only"].split(",") if "only" in request.query else list(forget)
        if not set(parts) <= forget.keys():
            return json_answer({"error": f"only must name some of {', '.join(forget)}"}, status=400)
        for part in parts:
            forget[part]()
        return done()


def _newest(items: list[Item], request: web.Request) -> list[Item]:
    """The `?limit=` newest ones; a limit that is no number is none."""
    limit = request.query.get("limit", "")
    if len(limit) > LONGEST_LIMIT:
        raise web.HTTPBadRequest(reason=f"limit must have at most {LONGEST_LIMIT} digits")
    return items[max(0, len(items) - int(limit)) :] if limit.isdecimal() else items


def _write_to_json(write: StatusWrite) -> JsonObject:
    return {
        "time": write.time,
        "domain": write.domain,
        "project": write.project,
        "serviceId": write.service_id,
        "instanceId": write.instance_id,
        "before": write.before,
        "after": write.after,
        "redundant": write.redundant,
    }


def _request_to_json(request: RequestRecord) -> JsonObject:
    return {
        "time": request.time,
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "domain": request.domain,
        "authorization": request.authorization,
        "consumerId": request.consumer_id,
        "status": request.status,
    }


def _instance_to_json(instance: InstanceRecord) -> JsonObject:
    return {"domain": instance.tenant.domain, "project": instance.tenant.project, **instance.to_json()}
