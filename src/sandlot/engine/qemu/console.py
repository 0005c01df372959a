"""The end of what a socket said: the guest's console, so that a guest that shouts costs nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

KEPT = 64 * 1024


class Console:
    """Reads the console's socket in the background and keeps the newest 64 KiB."""

    def __init__(self, sock: socket.socket, told: Callable[[bytes], None] = lambda _: None) -> None:
        self._socket = sock
        self.told = told
        self._kept = bytearray()
        asyncio.get_running_loop().add_reader(sock.fileno(), self._read)

    def _read(self) -> None:
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
        if self._socket.fileno() >= 0:
            self._read()

    def close(self) -> None:
        """Stop reading."""
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
