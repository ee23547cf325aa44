"""Whether the registry lets us in, shows the services that are needed, and what lives there that a status can harm."""

import re
from collections.abc import AsyncIterator, Iterable, Sequence

from registry_status.cli.checks.finding import Area, Finding, Findings, counted
from registry_status.cli.reading import Register
from registry_status.config import NotReady, Settings
from registry_status.model import Desired, InstanceStatus, PodRef, Reason, Target, Tenant
from registry_status.registry.base import (
    AuthError,
    BlockedError,
    LoggedOutError,
    NotFoundError,
    PermanentError,
    RegistryError,
    Service,
)
from registry_status.sync.clock import loop_time
from registry_status.sync.consumers import Consumers

NO_LOGINS = re.compile("http-(3..|403|404|405|431)")
"""The codes of an answer to a login that no registry with accounts gives: nobody has looked at the password."""

told = Findings(Area.REGISTRY)


async def check_access(register: Register, settings: Settings, tenants: Iterable[Tenant]) -> tuple[Sequence[Finding], bool]:
    """Read the services of every tenant in use, and tell whether more may be asked: not after a login that failed.

    What is refused for one tenant alone ends nothing: others may be read, and so may that tenant's instances.
    """
    found: list[Finding] = []
    for tenant in tenants:
        try:
            services = await register.snapshot.list_services(tenant)
        except NotFoundError:
            services = ()
        except RegistryError as error:
            found.append(_refused(error, settings, tenant))
            if not isinstance(error, PermanentError):
                return found, False
            continue
        found.append(_judged(services, settings, tenant))
    if settings.registry_password_file is not None or settings.registry_access_key_file is not None:
        found.append(told.skipped("whether the account may change statuses is not tried: nothing is written here"))
    return found, True


def _judged(services: Sequence[Service], settings: Settings, tenant: Tenant) -> Finding:
    who = f", as {settings.registry_username}" if settings.registry_username else ""
    if services:
        return told.ok(f"may read {_named(tenant)}, which has {counted(len(services), 'service')}{who}")
    fix = "correct --registry-project and --registry-domain, or the annotations `project` and `domain`; else start a service"
    return told.warning(f"{_named(tenant)} has no services: an unknown project looks the same", fix)


def _refused(error: RegistryError, settings: Settings, tenant: Tenant) -> Finding:
    return told.error(f"the services of {_named(tenant)} cannot be read: {error}", _how_to_mend(error, settings))


def _how_to_mend(error: RegistryError, settings: Settings) -> str:
    if isinstance(error, BlockedError) or error.code == "403201":
        return "wait until the account is free again (the registry says an hour), then correct the password and check once"
    if isinstance(error, LoggedOutError) and NO_LOGINS.fullmatch(error.code):
        return "give the address of the Service Center itself; if it has no accounts, leave --registry-username out"
    if isinstance(error, LoggedOutError):
        path, name = settings.registry_password_file, settings.registry_username
        return (
            f"put the password of account {name} into {path}, or correct --registry-username; three failures block the account"
        )
    if isinstance(error, AuthError) and settings.registry_access_key_file is not None:
        return f"correct the keys in {settings.registry_access_key_file} and {settings.registry_secret_key_file}"
    if isinstance(error, AuthError) and settings.registry_password_file is None:
        return "the registry asks for credentials: give --registry-username and --registry-password-file, or an access key"
    if isinstance(error, PermanentError | AuthError):
        return "give the account a role that may read services and instances and change instances' statuses"
    return "look at the registry's own log and its backend"


async def check_harm(register: Register, settings: Settings, pods: Sequence[tuple[PodRef, Target]]) -> AsyncIterator[Finding]:
    """Tell where OUTOFSERVICE is asked for by name and a service lives whose consumers it harms.

    `pods` are those whose own annotations ask for it. Raises `RegistryError`.
    """
    consumers = Consumers(register.directory, lambda _: None)
    asked: dict[Tenant, str] = {}
    if settings.not_ready_status is NotReady.OUTOFSERVICE:
        asked[settings.tenant] = "--not-ready-status"
    for pod, target in pods:
        asked.setdefault(target.tenant, f"pod {pod}")
    for tenant, who in asked.items():
        if not await register.services(tenant):
            continue
        try:
            await consumers.read(tenant, loop_time())
        except PermanentError:
            continue
        service = consumers.harmed_by(_wish(tenant))
        if service is not None:
            what = f"{who} asks for OUTOFSERVICE, and service {service} of {_named(tenant)} runs on Java Chassis 3"
            fix = "take `auto` or DOWN: its consumers fail on OUTOFSERVICE, and see no new instances of that service any more"
            yield told.warning(what, fix)


def _wish(tenant: Tenant) -> Desired:
    """Somebody who wants OUTOFSERVICE."""
    nobody = PodRef(uid="", namespace="", name="")
    return Desired(nobody, InstanceStatus.OUTOFSERVICE, Reason.READINESS_LOST, "", target=Target(tenant))


def _named(tenant: Tenant) -> str:
    return f"project {tenant.project} of domain {tenant.domain}"
