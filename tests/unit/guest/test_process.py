"""A running program: its streams, its end, signals."""

from __future__ import annotations

import asyncio

import pytest

from sandlot.errors import GuestProtocolError, PluginFailed, Refuse, SandboxDied
from sandlot.guest.process import GuestProcess, exec_error
from sandlot.guest.session import Command
from sandlot.wire.messages import Exec, Exited, Failed, Message, Ok, Resize, Signal, Started, Stdio
from tests.framework.agent import FakeAgent
from tests.unit.guest.test_session import talk


def start_only(agent: FakeAgent, stream: int, message: Message) -> None:
    """Programs start and stay; the test plays the rest."""
    if isinstance(message, Exec):
        agent.controls[message.process] = stream
        agent.say(stream, Started(pid=7))


async def outputs(agent: FakeAgent) -> dict[int, int]:
    """The stream number of each of the program's descriptors."""
    await agent.until(lambda: len(agent.data) >= 2)
    wanted = [m.descriptor for m in agent.messages if isinstance(m, Stdio)]
    return dict(zip(wanted, agent.data, strict=True))


async def ends(agent: FakeAgent, process: GuestProcess, exited: Exited) -> None:
    agent.end(next(iter(agent.controls)), exited)
    await agent.flush()


@pytest.mark.parametrize(
    ("exited", "code", "signal"),
    [(Exited(code=3), 3, None), (Exited(signal=9), 137, 9), (Exited(signal=15), 143, 15)],
)
async def test_exit_codes_are_the_shells(exited: Exited, code: int, signal: int | None) -> None:
    async with talk(start_only) as (session, agent):
        process = await session.start(Command(argv=[b"x"]))
        assert not process.ended
        await ends(agent, process, exited)
        status = await process.wait()
        assert (status.exit_code, status.signal) == (code, signal)
        assert process.ended


async def test_flags_say_why_it_was_killed() -> None:
    async with talk(start_only) as (session, agent):
        process = await session.start(Command(argv=[b"x"]))
        await ends(agent, process, Exited(signal=9, flags=Exited.TIMED_OUT | Exited.OOM))
        status = await process.wait()
        assert status.timed_out
        assert status.out_of_memory


async def test_reading_in_pieces_and_lines() -> None:
    async with talk(start_only) as (session, agent):
        process = await session.start(Command(argv=[b"x"]))
        numbers = await outputs(agent)
        agent.mux.send(numbers[1], b"one\ntw")
        agent.mux.send(numbers[1], b"o\nlast")
        agent.mux.finish(numbers[1])
        await agent.flush()
        assert await process.stdout.read(2) == b"on"
        assert await process.stdout.read_line() == b"e\n"
        assert await process.stdout.read_line() == b"two\n"
        assert await process.stdout.read_line() == b"last"
        assert await process.stdout.read_line() == b""
        assert await process.stdout.read() == b""


async def test_output_can_be_iterated() -> None:
    async with talk(start_only) as (session, agent):
        process = await session.start(Command(argv=[b"x"]))
        numbers = await outputs(agent)
        agent.mux.send(numbers[2], b"some")
        agent.mux.send(numbers[2], b"thing")
        agent.mux.finish(numbers[2])
        await agent.flush()
        assert b"".join([data async for data in process.stderr]) == b"something"


async def test_signals_and_sizes_reach_the_agent() -> None:
    async with talk(start_only) as (session, agent):
        process = await session.start(Command(argv=[b"x"]))
        process.signal(15)
        process.signal(9, scope=Signal.ALL)
        process.resize(30, 90)
        await agent.until(lambda: agent.saw(Resize))
        told = [m for m in agent.messages if isinstance(m, Signal | Resize)]
        assert told == [
            Signal(number=15, scope=Signal.GROUP),
            Signal(number=9, scope=Signal.ALL),
            Resize(rows=30, columns=90),
        ]


async def test_signals_to_an_ended_program_go_nowhere() -> None:
    async with talk(start_only) as (session, agent):
        process = await session.start(Command(argv=[b"x"]))
        await ends(agent, process, Exited(code=0))
        await process.wait()
        process.signal(15)
        process.resize(1, 1)
        assert session.channel.error is None


async def test_an_abandoned_program_is_reset() -> None:
    async with talk(start_only) as (session, agent):
        process = await session.start(Command(argv=[b"x"]))
        process.abandon()
        with pytest.raises(SandboxDied, match="was killed"):
            await process.wait()
        await agent.until(lambda: len(agent.was_reset) == 3)


async def test_a_cancelled_wait_leaves_it_running() -> None:
    async with talk(start_only) as (session, agent):
        process = await session.start(Command(argv=[b"x"]))
        waiting = asyncio.ensure_future(process.wait())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await ends(agent, process, Exited(code=0))
        assert (await process.wait()).exit_code == 0


async def test_the_machines_death_reaches_every_waiter() -> None:
    async with talk(start_only) as (session, agent):
        process = await session.start(Command(argv=[b"x"]))
        reading = asyncio.ensure_future(process.stdout.read())
        await outputs(agent)
        agent.sock.shutdown(2)
        for waiter in (reading, asyncio.ensure_future(process.wait())):
            with pytest.raises(SandboxDied):
                await waiter


async def test_a_contradictory_answer_is_the_guests_fault() -> None:
    async with talk(start_only) as (session, agent):
        process = await session.start(Command(argv=[b"x"]))
        agent.say(next(iter(agent.controls.values())), Ok())
        await agent.flush()
        with pytest.raises(GuestProtocolError):
            await process.wait()


def test_what_a_guest_says_cannot_write_to_the_terminal() -> None:
    said = exec_error(Failed(code="failed", text="\x1b[2J\nowned" + "x" * 9999), "prog").message
    assert said.isprintable() and len(said) < 400


@pytest.mark.parametrize(
    ("code", "text", "says", "hint"),
    [
        ("no-user", "ghost: no such user or group", "ghost: no such user", "/etc/passwd"),
        ("no-cwd", "/nope: no such file", "cannot start in /nope: no such", "mkdir -p"),
        ("not-found", "", "prog: command not found", "whole path"),
        ("not-executable", "permission denied", "prog: cannot be executed", "chmod"),
    ],
)
def test_refusals_carry_the_remedy(code: str, text: str, says: str, hint: str) -> None:
    error = exec_error(Failed(code=code, text=text), "prog")
    assert says in error.message and hint in error.hint


def test_a_whole_line_as_one_word() -> None:
    assert "sh -c" in exec_error(Failed(code="not-found"), "ls -la").hint


def test_what_a_plugin_refused_is_told_and_any_text_is_a_refusal() -> None:
    text = '{"message": "no", "plugin": "guard", "reason": "because", "failed": "False"}'
    refusal = exec_error(Failed(code="refused", text=text), "ls")
    assert isinstance(refusal, Refuse) and not isinstance(refusal, PluginFailed)
    assert (refusal.message, refusal.plugin, refusal.reason) == ("no", "guard", "because")
    failed = exec_error(Failed(code="refused", text='{"failed": "True"}'), "ls")
    assert isinstance(failed, PluginFailed)
    for wrong in ("", "x", "[]", "[" * 100_000, '{"message": {"\x1b": 1}}', "null"):
        error = exec_error(Failed(code="refused", text=wrong), "ls")
        assert isinstance(error, Refuse) and error.message.isprintable()
