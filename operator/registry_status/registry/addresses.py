"""Several addresses of one registry: which one to ask, and probes of those that fail."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, Self, TypeVar

from registry_status.registry.base import FencedError, RegistryError, RequestObserver, TransientError, UnavailableError
from registry_status.registry.circuit import TRIP, Circuit


class Asked(Protocol):
    """What an address was asked for."""

    @property
    def key(self) -> str:
        """What it is about: failures of one thing may count once."""
        ...

    @property
    def probe(self) -> Self:
        """What tells whether an address works that did not answer this: no write, and no login."""
        ...

    @property
    def neighbour(self) -> Self:
        """Another thing to ask for that tells the same."""
        ...

    @property
    def is_looked_up(self) -> bool:
        """Whether an answer tells that the address knows something, and not only that it is there."""
        ...


Request = TypeVar("Request", bound=Asked)

logger = logging.getLogger(__name__)


class Address(Generic[Request]):
    """One address, with its circuit."""

    def __init__(self, url: str, pool: "AddressPool[Request]") -> None:
        self.url = url
        self.circuit = Circuit()
        self._pool = pool
        self._worked: Request | None = None
        self._failed: dict[str, Request] = {}
        """The last few probes of what has failed since something worked, the latest at the end."""
        self._turn = 0

    def succeeded(self, request: Request) -> None:
        """It answered this, be it with a refusal."""
        if request.is_looked_up:
            self._worked = request
        self._failed.clear()
        if self.circuit.succeeded():
            self._pool.closed(self)

    def failed(self, request: Request, error: TransientError, now: float) -> None:
        """It did not, or not with what a registry answers."""
        probe = request.probe
        self._failed.pop(probe.key, None)
        self._failed[probe.key] = probe
        if len(self._failed) > TRIP:
            del self._failed[next(iter(self._failed))]
        if self.circuit.failed(probe.key, error, now):
            self._turn = 0
            self._pool.opened(self)

    def next_probe(self) -> Request:
        """What to ask for now, while it is open.

        What failed last, what worked last and what failed before take turns: it may be one thing alone that never works.
        """
        last, *earlier = reversed(self._failed.values())
        choices = [last, self._worked.probe if self._worked is not None else last.neighbour, *earlier]
        self._turn += 1
        return choices[(self._turn - 1) % len(choices)]


class AddressPool(Generic[Request]):
    """Sticks to an address while it works, goes on to the next when it fails, and probes those whose circuit is open."""

    def __init__(
        self,
        urls: Sequence[str],
        probe: Callable[[str, Request], Awaitable[None]],
        observer: RequestObserver | None,
        clock: Callable[[], float],
    ) -> None:
        """`probe` asks an address for something; it raises `TransientError` if that fails, `FencedError` if it may not ask."""
        self._addresses = [Address(url, self) for url in urls]
        self._preferred = 0
        self._probe = probe
        self._observer = observer
        self._clock = clock
        self._wakes: list[Callable[[], None]] = []
        self._probing: dict[str, asyncio.Task[None]] = {}
        self._probes: set[asyncio.Task[None]] = set()

    def on_available(self, wake: Callable[[], None]) -> None:
        """Call `wake` each time that a circuit closes."""
        self._wakes.append(wake)

    def pick(self) -> Address[Request]:
        """The address to ask now. Raises `UnavailableError` while there is none."""
        count = len(self._addresses)
        for step in range(count):
            index = (self._preferred + step) % count
            if not self._addresses[index].circuit.open:
                self._preferred = index
                return self._addresses[index]
        last = self._addresses[self._preferred].circuit.last_error
        why = f"{last.message} ({last.code})" if last is not None else "no answer"
        where = ", ".join(address.url for address in self._addresses)
        raise UnavailableError("unavailable", f"the registry at {where} does not work, last: {why}")

    def failed(self, address: Address[Request], request: Request, error: TransientError) -> None:
        """A request failed: the next one goes to the next address."""
        address.failed(request, error, self._clock())
        if self._addresses[self._preferred] is address:
            self._preferred = (self._preferred + 1) % len(self._addresses)

    def opened(self, address: Address[Request]) -> None:
        """An address is not asked any more, but probed."""
        error = address.circuit.last_error
        logger.warning("registry %s does not work (%s); it is probed until it does", address.url, error)
        self._tell(address)
        before = self._probing.get(address.url)
        if before is not None and not before.done():
            return  # it works no more before that task has seen that it did: it goes on
        self._probing[address.url] = asyncio.create_task(self._probe_until_closed(address), name=f"probe {address.url}")

    def closed(self, address: Address[Request]) -> None:
        """An address works again."""
        logger.info("registry %s works again", address.url)
        self._tell(address)
        for wake in self._wakes:
            wake()

    async def aclose(self) -> None:
        """End all probes."""
        tasks = [*self._probing.values(), *self._probes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _probe_until_closed(self, address: Address[Request]) -> None:
        while address.circuit.open:
            now = self._clock()
            wait = address.circuit.probe_in(now)
            if wait > 0:
                await asyncio.sleep(wait)
                continue
            address.circuit.probe_started(now)
            task = asyncio.create_task(self._probe_once(address, address.next_probe()))
            self._probes.add(task)
            task.add_done_callback(self._probes.discard)

    async def _probe_once(self, address: Address[Request], probe: Request) -> None:
        try:
            await self._probe(address.url, probe)
        except FencedError:
            return  # it was not asked: nothing is known of it
        except TransientError as error:
            address.circuit.last_error = error
        except RegistryError:
            address.succeeded(probe)
        else:
            address.succeeded(probe)
        finally:
            address.circuit.probe_ended()

    def _tell(self, address: Address[Request]) -> None:
        if self._observer is not None:
            self._observer.circuit_changed(address.url, is_open=address.circuit.open)
