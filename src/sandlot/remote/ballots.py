"""Who was first, decided among writers that can only write names and list them. Pure.

A registry has no conditional put: a tag is overwritten by whoever comes last. But every program can
write tags that only it writes, and list all. That is enough to agree (Gafni and Lamport, "Disk
Paxos", 2003, with one disk): each version of a blob is one agreement, and each tag one step in it.

    V000000007P…   promise: a writer begins a ballot for version 7
    V000000007A…   accept: in that ballot it proposes a value
    V000000007D…   decided: this is version 7

A writer promises, then looks: when somebody is at a higher ballot it begins again at one higher
still. When a value was accepted, it proposes the one of the highest ballot, which may be somebody
else's, and else its own. It accepts, looks again, and when there is still no higher ballot the value
is chosen, and will be by everybody. A writer that dies holds nobody up: the next one ends its work.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

_NAME = re.compile(
    r"V(\d{9})(?:P(\d{6})([0-9a-f]{16})|A(\d{6})([0-9a-f]{16})([0-9a-f]{15}[0-9a-fx])"
    r"|D([0-9a-f]{15}[0-9a-fx]))"
)
LONGEST_NAME = 1 + 9 + 1 + 6 + 16 + 16
MOST_ROUNDS = 999_999


@dataclass(frozen=True, slots=True, order=True)
class Ballot:
    """A number of a ballot. `who` makes it the only one of its round that this writer begins."""

    round: int
    who: str


@dataclass(slots=True)
class Board:
    """What is written about one blob: for each version."""

    promised: dict[int, set[Ballot]] = field(default_factory=dict)
    accepted: dict[int, dict[Ballot, str]] = field(default_factory=dict)
    decided: dict[int, str] = field(default_factory=dict)

    @classmethod
    def read(cls, names: Iterable[str]) -> Board:
        """From names; those of other kinds are left out."""
        board = cls()
        for name in names:
            found = _NAME.fullmatch(name)
            if found is None:
                continue
            number = int(found[1])
            if found[2]:
                board.promised.setdefault(number, set()).add(Ballot(int(found[2]), found[3]))
            elif found[4]:
                ballot = Ballot(int(found[4]), found[5])
                board.accepted.setdefault(number, {})[ballot] = found[6]
            else:
                board.decided[number] = found[7]
        return board

    @property
    def last(self) -> int:
        """The number of the last version that is decided, 0 when there is none."""
        return max(self.decided, default=0)

    def highest(self, number: int) -> Ballot:
        """The highest ballot that anybody began for a version."""
        begun = self.promised.get(number, set()) | self.accepted.get(number, {}).keys()
        return max(begun, default=Ballot(0, ""))


class Names(Protocol):
    """Where they are written. What was posted is seen by all who look afterwards."""

    async def look(self) -> Board:
        """All that is written about the blob."""

    async def post(self, name: str, value: str) -> None:
        """Write a name, with the value's content, or with none where `value` is empty."""


def new_value(*, removed: bool = False) -> str:
    """A name for what a writer puts, which nobody else's has. One that ends in x means: removed."""
    return secrets.token_hex(8)[:15] + ("x" if removed else secrets.token_hex(1)[0])


def is_removal(value: str) -> bool:
    return value.endswith("x")


def decided_name(number: int, value: str) -> str:
    return f"V{number:09d}D{value}"


def promise_name(number: int, ballot: Ballot) -> str:
    return f"V{number:09d}P{ballot.round:06d}{ballot.who}"


def accept_name(number: int, ballot: Ballot, value: str) -> str:
    return f"V{number:09d}A{ballot.round:06d}{ballot.who}{value}"


async def agree(
    names: Names, number: int, own: str, pause: Callable[[int], Awaitable[None]]
) -> str | None:
    """Have a version decided, by this writer's value or somebody else's.

    `pause` waits some random time after an attempt that met others, which are counted from 0.

    Returns:
        The value; None when this version and later ones were decided long ago.
    """
    attempt = 0
    board = await names.look()
    while True:
        if (known := _known(board, number)) is not None:
            return known or None
        ballot = Ballot(board.highest(number).round + 1, secrets.token_hex(8))
        if ballot.round > MOST_ROUNDS:
            raise OverflowError(f"version {number} was tried a million times")
        await names.post(promise_name(number, ballot), "")
        board = await names.look()
        if (known := _known(board, number)) is not None:
            return known or None
        if board.highest(number) == ballot:
            accepted = board.accepted.get(number, {})
            value = accepted[max(accepted)] if accepted else own
            await names.post(accept_name(number, ballot, value), value)
            board = await names.look()
            if (known := _known(board, number)) is not None:
                return known or None
            if board.highest(number) == ballot:
                await names.post(decided_name(number, value), value)
                return value
        await pause(attempt)
        attempt += 1
        board = await names.look()


def _known(board: Board, number: int) -> str | None:
    """What was decided; empty when only later versions are known; None when nothing is."""
    if number in board.decided:
        return board.decided[number]
    return "" if board.last > number else None
