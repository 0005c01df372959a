"""A file over a socket, to a client that the test is."""

from __future__ import annotations

import asyncio
import socket
import struct

from sandlot.engine.serving import AT_ONCE, serve
from sandlot.errors import RemoteDamaged
from tests.unit.engine.test_nbd import FLAGS, HELLO, go, request

DATA = bytes(range(256)) * 64


class Client:
    """The other end."""

    def __init__(self) -> None:
        ours, self.sock = socket.socketpair()
        for each in (ours, self.sock):
            each.setblocking(False)
        self.waits = asyncio.Event()
        self.waits.set()
        self.reading = self.most = 0
        self.task = asyncio.create_task(serve(ours, len(DATA), self.read))

    async def read(self, offset: int, length: int) -> bytes:
        self.reading += 1
        self.most = max(self.most, self.reading)
        try:
            await self.waits.wait()
            if offset == 13:
                raise RemoteDamaged("it was changed")
            return DATA[offset : offset + length]
        finally:
            self.reading -= 1

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def get(self, length: int) -> bytes:
        found = b""
        while len(found) < length:
            data = await asyncio.get_running_loop().sock_recv(self.sock, length - len(found))
            assert data
            found += data
        return found

    async def ready(self) -> None:
        assert await self.get(len(HELLO)) == HELLO
        await self.send(FLAGS + go())
        await self.get(20 + 12 + 20)


async def test_reads_are_answered_and_a_failed_one_harms_no_other() -> None:
    client = Client()
    await client.ready()
    await client.send(request(0, 100, 50, handle=1))
    assert await client.get(66) == struct.pack(">IIQ", 0x67446698, 0, 1) + DATA[100:150]
    await client.send(request(0, 13, 1, handle=2))
    assert await client.get(16) == struct.pack(">IIQ", 0x67446698, 5, 2)
    await client.send(request(0, 0, len(DATA), handle=3) + request(2, 0, 0))
    assert (await client.get(16 + len(DATA)))[16:] == DATA
    await client.task
    client.sock.close()


async def test_no_more_are_under_way_than_the_bound() -> None:
    client = Client()
    await client.ready()
    client.waits.clear()
    await client.send(b"".join(request(0, n, 1, handle=n) for n in range(100, 200)))
    while client.reading < AT_ONCE:
        await asyncio.sleep(0)
    for _ in range(100):
        await asyncio.sleep(0)
    assert client.most == AT_ONCE
    client.waits.set()
    answers = await client.get(100 * 17)
    assert sorted(answers[16::17]) == sorted(DATA[100:200])
    client.sock.close()
    await client.task


async def test_who_breaks_the_protocol_or_goes_is_left() -> None:
    client = Client()
    await client.ready()
    await client.send(bytes(64))
    await client.task
    client.sock.close()
    other = Client()
    await other.ready()
    other.waits.clear()
    await other.send(request(0, 0, 1))
    other.sock.close()
    await other.task
    assert other.reading == 0
