"""What the server was asked, kept for tests: every request, and every status write that it accepted.

Both lists are bounded, so that a server that runs for weeks does not grow; the totals go on counting.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

LARGEST_SIZE = 10_000_000
"""More entries take more memory than the computer of a developer has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request. Of credentials only their presence is kept."""

    time: float
    method: str
    path: str
    query: Mapping[str, str]
    domain: str | None
    """The `x-domain-name` header."""
    authorization: bool
    """Whether there was an `Authorization` header."""
    consumer_id: bool
    """Whether there was an `X-ConsumerId` header, with which a client would write dependency rules."""
    status: int | None = None
    """The HTTP status answered; None while the request is under way, and if the connection was dropped instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusWrite:
    """One accepted status PUT."""

    time: float
    domain: str
    project: str
    service_id: str
    instance_id: str
    before: str
    after: str

    @property
    def redundant(self) -> bool:
        """The status was that already: nobody gains, and all consumers are told."""
        return self.before == self.after


class Pending:
    """A request's place in the journal, taken when it arrives and filled in when it is answered."""

    __slots__ = ("record",)

    def __init__(self, record: RequestRecord) -> None:
        self.record = record


class Journal:
    """The last `size` requests and the last `size` writes."""

    def __init__(self, size: int) -> None:
        if not 0 <= size <= LARGEST_SIZE:
            raise ValueError(f"a journal has room for 0 to {LARGEST_SIZE}, not {size}")
        self._requests: deque[Pending] = deque(maxlen=size)
        self._writes: deque[StatusWrite] = deque(maxlen=size)
        self.in_flight = 0
        self.clear()

    def clear(self) -> None:
        """Forget all, the totals too. What is in flight stays so."""
        self._requests.clear()
        self._writes.clear()
        self.total_requests = 0
        self.total_writes = 0
        self.redundant_writes = 0
        self.peak_in_flight = self.in_flight

    @property
    def requests(self) -> list[RequestRecord]:
        """In order of arrival, those under way included."""
        return [pending.record for pending in self._requests]

    @property
    def writes(self) -> list[StatusWrite]:
        """In the order in which they were applied."""
        return list(self._writes)

    def arrived(self, record: RequestRecord) -> Pending:
        """Note a request before anything is done about it, so that one that hangs is seen too."""
        pending = Pending(record)
        self._requests.append(pending)
        self.total_requests += 1
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        return pending

    def finished(self, pending: Pending, status: int | None) -> RequestRecord:
        """Note how a request was answered."""
        self.in_flight -= 1
        pending.record = replace(pending.record, status=status)
        return pending.record

    def wrote(self, write: StatusWrite) -> None:
        """Note a status write."""
        self._writes.append(write)
        self.total_writes += 1
        self.redundant_writes += write.redundant
