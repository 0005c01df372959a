"""Requests about files over a session: one stream each, and the agent's failures as errors."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

from sandlot.errors import (
    FileError,
    FileExists,
    FileForbidden,
    FileIsDirectory,
    FileNotDirectory,
    FileNotFound,
    GuestProtocolError,
    SandboxDied,
    SandboxError,
    WrongState,
)
from sandlot.files.paths import shown
from sandlot.guest.channel import BULK_CREDIT, ChannelStream
from sandlot.guest.process import guest_text, no_user
from sandlot.guest.session import GuestSession
from sandlot.wire import frames
from sandlot.wire.messages import Failed, Message, Ok

T = TypeVar("T")
PATIENCE = 300.0  # seconds without any sign from the agent about one request

_KINDS: dict[int, type[FileError]] = {
    errno.ENOENT: FileNotFound, errno.EEXIST: FileExists, errno.EACCES: FileForbidden,
    errno.EPERM: FileForbidden, errno.EISDIR: FileIsDirectory, errno.ENOTDIR: FileNotDirectory,
}  # fmt: skip
_HINTS = {
    errno.ENOSPC: "make the sandbox with a larger disk=",
    errno.ENOTEMPTY: "use recursive=True to remove all of it",
    errno.EACCES: 'use user="root" to act as the sandbox\'s administrator',
}


def file_error(number: int, text: str, path: str) -> FileError:
    """An errno of the guest as one of our errors."""
    words = os.strerror(number) if 0 < number < 134 else guest_text(text) or "failed"
    kind = _KINDS.get(number, FileError)
    message = f"{shown(path)} in the sandbox: {words[:1].lower()}{words[1:]}"
    return kind(message, path=path, number=number, hint=_HINTS.get(number, ""))


def failure(failed: Failed, path: str) -> SandboxError:
    """The agent's refusal, as an error for people."""
    if failed.code == "no-user":
        return no_user(failed)
    if failed.code == "no-root":
        return WrongState("the sandbox has no root file system yet")
    where = failed.path.decode(errors="surrogateescape") or path
    return file_error(failed.errno, failed.text, where)


async def patiently(work: Coroutine[Any, Any, T], path: str) -> T:
    """Wait for the agent, but not forever.

    Raises:
        FileError: nothing came for `PATIENCE` seconds (ETIMEDOUT).
    """
    try:
        async with asyncio.timeout(PATIENCE):
            return await work
    except TimeoutError:
        raise FileError(
            f"{shown(path)}: no sign from the sandbox for {PATIENCE:.0f} s",
            path=path, number=errno.ETIMEDOUT,
        ) from None  # fmt: skip


def begin(session: GuestSession, request: Message, *, bulk: bool = False) -> ChannelStream:
    """Open a request's stream."""
    session.set_clock_if_needed()  # files get the time of their writing
    return session.channel.open(request, credit=BULK_CREDIT if bulk else frames.INITIAL_CREDIT)


async def answer(
    session: GuestSession, stream: ChannelStream, path: str, kinds: tuple[type[Message], ...]
) -> Message:
    """The next message of a stream, one of `kinds`.

    Raises:
        FileError, ConfigError: the agent says that it failed.
        GuestProtocolError: it says something else.
    """
    message = await patiently(stream.read_message(), path)
    if isinstance(message, kinds):
        return message
    if isinstance(message, Failed):
        raise failure(message, path)
    if message is None:
        if session.channel.error is None and stream.was_reset:
            # Its guest could not go on, or is no more: whoever runs it closes its streams first.
            with contextlib.suppress(WrongState):
                await patiently(session.jobs(), path)
            if session.channel.error is None:
                raise file_error(errno.EIO, "", path)
        raise session.channel.error or SandboxDied("the sandbox has ended")
    error = GuestProtocolError(f"the guest answered {type(message).__name__} about a file")
    session.channel.fail(error)
    raise error


async def ask(
    session: GuestSession, request: Message, path: str, kind: type[Message] = Ok
) -> Message:
    """One request, one answer. Cancelling it lets the agent go on with what it has begun."""
    stream = begin(session, request)
    stream.finish()
    try:
        return await answer(session, stream, path, (kind,))
    except BaseException:
        stream.reset()
        raise


async def messages(
    session: GuestSession, request: Message, path: str, kind: type[Message]
) -> AsyncGenerator[Message, None]:
    """One request, answered by many messages and OK at their end."""
    stream = begin(session, request, bulk=True)
    stream.finish()
    try:
        while not isinstance(message := await answer(session, stream, path, (kind, Ok)), Ok):
            yield message
    finally:
        stream.reset()


async def contents(stream: ChannelStream, path: str) -> AsyncGenerator[bytes, None]:
    """The bytes behind a stream's first message, to their end.

    Raises:
        FileError: the agent could not go on (EIO).
    """
    try:
        if rest := stream.unread():
            yield rest
        while data := await patiently(stream.read(), path):
            yield data
        if stream.was_reset:
            raise file_error(errno.EIO, "", path)
    finally:
        stream.reset()
