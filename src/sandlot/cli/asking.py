"""`sandlot run --ask`: whoever sits at the terminal decides what no rule does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from sandlot.errors import ConfigError
from sandlot.network.flow import Decision, Flow
from sandlot.network.hooks import Answer, Hooks

TERMINAL = Path("/dev/tty")
_ANSWERS: dict[str, Answer] = {
    "o": "once", "once": "once", "a": "always", "always": "always", "d": "deny", "deny": "deny",
    "": "deny",
}  # fmt: skip


def question(flow: Flow) -> str:
    """What is asked about a flow; one with port 0 is a name that is about to be looked up."""
    where = str(flow) if flow.port else f"{flow.name}"
    return f"sandlot: let it reach {where}? [o]nce, [a]lways, [d]eny: "


def on_terminal(text: str) -> str:
    """Ask on the terminal, whatever standard input is."""
    with TERMINAL.open("w") as shown, TERMINAL.open() as typed:
        shown.write(text)
        shown.flush()
        return typed.readline()


def asking(ask: Callable[[str], str] = on_terminal) -> Hooks:
    """Hooks that ask, one question at a time.

    Raises:
        ConfigError: there is no terminal.
    """
    if ask is on_terminal:
        try:
            TERMINAL.open().close()
        except OSError:
            raise ConfigError(
                "--ask needs a terminal", hint="name what is allowed with --allow"
            ) from None
    lock = asyncio.Lock()

    async def asked(flow: Flow, decision: Decision) -> Answer:
        async with lock:
            while True:
                said = await asyncio.to_thread(ask, question(flow))
                answer = _ANSWERS.get(said.strip().lower())
                if answer is not None:
                    return answer

    return Hooks(ask=asked)
