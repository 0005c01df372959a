"""The guest's end of a channel without a guest, in a process of its own: what `bench/visitor.py`
does, done with streams, so that no emulated processor hides what the gateway costs.

python -m bench.guest_end SOCKET WINDOW     inherited descriptors; commands are lines of JSON
"""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import socket
import ssl
import sys
import time
from collections.abc import Awaitable, Callable

from sandlot.guest.channel import Channel, ChannelStream
from sandlot.network.router import GUEST4, ROUTER4
from sandlot.network.tls.session import TlsClient
from sandlot.wire.messages import Ok
from sandlot.wire.mux import Mux
from sandlot.wire.network import Connect

NAME = "host.sandlot.internal"
CREDIT = 1 << 20  # as in agent/internal/network/relay.go
PIECE = bytes(256 * 1024)


class GuestEnd:
    """Streams as the agent opens them, one for each connection."""

    def __init__(self, channel: Channel, context: ssl.SSLContext, key: str) -> None:
        self.channel = channel
        self.context = context
        self.key = key
        self.held: list[object] = []

    async def connect(self, port: int) -> ChannelStream:
        """A connection that stands."""
        stream = self.channel.open(
            Connect(
                source=GUEST4.packed, source_port=40000, target=ROUTER4.packed, target_port=port
            ),
            credit=CREDIT,
        )
        answer = await stream.read_message()
        assert isinstance(answer, Ok), answer
        return stream

    async def shaken(self, port: int) -> Tls:
        """A connection with TLS."""
        tls = Tls(await self.connect(port), TlsClient(self.context, NAME))
        await tls.shake()
        return tls

    def head(self, port: int, method: str, path: str, fields: str = "") -> bytes:
        """A request as the visitor makes it."""
        return (
            f"{method} /{path} HTTP/1.1\r\nHost: {NAME}:{port}\r\nAccept: */*\r\n"
            f"User-Agent: bench\r\nAuthorization: Bearer {self.key}\r\n{fields}\r\n"
        ).encode()

    async def down(self, port: int, streams: int, size: int) -> float:
        """MB/s from the server."""
        return await self._moved(port, streams, size, True)

    async def up(self, port: int, streams: int, size: int) -> float:
        """MB/s to the server."""
        return await self._moved(port, streams, size, False)

    async def _moved(self, port: int, streams: int, size: int, down: bool) -> float:
        opened = [await self.connect(port) for _ in range(streams)]
        part = size // streams

        async def move(stream: ChannelStream) -> None:
            if down:
                await stream.write(b"down %d\n" % part)
                left = part
                while left > 0:
                    left -= len(await stream.read())
                return
            await stream.write(b"up %d\n" % part)
            view = memoryview(PIECE)
            for at in range(0, part, len(PIECE)):
                await stream.write(view[: part - at])
            assert await stream.read() == b"done\n"

        began = time.perf_counter()
        await asyncio.gather(*map(move, opened))
        took = time.perf_counter() - began
        for stream in opened:
            stream.finish()
        return part * streams / 1e6 / took

    async def measure_connect(self, port: int, times: int) -> list[float]:
        """Milliseconds until a connection stands."""
        values = []
        for _ in range(times):
            began = time.perf_counter()
            stream = await self.connect(port)
            values.append((time.perf_counter() - began) * 1e3)
            await stream.write(b"ping\n")
            assert await stream.read() == b"done\n"
            stream.finish()
        return values

    async def tls_connect(self, port: int, times: int) -> list[float]:
        """Milliseconds until TLS stands."""
        values = []
        for _ in range(times):
            began = time.perf_counter()
            tls = await self.shaken(port)
            values.append((time.perf_counter() - began) * 1e3)
            await tls.say(self.head(port, "GET", "2"))
            await tls.answer()
            tls.stream.finish()
        return values

    async def tls_down(self, port: int, size: int) -> float:
        """MB/s of an answer."""
        tls = await self.shaken(port)
        began = time.perf_counter()
        await tls.say(self.head(port, "GET", str(size)))
        await tls.answer()
        return size / 1e6 / (time.perf_counter() - began)

    async def tls_up(self, port: int, size: int) -> float:
        """MB/s of a request."""
        tls = await self.shaken(port)
        began = time.perf_counter()
        await tls.say(self.head(port, "POST", "", f"Content-Length: {size}\r\n"))
        view = memoryview(PIECE)
        for at in range(0, size, len(PIECE)):
            await tls.say(view[: size - at])
        await tls.answer()
        return size / 1e6 / (time.perf_counter() - began)

    async def requests(self, port: int, count: int) -> float:
        """Requests each second."""
        tls = await self.shaken(port)
        began = 0.0
        for number in range(count + 5):
            if number == 5:
                began = time.perf_counter()
            await tls.say(self.head(port, "GET", "2000"))
            await tls.answer()
        return count / (time.perf_counter() - began)

    async def idle(self, port: int, count: int) -> int:
        """Hold connections that have said something."""
        for _ in range(count):
            stream = await self.connect(port)
            await stream.write(b"ping\n")
            assert await stream.read() == b"done\n"
            self.held.append(stream)
        return count

    async def tls_idle(self, port: int, count: int) -> int:
        """The same with TLS, and a request that was answered."""
        for _ in range(count):
            tls = await self.shaken(port)
            await tls.say(self.head(port, "GET", "2"))
            await tls.answer()
            self.held.append(tls)
        return count


class Tls:
    """A program's TLS over a stream."""

    def __init__(self, stream: ChannelStream, session: TlsClient) -> None:
        self.stream = stream
        self.session = session

    async def shake(self) -> None:
        """Until it stands."""
        while True:
            if out := self.session.take():
                await self.stream.write(out)
            if self.session.established:
                return
            data = await self.stream.read()
            assert data, "the connection ended"
            assert not self.session.receive(data)

    async def say(self, data: bytes | memoryview) -> None:
        """Send something."""
        self.session.write(data)
        await self.stream.write(self.session.take())

    async def answer(self) -> None:
        """Take one answer, whole."""
        head, left = b"", -1
        while left != 0:
            data = await self.stream.read()
            assert data, "the connection ended"
            for piece in self.session.receiving(data):
                if left >= 0:
                    left -= len(piece)
                    continue
                head += piece
                if b"\r\n\r\n" in head:
                    fields, _, rest = head.partition(b"\r\n\r\n")
                    assert b" 200 " in fields, fields
                    left = int(fields.split(b"Content-Length: ")[1].split(b"\r\n")[0]) - len(rest)


async def main() -> None:
    """Do what lines of the standard input say."""
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.setblocking(False)
    size = os.fstat(int(sys.argv[2])).st_size
    window = memoryview(mmap.mmap(int(sys.argv[2]), size))
    opened: asyncio.Queue[ChannelStream] = asyncio.Queue()
    channel = Channel(client=False, accept=opened.put_nowait)
    half = size // 2
    channel._mux = Mux(client=False, send_half=window[half:], receive_half=window[:half])
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: channel, sock=sock)
    first = json.loads(await asyncio.to_thread(sys.stdin.readline))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=first["authority"])
    end = GuestEnd(channel, context, first["key"])
    work: dict[str, Callable[..., Awaitable[object]]] = {
        "down": end.down, "up": end.up, "connect": end.measure_connect,
        "tls-connect": end.tls_connect, "tls-down": end.tls_down, "tls-up": end.tls_up,
        "requests": end.requests, "idle": end.idle, "tls-idle": end.tls_idle,
    }  # fmt: skip
    while line := await asyncio.to_thread(sys.stdin.readline):
        what, *numbers = json.loads(line)
        print(json.dumps(await work[what](*numbers)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
