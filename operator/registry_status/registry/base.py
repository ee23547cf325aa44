"""What the rest of the operator may know of a service registry: its values, its errors and the `Registry` protocol.

The errors sort every answer by what to do about it (DESIGN section 5). They carry the facts; none ever holds a credential.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Protocol

from registry_status.model import InstanceStatus, ServiceName, Tenant


@dataclass(frozen=True, slots=True)
class Service:
    """A microservice as the registry lists it."""

    service_id: str
    name: str
    app: str
    version: str
    environment: str
    framework_name: str = ""
    framework_version: str = ""


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance as the registry lists it."""

    instance_id: str
    service_id: str
    status: str
    """Any word that the registry knows, not only those of `InstanceStatus`."""
    host_name: str = ""
    endpoints: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    registered_at: int | None = None
    """Epoch seconds of the registration; registering a live id again keeps it."""
    lease: float = 120.0
    """Seconds without a heartbeat after which the registry drops it: interval x (times + 1)."""


class RegistryError(Exception):
    """The registry did not do what was asked.

    `code` is the registry's own (`400017`), else the HTTP status (`http-502`) or a word for the transport's trouble
    (`timeout`, `connect`). `maybe_applied` tells that a write may have taken effect all the same.
    """

    def __init__(self, code: str, message: str, *, address: str = "", maybe_applied: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.address = address
        self.maybe_applied = maybe_applied

    def __str__(self) -> str:
        return f"{self.message} ({self.code})" + (f" from {self.address}" if self.address else "")


class PermanentError(RegistryError):
    """Asking again will not help: the request, the rights or the address are wrong."""


class NotFoundError(RegistryError):
    """The instance, service or version is not there (yet): no failure by itself."""


class AuthError(RegistryError):
    """The registry does not accept our credentials."""


class BlockedError(AuthError):
    """Too many failed logins: the account is blocked for a while."""


class LoggedOutError(AuthError):
    """The registry refused our login and another is not tried yet, so nothing was sent: wait for `Registry.on_available`."""


class TransientError(RegistryError):
    """It may work later. `retry_after` is the least wait in seconds that the registry asked for."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        address: str = "",
        maybe_applied: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(code, message, address=address, maybe_applied=maybe_applied)
        self.retry_after = retry_after


class FencedError(RegistryError):
    """This replica does not lead any more, or may not: the write was not sent, or not waited for. Nobody's failure."""


class UnavailableError(TransientError):
    """No address is fit to be asked, so nothing was sent: wait for `Registry.on_available`."""


class Registry(Protocol):
    """A service registry that holds statuses of instances. Every call may raise any `RegistryError`."""

    async def list_services(self, tenant: Tenant) -> Sequence[Service]:
        """All services of the tenant."""
        ...

    async def find_service(self, tenant: Tenant, service: ServiceName, version: str) -> str | None:
        """The id of one version of a service; None if it is not registered."""
        ...

    async def list_instances(self, tenant: Tenant, service_id: str) -> Sequence[Instance]:
        """All instances of the service, whatever their status. Raises `NotFoundError` for an unknown service."""
        ...

    async def write_status(self, tenant: Tenant, service_id: str, instance_id: str, status: InstanceStatus) -> None:
        """Set an instance's status. The same status again is pushed to all consumers: compare before you write."""
        ...

    def on_available(self, wake: Callable[[], None]) -> None:
        """Call `wake` each time that the registry can be asked again after `UnavailableError` or `LoggedOutError`."""
        ...


class Fence(Protocol):
    """Keeps a replica that does not lead any more from writing, where several take turns."""

    def remaining(self) -> float:
        """Seconds for which a write may be under way; 0 or less: none may be sent."""
        ...


def seconds_left(fence: Fence | None) -> float:
    """How long a write may be under way; infinite without a fence."""
    return fence.remaining() if fence is not None else inf


class Operation(StrEnum):
    """What is asked of the registry; a closed set, so that it can label a metric."""

    LIST_SERVICES = "list-services"
    FIND_SERVICE = "find-service"
    LIST_INSTANCES = "list-instances"
    WRITE_STATUS = "write-status"
    LOG_IN = "log-in"
    PROBE = "probe"


class RequestObserver(Protocol):
    """Is told of every request to the registry, for metrics."""

    def request_finished(self, operation: Operation, code: str, seconds: float) -> None:
        """`code` is `ok`, `cancelled` or a `RegistryError.code`."""
        ...

    def circuit_changed(self, address: str, *, is_open: bool) -> None:
        """An address is not asked any more, or is asked again."""
        ...
