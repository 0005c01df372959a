"""`sandlot run --ask`: whoever sits at the terminal decides what no rule does."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import termios
from collections.abc import Awaitable, Callable
from pathlib import Path

from sandlot.errors import ConfigError
from sandlot.network.flow import Decision, Flow
from sandlot.network.hooks import Answer, Hooks

TERMINAL = Path("/dev/tty")
PATIENCE = 120.0  # seconds for a question, the time that it waits for others included
_ANSWERS: dict[str, Answer] = {
    "o": "once", "once": "once", "a": "always", "always": "always", "d": "deny", "deny": "deny",
    "": "deny",
}  # fmt: skip


def question(flow: Flow) -> str:
    """What is asked about a flow; one with port 0 is a name that is about to be looked up."""
    where = str(flow) if flow.port else f"{flow.name}"
    return f"sandlot: let it reach {where}? [o]nce, [a]lways, [d]eny: "


async def on_terminal(text: str) -> str:
    """Ask on the terminal, whatever standard input is. What was typed before the question is no
    answer to it; a question that is given up leaves nobody reading."""
    loop = asyncio.get_running_loop()
    terminal = os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(termios.error):
            termios.tcflush(terminal, termios.TCIFLUSH)
        os.write(terminal, text.encode())
        typed = asyncio.Event()
        loop.add_reader(terminal, typed.set)
        try:
            await typed.wait()
        except asyncio.CancelledError:
            os.write(terminal, b"\nsandlot: denied, since nobody answered\n")
            raise
        finally:
            loop.remove_reader(terminal)
        return os.read(terminal, 1024).decode("utf-8", "replace")
    finally:
        os.close(terminal)


def asking(ask: Callable[[str], Awaitable[str] | str] = on_terminal) -> Hooks:
    """Hooks that ask, one question at a time.

    Raises:
        ConfigError: there is no terminal.
    """
    if ask is on_terminal:
        try:
            os.close(os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
        except OSError:
            raise ConfigError(
                "--ask needs a terminal", hint="name what is allowed with --allow"
            ) from None
    lock = asyncio.Lock()

    async def asked(flow: Flow, decision: Decision) -> Answer:
        async with lock:
            while True:
                said = ask(question(flow))
                text = await said if inspect.isawaitable(said) else said
                answer = _ANSWERS.get(text.strip().lower())
                if answer is not None:
                    return answer

    return Hooks(ask=asked, ask_timeout=PATIENCE)
