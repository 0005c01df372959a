"""What a hostile agent tries on the connections of a runtime that its sandbox was lent."""

from __future__ import annotations

import asyncio
import gc
import json
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.framework.borrowing import MadeUpPeers
from tests.unit.network.harness import Guest, guest

from sandlot.errors import FileNotFound
from sandlot.guest.channel import ChannelStream
from sandlot.network.policy import Network
from sandlot.runtime import server as server_module
from sandlot.runtime.frames import HEADER, Kind, frame
from sandlot.runtime.requests import Hello, ListFiles, ReadFile, Request
from sandlot.runtime.server import MOST_AT_ONCE, Conversation, RuntimeServer
from sandlot.wire.runtime import Borrow


def request(**fields: Any) -> bytes:
    return frame(Kind.REQUEST, json.dumps({"version": 1, **fields}).encode())


def raw(data: bytes) -> bytes:
    return frame(Kind.REQUEST, data)


PATH = "\U0001f512" * 4096
"""As long as a path may be, of characters that are twelve bytes each as JSON has them escaped."""

# id: what is sent, and the kind of error that is the answer; none: the guest gets what it may.
BYTES: dict[str, tuple[bytes, str]] = {
    "nothing-known": (b"GET / HTTP/1.1\r\n\r\n", "GuestProtocolError"),
    "frame-of-the-host": (frame(Kind.ANSWER, b"{}"), "GuestProtocolError"),
    "frame-of-gigabytes": (struct.pack("!BI", 1, 0xFFFFFFFF), "GuestProtocolError"),
    "input-first": (frame(Kind.INPUT, b"x"), "GuestProtocolError"),
    "asked-twice": (request(op="exec", peer="a", command=["sleep"]) * 2, "GuestProtocolError"),
    "input-to-hello": (
        request(op="logs", peer="a", follow=True) + frame(Kind.INPUT, b"x"), "GuestProtocolError",
    ),
    "json-deep": (raw(b"[" * 60000), "GuestProtocolError"),
    "json-deep-objects": (raw(b'{"a":' * 10000), "GuestProtocolError"),
    "json-long-number": (raw(b'{"version": ' + b"1" * 60000 + b"}"), "GuestProtocolError"),
    "json-number": (raw(b"1"), "GuestProtocolError"),
    "json-no-text": (raw(b"\xff\xfe\xfd"), "GuestProtocolError"),
    "version-other": (raw(b'{"version": [1], "op": "hello"}'), "GuestProtocolError"),
    "operation-unknown": (request(op="fork"), "GuestProtocolError"),
    "operation-of-python": (request(op="__init__"), "GuestProtocolError"),
    "operation-list": (request(op=["hello"]), "GuestProtocolError"),
    "field-of-python": (request(op="exec", peer="a", command=["x"], __class__=1), "ConfigError"),
    "peer-missing": (request(op="stop"), "ConfigError"),
    "size-kelvin": (request(op="start", memory="1\u212a"), "ConfigError"),
    "timeout-no-number": (
        request(op="exec", peer="a", command=["x"], timeout=float("nan")), "ConfigError",
    ),
    "grace-for-ever": (request(op="stop", peer="a", grace=1e9), "ConfigError"),
    "mode-setuid-and-more": (request(op="write", peer="a", path="/a", mode=0o10000), "ConfigError"),
    "tail-of-all": (request(op="logs", peer="a", tail=10**9), "ConfigError"),
    "path-nul": (request(op="read", peer="a", path="/a\0b"), "ConfigError"),
    "error-longer-than-a-frame": (request(op="read", peer="a", path=PATH), "FileNotFound"),
    "error-of-bytes": (request(op="read", peer="a", path="\x01" * 4096), "FileNotFound"),
    "item-longer-than-a-frame": (request(op="files", peer="a", path="/long"), "ConfigError"),
    "answer-longer-than-a-frame": (request(op="hello"), "ConfigError"),
    "bytes-that-are-no-text": (request(op="files", peer="a", path="/bytes"), ""),
}  # fmt: skip


class Guarded(MadeUpPeers):
    """Also with what is too long for a frame."""

    async def _answer(self, request: Request, talk: Conversation) -> Mapping[str, Any]:
        if isinstance(request, ReadFile) and request.path in (PATH, "\x01" * 4096):
            raise FileNotFound(f"{request.path}: no such file", path=request.path, number=2)
        if isinstance(request, ListFiles) and request.path == "/long":
            await talk.item({"path": "\U0001f512" * 17000})
        if isinstance(request, ListFiles) and request.path == "/bytes":
            await talk.item({"path": "/\udcff\u2028\x1b"})
        if isinstance(request, Hello):
            return {"grant": {"allow": [f"{n}.example.com" for n in range(5000)]}}
        return await super()._answer(request, talk)


class Side:
    """A hostile agent, and who serves it."""

    def __init__(self, guest_: Guest, peers: MadeUpPeers, server: RuntimeServer) -> None:
        self.guest, self.peers, self.server = guest_, peers, server

    async def open(self, data: bytes = b"") -> ChannelStream:
        stream = self.guest.channel.open(Borrow(pid=1, uid=0))
        await stream.write(data)
        return stream

    async def said(self, stream: ChannelStream) -> list[tuple[Kind, bytes]]:
        """All that the host says on a connection."""
        found, buffer = [], b""
        while data := await stream.read():
            buffer += data
        while buffer:
            kind, size = HEADER.unpack_from(buffer)
            found.append((Kind(kind), buffer[HEADER.size : HEADER.size + size]))
            buffer = buffer[HEADER.size + size :]
        stream.finish()
        return found

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.005)

    async def still_served(self) -> None:
        """The session goes on, nothing of the others is left, and who asks in order is answered."""
        await self.until(lambda: self.server._serving == 0)
        found = await self.said(await self.open(request(op="list")))
        assert [kind for kind, _ in found] == [Kind.ITEM, Kind.ITEM, Kind.ANSWER]
        assert self.guest.host.error is None


@pytest.fixture
async def side() -> AsyncIterator[Side]:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    async with guest(Network.deny_all()) as made:
        peers = Guarded()
        server = RuntimeServer(peers)
        made.gateway.lent = lambda stream, _: server.serve(stream)
        yield Side(made, peers, server)
    gc.collect()
    # What a task raises that nobody waits for is a traceback in the owner's output.
    assert not faults


@pytest.mark.parametrize("attempt", BYTES)
async def test_no_bytes_do_more_than_end_their_connection(side: Side, attempt: str) -> None:
    data, kind = BYTES[attempt]
    *_, (last, payload) = await side.said(await side.open(data))
    said = json.loads(payload)
    assert (last, said.get("error", "")) == (Kind.ERROR if kind else Kind.ANSWER, kind)
    assert "/home" not in payload.decode() and "Traceback" not in payload.decode()
    await side.still_served()


async def test_nothing_was_lent(side: Side) -> None:
    side.guest.gateway.lent = None
    stream = await side.open(request(op="hello"))
    assert await stream.read() == b"" and stream.was_reset
    assert not side.peers.asked


@pytest.mark.parametrize("stdin", [True, False])
async def test_input_that_nobody_takes_does_not_hide_that_the_guest_is_gone(
    side: Side, stdin: bool
) -> None:
    asked = request(op="exec", peer="a", command=["sleep"], stdin=stdin)
    held = [await side.open(asked + frame(Kind.INPUT, b"x") * 100) for _ in range(MOST_AT_ONCE)]
    await side.until(lambda: side.peers.running == MOST_AT_ONCE)
    for stream in held:
        stream.finish()
    await side.until(lambda: side.peers.cancelled == MOST_AT_ONCE)
    await side.still_served()


async def test_a_thousand_streams_at_once_of_an_agent(side: Side) -> None:
    data = request(op="exec", peer="a", command=["sleep"])
    streams = [await side.open(data) for _ in range(1000)]
    await side.until(lambda: side.peers.running == MOST_AT_ONCE)
    for stream in streams:
        stream.reset()
    await side.still_served()
    assert side.peers.most == MOST_AT_ONCE


async def test_who_never_reads_is_not_written_for_without_end(side: Side) -> None:
    written = 0

    async def endless(request: Request, talk: Conversation) -> Mapping[str, Any]:
        nonlocal written
        while True:
            await talk.send(Kind.OUTPUT, bytes(65536))
            written += 65536

    side.server._peers = cast(Any, SimpleNamespace(handle=endless))
    channel = side.guest.channel
    streams = [await side.open(request(op="read", peer="a", path="/dev/zero")) for _ in range(9)]
    for stream in streams:
        stream.discard()  # credit is never given
    await side.until(lambda: written >= 9 * 196608)
    for _ in range(50):
        await asyncio.sleep(0.005)
    assert written <= 9 * 262144
    for stream in streams:
        stream.reset()
    side.server._peers = side.peers
    await side.still_served()
    assert channel.error is None


async def test_a_word_at_a_time_is_not_waited_for(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "WORD_PATIENCE", 0.2)
    stream = await side.open()
    for byte in request(op="hello")[:20]:
        await stream.write(bytes([byte]))
        await asyncio.sleep(0.02)
    *_, (kind, _) = await side.said(stream)
    assert kind is Kind.ERROR
    await side.still_served()
