"""Questions on the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from sandlot.cli import asking as module
from sandlot.cli.asking import asking, question
from sandlot.errors import ConfigError
from sandlot.network.flow import Decision, Flow
from sandlot.network.hooks import Answer, Hooks
from sandlot.network.policy import Network
from tests.unit.network.harness import guest
from tests.unit.network.test_nameserver import ask as ask_name
from tests.unit.network.test_nameserver import upstream

ADDRESS = ip_address("93.184.216.34")
NO = Decision(False, "default deny", "no rule allows it")


def test_a_name_is_asked_for_without_a_port() -> None:
    assert "reach example.com?" in question(Flow("tcp", ip_address("0.0.0.0"), 0, "example.com"))
    assert "reach example.com:443?" in question(Flow("tcp", ADDRESS, 443, "example.com"))


async def test_one_at_a_time_until_it_is_understood() -> None:
    said, asked = iter(["what?", "O", "always\n", ""]), []

    def ask(text: str) -> str:
        asked.append(text)
        return next(said)

    hooks = asking(ask)
    flow = Flow("tcp", ADDRESS, 443)

    async def answered() -> Answer:
        assert hooks.ask is not None
        given = hooks.ask(flow, NO)
        assert not isinstance(given, str)
        return await given

    answers = await asyncio.gather(*(answered() for _ in range(3)))
    assert answers == ["once", "always", "deny"] and len(asked) == 4


async def test_a_name_that_was_agreed_to_is_looked_up_and_reached() -> None:
    asked: list[str] = []

    def ask(flow: Flow, decision: Decision) -> Answer:
        asked.append(f"{flow.name}:{flow.port}")
        return "deny" if flow.name == "evil.example.com" else "once"

    async with (
        upstream(str(ADDRESS)) as (server, resolver),
        guest(Network.deny_all(), resolver=resolver, hooks=Hooks(ask=ask)) as side,
    ):
        assert not (await ask_name(side, "evil.example.com")).answer
        assert (await ask_name(side, "good.example.com")).answer
        assert server.asked == ["good.example.com."]
        flow, decision = await side.gateway.judge.judge("tcp", ADDRESS, 443)
        assert decision.allowed and flow.name == "good.example.com"
        assert asked == ["evil.example.com:0", "good.example.com:0"]


@contextlib.contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Our end of one."""
    ours, theirs = os.openpty()
    try:
        monkeypatch.setattr(module, "TERMINAL", Path(os.ttyname(theirs)))
        yield ours
    finally:
        os.close(ours)
        os.close(theirs)


async def shown(ours: int, text: bytes) -> None:
    """Wait until it stands on the terminal."""
    seen = b""
    while text not in seen:  # the terminal's echo comes by itself
        seen += await asyncio.to_thread(os.read, ours, 1000)


async def test_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as ours:
        assert asking().ask is not None
        os.write(ours, b"always\n")  # typed before there was a question
        asked = asyncio.ensure_future(module.on_terminal("may it? "))
        await shown(ours, b"may it? ")
        os.write(ours, b"deny\n")
        assert await asked == "deny\n"


async def test_a_question_that_nobody_answers_leaves_the_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with terminal(monkeypatch) as ours:
        first = asyncio.ensure_future(module.on_terminal("one? "))
        await shown(ours, b"one? ")
        first.cancel()
        await shown(ours, b"denied, since nobody answered")
        second = asyncio.ensure_future(module.on_terminal("two? "))
        await shown(ours, b"two? ")
        os.write(ours, b"once\n")
        assert await second == "once\n" and first.cancelled()


def test_without_a_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "TERMINAL", tmp_path / "none")
    with pytest.raises(ConfigError, match="needs a terminal"):
        asking()
