"""QMP: the few commands that we need, on the library of the QEMU project.

The library is imported on first use: a restore needs no command, so `sandlot run` never pays.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sandlot.errors import SandboxError

if TYPE_CHECKING:
    from qemu.qmp import QMPClient


class Monitor:
    """A QMP connection over an inherited socket, opened by the first command."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket: socket.socket | None = sock
        self._client: QMPClient | None = None
        self._lock = asyncio.Lock()
        self._lent = 0

    async def execute(self, command: str, **arguments: Any) -> Any:
        """Run one command and return its result.

        Raises:
            SandboxError: QEMU refused it or is gone.
        """
        with _refused(command):
            async with self._lock:
                client = await self._connect()
            return await client.execute(command, arguments)

    async def give(self, name: str, descriptor: int) -> None:
        """Hand over an open file under a name for later commands.

        Raises:
            SandboxError: QEMU refused it or is gone.
        """
        await self._send(descriptor)
        await self.execute("getfd", fdname=name)

    async def lend(self, descriptor: int) -> int:
        """Hand over an open file that commands can name as `/dev/fdset/N`; N is returned.

        Raises:
            SandboxError: QEMU refused it or is gone.
        """
        self._lent += 1
        await self._send(descriptor)
        await self.execute("add-fd", **{"fdset-id": self._lent})
        return self._lent

    async def take_back(self, number: int) -> None:
        """End what `lend` began, once nothing uses it."""
        await self.execute("remove-fd", **{"fdset-id": number})

    async def _send(self, descriptor: int) -> None:
        with _refused("an open file"):
            async with self._lock:
                client = await self._connect()
            client.send_fd_scm(descriptor)

    async def _connect(self) -> QMPClient:
        if self._client is None:
            from qemu.qmp import QMPClient

            if self._socket is None:
                raise SandboxError("QEMU has ended")
            client = QMPClient("sandlot")
            client.logger.setLevel("CRITICAL")
            await client.connect(self._socket)
            self._client, self._socket = client, None
        return self._client

    async def close(self) -> None:
        """Drop the connection."""
        if self._client is not None:
            try:
                await self._client.disconnect()
            except Exception:  # the other end is usually gone, in one of many ways
                pass
            self._client = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@contextlib.contextmanager
def _refused(what: str) -> Iterator[None]:
    from qemu.qmp import QMPError

    try:
        yield
    except (QMPError, OSError, EOFError) as error:
        raise SandboxError(f"QEMU refused `{what}`: {error}") from error
