"""A guest agent in this process, for tests of the host's side of the channel.

    async with FakeAgent(sock) as agent: ...

`on_message` decides what is answered; the default runs every program with exit code 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from types import TracebackType

from sandlot.wire import frames
from sandlot.wire.frames import FIRST_TOKEN
from sandlot.wire.messages import (
    Clock,
    Exec,
    Exited,
    Message,
    MessageReader,
    Ok,
    Started,
    Stdio,
    encode,
)
from sandlot.wire.mux import Data, Ended, Mux, Opened, Reset

Handler = Callable[["FakeAgent", int, Message], None]


def run_everything(agent: FakeAgent, stream: int, message: Message) -> None:
    """Every request succeeds, every program says `hello` and ends with 0."""
    if isinstance(message, Exec):
        agent.say(stream, Started(pid=42))
        agent.controls[message.process] = stream
    elif isinstance(message, Stdio):
        if message.descriptor == 1:
            agent.mux.send(stream, b"hello")
        if message.descriptor != 0:
            agent.mux.finish(stream)
        if message.descriptor == 2:
            agent.end(message.process, Exited(code=0, user_us=1500, peak_bytes=4096))
    elif not isinstance(message, Clock):
        agent.say(stream, Ok())


class FakeAgent:
    """Serves one session on its end of a socket."""

    def __init__(
        self, sock: socket.socket, *, handler: Handler = run_everything, token: bytes = FIRST_TOKEN,
        before: bytes = b"", silent: bool = False,
    ) -> None:  # fmt: skip
        sock.setblocking(False)
        self.sock = sock
        self.mux = Mux(client=False)
        self.messages: list[Message] = []
        self.controls: dict[int, int] = {}
        self.data: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        self.was_reset: set[int] = set()
        self.consumes = True
        self.changed = asyncio.Event()
        self._handler = handler
        self._token = token
        self._before = before
        self._silent = silent
        self._readers: dict[int, MessageReader] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> FakeAgent:
        self._task = asyncio.get_running_loop().create_task(self._serve())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await self._task
        self.sock.close()

    def say(self, stream: int, message: Message) -> None:
        self.mux.send(stream, encode(message))

    def end(self, process: int, exited: Exited) -> None:
        """A program ends."""
        self.say(self.controls[process], exited)
        self.mux.finish(self.controls[process])

    async def flush(self) -> None:
        """Send what the mux has."""
        if data := self.mux.output():
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def raw(self, data: bytes) -> None:
        """Send bytes past the mux."""
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that the agent saw makes `condition` true."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    def saw(self, kind: type[Message]) -> bool:
        return any(isinstance(message, kind) for message in self.messages)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        size = len(frames.resync_request(FIRST_TOKEN, bytes(frames.TOKEN_SIZE)))
        request = b""
        while len(request) < size:
            request += await loop.sock_recv(self.sock, size - len(request))
        if self._silent:
            return
        nonce = request[-frames.TOKEN_SIZE :]
        assert request == frames.resync_request(self._token, nonce)
        await self.raw(self._before + frames.resync_reply(nonce))
        while data := await loop.sock_recv(self.sock, 1 << 20):
            for event in self.mux.receive(data):
                if isinstance(event, Opened):
                    self._readers[event.stream] = MessageReader(1 << 22)
                elif isinstance(event, Data):
                    self._on_data(event)
                elif isinstance(event, Ended):
                    self.ended.add(event.stream)
                elif isinstance(event, Reset):
                    self.was_reset.add(event.stream)
            await self.flush()
            self.changed.set()

    def _on_data(self, event: Data) -> None:
        """The header of a stream is a message; what follows on a Stdio stream is plain bytes."""
        if event.stream in self.data:
            self.data[event.stream] += event.data
        elif (reader := self._readers.get(event.stream)) is not None:
            reader.feed(event.data)
            while (message := reader.next()) is not None:
                self.messages.append(message)
                self._handler(self, event.stream, message)
                if isinstance(message, Stdio):
                    self.data[event.stream] = bytearray(reader.rest())
                    break
        if self.consumes:
            self.mux.consumed(event.stream, len(event.data))
