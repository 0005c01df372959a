"""What becomes of a command before it goes to the agent."""

from __future__ import annotations

import io
from typing import Any

import pytest

from sandlot.errors import ConfigError, ExecTimeout, ProcessError
from sandlot.guest.session import Command
from sandlot.sandbox.execution import (
    arguments,
    check_limits,
    describe,
    input_bytes,
    make_command,
    run_to_end,
)
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


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"nofile": 64}, ["nofile=64"]),
        ({"as": "50M", "core": "0:unlimited"}, ["as=52428800", "core=0:unlimited"]),
    ],
)
def test_limits_in_the_agents_words(limits: dict[str, int | str], words: list[str]) -> None:
    assert check_limits(limits) == words


@pytest.mark.parametrize("limits", [{"bogus": 1}, {"nofile": "1K"}, {"as": "1:2:3"}, {"cpu": ""}])
def test_wrong_limits_are_named(limits: dict[str, int | str]) -> None:
    with pytest.raises(ConfigError, match=next(iter(limits))):
        check_limits(limits)


@pytest.mark.parametrize("stdin", [True, ["a"], 5, io.BytesIO()])
def test_an_input_that_is_none_is_refused(stdin: object) -> None:
    with pytest.raises(ConfigError, match="stdin is"):
        input_bytes(stdin)
