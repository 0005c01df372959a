"""A lent runtime without a machine: the server on a socket, and peers that are made up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from sandlot.errors import CommandNotFound, FileNotFound, Refuse, ResourceError
from sandlot.runtime.frames import Kind
from sandlot.runtime.requests import (
    Exec,
    Hello,
    ListFiles,
    ListPeers,
    Logs,
    ReadFile,
    Request,
    Start,
    WriteFile,
)
from sandlot.runtime.server import Conversation, RuntimeServer


class MadeUpPeers:
    """Answers as a host would, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.written = b""
        self.running = 0
        self.most = 0
        self.cancelled = 0

    async def handle(self, request: Request, talk: Conversation) -> Mapping[str, Any]:
        self.asked.append(request)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self._answer(request, talk)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def _answer(self, request: Request, talk: Conversation) -> Mapping[str, Any]:
        peer = {"name": "a", "id": "0123", "image": "i", "status": "running"}
        if isinstance(request, Hello):
            return {"name": "own", "id": "9", "sandlot": "0", "grant": {"max_sandboxes": 2}}
        if isinstance(request, Start):
            if request.name == "too-much":
                raise Refuse("2 of 2 sandboxes are taken", hint="stop one first")
            if request.name == "broken":
                raise ResourceError("no room in /home/somebody", hint="of no concern to a guest")
            return {**peer, "name": request.name or "chosen"}
        if isinstance(request, ListPeers):
            await talk.item(peer)
            await talk.item({**peer, "name": "b", "id": "4567"})
        elif isinstance(request, Exec):
            return await self._exec(request, talk)
        elif isinstance(request, Logs):
            await talk.send(Kind.OUTPUT, b"said\n")
            if request.follow:
                await asyncio.Event().wait()
        elif isinstance(request, ReadFile):
            if request.path == "/none":
                raise FileNotFound("no such file: /none", path="/none", number=2)
            await talk.send(Kind.OUTPUT, self.written)
        elif isinstance(request, WriteFile):
            self.written = b"".join([data async for data in talk.inputs()])
        elif isinstance(request, ListFiles):
            await talk.item({"path": "/a", "type": "file", "size": 1, "mode": 2, "mtime": 3.0})
        return {}

    async def _exec(self, request: Exec, talk: Conversation) -> Mapping[str, Any]:
        if request.command[0] == "none":
            raise CommandNotFound("none: not found")
        if request.command[0] == "sleep":
            await asyncio.Event().wait()
        if request.stdin:
            async for data in talk.inputs():
                await talk.send(Kind.OUTPUT, data)
        await talk.send(Kind.ERRORS, b"wrong")
        return {"exit_code": 3, "signal": None, "timed_out": False, "out_of_memory": False}


class SocketStream:
    """A stream of the channel, as far as a server needs it, over a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.over = asyncio.Event()

    def unread(self) -> bytes:
        return b""

    async def read(self) -> bytes:
        with contextlib.suppress(ConnectionError):
            if data := await self._reader.read(1 << 16):
                return data
        self.over.set()
        return b""

    async def write(self, data: bytes | memoryview) -> None:
        self._writer.write(bytes(data))
        await self._writer.drain()

    def try_put(self, data: bytes) -> bool:
        self._writer.write(data)
        return True

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            self._writer.write_eof()

    def reset(self) -> None:
        self._writer.transport.abort()


@contextlib.asynccontextmanager
async def lent(path: Path, peers: MadeUpPeers) -> AsyncIterator[RuntimeServer]:
    """A runtime that is lent at this socket."""
    server = RuntimeServer(peers)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.serve(SocketStream(reader, writer))
        writer.close()

    listener = await asyncio.start_unix_server(connected, path, backlog=1000)
    try:
        yield server
    finally:
        listener.close()
