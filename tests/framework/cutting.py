"""A proxy on loopback that does harm to one request: each in turn, as a test asks."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Literal

Harm = Literal["before", "after", "inside", "500", "503", "dribble", "hold"]

_REQUEST = re.compile(rb"(GET|PUT|POST|HEAD|DELETE|PATCH) \S+ HTTP/1\.1\r\n")


class Proxy:
    """Forwards to a server. Requests, counted from 1, are those of HTTP, or any data to the server.

    before    cut, and the server has seen nothing of it
    after     cut when the server begins to answer
    inside    cut in the middle of the answer's first part
    500, 503  an answer of the proxy's own
    dribble   the answer comes byte by byte
    hold      the answer comes when `held` others have come
    """

    def __init__(self, port: int, *, http: bool) -> None:
        self.target = port
        self.http = http
        self.harm: Harm = "before"
        self.at = 0
        self.requests = 0
        self.done = False
        self.answered = 0
        self.held = 0
        self.port = 0
        self.lines: list[bytes] = []
        self._changed = asyncio.Condition()

    def aim(self, at: int, harm: Harm) -> None:
        """Do this harm to the request with this number, counted from now."""
        self.at, self.harm, self.requests, self.done, self.lines = at, harm, 0, False, []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        struck = asyncio.Event()
        answers: asyncio.Task[None] | None = None
        behind: asyncio.StreamWriter | None = None
        try:
            ahead, behind = await asyncio.open_connection("127.0.0.1", self.target)
            answers = asyncio.create_task(self._answers(ahead, writer, struck))
            while data := await reader.read(1 << 16):
                found = _REQUEST.match(data)
                if found or not self.http:
                    self.requests += 1
                    self.lines.append(found[0] if found else b"")
                    if self.requests == self.at and not self.done:
                        self.done = True
                        if self.harm == "before":
                            return
                        if self.harm in ("500", "503"):
                            retry = b"Retry-After: 7\r\n" if self.harm == "503" else b""
                            writer.write(
                                b"HTTP/1.1 %s Fault\r\n%sContent-Length: 0\r\n"
                                b"Connection: close\r\n\r\n" % (self.harm.encode(), retry)
                            )
                            await writer.drain()
                            return
                        struck.set()
                behind.write(data)
                await behind.drain()
                if answers.done():
                    return
            behind.write_eof()
            await answers
        except (ConnectionError, OSError):
            pass
        finally:
            if answers is not None:
                answers.cancel()
                with contextlib.suppress(asyncio.CancelledError, ConnectionError, OSError):
                    await answers
            for each in (writer, behind):
                if each is not None:
                    each.transport.abort()

    async def _answers(
        self, ahead: asyncio.StreamReader, writer: asyncio.StreamWriter, struck: asyncio.Event
    ) -> None:
        while data := await ahead.read(1 << 16):
            if struck.is_set():
                struck.clear()
                if self.harm == "after":
                    break
                if self.harm == "inside":
                    writer.write(data[: len(data) // 2])
                    await writer.drain()
                    writer.close()
                    return
                if self.harm == "dribble":
                    for byte in data:
                        writer.write(bytes([byte]))
                        await writer.drain()
                    continue
                if self.harm == "hold":
                    async with self._changed:
                        await self._changed.wait_for(lambda: self.answered >= self.held)
            writer.write(data)
            await writer.drain()
            async with self._changed:
                self.answered += 1
                self._changed.notify_all()
        writer.transport.abort()


@contextlib.asynccontextmanager
async def proxy_to(port: int, *, http: bool) -> AsyncIterator[Proxy]:
    """A proxy to a port of loopback; `proxy.port` is its own."""
    proxy = Proxy(port, http=http)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
