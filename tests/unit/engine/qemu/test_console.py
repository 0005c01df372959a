"""The console is bounded and shows no control characters."""

from __future__ import annotations

import asyncio

from sandlot.engine.qemu.console import KEPT, Console
from sandlot.engine.qemu.process import socket_pair


async def test_the_newest_is_kept() -> None:
    ours, theirs = socket_pair()
    console = Console(ours)
    theirs.setblocking(False)
    await asyncio.get_running_loop().sock_sendall(theirs, b"old\n" + b"x" * (4 * KEPT) + b"\nnew")
    while not console.text().endswith("new"):
        await asyncio.sleep(0)
    assert len(console.text()) <= KEPT
    assert console.tail(1) == "new"
    theirs.send(b"\r\n\x1b[31mred\a")
    console.drain()
    assert console.tail(1) == "?[31mred?"
    console.close()
    console.close()
    theirs.close()


async def test_single_characters_are_gathered_into_few_pieces() -> None:
    ours, theirs = socket_pair()
    told: list[bytes] = []
    console = Console(ours, told.append)
    theirs.setblocking(False)
    for character in b"a line, letter by letter\n" * 20:
        await asyncio.get_running_loop().sock_sendall(theirs, bytes([character]))
    while b"".join(told).count(b"\n") < 20:
        await asyncio.sleep(0.001)
    assert len(told) < 100
    theirs.close()
    console.drain()
    console.close()
