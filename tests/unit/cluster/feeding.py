"""Watch streams that are fed piece by piece, as their readers in `cluster.streams` do it."""

from registry_status.cluster.frames import WatchFrames
from registry_status.cluster.lines import WatchLines, WatchStream


class Feeding(WatchStream):
    """Offers what was not taken again, with what comes next."""

    def feed(self, data: bytes) -> bytes:
        self.rest: bytearray = getattr(self, "rest", bytearray())
        self.rest += data
        kept, taken = self.take(self.rest, len(self.rest))
        del self.rest[:taken]
        return kept


class FedLines(Feeding, WatchLines):
    pass


class FedFrames(Feeding, WatchFrames):
    pass
