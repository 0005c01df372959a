"""The end of what a socket said: the guest's console, so that a guest that shouts costs nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

KEPT = 64 * 1024
PAUSE = 0.005
"""Seconds between two readings. The socket holds some 280 pieces, and a serial port writes single
characters: that is 56 kB/s, five times a real one at 115200 baud."""


class Console:
    """Reads the console's socket in the background and keeps the newest 64 KiB.

    It reads at most 200 times a second: what comes meanwhile waits in the socket, and a guest that
    shouts waits for us, so that it keeps neither our process nor our disk busy.
    """

    def __init__(self, sock: socket.socket, told: Callable[[bytes], None] = lambda _: None) -> None:
        self._socket = sock
        self.told = told
        self._kept = bytearray()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)

    def _readable(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._loop.call_later(PAUSE, self._resume)

    def _resume(self) -> None:
        self._read()
        if self._socket.fileno() >= 0:
            self._loop.add_reader(self._socket.fileno(), self._readable)

    def _read(self) -> None:
        if self._socket.fileno() < 0:
            return
        try:
            data = self._socket.recv(KEPT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self.told(data)
        self._kept += data
        del self._kept[:-KEPT]

    def tail(self, lines: int = 20) -> str:
        """The last lines, without control characters."""
        text = self._kept.decode(errors="replace").replace("\r", "")
        kept = "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)
        return "\n".join(kept.splitlines()[-lines:])

    def text(self) -> str:
        """Everything that is kept."""
        return self.tail(10_000)

    def drain(self) -> None:
        """Take what has arrived but was not yet read."""
        self._read()

    def close(self) -> None:
        """Stop reading."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
