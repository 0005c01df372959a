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
