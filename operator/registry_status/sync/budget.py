"""A shared budget that bounds how often something is done, whoever does it."""


class Budget:
    """Gives places in a row: `burst` at once, then `rate` a second."""

    def __init__(self, rate: float = 20.0, burst: float = 40.0) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = float("-inf")

    def refill(self) -> None:
        """Forget the row: what it held back is served again."""
        self._tokens = self._burst

    def take(self, now: float) -> float:
        """Take a place in the row: the seconds until its turn."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        self._tokens -= 1
        if self._tokens >= 0:
            return 0.0
        self._tokens = max(self._tokens, -100 * self._burst)
        return -self._tokens / self._rate
