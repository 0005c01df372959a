"""Archives over a session whose guest is hostile."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandlot import FileError, FileNotFound, Files, GuestProtocolError
from sandlot.files import archive, requests
from sandlot.files.archive import Member, header
from sandlot.guest.channel import Channel
from sandlot.guest.session import GuestSession
from sandlot.wire.files import FileInfo, FileRead, FileWrite, TreeGet
from sandlot.wire.frames import FIRST_TOKEN
from sandlot.wire.messages import Failed, Message
from tests.framework.agent import FakeAgent

TOP = header(Member(archive.FOLDER, (), mode=0o755), b"./")


@contextlib.asynccontextmanager
async def files(answer: bytes | None, *, first: Message | None = None) -> AsyncIterator[Files]:
    """Files of a guest that answers every request with these bytes."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    def handle(agent: FakeAgent, stream: int, message: Message) -> None:
        if isinstance(message, FileWrite):
            agent.data[stream] = bytearray()  # what follows is no message
        if not isinstance(message, TreeGet | FileRead | FileWrite):
            return
        agent.say(stream, first or FileInfo(path=b"/x", mode=0o40755))
        if answer is not None:
            agent.mux.send(stream, answer)
            agent.mux.finish(stream)

    async with FakeAgent(theirs, handler=handle):
        channel, _ = await Channel.resynced(ours, None, FIRST_TOKEN)
        session = GuestSession(channel)

        async def current() -> GuestSession:
            return session

        try:
            yield Files(current)
        finally:
            channel.close()
    ours.close()


async def test_an_honest_archive(tmp_path: Path) -> None:
    body = header(Member(archive.FILE, (b"f",), size=3)) + b"abc" + bytes(509)
    async with files(TOP + body + archive.END) as guest:
        done = await guest.download("/x", tmp_path / "t")
    assert (tmp_path / "t" / "f").read_bytes() == b"abc" and done.files == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"\xff" * 2000, TOP, TOP + archive.END + TOP,
        TOP + header(Member(archive.FILE, ()), b"../out") + archive.END,
        TOP + header(Member(archive.FILE, ()), b"/tmp/out") + archive.END,
        TOP + header(Member(archive.FILE, (b"f",), size=1 << 30)) + bytes(2048),
    ],
)  # fmt: skip
async def test_a_dishonest_one_ends_the_sandbox(tmp_path: Path, answer: bytes) -> None:
    async with files(answer) as guest:
        with pytest.raises(GuestProtocolError):
            await guest.download("/x", tmp_path / "t" / "t")
        with pytest.raises(GuestProtocolError):
            await guest.read("/x")
    assert not (tmp_path / "out").exists() and not Path("/tmp/out").exists()


async def test_a_guest_that_says_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "PATIENCE", 0.05)
    async with files(None) as guest:
        with pytest.raises(FileError, match="no sign"):
            await guest.download("/x", tmp_path / "t")
        with pytest.raises(FileError, match="no sign"):
            await guest.read("/x")


async def test_a_refusal_stops_what_is_being_sent() -> None:
    async with files(None, first=Failed(code="file", errno=2)) as guest:
        sending = guest.write("/x", (bytes(1 << 16) for _ in range(3)))
        with pytest.raises(FileNotFound):
            await asyncio.wait_for(sending, 30)


async def test_a_read_without_end_is_bounded() -> None:
    async with files(bytes(100_000), first=FileInfo(path=b"/x", mode=0o100644)) as guest:
        with pytest.raises(FileError, match="max_size=5000 "):
            await guest.read("/x", max_size=5000)
        assert len(await guest.read("/x")) == 100_000
