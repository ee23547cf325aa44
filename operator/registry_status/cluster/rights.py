"""Whether the operator may do what it has to: asked at the start, so that what is missing has a name and a remedy.

Without this a missing rule shows as a watch that is refused again and again, or as Events that never come.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from registry_status.cluster.api import UNAUTHORIZED, ApiError, ApiServer, Permission, missing_permissions
from registry_status.cluster.lease import GROUP, LeaseRef
from registry_status.config import Settings

PATIENCE = 3.0
"""Seconds that the check may take before the operator begins all the same: an API server that is away now will be back."""
AGAIN = 30.0
"""Seconds until it is asked again."""

logger = logging.getLogger(__name__)


class MissingRightsError(Exception):
    """The operator lacks rights without which it can do nothing; the message names them and the rule that is needed."""


class Use(StrEnum):
    """What a right is for, as messages say it."""

    PODS = "watch pods"
    EVENTS = "post Events"
    LEASE = "elect a leader"
    GATE = "set the readiness gate"


@dataclass(frozen=True, slots=True)
class Need:
    """A rule that must be in a Role or ClusterRole of the operator's."""

    use: Use
    verbs: tuple[str, ...]
    resource: str
    group: str = ""
    namespace: str = ""
    name: str = ""
    vital: tuple[str, ...] = ()
    """Verbs without which the operator can do nothing."""

    @property
    def permissions(self) -> Sequence[Permission]:
        """Each verb, as the API server is asked for it; what is created has no name yet."""
        return [
            Permission(verb, self.resource, self.group, self.namespace, "" if verb == "create" else self.name)
            for verb in self.verbs
        ]

    @property
    def rule(self) -> str:
        """What to add."""
        role = f"a Role in namespace {self.namespace}" if self.namespace else "a ClusterRole"
        return f'{role}: apiGroups: ["{self.group}"], resources: [{self.resource}], verbs: [{", ".join(self.verbs)}]'


@dataclass(frozen=True, slots=True)
class Lack:
    """Something that is needed and not allowed."""

    need: Need
    missing: tuple[Permission, ...]

    @property
    def vital(self) -> bool:
        """Whether nothing works without it."""
        return any(permission.verb in self.need.vital for permission in self.missing)

    def __str__(self) -> str:
        missing = ", ".join(map(str, self.missing))
        return f"cannot {self.need.use}: the operator may not {missing}; it needs {self.need.rule}"


def needed_rights(settings: Settings, lease: LeaseRef | None) -> Sequence[Need]:
    """Return what the operator has to be allowed; `lease` where it takes part in an election."""
    needs = []
    for namespace in settings.namespaces or ("",):
        needs.append(Need(Use.PODS, ("get", "list", "watch"), "pods", namespace=namespace, vital=("list", "watch")))
        if not settings.dry_run:
            needs.append(Need(Use.EVENTS, ("create", "get", "patch"), "events", namespace=namespace))
            if settings.readiness_gate:
                needs.append(Need(Use.GATE, ("patch",), "pods/status", namespace=namespace))
    if lease is not None:
        verbs, vital = ("get", "create", "update"), ("get", "update")
        needs.append(Need(Use.LEASE, verbs, "leases", GROUP, lease.namespace, lease.name, vital))
    return needs


async def check_rights(api: ApiServer, needs: Iterable[Need]) -> bool:
    """Ask for all of it. Returns whether there was an answer; without one nothing is wrong yet, and it may be asked later.

    What is missing is logged. Raises `MissingRightsError` where it is vital.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            lacks = await find_lacks(api, needs)
    except (ApiError, TimeoutError) as error:
        logger.warning("the operator's rights could not be checked: %s", str(error) or f"no answer within {PATIENCE:g} s")
        return isinstance(error, ApiError) and not error.transient and error.status != UNAUTHORIZED
    for lack in lacks:
        logger.log(logging.ERROR if lack.vital else logging.WARNING, "%s", lack)
    if vital := [str(lack) for lack in lacks if lack.vital]:
        raise MissingRightsError("; ".join(vital))
    return True


async def check_rights_later(api: ApiServer, needs: Sequence[Need]) -> None:
    """Ask until there is an answer. What is missing is logged and no more: the watch tries again and again, as ever."""
    answered = False
    while not answered:
        await asyncio.sleep(AGAIN)
        try:
            answered = await check_rights(api, needs)
        except MissingRightsError:
            answered = True


async def find_lacks(api: ApiServer, needs: Iterable[Need]) -> Sequence[Lack]:
    """Find out what is not allowed. Raises `ApiError`."""
    found = [Lack(need, await missing_permissions(api, need.permissions)) for need in needs]
    return [lack for lack in found if lack.missing]
