"""The event loop: uvloop, mended.

uvloop takes the file descriptor of a socket that is handed to `create_connection`, as aiohttp hands them, and closes it with
the transport. Where the transport ends before the coroutine goes on, as it does when an API server that has just started resets
a connection within the TLS handshake, the socket object is not told, and closes the same number once more when it is collected:
by then the descriptor of another connection, to the registry perhaps (seen with uvloop 0.23.0; its issue 738 is a part of it).
"""

import ssl
from typing import Any

import uvloop

from registry_status.tlstransport import DirectSocket, secure


class EventLoop(uvloop.Loop):
    """A uvloop whose connections alone own their file descriptors, and that knows sockets with TLS of `tlstransport`."""

    async def create_connection(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - uvloop.Loop tells the types
        """Connect, or go on with the socket in `options`, which is detached from its descriptor whatever comes of it."""
        sock, context = options.get("sock"), options.get("ssl")
        try:
            if isinstance(sock, DirectSocket) and isinstance(context, ssl.SSLContext):
                return await secure(sock, context, args[0], server_hostname=options.get("server_hostname"))
            return await super().create_connection(*args, **options)
        finally:
            if sock is not None:
                sock.detach()
