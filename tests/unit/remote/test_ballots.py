"""That writers agree, in whatever order their steps come, and wherever they die."""

from __future__ import annotations

import random
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandlot.remote.ballots import (
    LONGEST_NAME,
    Ballot,
    Board,
    accept_name,
    agree,
    decided_name,
    is_removal,
    new_value,
    promise_name,
)


@coroutine
def step() -> Generator[None, None, None]:
    """Where the scheduler takes over."""
    yield


class Wall:
    """What is written, as it is seen by one writer. A write lands at any moment of its call."""

    def __init__(self, names: set[str], late: list[str]) -> None:
        self.names = names
        self.late = late
        self.writing = ""

    async def look(self) -> Board:
        await step()
        return Board.read(self.names)

    async def post(self, name: str, value: str) -> None:
        self.writing = name
        await step()
        self.names.add(name)
        await step()
        self.writing = ""


async def pause(attempt: int) -> None:
    await step()


class Writer:
    def __init__(self, names: set[str], late: list[str], number: int) -> None:
        self.own = new_value()
        self.wall = Wall(names, late)
        self.work: Coroutine[Any, Any, str | None] | None = agree(
            self.wall, number, self.own, pause
        )
        self.result: str | None = None

    def go(self) -> None:
        if self.work is None:
            return
        try:
            self.work.send(None)
        except StopIteration as end:
            self.result, self.work = end.value, None

    def die(self) -> None:
        """Its last write may still be on its way."""
        if self.work is not None:
            self.work.close()
            self.work = None
            if self.wall.writing:
                self.wall.late.append(self.wall.writing)


@pytest.mark.parametrize("deaths", [0.0, 0.02, 0.1])
def test_all_who_are_told_are_told_the_same(deaths: float) -> None:
    order = random.Random(deaths)
    for _ in range(1000):
        run(order, deaths)


def run(order: random.Random, deaths: float) -> None:
    names: set[str] = set()
    late: list[str] = []
    writers = [Writer(names, late, 1) for _ in range(order.randint(2, 4))]
    for _ in range(order.randint(10, 60)):
        writer = order.choice(writers)
        if order.random() < deaths:
            writer.die()
        elif late and order.random() < 0.2:
            names.add(late.pop())
        else:
            writer.go()
    told = {writer.result for writer in writers if writer.result}
    assert len(told) <= 1
    # Whoever comes last, alone, ends what was begun, and is told the same.
    for writer in writers:
        writer.die()
    last = Writer(names, late, 1)
    for _ in range(100):
        last.go()
    assert last.result
    assert told <= {last.result}
    names |= set(late)
    assert set(Board.read(names).decided.values()) == {last.result}


@settings(max_examples=100)
@given(st.lists(st.integers(0, 2), max_size=60), st.integers(0, 2**32))
def test_three_at_once_come_to_an_end(schedule: list[int], seed: int) -> None:
    names: set[str] = set()
    writers = [Writer(names, [], 1) for _ in range(3)]
    for who in schedule:
        writers[who].go()
    order = random.Random(seed)
    for _ in range(20_000):
        if all(writer.work is None for writer in writers):
            break
        # Pauses differ: one writer goes on for a while, as it does where others wait.
        writer = order.choice(writers)
        for _ in range(order.randint(1, 12)):
            writer.go()
    results = {writer.result for writer in writers}
    assert len(results) == 1
    assert results <= {writer.own for writer in writers}


def test_alone_it_takes_three_writes() -> None:
    names: set[str] = set()
    writer = Writer(names, [], 7)
    while writer.work is not None:
        writer.go()
    assert writer.result == writer.own
    assert sorted(name[10] for name in names) == ["A", "D", "P"]


def test_a_version_that_is_long_gone_is_not_decided_again() -> None:
    names = {decided_name(12, new_value())}
    writer = Writer(names, [], 7)
    while writer.work is not None:
        writer.go()
    assert writer.result is None
    assert not [name for name in names if name.startswith("V000000007")]


def test_names() -> None:
    ballot = Ballot(3, "0123456789abcdef")
    value, gone = new_value(), new_value(removed=True)
    assert is_removal(gone) and not is_removal(value)
    assert len(accept_name(1, ballot, value)) == LONGEST_NAME
    board = Board.read(
        [
            promise_name(1, ballot), accept_name(1, ballot, value), decided_name(1, value),
            decided_name(2, gone), "R", "V1Pxx", "V000000003Z", "",
        ]
    )  # fmt: skip
    assert board == Board({1: {ballot}}, {1: {ballot: value}}, {1: value, 2: gone})
    assert board.last == 2
    assert board.highest(1) == ballot
    assert board.highest(2) == Ballot(0, "")


@given(st.lists(st.text(alphabet="V0123456789PADabcdefx", max_size=60)))
def test_whatever_a_registry_lists_is_read(names: list[str]) -> None:
    Board.read(names)
