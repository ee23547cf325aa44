"""Several addresses of one registry: which one to ask, and probes of those that fail."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from registry_status.registry.base import RegistryError, RequestObserver, TransientError, UnavailableError
from registry_status.registry.circuit import Circuit

Probe = Callable[[str, str], Awaitable[None]]
"""Asks an address (first argument) for the path that failed last (second); raises `TransientError` if it fails again."""

logger = logging.getLogger(__name__)


class Address:
    """One address, with its circuit."""

    def __init__(self, url: str, pool: "AddressPool") -> None:
        self.url = url
        self.circuit = Circuit()
        self.asked = ""
        """The path that failed last: what the probe asks for."""
        self._pool = pool

    def succeeded(self) -> None:
        """It answered, be it with a refusal."""
        if self.circuit.succeeded():
            self._pool.closed(self)

    def failed(self, path: str, error: TransientError, now: float) -> None:
        """It did not, or not with what a registry answers."""
        self.asked = path
        if self.circuit.failed(path, error, now):
            self._pool.opened(self)


class AddressPool:
    """Sticks to an address while it works, goes on to the next when it fails, and probes those whose circuit is open."""

    def __init__(self, urls: Sequence[str], probe: Probe, observer: RequestObserver | None, clock: Callable[[], float]) -> None:
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

    def pick(self) -> Address:
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

    def failed(self, address: Address, path: str, error: TransientError) -> None:
        """A request failed: the next one goes to the next address."""
        address.failed(path, error, self._clock())
        if self._addresses[self._preferred] is address:
            self._preferred = (self._preferred + 1) % len(self._addresses)

    def opened(self, address: Address) -> None:
        """An address is not asked any more, but probed."""
        error = address.circuit.last_error
        logger.warning("registry %s does not work (%s); it is probed until it does", address.url, error)
        self._tell(address)
        before = self._probing.get(address.url)
        if before is not None and not before.done():
            return  # it works no more before that task has seen that it did: it goes on
        self._probing[address.url] = asyncio.create_task(self._probe_until_closed(address), name=f"probe {address.url}")

    def closed(self, address: Address) -> None:
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

    async def _probe_until_closed(self, address: Address) -> None:
        while address.circuit.open:
            now = self._clock()
            wait = address.circuit.probe_in(now)
            if wait > 0:
                await asyncio.sleep(wait)
                continue
            address.circuit.probe_started(now)
            task = asyncio.create_task(self._probe_once(address))
            self._probes.add(task)
            task.add_done_callback(self._probes.discard)

    async def _probe_once(self, address: Address) -> None:
        try:
            await self._probe(address.url, address.asked)
        except TransientError as error:
            address.circuit.last_error = error
        except RegistryError:
            address.succeeded()
        else:
            address.succeeded()
        finally:
            address.circuit.probe_ended()

    def _tell(self, address: Address) -> None:
        if self._observer is not None:
            self._observer.circuit_changed(address.url, is_open=address.circuit.open)
