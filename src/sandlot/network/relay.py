"""Bytes between a stream of the guest and a connected socket, both ways, as they come."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Protocol

PIECE = 256 * 1024
_LINGER_NOT = struct.pack("ii", 1, 0)


class Stream(Protocol):
    """What the gateway needs of a stream of the channel."""

    async def read(self) -> bytes: ...

    async def write(self, data: bytes | memoryview) -> None: ...

    def put(self, data: bytes) -> None: ...

    def allow(self, credit: int) -> None: ...

    def finish(self) -> None: ...

    def reset(self) -> None: ...

    @property
    def was_reset(self) -> bool: ...


class Stopped(Exception):
    """A connection is not carried on; the text says why. `verdict` is what its record says."""

    def __init__(self, reason: str, verdict: str = "failed", hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint
        self.reason = reason
        self.verdict = verdict


class Counted:
    """What a connection has carried, in bytes: `sent` by the guest, `received` by it."""

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0


async def relay(
    stream: Stream, sock: socket.socket, count: Counted, first: bytes = b"",
    pace: Callable[[int], float] | None = None,
) -> None:  # fmt: skip
    """Carry both directions until both have ended; a half that ends leaves the other open.

    Args:
        stream: the guest's side.
        sock: the other side, connected and not blocking; it is closed at the end.
        count: is kept up to date.
        first: what was already read of the stream.
        pace: told how many bytes moved, says how many seconds to wait because of a limit.
    """
    outward = asyncio.ensure_future(_outward(stream, sock, count, first, pace))
    inward = asyncio.ensure_future(_inward(stream, sock, count, pace))
    end: Callable[[socket.socket], None] = socket.socket.close
    try:
        done, _ = await asyncio.wait({outward, inward}, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    except OSError:
        # One side is gone without a word: so the other is told the same.
        stream.reset()
        end = abort
    except BaseException:
        stream.reset()
        raise
    finally:
        for task in (outward, inward):
            task.cancel()
            with contextlib.suppress(BaseException):
                await task
        end(sock)  # not before: the loop would still watch a descriptor that the next one gets


async def _outward(
    stream: Stream, sock: socket.socket, count: Counted, data: bytes,
    pace: Callable[[int], float] | None,
) -> None:  # fmt: skip
    loop = asyncio.get_running_loop()
    while data or (data := await stream.read()):
        await loop.sock_sendall(sock, data)
        count.sent += len(data)
        if pace is not None and (pause := pace(len(data))) > 0:
            await asyncio.sleep(pause)
        data = b""
    if stream.was_reset:
        raise ConnectionResetError("the guest ended the connection")
    sock.shutdown(socket.SHUT_WR)


async def _inward(
    stream: Stream, sock: socket.socket, count: Counted, pace: Callable[[int], float] | None
) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(sock, PIECE):
        await stream.write(data)
        count.received += len(data)
        if pace is not None and (pause := pace(len(data))) > 0:
            await asyncio.sleep(pause)
    stream.finish()


def abort(sock: socket.socket) -> None:
    """Close a connection so that the other side sees a reset."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    sock.close()
