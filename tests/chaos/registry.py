"""The registry of the fleet: a development server that can be stopped, restarted and told to fail."""

from collections.abc import Mapping

from registry_status.registry.devserver import DevServer, Fault, RegistryState
from tests.chaos.background import Background
from tests.cluster.processes import free_port


class Registry:
    """One server; several may show one state, as a cluster's members do."""

    def __init__(
        self, background: Background, state: RegistryState | None = None, accounts: Mapping[str, str] | None = None
    ) -> None:
        self.server = DevServer(accounts=accounts, journal_size=1_000_000)
        if state is not None:
            self.server.registry = state
        self.port = free_port()
        self._background = background
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen where it listened before."""
        self._background.run(self.server.start("127.0.0.1", self.port))

    def stop(self) -> None:
        """Refuse connections."""
        self._background.run(self.server.stop())

    def fail(self, *faults: Fault) -> None:
        """Put these faults in force, and no others."""
        self._background.run(self._set(faults))

    async def _set(self, faults: tuple[Fault, ...]) -> None:
        self.server.faults.set(*faults)
