"""What is said between Sandlot and a plugin that is a program: JSON lines, without any IO.

docs/plugins/protocol.md is the specification.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, TypeAlias

from sandlot.plugin.hooks import HOOKS

VERSION = 1
LONGEST_LINE = 1 << 20
LONGEST_TEXT = 2000
MOST_PENDING = 4096
REMOTE = tuple(name for name, context in HOOKS.items() if context.remote)


class Breach(Exception):
    """The program said what the protocol does not allow."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """The program's first line: what it is, and the hooks that it wants."""

    name: str
    version: str
    hooks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """To the request `id`. One of `refuse`, `error` and `change` at most is not None."""

    id: int
    refuse: str | None = None
    error: str | None = None
    change: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """A line for people."""

    text: str


Event: TypeAlias = Greeting | Answer | Said


class Conversation:
    """One program's, from its start to its end."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._greeted = False
        self._next = 1
        self._pending: OrderedDict[int, bool] = OrderedDict()
        """What was asked; False when nobody waits for the answer any more."""

    @staticmethod
    def hello(sandbox: str, version: str) -> bytes:
        """The first line to the program."""
        return line(
            {"hello": "sandlot", "protocol": VERSION, "version": version, "sandbox": sandbox,
             "hooks": list(REMOTE)}
        )  # fmt: skip

    def ask(self, hook: str, context: dict[str, Any]) -> tuple[int, bytes]:
        """A request's number, and its line.

        Raises:
            Breach: too many were never answered.
            ValueError: the context is longer than a line may be.
        """
        if len(self._pending) >= MOST_PENDING:
            raise Breach(f"{MOST_PENDING} requests are without an answer")
        data = line({"id": self._next, "hook": hook, "context": context})
        if len(data) > LONGEST_LINE:
            raise ValueError(f"the context of {hook} is longer than {LONGEST_LINE} bytes")
        number, self._next = self._next, self._next + 1
        self._pending[number] = True
        return number, data

    def forget(self, number: int) -> None:
        """Nobody waits for this answer any more; it may still come."""
        if number in self._pending:
            self._pending[number] = False

    def receive(self, data: bytes) -> list[Event]:
        """What the program said, as far as its lines are complete.

        Raises:
            Breach: it is nothing that may be said here.
        """
        self._buffer += data
        events: list[Event] = []
        start = 0
        while (end := self._buffer.find(b"\n", max(start, self._searched))) >= 0:
            if end - start > LONGEST_LINE:
                raise Breach(f"a line is longer than {LONGEST_LINE} bytes")
            raw = bytes(self._buffer[start:end])
            start = end + 1
            if raw.strip() and (event := self._event(raw)) is not None:
                events.append(event)
        del self._buffer[:start]
        self._searched = len(self._buffer)
        if len(self._buffer) > LONGEST_LINE:
            raise Breach(f"a line is longer than {LONGEST_LINE} bytes")
        return events

    def _event(self, raw: bytes) -> Event | None:
        try:
            said = json.loads(raw, parse_constant=_no_number)
        except (ValueError, RecursionError):
            raise Breach(f"a line is not JSON: {raw[:60]!r}") from None
        if not isinstance(said, dict):
            raise Breach(f"a line is not an object: {raw[:60]!r}")
        if "log" in said:
            return Said(_text(said["log"]))
        if not self._greeted:
            self._greeted = True
            return _greeting(said)
        return self._answer(said)

    def _answer(self, said: dict[str, Any]) -> Answer | None:
        number = said.get("id")
        if isinstance(number, bool) or not isinstance(number, int) or number not in self._pending:
            raise Breach(f"an answer to {str(number)[:40]}, which was not asked")
        wanted = self._pending.pop(number)
        kinds = [kind for kind in ("refuse", "error", "change") if said.get(kind) is not None]
        if len(kinds) > 1:
            raise Breach(f"an answer with {' and '.join(kinds)}")
        change = said.get("change")
        if change is not None and not isinstance(change, dict):
            raise Breach("change is not an object")
        if not wanted:
            return None
        refuse, error = said.get("refuse"), said.get("error")
        return Answer(
            number, _text(refuse) if refuse is not None else None,
            _text(error) if error is not None else None, change,
        )  # fmt: skip


def line(data: dict[str, Any]) -> bytes:
    """One line of JSON, in ASCII."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _no_number(text: str) -> None:
    raise ValueError(text)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Breach("what should be text is none")
    shown = "".join(c if c.isprintable() or c == "\t" else "?" for c in value[:LONGEST_TEXT])
    return shown


def _greeting(said: dict[str, Any]) -> Greeting:
    if said.get("protocol") != VERSION or isinstance(said.get("protocol"), bool):
        raise Breach(f"it speaks protocol {str(said.get('protocol'))[:20]}, not {VERSION}")
    hooks = said.get("hooks")
    if not isinstance(hooks, list) or not hooks or not all(isinstance(h, str) for h in hooks):
        raise Breach("its greeting does not list the hooks that it wants")
    for hook in hooks:
        if hook not in REMOTE:
            raise Breach(f"it wants {hook[:40]!r}, which is no hook for programs")
    name = _text(said.get("name", ""))[:60]
    return Greeting(name, _text(said.get("version", ""))[:60], tuple(dict.fromkeys(hooks)))
