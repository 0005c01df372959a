"""What `push --live` and `pull --follow` refuse, and how they end; real ones in tests/vm/test_live.py."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sandlot import ConfigError, RemoteNotFound, SandboxNotFound
from sandlot.cli.key import key
from sandlot.cli.live import _either, _First, ending, refuse
from sandlot.cli.push import pull, push


@pytest.fixture
def address(own_state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SANDLOT_KEY", str(tmp_path / "key"))
    monkeypatch.setenv("SANDLOT_REMOTES", str(tmp_path / "remotes.toml"))
    monkeypatch.delenv("SANDLOT_REMOTE", raising=False)
    invoked(key, "new")
    return str(tmp_path / "remote")


def invoked(command: click.Command, *words: str) -> str:
    return CliRunner().invoke(command, list(words), catch_exceptions=False).stdout


@pytest.mark.parametrize(
    ("command", "words", "why"),
    [
        (push, ["--interval", "5s"], "--interval is for --live"),
        (push, ["--interval", "5s", "--after-exec"], "--interval, --after-exec are for --live"),
        (push, ["--live", "--kind", "volume"], "not for a volume"),
        (pull, ["--keep"], "--keep is for --follow"),
        (pull, ["--follow", "--kind", "snapshot"], "not for a snapshot"),
        (pull, ["--follow", "--start", "-e", "A=1"], "-e, --start are not for --follow"),
        (pull, ["--follow", "--interval", "soon"], "not a duration"),
    ],
)  # fmt: skip
def test_flags_that_do_not_go_together(
    address: str, command: click.Command, words: list[str], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        invoked(command, *words, "box", address)


def test_what_is_not_there(address: str) -> None:
    with pytest.raises(SandboxNotFound):
        invoked(push, "--live", "box", address)
    with pytest.raises(RemoteNotFound):
        invoked(pull, "--follow", "box", address)


def test_flags_are_named() -> None:
    refuse({"one": None, "two": ()}, {"one": "--one", "two": "--two"}, "for nothing")
    with pytest.raises(ConfigError, match=r"^--two is for nothing$"):
        refuse({"one": None, "two": True}, {"one": "--one", "two": "--two"}, "for nothing")


async def test_the_second_signal_is_another_matter() -> None:
    calls: list[str] = []
    with ending(lambda: calls.append("first"), lambda: calls.append("then")):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
            while len(calls) == 0 or calls.count("then") < len(calls) - 1:
                await asyncio.sleep(0)
        while len(calls) < 3:
            await asyncio.sleep(0)
    assert calls == ["first", "then", "then"]


async def test_either() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    async def at_once() -> bool:
        return True

    async def fails() -> None:
        raise ConfigError("it is for leaving to raise")

    async def waits() -> bool:
        return await asyncio.Event().wait()

    assert await _either(never(), at_once())
    assert not await _either(fails(), waits())


def test_the_first_version_has_progress(capsys: pytest.CaptureFixture[str]) -> None:
    first = _First(quiet=False)
    first("push", 0.5)
    first.close()
    first("push", 0.5)
    _First(quiet=True)("push", 0.5)
    assert capsys.readouterr().err == "push ...\n"
