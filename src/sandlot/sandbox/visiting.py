"""What other programs start through a sandbox's door, as its plugins let them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from sandlot.errors import GuestProtocolError, PluginFailed, Refuse
from sandlot.guest.process import exit_status
from sandlot.guest.session import Command
from sandlot.wire.messages import (
    Exec,
    Exited,
    Failed,
    Message,
    MessageReader,
    Resize,
    Started,
    Stdio,
)

if TYPE_CHECKING:
    from sandlot.guest.session import GuestSession
    from sandlot.sandbox.plugged import Plugged, Running

Tap = Callable[[bytes], None]


class Visits:
    """Those of one door. Its owner has plugins."""

    def __init__(self, plugged: Plugged) -> None:
        self._plugged = plugged
        self._running: dict[int, Running] = {}
        self._deciding: dict[int, asyncio.Event] = {}

    @contextlib.asynccontextmanager
    async def admitted(
        self, session: GuestSession, request: Message
    ) -> AsyncIterator[tuple[Message, Tap | None, Tap | None]]:
        """A request as the plugins want it, and what looks at the bytes from the guest and to it.

        Raises:
            Refuse: a plugin does not let the program be started.
        """
        if isinstance(request, Stdio):
            if (deciding := self._deciding.get(request.process)) is not None:
                await deciding.wait()  # its program is not asked for yet
            running = self._running.get(request.process)
            out = into = None
            if running is not None and running.recorded:
                if request.descriptor == 0:
                    into = _shown(running, "input")
                else:
                    out = _shown(running, "output")
            yield request, out, into
            return
        assert isinstance(request, Exec)
        number = request.process
        self._deciding[number] = asyncio.Event()
        try:
            command, running = await self._plugged.exec(_command(request))
            if running is not None:
                self._running[number] = running
                request = _request(request, command)
        finally:
            if deciding := self._deciding.pop(number, None):
                deciding.set()
        if running is None:
            yield request, None, None
            return
        life = _Life(self._plugged, running, session, request)
        try:
            yield request, life.said, life.told
        finally:
            self._running.pop(number, None)
            life.over()


class _Life:
    """A program's control stream, looked at as it passes."""

    def __init__(
        self, plugged: Plugged, running: Running, session: GuestSession, request: Exec
    ) -> None:
        self._plugged, self._running, self._session = plugged, running, session
        self._request = request
        self._from_guest, self._to_guest = MessageReader(), MessageReader()
        self._is_job = False

    def said(self, data: bytes) -> None:
        """What the guest said."""
        for message in _messages(self._from_guest, data):
            if isinstance(message, Exited):
                self._running.told(exit_status(message))
            elif isinstance(message, Started) and self._request.flags & Exec.DETACHED:
                self._is_job = True
                self._plugged.watch_job(self._running, self._session, self._request.process)

    def told(self, data: bytes) -> None:
        """What it is told."""
        for message in _messages(self._to_guest, data):
            if isinstance(message, Resize) and self._running.recorded:
                self._running.terminal("resize", b"", message.rows, message.columns)

    def over(self) -> None:
        """The stream has ended."""
        if not self._is_job:
            self._running.ended()


def _messages(reader: MessageReader, data: bytes) -> list[Message]:
    with contextlib.suppress(GuestProtocolError):  # it is for who asked to complain
        return reader.receive(data)
    return []


def _shown(running: Running, kind: str) -> Tap:
    return lambda data: running.terminal(kind, data)


def _command(request: Exec) -> Command:
    pairs = (each.partition(b"=") for each in request.env)
    return Command(
        argv=request.argv, env={name: value for name, _, value in pairs}, cwd=request.cwd,
        user=request.user,
        tty=(request.rows, request.columns) if request.flags & Exec.TTY else None,
        stdin=bool(request.flags & Exec.STDIN), detached=bool(request.flags & Exec.DETACHED),
        limits=request.limits,
        timeout=request.timeout_ms / 1000 if request.timeout_ms else None,
    )  # fmt: skip


def _request(request: Exec, command: Command) -> Exec:
    return Exec(**{
        **request.values(), "argv": tuple(command.argv),
        "env": tuple(name + b"=" + value for name, value in command.env.items()),
        "cwd": command.cwd, "user": command.user, "limits": tuple(command.limits),
        "timeout_ms": int((command.timeout or 0) * 1000),
    })  # fmt: skip


def refused(refusal: Refuse) -> Failed:
    """A refusal for the program that asked."""
    told = {
        "message": refusal.message, "plugin": refusal.plugin, "reason": refusal.reason[:200],
        "failed": str(isinstance(refusal, PluginFailed)),
    }  # fmt: skip
    return Failed(code="refused", text=json.dumps(told))
