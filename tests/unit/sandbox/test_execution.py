"""What becomes of a command before it goes to the agent."""

from __future__ import annotations

from typing import Any

import pytest

from sandlot.errors import ConfigError, ExecTimeout, ProcessError
from sandlot.guest.session import Command
from sandlot.sandbox.execution import arguments, describe, make_command, run_to_end
from sandlot.wire.messages import Exec, Exited, Message, Started, Stdio
from tests.framework.agent import FakeAgent
from tests.unit.guest.test_session import talk
from tests.unit.state.test_records import record


def test_a_string_is_for_the_shell_and_a_list_is_argv() -> None:
    assert arguments("ls | wc") == [b"/bin/sh", b"-c", b"ls | wc"]
    assert arguments(["a", b"\xff", "ä", "\udcff"]) == [b"a", b"\xff", "ä".encode(), b"\xff"]


@pytest.mark.parametrize("command", ["", "  ", [], b"", ["a\0b"], [b"\0"], ["ls", 3], [None]])
def test_what_cannot_run(command: Any) -> None:
    with pytest.raises(ConfigError):
        arguments(command)


def test_long_commands_are_described_shortly() -> None:
    assert describe(["ls", "-l"]) == "ls"
    assert describe([b"\xff"]) == "\N{REPLACEMENT CHARACTER}"
    assert len(describe("x" * 500)) == 60


def test_the_sandboxs_own_lies_underneath() -> None:
    base = record(env={"A": "1", "B": "2"}, workdir="/w", user="me")
    plain = make_command(base, ["x"])
    assert (plain.env, plain.cwd, plain.user) == ({b"A": b"1", b"B": b"2"}, b"/w", "me")
    command = make_command(base, ["x"], env={"B": "3"}, workdir="", user="", limits={"nofile": 5})
    assert command.env == {b"A": b"1", b"B": b"3"}
    assert (command.cwd, command.user, command.limits) == (b"", "", ["nofile=5"])


async def test_input_and_output() -> None:
    async with talk() as (session, _agent):
        result = await run_to_end(
            session, Command(argv=[b"x"], stdin=True), stdin=b"in", name="x", max_output=10
        )
        assert (result.stdout, result.stderr, result.exit_code) == (b"hello", b"", 0)
        assert result.duration > 0


async def test_too_much_output_kills_it() -> None:
    async with talk() as (session, _):
        with pytest.raises(ProcessError, match="more than 3 bytes") as caught:
            await run_to_end(session, Command(argv=[b"x"]), stdin=None, name="x", max_output=3)
        assert caught.value.stdout == b"hel"


async def test_a_timeout_carries_the_output() -> None:
    def handler(agent: FakeAgent, stream: int, message: Message) -> None:
        if isinstance(message, Exec):
            agent.controls[message.process] = stream
            agent.say(stream, Started(pid=1))
        elif isinstance(message, Stdio):
            agent.mux.send(stream, b"so far")
            agent.mux.finish(stream)
            if message.descriptor == 2:
                agent.end(message.process, Exited(signal=9, flags=Exited.TIMED_OUT))

    async with talk(handler) as (session, _):
        command = Command(argv=[b"x"], timeout=0.5)
        with pytest.raises(ExecTimeout, match=r"longer than 0\.5 s") as caught:
            await run_to_end(session, command, stdin=None, name="x", max_output=99)
        assert (caught.value.stdout, caught.value.exit_code) == (b"so far", 124)
