"""A feed before an engine and a registry, on virtual time, with an API server that is asked for single pods."""

import asyncio
from typing import TYPE_CHECKING, Any

from registry_status.cluster.lines import WatchFault
from registry_status.config import Settings
from registry_status.feed import PodFeed
from registry_status.report.health import HealthState
from tests.pods import pod
from tests.world import ASKED, World

if TYPE_CHECKING:
    from registry_status.cluster.api import ApiError


class Fed:
    """The feed and all around it."""

    def __init__(self, *, namespaces: tuple[str, ...] = (), label_selector: str = "") -> None:
        settings = Settings(namespaces=namespaces, label_selector=label_selector)
        self.world = World(settings=settings)
        self.health = HealthState(now(), namespaces or ("pods",))
        self.faults: list[WatchFault] = []
        self.lists = 0
        self.there: dict[str, Any] = {}
        """The pods that the API server holds, by name."""
        self.read: list[str] = []
        self.refusals: list[ApiError] = []
        self.read_takes = 0.01
        self.feed = PodFeed(
            settings, self.world.engine, self.health, self, listed=self._listed, read_pod=self._read_pod, clock=now
        )

    def watch_fault(self, fault: WatchFault) -> None:
        self.faults.append(fault)

    def _listed(self) -> None:
        self.lists += 1

    async def _read_pod(self, namespace: str, name: str) -> Any:
        self.read.append(f"{namespace}/{name}")
        await asyncio.sleep(self.read_takes)
        if self.refusals:
            raise self.refusals.pop(0)
        return self.there.get(name)

    def ready(self) -> bool:
        return self.health.ready(now()).passed

    @property
    def tracked(self) -> list[str]:
        return sorted(found.name for found in self.world.engine.pods())

    async def listed(self, *names: str, namespace: str = "", of: str = "shop") -> None:
        """A whole list comes through: these pods of one namespace."""
        self.feed.listing_started(namespace)
        for name in names:
            self.feed.take(None, raw(name, of))
        self.feed.listing_finished(namespace, uids(*names))
        await self.world.pass_time()

    async def with_instance(self) -> str:
        """A tracked, ready pod `a` whose instance is UP."""
        instance = self.world.register(host="a")
        await self.listed("a")
        assert self.world.status(instance) == "UP"
        return instance


def raw(name: str, namespace: str = "shop", **more: Any) -> dict[str, Any]:
    return pod(ASKED, name=name, uid=f"uid-{name}", namespace=namespace, **more)


def uids(*names: str) -> frozenset[str]:
    return frozenset(f"uid-{name}" for name in names)


def now() -> float:
    return asyncio.get_running_loop().time()
