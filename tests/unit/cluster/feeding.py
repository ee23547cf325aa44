"""Watch streams that are fed piece by piece, as their readers in `cluster.streams` do it."""

from registry_status.cluster.frames import WatchFrames
from registry_status.cluster.lines import Known, Queued, Take, WatchLines, WatchStream

PREFIX = b"registry-status.io/"


class Feeding(WatchStream):
    """Offers what was not taken again, with what comes next."""

    def __init__(
        self,
        known: Known | None = None,
        *,
        listing: bool = False,
        filtering: bool = True,
        hand_over: Take | None = None,
        queued: Queued | None = None,
    ) -> None:
        super().__init__(
            prefix=PREFIX, known=known or Known(), listing=listing, queued=queued if queued is not None else Queued(),
            filtering=filtering, hand_over=hand_over,
        )  # fmt: skip
        self.rest = bytearray()

    def feed(self, data: bytes) -> bytes:
        self.rest += data
        kept, taken = self.take(self.rest, len(self.rest))
        del self.rest[:taken]
        return kept


class FedLines(Feeding, WatchLines):
    pass


class FedFrames(Feeding, WatchFrames):
    pass
