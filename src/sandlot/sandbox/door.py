"""The door of a running sandbox: a socket that only its user can open, speaking the channel.

Whoever runs a sandbox serves it; other programs of the same user connect, and the streams they
open are joined to streams of the guest. So `exec` works the same from anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandlot.errors import GuestProtocolError, Refuse, SandboxDied, SandboxError, WrongState
from sandlot.guest.channel import BULK_CREDIT, Channel, ChannelStream
from sandlot.guest.session import GuestSession
from sandlot.runtime.caller import caller_id
from sandlot.sandbox.faults import described, rebuilt
from sandlot.wire.files import FileRequest, UpperLayer
from sandlot.wire.messages import (
    Exec,
    Failed,
    Jobs,
    Message,
    Metrics,
    NetworkSet,
    Ok,
    Pause,
    Resume,
    SetNetwork,
    Stdio,
    Stop,
    Watch,
    encode,
)
from sandlot.wire.network import Dial
from sandlot.wire.snapshot import Listen, Save, Saved
from sandlot.wire.volumes import ChangeVolumes

if TYPE_CHECKING:
    from sandlot.sandbox.owner import Owner
    from sandlot.sandbox.visiting import Tap, Visits

# What other programs may ask of the guest: each stream that begins so is joined to one of its.
FORWARDED: tuple[type[Message], ...] = (
    Exec, Stdio, Watch, Jobs, Metrics, FileRequest, UpperLayer, Dial,
)  # fmt: skip


@contextlib.contextmanager
def socket_name(path: Path) -> Iterator[str]:
    """A name for a socket path that fits the 108 bytes of sun_path, however deep the folder is."""
    if len(os.fsencode(path)) < 100:
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


def door_path(sockets: Path, sandbox_id: str) -> Path:
    """Where the door of a sandbox is."""
    return sockets / f"{sandbox_id}.sock"


class Door:
    """Serves the sandbox of one owner to other programs."""

    def __init__(self, owner: Owner, path: Path) -> None:
        self._owner = owner
        self._path = path
        self._listener: socket.socket | None = None
        self._channels: set[Channel] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._visits: Visits | None = None

    def open(self) -> None:
        """Begin to listen."""
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.setblocking(False)
            with socket_name(self._path) as name:
                before = os.umask(0o177)
                try:
                    listener.bind(name)
                finally:
                    os.umask(before)
            listener.listen(64)
        except BaseException:
            listener.close()
            raise
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener.fileno(), self._connect)

    def _connect(self) -> None:
        assert self._listener is not None
        caller_id.set("")  # whoever comes here is no guest, also when a guest had this one started
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        channel = Channel(
            client=False,
            accept=lambda stream: self._start(self._serve(stream)),
            broken=lambda _: self._channels.discard(channel),
        )
        self._channels.add(channel)
        self._start(self._attach(channel, sock))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attach(self, channel: Channel, sock: socket.socket) -> None:
        await asyncio.get_running_loop().create_connection(lambda: channel, sock=sock)

    async def _serve(self, stream: ChannelStream) -> None:
        try:
            request = await stream.read_message()
            if isinstance(request, Stop):
                await self._stop(request)
            elif isinstance(request, Pause | Resume):
                await self._pause(stream, request)
            elif isinstance(request, SetNetwork):
                self._set_network(stream, request)
            elif isinstance(request, ChangeVolumes):
                await self._change_volumes(stream, request)
            elif isinstance(request, Save):
                await self._save(stream, request)
            elif isinstance(request, Listen):
                await self._owner.hearing.serve(stream)
            elif isinstance(request, FORWARDED):
                await self._join(stream, request)
            else:
                stream.put(encode(Failed(code="failed", text="not for other programs")))
                stream.finish()
        except (SandboxError, OSError):
            stream.reset()

    async def _stop(self, request: Stop) -> None:
        kill = bool(request.flags & Stop.KILL)
        self._owner.kept = bool(request.flags & Stop.KEEP)
        await self._owner.stop(request.grace_ms / 1000, kill=kill)
        # The end closed this door; who asked sees the connection end.

    async def _pause(self, stream: ChannelStream, request: Pause | Resume) -> None:
        answer: Message = Ok()
        try:
            if isinstance(request, Pause):
                await self._owner.pause()
            else:
                await self._owner.resume()
        except SandboxError as error:
            answer = _refusal(error)
        stream.put(encode(answer))
        stream.finish()

    async def _save(self, stream: ChannelStream, request: Save) -> None:
        from sandlot.sandbox.saving import fork_point, save_running

        try:
            options = json.loads(request.options)
            if options.get("mark"):
                from sandlot.sandbox.marking import mark

                stream.put(encode(Saved(result=json.dumps({"mark": await mark(self._owner)}))))
            elif options.get("fork"):
                how = {"memory": True, "root": True, "quiet": False}
                how |= {name: bool(options[name]) for name in how if name in options}
                async with fork_point(self._owner, **how) as (folder, captured):
                    result = {"folder": folder.path.name, **dataclasses.asdict(captured)}
                    stream.put(encode(Saved(result=json.dumps(result))))
                    await stream.read_message()  # until who asked has what it needs
            else:
                found = await save_running(
                    self._owner, options["name"], memory=options["memory"], tags=options["tags"]
                )
                stream.put(encode(Saved(result=json.dumps({"id": found.id}))))
        except SandboxError as error:
            stream.put(encode(Failed(code="error", text=json.dumps(described(error)))))
        stream.finish()

    def _set_network(self, stream: ChannelStream, request: SetNetwork) -> None:
        from sandlot.network.policy import Network

        answer: Message
        try:
            network = Network.from_json(json.loads(request.policy))
            answer = NetworkSet(cut=self._owner.set_network(network))
        except (ValueError, SandboxError) as error:
            answer = Failed(code="failed", text=str(error))
        stream.put(encode(answer))
        stream.finish()

    async def _change_volumes(self, stream: ChannelStream, request: ChangeVolumes) -> None:
        answer: Message = Ok()
        try:
            change = json.loads(request.change)
            if "mount" in change:
                await self._owner.volumes.mount(change["mount"], None)
            else:
                await self._owner.volumes.unmount(change["unmount"], force=change["force"])
        except SandboxError as error:
            answer = Failed(code="error", text=json.dumps(described(error)))
        stream.put(encode(answer))
        stream.finish()

    async def _join(self, outer: ChannelStream, request: Message) -> None:
        try:
            session = await self._owner.session()
        except WrongState as error:
            outer.put(encode(_refusal(error)))
            outer.finish()
            return
        if isinstance(request, Exec):
            session.set_clock_if_needed()
        plugged = self._owner.plugged
        if plugged is None or not isinstance(request, Exec | Stdio):
            await _joined(outer, session, request)
            self._heard(session, request)
            return
        from sandlot.sandbox.visiting import Visits, refused

        self._visits = self._visits or Visits(plugged)
        try:
            async with self._visits.admitted(session, request) as (asked, out, into):
                await _joined(outer, session, asked, out, into)
            self._heard(session, request)
        except Refuse as refusal:
            outer.put(encode(refused(refusal)))
            outer.finish()

    def _heard(self, session: GuestSession, request: Message) -> None:
        """The stream of a program has ended, and so has the program, if it is no job."""
        if isinstance(request, Exec):
            if request.flags & Exec.DETACHED:
                self._owner.hearing.job(session, request.process)
            else:
                self._owner.hearing.ended()

    def close(self) -> None:
        """Stop serving; programs that are connected see the sandbox end."""
        if self._listener is None:
            return
        asyncio.get_running_loop().remove_reader(self._listener.fileno())
        self._listener.close()
        self._listener = None
        self._path.unlink(missing_ok=True)
        for channel in list(self._channels):
            channel.close()
        for task in list(self._tasks):
            if task is not asyncio.current_task():
                task.cancel()


def _refusal(error: SandboxError) -> Failed:
    """Why the owner does not do it, with the remedy on a line of its own."""
    return Failed(code="state", text=f"{error.message}\n{error.hint}")


async def _joined(
    outer: ChannelStream, session: GuestSession, request: Message, out: Tap | None = None,
    into: Tap | None = None,
) -> None:  # fmt: skip
    """Carry a stream to the guest and back; `out` sees what comes from it, `into` what goes."""
    inner = session.channel.open(request, credit=BULK_CREDIT)
    if rest := outer.unread():
        if into is not None:
            into(rest)
        await inner.write(rest)
    await asyncio.gather(_pump(outer, inner, into), _pump(inner, outer, out))


async def _pump(source: ChannelStream, target: ChannelStream, tap: Tap | None = None) -> None:
    """Carry bytes one way; an end stays an end and a reset a reset."""
    try:
        while data := await source.read():
            if tap is not None:
                tap(bytes(data))
            await target.write(data)
    except (SandboxError, OSError):
        target.reset()
        source.reset()
        return
    if source.was_reset:
        target.reset()
    else:
        target.finish()


async def connect(path: Path, name: str) -> GuestSession | None:
    """A session with a sandbox that another program runs, or None when nobody answers."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with socket_name(path) as where:
            sock.connect(where)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        if isinstance(error, ConnectionRefusedError):
            path.unlink(missing_ok=True)  # its owner was killed and could not
        return None
    channel = await Channel.connected(sock, died=lambda: SandboxDied(f"sandbox {name!r} has ended"))
    return GuestSession(channel, sets_clock=False)


async def ask_to_stop(
    session: GuestSession, *, grace: float, kill: bool, keep: bool = False
) -> None:
    """Let the program that runs the sandbox end it; returns when it is over. With `keep` it stays
    there, also when it is one that is removed at its end."""
    flags = (Stop.KILL if kill else 0) | (Stop.KEEP if keep else 0)
    request = Stop(grace_ms=int(grace * 1000), flags=flags)
    stream = session.channel.open(request)
    try:
        answer = await stream.read_message()
    except SandboxDied:
        return
    if answer is not None and not isinstance(answer, Ok):
        raise GuestProtocolError(f"the owner answered {type(answer).__name__}")


@contextlib.asynccontextmanager
async def ask_to_save(
    session: GuestSession, options: dict[str, Any]
) -> AsyncIterator[dict[str, Any]]:
    """Let the program that runs the sandbox save it. What it saved for a fork stays until the end
    of the block.

    Raises:
        SandboxError: as it says.
    """
    stream = session.channel.open(Save(options=json.dumps(options)))
    try:
        answer = await stream.read_message()
        if isinstance(answer, Failed):
            raise rebuilt(json.loads(answer.text))
        if not isinstance(answer, Saved):
            raise session.channel.error or SandboxDied("the sandbox has ended")
        yield json.loads(answer.result)
    finally:
        stream.finish()


async def ask_to_pause(session: GuestSession, *, pause: bool) -> None:
    """Let the program that runs the sandbox stop its processors, or let them run.

    Raises:
        WrongState: it cannot now.
    """
    (answer,) = await session.ask(Pause() if pause else Resume())
    if not isinstance(answer, Ok):
        raise GuestProtocolError(f"the owner answered {type(answer).__name__}")
