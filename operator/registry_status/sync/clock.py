"""The clock that everything in this room goes by: the event loop's, which tests can make jump."""

import asyncio


def loop_time() -> float:
    """Seconds on the running loop's clock."""
    return asyncio.get_running_loop().time()
