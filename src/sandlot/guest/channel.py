"""The socket of one session: the only place where the channel's bytes meet asyncio."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from sandlot.errors import GuestProtocolError, SandboxDied, SandboxError
from sandlot.wire import frames, mux
from sandlot.wire.messages import Message, MessageReader, encode
from sandlot.wire.resync import Resync

BULK_CREDIT = 2 * 1024 * 1024
SILENCE_TICK = 15.0  # seconds
SILENCE_TICKS = 8
RESYNC_PATIENCE = 60.0
MOST_UNREAD = 65536
"""Answers that a peer may ask for while it does not read."""


class _Flag:
    """As asyncio.Event, at a tenth of the memory: thousands of streams are idle at once."""

    __slots__ = ("_up", "_waiting")

    def __init__(self) -> None:
        self._up = False
        self._waiting: list[asyncio.Future[None]] = []

    def set(self) -> None:
        self._up = True
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    def clear(self) -> None:
        self._up = False

    async def wait(self) -> None:
        if self._up:
            return
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            await waiting
        finally:
            self._waiting.remove(waiting)


class Taker(Protocol):
    """What a channel tells of one stream."""

    def on_data(self, data: bytes) -> None: ...
    def on_end(self) -> None: ...
    def on_reset(self, error: SandboxError | None) -> None: ...
    def on_writable(self) -> None: ...


class ChannelStream:
    """One stream. Reads wait for the peer, writes wait for its credit."""

    def __init__(self, channel: Channel, number: int) -> None:
        self._channel = channel
        self.number = number
        self._chunks: deque[bytes] = deque()
        self._messages = MessageReader()
        self._ended = False
        self._error: SandboxError | None = None
        self._was_reset = False
        self._discards = False
        self._readable = _Flag()
        self._writable = _Flag()
        self.over = _Flag()  # set when nothing more will come, though some may be unread

    def unread(self) -> bytes:
        """Bytes that `read_message` took but did not need."""
        return self._messages.rest()

    def taken(self) -> bytes:
        """Everything that has come and was not read."""
        data = self._messages.rest() + b"".join(self._chunks)
        self._chunks.clear()
        return data

    # Called by the channel.

    def on_data(self, data: bytes) -> None:
        if self._discards:
            return
        self._chunks.append(data)
        self._readable.set()

    def on_end(self) -> None:
        self._ended = True
        self._readable.set()
        self.over.set()

    def on_reset(self, error: SandboxError | None) -> None:
        self._was_reset = True
        self._error = error
        self.on_end()
        self._writable.set()

    def on_writable(self) -> None:
        self._writable.set()

    # Called by users.

    async def read(self) -> bytes:
        """The next bytes as they came, or b"" at the end.

        Raises:
            SandboxDied: the machine ended.
            GuestProtocolError: the guest broke the protocol.
        """
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._ended:
                return b""
            self._readable.clear()
            await self._readable.wait()
        data = self._chunks.popleft()
        self._channel.consumed(self.number, len(data))
        return data

    async def read_message(self) -> Message | None:
        """The next message, or None at the end of the stream."""
        while True:
            try:
                message = self._messages.next()
            except GuestProtocolError as error:
                self._channel.fail(error)
                raise
            if message is not None:
                return message
            data = await self.read()
            if not data:
                return None
            self._messages.feed(data)

    def put(self, data: bytes) -> None:
        """Send something short that surely fits the stream's first credit: a header, a message."""
        if self._channel.send(self.number, data) != len(data):
            raise GuestProtocolError("the guest gives no credit for a message")

    def try_put(self, data: bytes) -> bool:
        """Send something short, whole or not at all: what may be lost does not wait."""
        return self._channel.try_send(self.number, data)

    async def write(self, data: bytes | memoryview) -> None:
        """Send all of `data`, waiting for the peer to take it.

        Raises:
            BrokenPipeError: the peer closed the stream.
            SandboxDied: the machine ended.
        """
        view = memoryview(data)
        while len(view):
            if self._error is not None:
                raise self._error
            if self._was_reset:
                raise BrokenPipeError("the process does not read any more")
            self._writable.clear()
            sent = self._channel.send(self.number, view)
            view = view[sent:]
            if len(view) and not sent:
                await self._writable.wait()
            await self._channel.drained()

    def allow(self, credit: int) -> None:
        """Let the peer have `credit` bytes under way, on a stream that it opened."""
        self._channel.allow(self.number, credit)

    def finish(self) -> None:
        """No more will be sent."""
        self._channel.finish(self.number)

    def discard(self) -> None:
        """Nobody reads any more: keep nothing of what still comes, and give no credit for it."""
        self._discards = True
        self._chunks.clear()

    def reset(self) -> None:
        """End the stream at once, both ways."""
        self._channel.reset(self.number)
        self.on_reset(None)

    @property
    def was_reset(self) -> bool:
        """Whether the stream was ended at once rather than finished."""
        return self._was_reset

    @property
    def ended(self) -> bool:
        """Whether nothing more will arrive, apart from what is already here."""
        return self._ended


class Channel(asyncio.Protocol):
    """The streams of one session over one socket.

    `died` makes the error for a lost connection; `broken` is told when the session fails, so that
    the machine can be ended.
    """

    def __init__(
        self,
        window: memoryview | None = None,
        *,
        client: bool = True,
        died: Callable[[], SandboxError] | None = None,
        broken: Callable[[SandboxError], None] | None = None,
        accept: Callable[[ChannelStream], None] | None = None,
    ) -> None:
        half = len(window) // 2 if window is not None else 0
        self._mux = mux.Mux(
            client=client,
            send_half=window[:half] if window is not None else None,
            receive_half=window[half:] if window is not None else None,
        )
        self._streams: dict[int, Taker] = {}
        self._died = died or (lambda: SandboxDied("the sandbox has ended"))
        self._broken = broken
        self._accept = accept
        self._error: SandboxError | None = None
        self._transport: asyncio.Transport | None = None
        self._resync: Resync | None = None
        self._ready: asyncio.Future[None] | None = None
        self._flushing = False
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._silent_ticks = 0
        self._held = False
        self.last_used = time.monotonic()
        """When a stream was last opened or closed, on the monotonic clock."""
        self._ticker: asyncio.TimerHandle | None = None

    @classmethod
    async def connected(
        cls, sock: socket.socket, *, died: Callable[[], SandboxError] | None = None
    ) -> Channel:
        """A session with another program of this host, which needs no resync."""
        channel = cls(died=died)
        await asyncio.get_running_loop().create_connection(lambda: channel, sock=sock)
        return channel

    @classmethod
    async def resynced(
        cls, sock: socket.socket, window: memoryview | None, token: bytes, *,
        patience: float = RESYNC_PATIENCE, died: Callable[[], SandboxError] | None = None,
        broken: Callable[[SandboxError], None] | None = None,
    ) -> tuple[Channel, bytes]:  # fmt: skip
        """Begin a session with an agent; returns it and the token of the next one.

        Raises:
            GuestProtocolError: the agent does not answer within `patience` seconds.
            SandboxDied: the machine ended first.
        """
        loop = asyncio.get_running_loop()
        channel = cls(window, died=died, broken=broken)
        nonce = os.urandom(frames.TOKEN_SIZE)
        channel._resync = Resync(token, nonce)
        channel._ready = loop.create_future()
        await loop.create_connection(lambda: channel, sock=sock)
        assert channel._transport is not None
        channel._transport.write(channel._resync.request)
        try:
            async with asyncio.timeout(patience):
                await channel._ready
        except TimeoutError:
            error = GuestProtocolError(f"the guest is silent: no answer within {patience:.0f} s")
            channel.fail(error)
            raise error from None
        except BaseException:
            channel.close()
            raise
        return channel, nonce

    # -- asyncio.Protocol ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._tick()

    def data_received(self, data: bytes) -> None:
        self._silent_ticks = 0
        try:
            if self._resync is not None:
                rest = self._resync.receive(data)
                if rest is None:
                    return
                self._resync = None
                if self._ready is not None and not self._ready.done():
                    self._ready.set_result(None)
                data = rest
            for event in self._mux.receive(data):
                self._dispatch(event)
            if self._can_write.is_set():
                self._mux.answered = 0
            elif self._mux.answered > MOST_UNREAD:
                raise GuestProtocolError("the guest asks without end and reads no answer")
        except GuestProtocolError as error:
            self.fail(error)
        self._flush_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(self._died())

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    # -- streams ---------------------------------------------------------------------------

    def open(self, header: Message, *, credit: int = frames.INITIAL_CREDIT) -> ChannelStream:
        """Open a stream that begins with `header`.

        Raises:
            SandboxDied, GuestProtocolError: the session is over.
        """
        if self._error is not None:
            raise self._error
        number = self._mux.open(credit=credit)
        self.last_used = time.monotonic()
        stream = self._streams[number] = ChannelStream(self, number)
        stream.put(encode(header))
        return stream

    def send(self, number: int, data: bytes | memoryview) -> int:
        if self._error is not None:
            raise self._error
        if not self._mux.is_open(number):
            raise BrokenPipeError("the stream is closed")
        sent = self._mux.send(number, data)
        self._flush_soon()
        return sent

    def try_send(self, number: int, data: bytes) -> bool:
        if self._error is not None or self._mux.credit(number) < len(data):
            return False
        return self.send(number, data) == len(data)

    def divert(self, stream: ChannelStream, taker: Taker) -> None:
        """Let `taker` have what comes on a stream from now on, at once and without a task. It says
        itself what it has `consumed`."""
        self._streams[stream.number] = taker
        data = stream.taken()
        if data:
            taker.on_data(data)

    def serve(self, accept: Callable[[ChannelStream], None]) -> None:
        """Let the peer open streams from now on; `accept` is given each."""
        self._accept = accept

    def consumed(self, number: int, count: int) -> None:
        if self._error is None:
            self._mux.consumed(number, count)
            self._flush_soon()

    def allow(self, number: int, credit: int) -> None:
        if self._error is None and self._mux.is_open(number):
            self._mux.allow(number, credit)
            self._flush_soon()

    def finish(self, number: int) -> None:
        if self._error is None:
            self._mux.finish(number)
            self._forget(number)
            self._flush_soon()

    def reset(self, number: int) -> None:
        if self._error is None:
            self._mux.reset(number)
            self._drop(number)
            self._flush_soon()

    async def drained(self) -> None:
        """Wait until the carrier takes more."""
        self._flush()
        if not self._can_write.is_set():
            await self._can_write.wait()

    def _forget(self, number: int) -> None:
        if not self._mux.is_open(number):
            self._drop(number)

    def _drop(self, number: int) -> Taker | None:
        self.last_used = time.monotonic()
        return self._streams.pop(number, None)

    def _dispatch(self, event: mux.Event) -> None:
        if isinstance(event, mux.Data):
            if (stream := self._streams.get(event.stream)) is not None:
                stream.on_data(event.data)
        elif isinstance(event, mux.Writable):
            targets = self._streams.values() if event.stream == 0 else ()
            for each in targets:
                each.on_writable()
            if (stream := self._streams.get(event.stream)) is not None:
                stream.on_writable()
        elif isinstance(event, mux.Ended):
            if (stream := self._streams.get(event.stream)) is not None:
                stream.on_end()
                self._forget(event.stream)
        elif isinstance(event, mux.Reset):
            if (stream := self._drop(event.stream)) is not None:
                stream.on_reset(None)
        elif isinstance(event, mux.Opened):
            if self._accept is None:
                self._mux.reset(event.stream)
                return
            opened = self._streams[event.stream] = ChannelStream(self, event.stream)
            self._accept(opened)
        elif isinstance(event, mux.GoneAway):
            raise GuestProtocolError(f"the guest's agent gave up the session (code {event.code})")

    # -- the carrier -----------------------------------------------------------------------

    def _flush_soon(self) -> None:
        if not self._flushing and self._error is None:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._error is None and self._transport is not None:
            data = self._mux.output()
            if data:
                self._transport.write(data)

    def _tick(self) -> None:
        """A guest that is silent while somebody waits for it is given up after two minutes.

        Ticks are counted, not seconds, so that a host that slept does not blame the guest.
        """
        if self._error is not None:
            return
        self._ticker = asyncio.get_running_loop().call_later(SILENCE_TICK, self._tick)
        if not self._streams or self._held or self._resync is not None:
            self._silent_ticks = 0
            return
        self._silent_ticks += 1
        if self._silent_ticks >= SILENCE_TICKS:
            self.fail(GuestProtocolError("the guest is silent: it does not even answer a ping"))
        else:
            self._mux.ping(self._silent_ticks)
            self._flush_soon()

    def hold(self, held: bool) -> None:
        """The peer is stopped on purpose: its silence means nothing."""
        self._held = held

    @property
    def open_streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    def fail(self, error: SandboxError) -> None:
        """The session is over: everyone who waits gets `error`."""
        if self._error is not None:
            return
        self._error = error
        if self._ticker is not None:
            self._ticker.cancel()
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # nobody may be waiting any more
        self._mux.close()
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.on_reset(error)
        self._can_write.set()
        if self._transport is not None:
            self._transport.abort()
        if self._broken is not None:
            self._broken(error)

    @property
    def error(self) -> SandboxError | None:
        """Why the session is over, or None while it lives."""
        return self._error

    def close(self) -> None:
        """End the session from our side."""
        self._broken = None
        self.fail(SandboxDied("the sandbox was closed"))

    def statistics(self) -> dict[str, int]:
        """Numbers for tests and curious users."""
        return self._mux.statistics()
