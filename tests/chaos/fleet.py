"""A thousand pods and more whose kubelet and SDK are the test, and what the registry has to say of each.

What is expected is told by plain rules of its own, not by the operator's code: Ready is UP, a pod that was Ready and is not
any more is OUTOFSERVICE, one that was not Ready in this life is STARTING, one that is being deleted or gone is DOWN.
"""

import asyncio
import itertools
import random
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp

from registry_status.registry.devserver import NewInstance, NewService, StatusWrite
from tests.chaos.background import Background
from tests.chaos.registry import Registry
from tests.chaos.truth import History, out_of_order, wrong
from tests.cluster.kube import Kube

PREFIX = "registry-status.io/"
PER_SERVICE = 50
AT_ONCE = 24
"""Requests of the fleet's to the API server at a time."""
SHORTEST_LIFE = 2.0
"""Seconds from a registration to the container's next start at the least: the registry tells its times in whole seconds."""
AGAIN = 0.25
"""Seconds until a request that failed is sent again."""
TRIES = 600
STRATEGIC = {"Content-Type": "application/strategic-merge-patch+json"}


def timestamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Pod:
    """One pod, and what became of it."""

    name: str
    ip: str
    service: str
    ready: bool = True
    restarts: int = 0
    accepted_at: float = 0.0
    """When its node took it, which no restart changes: its status.startTime."""
    registered_at: float = 0.0
    """When its SDK registered last."""
    started_at: float = 0.0
    """When its container started last."""
    changed_at: float = 0.0
    """When its Ready condition changed last."""
    instances: list[str] = field(default_factory=list)
    """What its SDK has registered, one for each life of its container; the last one is the present life's."""
    history: History = field(default_factory=History)
    deleted: bool = False
    born: float = field(default_factory=time.monotonic)
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)

    def says(self, status: str) -> None:
        self.history.says(status, time.time())


class Fleet:
    """Pods in one namespace of a bare API server."""

    def __init__(self, background: Background, kube: Kube, registry: Registry, namespace: str, *, seed: int = 1) -> None:
        self.namespace = namespace
        self.registry = registry
        self.pods: dict[str, Pod] = {}
        self.gone: list[Pod] = []
        self.changes = 0
        self._kube = kube
        self._background = background
        self._chance = random.Random(seed)
        self._numbers = itertools.count()
        kube.kubectl("create", "namespace", namespace)
        self._session = background.run(self._open())
        self._slots = background.run(self._limit())

    def close(self) -> None:
        self._background.run(self._session.close())

    # --- what happens to it ----------------------------------------------------------------------

    def grow(self, count: int) -> None:
        """Create so many pods, each with its instance, Ready and UP."""
        self._background.run(self._grow(count), 300)

    @contextmanager
    def churning(self, rate: float = 30.0) -> Iterator[None]:
        """Change pods all the while: so many changes a second. When it ends, every change has reached the API server."""
        stop = self._background.run(self._new_event())
        churn = self._background.run(self._begin(self._churn(rate, stop)))
        try:
            yield
        finally:
            self._background.run(self._finish(churn, stop), 180)

    def storm(self, changes: int) -> float:
        """Change pods as fast as the API server takes it; returns the seconds it took."""
        began = time.monotonic()
        self._background.run(self._storm(changes), 600)
        return time.monotonic() - began

    def flip_all(self, count: int) -> None:
        """Change the readiness of so many pods at once."""
        self._background.run(self._flip_all(count), 120)

    # --- what the registry has to say --------------------------------------------------------------

    def wrong(self, gone: float = float("inf")) -> list[str]:
        """What is not as it should be, in words; all of it is read from the registry's state itself.

        Of the pods that are gone, those count that were born before `gone` (monotonic time): later ones no operator has seen.
        """
        found = {one.instance_id: one.status for one in self.registry.server.registry.all_instances()}
        pods = [*self.pods.values(), *(pod for pod in self.gone if pod.born < gone)]
        return [f"{pod.name}: {problem}" for pod in pods for problem in wrong(found, pod.instances, pod.history)]

    def late(self, writes: list[StatusWrite], since: float) -> list[str]:
        """Writes that were not right any more; all was in step at the moment `since` (epoch seconds)."""
        pods = [*self.pods.values(), *self.gone]
        histories = {name: pod.history for pod in pods for name in pod.instances}
        leftovers = frozenset(name for pod in pods for name in pod.instances[:-1])
        return out_of_order(writes, histories, leftovers, since)

    # --- inside --------------------------------------------------------------------------------------

    async def _open(self) -> aiohttp.ClientSession:
        document = self._kube.document()
        headers = {"Authorization": f"Bearer {document['users'][0]['user']['token']}"}
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connector = aiohttp.TCPConnector(ssl=context, limit=AT_ONCE)
        return aiohttp.ClientSession(document["clusters"][0]["cluster"]["server"], headers=headers, connector=connector)

    async def _limit(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(AT_ONCE)

    async def _new_event(self) -> asyncio.Event:
        return asyncio.Event()

    async def _begin(self, coroutine: Any) -> asyncio.Task[None]:
        return asyncio.create_task(coroutine)

    async def _finish(self, churn: asyncio.Task[None], stop: asyncio.Event) -> None:
        stop.set()
        await churn

    async def _send(self, method: str, path: str, body: Any = None, *, fine: tuple[int, ...] = ()) -> None:
        """Send a request until it is answered well: an API server that is away will be back. Every request may be repeated."""
        for _ in range(TRIES):
            with suppress(aiohttp.ClientError, TimeoutError):
                async with (
                    self._slots,
                    self._session.request(
                        method, f"/api/v1/namespaces/{self.namespace}/pods{path}", json=body, timeout=aiohttp.ClientTimeout(10),
                        headers=STRATEGIC if method == "PATCH" else None,
                    ) as answer,
                ):  # fmt: skip
                    await answer.read()
                    if answer.status in fine or answer.status < 300:
                        return
            await asyncio.sleep(AGAIN)
        raise RuntimeError(f"{method} {path}: the API server did not take it")

    async def _grow(self, count: int) -> None:
        await asyncio.gather(*(self._create() for _ in range(count)))

    async def _create(self) -> None:
        number, now = next(self._numbers), time.time()
        pod = Pod(
            name=f"p{number:05}", ip=f"10.{number // 62500 + 1}.{number // 250 % 250}.{number % 250 + 1}",
            service=f"svc-{number // PER_SERVICE}", accepted_at=now - 65, started_at=now - 60, changed_at=now - 30,
        )  # fmt: skip
        async with pod.busy:
            if number % PER_SERVICE == 0:
                self.registry.server.registry.create_service(NewService(name=pod.service, service_id=pod.service))
            annotations = {f"{PREFIX}service-id": pod.service}
            container = {"name": "main", "image": "example.invalid/none"}
            body = {
                "metadata": {"name": pod.name, "annotations": annotations},
                "spec": {"nodeName": "n", "containers": [container]},
            }
            await self._send("POST", "", body, fine=(409,))
            pod.says("UP")
            self.pods[pod.name] = pod
            await self._show(pod)
            self._register(pod)

    def _register(self, pod: Pod) -> None:
        """What its SDK does; the lease is long, as nobody sends heartbeats."""
        new = NewInstance(host_name=pod.name, endpoints=(f"rest://{pod.ip}:8080",), status="UP", interval=3600, times=100)
        pod.registered_at = time.time()
        pod.instances.append(self.registry.server.registry.register(pod.service, new))

    async def _show(self, pod: Pod) -> None:
        """Write the pod's status, as its kubelet would."""
        ready = "True" if pod.ready else "False"
        conditions = [
            {"type": kind, "status": ready, "lastTransitionTime": timestamp(pod.changed_at)}
            for kind in ("Ready", "ContainersReady")
        ]
        main = {
            "name": "main", "ready": pod.ready, "started": True, "restartCount": pod.restarts, "image": "none", "imageID": "",
            "containerID": f"containerd://{pod.name}-{pod.restarts}",
            "state": {"running": {"startedAt": timestamp(pod.started_at)}},
        }  # fmt: skip
        body = {
            "phase": "Running", "conditions": conditions, "podIP": pod.ip, "podIPs": [{"ip": pod.ip}],
            "startTime": timestamp(pod.accepted_at),
            "containerStatuses": [main],
        }  # fmt: skip
        await self._send("PATCH", f"/{pod.name}/status", {"status": body}, fine=(404,))

    async def _flip(self, pod: Pod) -> None:
        async with pod.busy:
            if pod.deleted:
                return
            self.changes += 1
            pod.ready = not pod.ready
            pod.changed_at = max(time.time(), pod.started_at + 10)  # an earlier time would belong to the life before
            pod.says("UP" if pod.ready else "OUTOFSERVICE")
            await self._show(pod)

    async def _restart(self, pod: Pod) -> None:
        """The container ends and starts again, not Ready; its SDK registers a new instance that says UP."""
        async with pod.busy:
            if pod.deleted or time.time() - pod.registered_at < SHORTEST_LIFE:
                return
            self.changes += 1
            pod.restarts += 1
            pod.ready, pod.started_at = False, time.time()
            pod.changed_at = pod.started_at - 10
            pod.says("STARTING")
            await self._show(pod)
            self._register(pod)

    async def _delete(self, pod: Pod) -> None:
        """A deletion with grace, then the end; the instance stays, as that of an SDK that was killed does."""
        async with pod.busy:
            if pod.deleted:
                return
            self.changes += 1
            pod.deleted = True
            pod.says("DOWN")
            await self._send("DELETE", f"/{pod.name}", fine=(404,))
            await self._send("DELETE", f"/{pod.name}?gracePeriodSeconds=0", fine=(404,))
            del self.pods[pod.name]
            self.gone.append(pod)

    async def _change(self) -> None:
        pod = self._chance.choice(list(self.pods.values()))
        dice = self._chance.random()
        if dice < 0.04:
            await asyncio.gather(self._delete(pod), self._create())
        elif dice < 0.08:
            await self._restart(pod)
        else:
            await self._flip(pod)

    async def _churn(self, rate: float, stop: asyncio.Event) -> None:
        under_way: set[asyncio.Task[None]] = set()
        while not stop.is_set():
            if len(under_way) < 10 * AT_ONCE:  # while the API server is away, changes wait
                task = asyncio.create_task(self._change())
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 1 / rate)
        await asyncio.gather(*under_way)

    async def _storm(self, changes: int) -> None:
        for _ in range(0, changes, 250):
            await asyncio.gather(*(self._change() for _ in range(250)))

    async def _flip_all(self, count: int) -> None:
        await asyncio.gather(*(self._flip(pod) for pod in list(self.pods.values())[:count]))
