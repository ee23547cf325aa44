"""So many things at once, then so many a second; `sync.budget` is for those that wait in a row."""

ROUNDING = 1e-9
"""What is missing of a token by no more than this is there: times and rates are rounded."""


class TokenBucket:
    """`burst` things at once, then `rate` a second. Pure: times are passed in, seconds on any one clock."""

    __slots__ = ("_burst", "_rate", "_seen", "_tokens")

    def __init__(self, burst: float, rate: float, now: float) -> None:
        self._burst, self._rate = burst, rate
        self._tokens, self._seen = burst, now

    def wait(self, now: float) -> float:
        """Seconds until there is a token; 0 if there is one."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._seen) * self._rate)
        self._seen = now
        missing = 1.0 - self._tokens
        return missing / self._rate if missing > ROUNDING else 0.0

    def take(self, now: float) -> bool:
        """Take a token if there is one."""
        if self.wait(now):
            return False
        self._tokens -= 1.0
        return True
