"""Connections to other sandboxes, through doors that a test serves."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sandlot.errors import SandboxNotFound
from sandlot.guest.channel import Channel, ChannelStream
from sandlot.sandbox.door import door_path
from sandlot.sandbox.peering import Peering
from sandlot.wire.messages import Failed, Ok, encode
from sandlot.wire.network import Dial


class Neighbour:
    """A sandbox whose door is open; its program says its name and then what it is told."""

    def __init__(self, sockets: Path, name: str) -> None:
        self.name = name
        self.dialled: list[Dial] = []
        self._path = door_path(sockets, f"id-{name}")
        self._channels: list[Channel] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        def channel() -> Channel:
            made = Channel(client=False, accept=self._accept)
            self._channels.append(made)
            return made

        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(channel, str(self._path))

    def _accept(self, stream: ChannelStream) -> None:
        self._tasks.append(asyncio.ensure_future(self._serve(stream)))

    async def _serve(self, stream: ChannelStream) -> None:
        request = await stream.read_message()
        assert isinstance(request, Dial)
        self.dialled.append(request)
        if request.port != 80:
            stream.put(encode(Failed(code="connect", errno=111)))
            stream.finish()
            return
        stream.put(encode(Ok()))
        await stream.write(self.name.encode())
        with contextlib.suppress(OSError):
            while data := await stream.read():
                await stream.write(bytes(data))
            stream.finish()

    async def close(self) -> None:
        self._server.close()
        for channel in self._channels:
            channel.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Folders:
    """Knows the neighbours' names and one that has no door."""

    def find(self, name: str) -> Any:
        if name == "nobody":
            raise SandboxNotFound(name)
        known = "shop-a" if name == "id-a" else name
        return SimpleNamespace(record=lambda: SimpleNamespace(name=known, id=f"id-{known}"))


@pytest.fixture
async def near(tmp_path: Path) -> AsyncIterator[tuple[Peering, Neighbour, Neighbour]]:
    both = [Neighbour(tmp_path, "a"), Neighbour(tmp_path, "b")]
    for each in both:
        await each.open()
    peering = Peering(Folders(), tmp_path)  # type: ignore[arg-type]
    yield peering, both[0], both[1]
    peering.close()
    await asyncio.gather(*peering._tasks, return_exceptions=True)
    for each in both:
        await each.close()


async def said(sock: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    found = b""
    while len(found) < size and (data := await loop.sock_recv(sock, size)):
        found += data
    return found


async def test_bytes_go_both_ways_over_one_session(
    near: tuple[Peering, Neighbour, Neighbour],
) -> None:
    peering, a, _ = near
    loop = asyncio.get_running_loop()
    socks = await asyncio.gather(*(peering.connect(["a"], 80) for _ in range(3)))
    for sock in socks:
        with sock:
            await loop.sock_sendall(sock, b"x" * 300_000)
            sock.shutdown(socket.SHUT_WR)
            assert await said(sock, 400_000) == b"a" + b"x" * 300_000
    assert len(a._channels) == 1
    # What only listens on loopback is not asked for.
    assert {(each.port, each.flags) for each in a.dialled} == {(80, Dial.OWN)}


async def test_several_take_turns_and_the_one_that_takes_it_is_found(
    near: tuple[Peering, Neighbour, Neighbour],
) -> None:
    peering, _, _ = near
    names = []
    for _ in range(4):
        with await peering.connect(["a", "b"], 80) as sock:
            names.append(await said(sock, 1))
    assert names == [b"a", b"b", b"a", b"b"]
    for _ in range(3):
        with await peering.connect(["gone", "nobody", "b"], 80) as sock:
            assert await said(sock, 1) == b"b"


@pytest.mark.parametrize("names", [["a"], ["gone"], ["nobody"], ["id-a"], ["nobody", "a"]])
async def test_nobody_listens(near: tuple[Peering, Neighbour, Neighbour], names: list[str]) -> None:
    peering, _, _ = near
    with pytest.raises(ConnectionRefusedError):
        await peering.connect(names, 81)


async def test_a_sandbox_that_ended_is_looked_for_again(
    near: tuple[Peering, Neighbour, Neighbour], tmp_path: Path
) -> None:
    peering, a, _ = near
    (await peering.connect(["a"], 80)).close()
    await a.close()
    (door_path(tmp_path, "id-a")).unlink(missing_ok=True)
    with pytest.raises(ConnectionRefusedError):
        await peering.connect(["a"], 80)
    await a.open()
    with await peering.connect(["a"], 80) as sock:
        assert await said(sock, 1) == b"a"
