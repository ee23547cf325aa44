"""All checks, in the order in which one needs another."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

from registry_status.cli.checks.addresses import check_addresses
from registry_status.cli.checks.finding import Area, Finding, Findings
from registry_status.cli.checks.kubernetes import check_kubernetes, unreachable
from registry_status.cli.checks.operators import check_operators
from registry_status.cli.checks.pods import Seen, check_forgotten, check_judged, check_pods, see, unlisted
from registry_status.cli.checks.registry import check_access, check_harm
from registry_status.cli.checks.settings import check_settings, refused
from registry_status.cli.checks.workloads import check_workloads
from registry_status.cli.planning import judge_all
from registry_status.cli.reading import Register, Snapshot, keep_quiet, read_pods
from registry_status.cli.show import Progress
from registry_status.cluster.access import AccessError, load_access
from registry_status.cluster.api import ApiError, ApiServer
from registry_status.cluster.connection import open_session
from registry_status.cluster.lease import LeaseRef, lease_of
from registry_status.config import NotReady, Settings, SettingsError
from registry_status.model import Desired, PodRef, Reason, Target
from registry_status.registry.base import RegistryError
from registry_status.registry.connect import registry_client


async def check_all(settings: Settings, environment: Mapping[str, str]) -> Sequence[Finding]:
    """Check everything; what cannot be looked at is told, and keeps nothing else from being looked at."""
    keep_quiet()
    checkup = _Checkup(settings, environment)
    await checkup.run()
    return checkup.found


class _Checkup:
    """Gathers findings, also those before something fails, and the pods that were seen."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self.found: list[Finding] = []
        self._settings = settings
        self._environment = environment
        self._seen: Sequence[Seen] = ()

    async def run(self) -> None:
        self.found += check_settings(self._settings)
        try:
            await self._ask_cluster()
        except (AccessError, ApiError) as error:
            self.found.append(unreachable(error))
        try:
            await self._ask_registry()
        except SettingsError as error:
            self.found += refused(error)

    async def _take(self, findings: AsyncIterator[Finding]) -> None:
        async for one in findings:
            self.found.append(one)

    @property
    def _served(self) -> Sequence[Desired]:
        """The pods that the operator serves."""
        return [one.desired for one in self._seen if one.desired.reason is not Reason.NOT_MANAGED]

    async def _ask_cluster(self) -> None:
        access = await load_access(self._settings.kubeconfig, self._settings.context, self._environment)
        async with open_session(access) as session:
            api, lease = ApiServer(access, session), lease_of(self._settings, access, self._environment)
            await self._take(check_kubernetes(api, session, self._settings, lease))
            await self._look_at_pods(api, lease)

    async def _look_at_pods(self, api: ApiServer, lease: LeaseRef | None) -> None:
        settings = self._settings
        try:
            with Progress() as progress:
                self._seen = await read_pods(
                    api, settings, lambda pod: see(pod, settings), lambda count: progress.at("pods listed", count)
                )
        except ApiError as error:
            self.found.append(unlisted(error, settings, self.found))
            return
        self.found += check_pods(self._seen, settings)
        await self._take(check_workloads(api, settings))
        served = {(one.pod.namespace, one.pod.name) for one in self._served}
        await self._take(check_operators(api, settings, lease, served))

    async def _ask_registry(self) -> None:
        reached = await check_addresses(self._settings)
        self.found += [one for address in reached for one in address.findings]
        usable = tuple(address.address for address in reached if address.usable)
        if not usable:
            return
        async with registry_client(replace(self._settings, registry_address=usable)) as client:
            register = Register(Snapshot(client))
            try:
                await self._look_inside(register)
            except RegistryError as error:
                fix = "look at the registry's own log"
                self.found.append(Findings(Area.REGISTRY).error(f"the registry failed while it was read: {error}", fix))
            finally:
                await register.aclose()

    async def _look_inside(self, register: Register) -> None:
        """Look at what the registry holds, if it lets us in."""
        settings, served = self._settings, self._served
        tenants = dict.fromkeys([settings.tenant, *(pod.target.tenant for pod in served if pod.target is not None)])
        found, let_in = await check_access(register, settings, tenants)
        self.found += found
        if not let_in:
            return
        await self._take(check_harm(register, settings, self._insisting()))
        now = time.time()
        with Progress() as progress:
            judged = await judge_all(served, register, settings, progress, now)
        self.found += check_judged(judged)
        await self._take(check_forgotten(self._seen, judged, register, settings, now))

    def _insisting(self) -> Sequence[tuple[PodRef, Target]]:
        """Pods whose own annotations ask for OUTOFSERVICE."""
        return [
            (one.pod, one.desired.target)
            for one in self._seen
            if one.asks_for is NotReady.OUTOFSERVICE and one.desired.target is not None
        ]
