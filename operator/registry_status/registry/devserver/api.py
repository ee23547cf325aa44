"""The routes of the registry's own API: from HTTP to the registry state and back.

Reads are never stale here, so `noCache` changes nothing; the journal tells whether a client asked for it. There is no batch
status endpoint on purpose: on the real server an empty match of it changes every instance of a project.
"""

from collections.abc import Callable, Iterable

from aiohttp import web

from registry_status.model import Tenant
from registry_status.registry.devserver.accounts import Accounts
from registry_status.registry.devserver.answers import done, json_answer, json_text
from registry_status.registry.devserver.bodies import parse_instance, parse_login, parse_properties, parse_service
from registry_status.registry.devserver.journal import Journal, StatusWrite
from registry_status.registry.devserver.records import DEFAULT_TENANT
from registry_status.registry.devserver.refusals import Code, Refusal
from registry_status.registry.devserver.state import RegistryState

TOKEN = "/v4/token"  # noqa: S105 - a path
REGISTRY = "/v4/{project}/registry"
SERVICES = f"{REGISTRY}/microservices"
SERVICE = f"{SERVICES}/{{service_id}}"
INSTANCES = f"{SERVICE}/instances"
INSTANCE = f"{INSTANCES}/{{instance_id}}"

NEEDS_NO_TOKEN = (TOKEN, "/registry/health", "/registry/version")

FORCE = {"": False, "false": False, "0": False, "true": True, "1": True}


class RegistryApi:
    """Handlers for one registry."""

    def __init__(
        self, registry: RegistryState, journal: Journal, accounts: Accounts | None, clock: Callable[[], float]
    ) -> None:
        self._registry = registry
        self._journal = journal
        self._accounts = accounts
        self._clock = clock

    def routes(self) -> Iterable[web.RouteDef]:
        """All that is answered. HEAD is not, as on the real server."""
        return [
            web.post(TOKEN, self.log_in),
            web.get(f"{REGISTRY}/health", self.health, allow_head=False),
            web.get(f"{REGISTRY}/version", self.version, allow_head=False),
            web.get(f"{REGISTRY}/existence", self.existence, allow_head=False),
            web.get(SERVICES, self.list_services, allow_head=False),
            web.post(SERVICES, self.create_service),
            web.get(SERVICE, self.read_service, allow_head=False),
            web.delete(SERVICE, self.delete_service),
            web.get(INSTANCES, self.list_instances, allow_head=False),
            web.post(INSTANCES, self.register),
            web.get(INSTANCE, self.read_instance, allow_head=False),
            web.delete(INSTANCE, self.delete_instance),
            web.put(f"{INSTANCE}/status", self.put_status),
            web.put(f"{INSTANCE}/heartbeat", self.heartbeat),
            web.put(f"{INSTANCE}/properties", self.put_properties),
        ]

    async def log_in(self, request: web.Request) -> web.Response:
        """Give a token for a password; without RBAC there is nobody to log in."""
        if self._accounts is None:
            raise web.HTTPNotFound
        name, password = parse_login(await request.read())
        return json_answer({"token": self._accounts.login(name, password)})

    async def health(self, _request: web.Request) -> web.Response:
        """Always healthy; faults are what makes it otherwise."""
        return json_answer({})

    async def version(self, _request: web.Request) -> web.Response:
        """What some SDKs ask for at their start."""
        return json_answer({"version": "devserver", "apiVersion": "4.0.0"})

    async def existence(self, request: web.Request) -> web.Response:
        """Find a service's id by its names."""
        query = request.query
        if query.get("type") != "microservice":
            raise Refusal(Code.INVALID_PARAMS, "Only micro-service can be used as type.")
        service_id = self._registry.find_service(
            query.get("serviceName", ""),
            query.get("version", ""),
            app=query.get("appId", ""),
            environment=query.get("env", ""),
            tenant=tenant_of(request),
        )
        return json_answer({"serviceId": service_id})

    async def list_services(self, request: web.Request) -> web.Response:
        """All services of the tenant; none is an empty object, not an empty list."""
        services = self._registry.services(tenant_of(request))
        return json_answer({"services": [service.to_json() for service in services]} if services else {})

    async def create_service(self, request: web.Request) -> web.Response:
        """Create a service, or find that it exists."""
        new = parse_service(await request.read())
        return json_answer({"serviceId": self._registry.create_service(new, tenant_of(request))})

    async def read_service(self, request: web.Request) -> web.Response:
        """One service."""
        service = self._registry.service(request.match_info["service_id"], tenant_of(request))
        return json_answer({"service": service.to_json()})

    async def delete_service(self, request: web.Request) -> web.Response:
        """Remove a service."""
        force = FORCE.get(request.query.get("force", ""))
        if force is None:
            raise Refusal(Code.INVALID_PARAMS, "parameter force must be false or true")
        self._registry.delete_service(request.match_info["service_id"], tenant_of(request), force=force)
        return done()

    async def list_instances(self, request: web.Request) -> web.Response:
        """A service's instances, whatever their status; none is an empty object."""
        instances = self._registry.instances(request.match_info["service_id"], tenant_of(request))
        texts = ", ".join([instance.encoded for instance in instances])
        return json_text(f'{{"instances": [{texts}]}}' if instances else "{}")

    async def register(self, request: web.Request) -> web.Response:
        """Register an instance, or only send its heartbeat."""
        new = parse_instance(await request.read())
        instance_id = self._registry.register(request.match_info["service_id"], new, tenant_of(request))
        return json_answer({"instanceId": instance_id})

    async def read_instance(self, request: web.Request) -> web.Response:
        """One instance."""
        instance = self._registry.instance(*ids_of(request), tenant_of(request))
        return json_text(f'{{"instance": {instance.encoded}}}')

    async def delete_instance(self, request: web.Request) -> web.Response:
        """Remove an instance."""
        self._registry.delete_instance(*ids_of(request), tenant_of(request))
        return done()

    async def put_status(self, request: web.Request) -> web.Response:
        """Set an instance's status: the write that all this is about."""
        (service_id, instance_id), tenant = ids_of(request), tenant_of(request)
        after = request.query.get("value", "")
        before = self._registry.put_status(service_id, instance_id, after, tenant)
        self._journal.wrote(
            StatusWrite(
                time=self._clock(),
                domain=tenant.domain,
                project=tenant.project,
                service_id=service_id,
                instance_id=instance_id,
                before=before,
                after=after,
            )
        )
        return done()

    async def heartbeat(self, request: web.Request) -> web.Response:
        """Keep an instance alive."""
        self._registry.heartbeat(*ids_of(request), tenant_of(request))
        return done()

    async def put_properties(self, request: web.Request) -> web.Response:
        """Replace an instance's properties."""
        properties = parse_properties(await request.read())
        self._registry.put_properties(*ids_of(request), properties, tenant_of(request))
        return done()


def tenant_of(request: web.Request) -> Tenant:
    """The tenant that a request speaks for."""
    domain = request.headers.get("x-domain-name") or DEFAULT_TENANT.domain
    return Tenant(domain, request.match_info["project"])


def ids_of(request: web.Request) -> tuple[str, str]:
    """The service id and the instance id in a request's path."""
    return request.match_info["service_id"], request.match_info["instance_id"]
