"""Serves what the programs of one guest ask of the runtime that it was lent.

Each connection is one stream, one request and its answer. What is done about it is somebody else's
(`Peers`); here is what bounds it: how many there are at once, how long they may be silent, and what
becomes of them when the guest goes away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any, Protocol

from sandlot.errors import (
    ConfigError,
    ExecError,
    FileError,
    GuestProtocolError,
    Refuse,
    SandboxError,
)
from sandlot.runtime.frames import FrameReader, Kind, frames, told
from sandlot.runtime.requests import TAKES_INPUT, Request, parse_request

MOST_AT_ONCE = 32
"""Connections of one guest that are served at once."""
WORD_PATIENCE = 30.0  # seconds until a connection has to say what it asks
END_PATIENCE = 10.0  # seconds until a guest that was answered has to go away
MOST_UNREAD = 4  # frames of input that the one who reads them has not taken
# Errors whose words are about what the guest itself said or made. Others may tell of the host.
TOLD = (ConfigError, ExecError, FileError, Refuse)


class Over(Protocol):
    """Whether nothing more will come from the guest."""

    def wait(self) -> Awaitable[object]: ...


class Stream(Protocol):
    """A stream of the guest's, as the channel has it."""

    async def read(self) -> bytes: ...

    @property
    def over(self) -> Over: ...

    async def write(self, data: bytes | memoryview) -> None: ...

    def unread(self) -> bytes: ...

    def try_put(self, data: bytes) -> bool: ...

    def finish(self) -> None: ...

    def reset(self) -> None: ...


class Peers(Protocol):
    """Who does what is asked."""

    async def handle(self, request: Request, talk: Conversation) -> Mapping[str, Any]:
        """Do it, and return the answer.

        Raises:
            SandboxError: the guest is told, as far as it concerns it.
        """


class Conversation:
    """One connection, as who handles its request sees it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._reader = FrameReader()
        self._input: asyncio.Queue[bytes] = asyncio.Queue(MOST_UNREAD)
        self._waiting: list[tuple[Kind, bytes]] = []

    async def request(self) -> Request | None:
        """What is asked; None when the guest is gone before.

        Raises:
            GuestProtocolError, ConfigError: it is wrong.
        """
        data = self._stream.unread()
        while True:
            self._waiting += self._reader.receive(data)
            if self._waiting:
                return parse_request(self._waiting.pop(0)[1])
            data = await self._stream.read()
            if not data:
                return None

    async def listen(self, *, takes_input: bool) -> None:
        """Take what the guest sends until it goes away.

        Raises:
            GuestProtocolError: it sends what it may not.
        """
        while True:
            for _, payload in self._waiting:
                if not takes_input:
                    raise GuestProtocolError("this request takes no input")
                await self._input.put(payload)
                takes_input = bool(payload)
            data = await self._stream.read()
            if not data:
                return
            self._waiting = self._reader.receive(data)

    async def gone(self) -> None:
        """Wait until the guest goes away, also while nobody takes what it sent."""
        await self._stream.over.wait()

    async def inputs(self) -> AsyncIterator[bytes]:
        """What the guest sends with its request, until it says that this is all."""
        while payload := await self._input.get():
            yield payload

    async def send(self, kind: Kind, data: bytes) -> None:
        """Send data of any length; waits while the guest does not read."""
        for each in frames(kind, data):
            await self._stream.write(each)

    async def item(self, item: Mapping[str, Any]) -> None:
        """Send one thing of a list."""
        await self._stream.write(told(Kind.ITEM, item))


class RuntimeServer:
    """Serves the connections of one guest."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._serving = 0

    async def serve(self, stream: Stream) -> None:
        """One connection, from its first byte to its end."""
        if self._serving >= MOST_AT_ONCE:
            refusal = Refuse(
                f"{MOST_AT_ONCE} requests are under way, which is as many as there may be",
                hint="wait for one to end",
            )
            if stream.try_put(_error(refusal)):
                await _ended(stream)
            else:
                stream.reset()
            return
        self._serving += 1
        try:
            await self._serve(stream)
        except (SandboxError, OSError):
            stream.reset()  # the guest or its connection is gone
        except BaseException:
            stream.reset()
            raise
        finally:
            self._serving -= 1

    async def _serve(self, stream: Stream) -> None:
        talk = Conversation(stream)
        try:
            try:
                async with asyncio.timeout(WORD_PATIENCE):
                    request = await talk.request()
            except TimeoutError:
                raise GuestProtocolError("nothing was asked for too long") from None
            if request is None:
                stream.finish()
                return
            answer = await self._answer(request, talk)
            last = told(Kind.ANSWER, answer) if answer is not None else b""
        except (SandboxError, OSError) as error:
            last = _error(error)
        if last:
            await stream.write(last)
        await _ended(stream)

    async def _answer(self, request: Request, talk: Conversation) -> Mapping[str, Any] | None:
        """The answer, or None when the guest went away before there was one."""
        loop = asyncio.get_running_loop()
        work = loop.create_task(_handled(self._peers, request, talk))
        heard = loop.create_task(talk.listen(takes_input=isinstance(request, TAKES_INPUT)))
        gone = loop.create_task(talk.gone())
        tasks = (work, heard, gone)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            if heard.done():
                heard.result()
            return None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _handled(peers: Peers, request: Request, talk: Conversation) -> Mapping[str, Any]:
    return await peers.handle(request, talk)


def _error(error: Exception) -> bytes:
    """What the guest is told."""
    kind, message, hint = "SandboxError", "the host could not do it", ""
    if isinstance(error, (*TOLD, GuestProtocolError)) and isinstance(error, SandboxError):
        kind, message, hint = type(error).__name__, error.message, error.hint
    # No character takes more than six bytes, so that this fits a frame.
    what: dict[str, object] = {"error": kind, "message": message[:4096], "hint": hint[:1024]}
    if isinstance(error, FileError):
        what |= {"errno": error.errno or 0, "path": error.path[:4096]}
    return told(Kind.ERROR, what)


async def _ended(stream: Stream) -> None:
    """End our half, and wait for the guest's, so that it is not cut off from what it was told."""
    stream.finish()
    try:
        async with asyncio.timeout(END_PATIENCE):
            while await stream.read():
                pass
    except TimeoutError:
        stream.reset()
