"""The event loop: uvloop, mended.

uvloop takes the file descriptor of a socket that is handed to `create_connection`, as aiohttp hands them, and closes it with
the transport. Where the transport ends before the coroutine goes on, as it does when an API server that has just started resets
a connection within the TLS handshake, the socket object is not told, and closes the same number once more when it is collected:
by then the descriptor of another connection, to the registry perhaps (seen with uvloop 0.23.0; its issue 738 is a part of it).
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import uvloop

_P = TypeVar("_P", bound=asyncio.BaseProtocol)


class EventLoop(uvloop.Loop):
    """A uvloop whose connections alone own their file descriptors."""

    async def create_connection(  # type: ignore[override]  # uvloop's overloads say the same in two pages
        self,
        protocol_factory: Callable[[], _P],
        host: str | None = None,
        port: int | None = None,
        **options: Any,  # noqa: ANN401 - the same
    ) -> tuple[asyncio.Transport, _P]:
        """Connect, or go on with the socket in `options`, which is detached from its descriptor whatever comes of it."""
        sock = options.get("sock")
        try:
            made: tuple[asyncio.Transport, _P] = await super().create_connection(protocol_factory, host, port, **options)
            return made
        finally:
            if sock is not None:
                sock.detach()
