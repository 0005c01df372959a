"""The way from one sandbox to the programs of another: through the door of who runs that one."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sandlot.errors import SandboxError
from sandlot.guest.channel import ChannelStream
from sandlot.guest.session import GuestSession
from sandlot.network.relay import Counted, relay
from sandlot.network.upstream import HOST_UNREACHABLE, REFUSED, TIMED_OUT
from sandlot.sandbox.door import connect, door_path
from sandlot.state.records import SandboxFolders
from sandlot.wire.messages import Failed, Ok
from sandlot.wire.network import Dial

PATIENCE = 30.0  # seconds for one sandbox to say whether somebody listens
_ERRORS = {
    REFUSED: errno.ECONNREFUSED, TIMED_OUT: errno.ETIMEDOUT, HOST_UNREACHABLE: errno.EHOSTUNREACH,
}  # fmt: skip


class Peering:
    """Connects a sandbox to its peers.

    Args:
        sandboxes: the folders of all sandboxes of this user.
        sockets: where their doors are.
    """

    def __init__(self, sandboxes: SandboxFolders, sockets: Path) -> None:
        self._sandboxes = sandboxes
        self._sockets = sockets
        self._sessions: dict[str, GuestSession] = {}
        self._opening: dict[str, asyncio.Task[GuestSession]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns: Counter[tuple[str, ...]] = Counter()

    async def connect(self, names: Sequence[str], port: int) -> socket.socket:
        """A connection to a port of the first of these sandboxes that takes it; they take turns.

        Raises:
            OSError: none does.
        """
        first = self._turns[tuple(names)] % len(names)
        self._turns[tuple(names)] += 1
        failure: OSError = _refused("no sandbox takes it")
        for name in (*names[first:], *names[:first]):
            try:
                return await self._connected(name, port)
            except OSError as error:
                failure = error
            except SandboxError as error:
                failure = _refused(error.message)
        raise failure

    async def _connected(self, name: str, port: int) -> socket.socket:
        session = await self._session(name)
        stream = session.channel.open(Dial(port=port, flags=Dial.OWN))
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await stream.read_message()
        except BaseException:
            stream.reset()
            raise
        if not isinstance(answer, Ok):
            stream.reset()
            number = answer.errno if isinstance(answer, Failed) else 0
            ours = _ERRORS.get(number, errno.ECONNREFUSED)
            raise OSError(ours, f"{name}: {os.strerror(ours)}")
        ours_, theirs = socket.socketpair()
        ours_.setblocking(False)
        theirs.setblocking(False)
        task = asyncio.create_task(_carried(stream, theirs))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return ours_

    async def _session(self, name: str) -> GuestSession:
        session = self._sessions.get(name)
        if session is not None and session.channel.error is None:
            return session
        if name not in self._opening:
            self._opening[name] = task = asyncio.create_task(self._open(name))
            task.add_done_callback(lambda _: self._opening.pop(name, None))
        return await asyncio.shield(self._opening[name])

    async def _open(self, name: str) -> GuestSession:
        record = self._sandboxes.find(name).record()
        session = None
        if record.name == name:  # an id is no name
            session = await connect(door_path(self._sockets, record.id), name)
        if session is None:
            raise _refused(f"sandbox {name} is not running")
        self._sessions[name] = session
        return session

    def close(self) -> None:
        """End all connections."""
        for task in (*self._tasks, *self._opening.values()):
            task.cancel()
        for session in self._sessions.values():
            session.channel.close()
        self._sessions.clear()


async def _carried(stream: ChannelStream, sock: socket.socket) -> None:
    try:
        await relay(stream, sock, Counted(), stream.unread())
    except (SandboxError, OSError):
        pass  # either side has ended, and the relay has told the other


def _refused(text: str) -> OSError:
    return ConnectionRefusedError(errno.ECONNREFUSED, text)
