"""The agent's calls over a channel: what is asked, and what becomes of each answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from sandlot.errors import (
    CommandNotExecutable,
    CommandNotFound,
    ConfigError,
    ExecError,
    GuestProtocolError,
    SandboxDied,
    SandboxError,
)
from sandlot.guest import session as sessions
from sandlot.guest.channel import Channel
from sandlot.guest.session import Command, GuestSession
from sandlot.wire.frames import FIRST_TOKEN
from sandlot.wire.messages import (
    Clock,
    Configure,
    Exec,
    Failed,
    Message,
    MountRoot,
    Ok,
    Shutdown,
    Started,
    Stdio,
)
from tests.framework.agent import FakeAgent, Handler, run_everything

Talk = Callable[..., AbstractAsyncContextManager[tuple[GuestSession, FakeAgent]]]


@asynccontextmanager
async def talk(handler: Handler = run_everything) -> AsyncIterator[tuple[GuestSession, FakeAgent]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    async with FakeAgent(theirs, handler=handler) as agent:
        channel, _ = await Channel.resynced(ours, None, FIRST_TOKEN, patience=10)
        yield GuestSession(channel), agent
        channel.close()
    ours.close()


def answering(message: Message) -> Handler:
    def handler(agent: FakeAgent, stream: int, _: Message) -> None:
        agent.say(stream, message)

    return handler


async def test_a_restored_guest_is_made_a_machine_of_its_own() -> None:
    async with talk() as (session, agent):
        await session.configure(hostname="box", machine_id="ab" * 16)
        await session.mount_root(fresh=True)
        await session.mount_root(fresh=False, read_only=True)
        await session.shutdown(1.5)
        configure, mount, other, shutdown = agent.messages
        assert isinstance(configure, Configure)
        assert configure.hostname == "box"
        assert len(configure.entropy) == 64
        assert mount == MountRoot(image_device="vda", disk_device="", disk_type="ext4")
        assert isinstance(other, MountRoot)
        assert other.disk_device == "vdc" and other.flags == MountRoot.READ_ONLY
        assert shutdown == Shutdown(grace_ms=1500)


async def test_a_failed_call_carries_the_reason() -> None:
    async with talk(answering(Failed(code="failed", text="no such device"))) as (session, _):
        with pytest.raises(SandboxError, match="MountRoot failed in the guest: no such device"):
            await session.mount_root(fresh=True)
        assert session.channel.error is None


async def test_a_wrong_answer_ends_the_session() -> None:
    async with talk(answering(Started(pid=1))) as (session, _):
        with pytest.raises(GuestProtocolError, match="answered Started"):
            await session.shutdown(0)
        assert isinstance(session.channel.error, GuestProtocolError)


async def test_no_answer_ends_the_session() -> None:
    async with talk(lambda *_: None) as (session, _):
        with pytest.raises(GuestProtocolError, match="silent: no answer to Shutdown"):
            await session.call(Shutdown(), patience=0.05)
        assert isinstance(session.channel.error, GuestProtocolError)


async def test_a_stream_that_ends_without_an_answer() -> None:
    def hang_up(agent: FakeAgent, stream: int, message: Message) -> None:
        agent.mux.finish(stream)

    async with talk(hang_up) as (session, _):
        with pytest.raises(SandboxDied):
            await session.call(Shutdown())


async def test_a_program_runs() -> None:
    async with talk() as (session, agent):
        process = await session.start(
            Command(
                argv=[b"/bin/echo", b"hi"], env={b"A": b"b=c"}, cwd=b"/tmp", user="me",
                limits=["nofile=10"], timeout=2.5,
            )
        )  # fmt: skip
        assert process.pid == 42
        assert await process.stdout.read() == b"hello"
        assert await process.stderr.read() == b""
        status = await process.wait()
        assert (status.exit_code, status.signal, status.peak_memory) == (0, None, 4096)
        assert status.user_time == 0.0015
        asked = agent.messages[0]
        assert isinstance(asked, Exec)
        assert asked.argv == (b"/bin/echo", b"hi")
        assert asked.env == (b"A=b=c",)
        assert (asked.cwd, asked.user, asked.flags) == (b"/tmp", "me", 0)
        assert (asked.limits, asked.timeout_ms) == (("nofile=10",), 2500)
        with pytest.raises(BrokenPipeError):
            await process.stdin.write(b"x")


async def test_a_terminal_is_one_stream_and_an_input_another() -> None:
    async with talk() as (session, agent):
        command = Command(argv=[b"sh"], tty=(24, 80), stdin=True, detached=True)
        process = await session.start(command)
        await process.stdin.write(b"ls\n")
        process.stdin.close()
        await agent.until(lambda: any(bytes(d) == b"ls\n" for d in agent.data.values()))
        asked = agent.messages[0]
        assert isinstance(asked, Exec)
        assert asked.flags == Exec.TTY | Exec.STDIN | Exec.DETACHED
        assert (asked.rows, asked.columns) == (24, 80)
        assert [m.descriptor for m in agent.messages if isinstance(m, Stdio)] == [0, 1]
        process.abandon()


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("not-found", CommandNotFound),
        ("not-executable", CommandNotExecutable),
        ("no-user", ConfigError),
        ("no-cwd", ConfigError),
        ("bad-limit", ConfigError),
        ("resources", ExecError),
        ("failed", ExecError),
        ("who knows", ExecError),
    ],
)
async def test_refusals_become_errors(code: str, error: type[SandboxError]) -> None:
    async with talk(answering(Failed(code=code, text="because"))) as (session, _):
        with pytest.raises(error) as caught:
            await session.start(Command(argv=[b"prog"]))
        assert type(caught.value) is error
        assert session.channel.error is None


async def test_a_wrong_answer_to_exec_is_the_guests_fault() -> None:
    async with talk(answering(Ok())) as (session, _):
        with pytest.raises(GuestProtocolError, match="sent Ok about a process"):
            await session.start(Command(argv=[b"x"]))


async def test_a_cancelled_start_is_abandoned() -> None:
    async with talk(lambda *_: None) as (session, agent):
        starting = asyncio.ensure_future(session.start(Command(argv=[b"x"])))
        await agent.until(lambda: agent.saw(Exec))
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await agent.until(lambda: 1 in agent.was_reset)


async def test_the_clock_follows_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    offset = 1000.0
    monkeypatch.setattr(sessions, "_host_clock_offset", lambda: offset)
    async with talk() as (session, agent):
        await session.configure(hostname="a", machine_id="b")
        await (await session.start(Command(argv=[b"x"]))).wait()
        assert not agent.saw(Clock)
        offset += 0.5
        await (await session.start(Command(argv=[b"x"]))).wait()
        kinds = [type(m) for m in agent.messages]
        assert kinds.count(Clock) == 1
        assert kinds.index(Clock) < len(kinds) - 1 - kinds[::-1].index(Exec)
        await (await session.start(Command(argv=[b"x"]))).wait()
        assert [type(m) for m in agent.messages].count(Clock) == 1


async def test_another_program_leaves_the_clock_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    offset = 1000.0
    monkeypatch.setattr(sessions, "_host_clock_offset", lambda: offset)
    async with talk() as (session, agent):
        guest = GuestSession(session.channel, sets_clock=False)
        offset += 5
        await (await guest.start(Command(argv=[b"x"]))).wait()
        assert not agent.saw(Clock)
