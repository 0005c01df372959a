"""A file whose bytes come when they are asked for, served to the engine over a socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

from sandlot.engine.nbd import NbdServer, Read
from sandlot.errors import GuestProtocolError, SandboxError

AT_ONCE = 16
"""Reads that are answered at the same time; QEMU sends no more."""
_PIECE = 64 << 10
Reader = Callable[[int, int], Awaitable[bytes]]


async def serve(sock: socket.socket, size: int, read: Reader) -> None:
    """Answer one client until it goes, then close the socket.

    Args:
        sock: one that does not block.
        size: of the file, in bytes.
        read: the bytes from an offset, so many; what it raises is an error of this read alone.
    """
    server = NbdServer(size)
    loop = asyncio.get_running_loop()
    room = asyncio.Semaphore(AT_ONCE)
    sending = asyncio.Lock()
    work: set[asyncio.Task[None]] = set()

    async def flush() -> None:
        async with sending:
            if data := server.take():
                await loop.sock_sendall(sock, data)

    async def one(wanted: Read) -> None:
        try:
            server.answer(wanted, await read(wanted.offset, wanted.length))
        except (SandboxError, OSError):
            server.fail(wanted)
        finally:
            room.release()
        with contextlib.suppress(OSError):
            await flush()

    try:
        await flush()
        while not server.over and (data := await loop.sock_recv(sock, _PIECE)):
            reads = server.feed(data)
            await flush()
            for wanted in reads:
                await room.acquire()
                task = asyncio.create_task(one(wanted))
                work.add(task)
                task.add_done_callback(work.discard)
        if server.over:  # what it wanted before is answered
            await asyncio.gather(*work)
            await flush()
    except (OSError, GuestProtocolError):
        pass  # its client is gone, or is to be: it sees the end of the stream
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        sock.close()
