"""A circuit for each address: a failing registry is asked once a second, not by every pod that waits for it (DESIGN 6)."""

from dataclasses import dataclass, field

from registry_status.registry.base import TransientError

TRIP = 5
"""So many failures in a row open a circuit."""
PROBE_EVERY = 1.0
PROBES_AT_ONCE = 5
"""A probe takes up to the request's timeout: a hanging registry is asked anew each second, but not without end."""
ADDRESS_CODES = frozenset({"connect", "connect-timeout", "tls", "timeout", "broken", "http-502", "http-503", "http-504"})
"""Failures of the address itself, whatever was asked of it. Others count once for each thing asked for, so that one instance
that the registry stumbles over does not stop the rest."""


@dataclass(slots=True)
class Circuit:
    """One address's health. Pure: times are passed in, seconds on any one clock."""

    open: bool = False
    """Nothing but probes is to be sent."""
    last_error: TransientError | None = None
    _failures: int = 0
    _failed: set[str] = field(default_factory=set)
    _probes: int = 0
    _probe_due_at: float = 0.0

    def succeeded(self) -> bool:
        """The address answered, be it with a refusal. Returns whether that closed the circuit."""
        closed = self.open
        self.open = False
        self._failures = 0
        self._failed.clear()
        return closed

    def failed(self, key: str, error: TransientError, now: float) -> bool:
        """A request about `key` failed. Returns whether that opened the circuit."""
        self.last_error = error
        if error.code == "http-429" or self.open:
            return False
        if error.code in ADDRESS_CODES:
            self._failures += 1
        else:
            self._failed.add(key)
        if self._failures + len(self._failed) < TRIP:
            return False
        self.open = True
        self._probe_due_at = now + PROBE_EVERY
        return True

    def probe_in(self, now: float) -> float:
        """Seconds until the next probe may start."""
        wait = self._probe_due_at - now
        return wait if self._probes < PROBES_AT_ONCE else max(wait, PROBE_EVERY)

    def probe_started(self, now: float) -> None:
        """A probe is on its way."""
        self._probes += 1
        self._probe_due_at = now + PROBE_EVERY

    def probe_ended(self) -> None:
        """A probe is back, whatever it found."""
        self._probes -= 1
