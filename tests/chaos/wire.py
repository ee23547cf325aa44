"""A TCP relay that can be cut: what stands between the operator and a server."""

import asyncio
from contextlib import suppress

from tests.chaos.background import Background
from tests.cluster.processes import free_port

CHUNK = 256 * 1024


class Wire:
    """Passes bytes on. Cut, it keeps every connection open and passes nothing, as a network does that has lost its way."""

    def __init__(self, background: Background, target: int) -> None:
        self.port = free_port()
        self._background = background
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._whole = asyncio.Event()
        self.mend()
        self.open()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        """Listen."""
        self._background.run(self._listen())

    def close(self) -> None:
        """Refuse new connections and break those there are, as a server that died."""
        self._background.run(self._end())

    def cut(self) -> None:
        """Pass nothing on any more; nobody is told."""
        self._background.run(self._set(whole=False))

    def mend(self) -> None:
        """Pass on what was held back, and all that comes."""
        self._background.run(self._set(whole=True))

    async def _set(self, *, whole: bool) -> None:
        if whole:
            self._whole.set()
        else:
            self._whole.clear()

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1024)

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        try:
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        finally:
            self._writers -= {writer, back}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(CHUNK):
                await self._whole.wait()
                writer.write(chunk)
                await writer.drain()
        writer.close()
