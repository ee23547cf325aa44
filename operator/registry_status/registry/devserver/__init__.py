"""An in-memory Apache ServiceComb Service Center, for tests, demos and development without a real one.

It answers as a real server (2.x) does to everything that a status operator or an SDK's registration asks; the shared contract
tests pass on both. `DevServer` runs in a test's own event loop:

    server = DevServer(clock=clock)
    service_id = server.registry.create_service(NewService(name="orders"))
    server.registry.register(service_id, NewInstance(host_name="orders-0", instance_id="i-1"))
    server.faults.set(Fault(Drop(), method="PUT", path="/status$", count=1, when=When.AFTER))
    async with server.listening() as base_url:
        ...
    assert [write.after for write in server.writes] == ["DOWN"]

Writes made through `server.registry` are somebody else's: they are not in `server.writes`, so drift is easy to stage.

In another process (`registry-status devregistry`) the same is had over HTTP, without any authentication, so keep it off
networks that you do not trust:

    GET    /devserver/writes[?limit=N]      {"total", "redundant", "writes": [{"time", "domain", "project", "serviceId",
                                            "instanceId", "before", "after", "redundant"}]}
    GET    /devserver/requests[?limit=N]    {"total", "inFlight", "peakInFlight", "requests": [{"time", "method", "path",
                                            "query", "domain", "authorization", "consumerId", "status"}]}
    GET    /devserver/instances             {"expired", "instances": [the registry's form, and "domain", "project"]}
    GET    /devserver/faults                {"faults": [...]}
    PUT    /devserver/faults                a fault or a list of them, in place of all others (see `faultspec`)
    DELETE /devserver/faults                behave again
    POST   /devserver/reset[?only=P,Q]      forget everything, or only P, Q of registry, journal, faults

The lists hold the newest entries only (`journal_size`), the totals count them all. `limit` asks for the newest N.
"""

from registry_status.registry.devserver.access_keys import AccessKeys
from registry_status.registry.devserver.accounts import Accounts
from registry_status.registry.devserver.faults import Answer, Delay, Drop, Effect, Fault, Faults, Hang, Truncate, When
from registry_status.registry.devserver.journal import Journal, RequestRecord, StatusWrite
from registry_status.registry.devserver.records import InstanceRecord, NewInstance, NewService, ServiceRecord
from registry_status.registry.devserver.refusals import Code, Refusal
from registry_status.registry.devserver.server import DEFAULT_JOURNAL_SIZE, DevServer
from registry_status.registry.devserver.state import RegistryState

__all__ = [
    "DEFAULT_JOURNAL_SIZE",
    "AccessKeys",
    "Accounts",
    "Answer",
    "Code",
    "Delay",
    "DevServer",
    "Drop",
    "Effect",
    "Fault",
    "Faults",
    "Hang",
    "InstanceRecord",
    "Journal",
    "NewInstance",
    "NewService",
    "Refusal",
    "RegistryState",
    "RequestRecord",
    "ServiceRecord",
    "StatusWrite",
    "Truncate",
    "When",
]
