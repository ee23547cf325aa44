"""Whether the API server answers, is new enough, and allows what the operator does, verb by verb."""

import time
from collections.abc import AsyncIterator

import aiohttp

from registry_status.cli.checks.clocks import check_clock
from registry_status.cli.checks.finding import Area, Finding, Findings
from registry_status.cluster.api import TIMEOUT, UNAUTHORIZED, ApiError, ApiServer, missing_permissions, server_version
from registry_status.cluster.lease import LeaseRef
from registry_status.cluster.rights import Need, needed_rights
from registry_status.config import Settings

OLDEST = (1, 25)
"""The oldest Kubernetes that is supported."""

told = Findings(Area.KUBERNETES)


async def check_kubernetes(
    api: ApiServer, session: aiohttp.ClientSession, settings: Settings, lease: LeaseRef | None
) -> AsyncIterator[Finding]:
    """Ask the API server; `lease` where the operator takes part in an election. Raises `ApiError` where nothing is answered."""
    major, minor = await server_version(api)
    where = f"Kubernetes {major}.{minor} at {api.access.server} ({api.access.source})"
    if (major, minor) < OLDEST:
        yield told.warning(f"{where} is older than what is supported", f"use Kubernetes {OLDEST[0]}.{OLDEST[1]} or newer")
    else:
        yield told.ok(where)
    yield await _check_clock(api, session)
    for need in needed_rights(settings, lease):
        async for found in _check_need(api, need):
            yield found


def unreachable(error: Exception) -> Finding:
    """What to say where there is no way to the API server."""
    if isinstance(error, ApiError) and error.status == UNAUTHORIZED:
        fix = "the token or certificate is not (any more) valid: log in anew, or name another kubeconfig or --context"
        return told.error(f"the API server does not know who asks: {error}", fix)
    fix = "name the cluster by --kubeconfig and --context, and see that it can be reached: kubectl version"
    return told.error(f"the API server cannot be asked: {error}", fix)


async def _check_clock(api: ApiServer, session: aiohttp.ClientSession) -> Finding:
    began = time.time()
    try:
        async with session.get(f"{api.access.server}/version", timeout=TIMEOUT, allow_redirects=False) as answer:
            date = answer.headers.get("Date", "")
    except (aiohttp.ClientError, TimeoutError, OSError):
        date = ""
    return check_clock(told, "the API server", date, began, time.time())


async def _check_need(api: ApiServer, need: Need) -> AsyncIterator[Finding]:
    try:
        missing = await missing_permissions(api, need.permissions)
    except ApiError as error:
        yield told.skipped(f"whether it may {need.use} is not known: {error}")
        return
    for permission in need.permissions:
        if permission not in missing:
            yield told.ok(f"may {permission}")
        else:
            make = told.error if permission.verb in need.vital else told.warning
            yield make(f"may not {permission}, so it cannot {need.use}", f"add to {need.rule}")
