"""Locks, against a model that keeps one owner's kind for every byte."""

from __future__ import annotations

import asyncio
import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.filesystem import locks as module
from sandlot.filesystem.locks import LockTable
from sandlot.filesystem.types import NO_LOCK, READ_LOCK, WHOLE_FILE, WRITE_LOCK, Context, Lock

CTX = Context(1, 0, 0, "a", "/v")
OTHER = Context(1, 0, 0, "b", "/v")
BYTES = 12


async def take(
    table: LockTable, kind: int, start: int = 0, end: int = WHOLE_FILE, *, owner: int = 1,
    node: object = "n", ctx: Context = CTX, wait: bool = False, whole: bool = False,
) -> None:  # fmt: skip
    await table.set(ctx, node, Lock(start, end, kind, owner, 5, whole), wait)


operations = st.tuples(
    st.integers(1, 3), st.sampled_from([READ_LOCK, WRITE_LOCK, NO_LOCK]),
    st.integers(0, BYTES - 1), st.integers(0, BYTES - 1),
)  # fmt: skip


@given(st.lists(operations, max_size=30))
async def test_ranges_are_as_bytes_would_be(done: list[tuple[int, int, int, int]]) -> None:
    table = LockTable()
    model: list[dict[int, int]] = [{} for _ in range(BYTES)]
    for owner, kind, one, two in done:
        start, end = min(one, two), max(one, two)
        blocked = kind != NO_LOCK and any(
            other != owner and WRITE_LOCK in (held, kind)
            for byte in model[start : end + 1]
            for other, held in byte.items()
        )
        try:
            await take(table, kind, start, end, owner=owner)
            assert not blocked
            for byte in model[start : end + 1]:
                byte.pop(owner, None)
                if kind != NO_LOCK:
                    byte[owner] = kind
        except BlockingIOError:
            assert blocked
        for at, byte in enumerate(model):
            for asker in (1, 2, 3, 9):
                in_the_way = {held for other, held in byte.items() if other != asker}
                found = table.get(CTX, "n", Lock(at, at, WRITE_LOCK, asker))
                assert (found is not None) == bool(in_the_way)
                if found is not None:
                    assert found.start <= at <= found.end and found.kind in in_the_way
    runs = sum(
        held != (model[at - 1].get(owner) if at else None)
        for at, byte in enumerate(model)
        for owner, held in byte.items()
    )
    assert table.count == runs  # merged as far as they can be


async def test_who_waits_is_served_in_order() -> None:
    table, order = LockTable(), []
    await take(table, WRITE_LOCK, owner=1)

    async def wait(owner: int, kind: int) -> None:
        await take(table, kind, owner=owner, wait=True)
        order.append(owner)

    tasks = [asyncio.create_task(wait(owner, WRITE_LOCK)) for owner in (2, 3, 4)]
    await asyncio.sleep(0)
    for owner in (1, 2, 3):
        await take(table, NO_LOCK, owner=owner)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert order == [2, 3, 4]
    await take(table, NO_LOCK, owner=4)
    assert table.count == 0 and not table._nodes


async def test_a_downgrade_lets_readers_in() -> None:
    table = LockTable()
    await take(table, WRITE_LOCK, owner=1)
    waiting = [
        asyncio.create_task(take(table, READ_LOCK, owner=owner, wait=True)) for owner in (2, 3)
    ]
    await asyncio.sleep(0)
    await take(table, READ_LOCK, owner=1)
    await asyncio.gather(*waiting)
    with pytest.raises(BlockingIOError):
        await take(table, WRITE_LOCK, owner=1)


async def test_who_gives_up_waiting_holds_nothing() -> None:
    table = LockTable()
    await take(table, WRITE_LOCK, owner=1)
    waiting = asyncio.create_task(take(table, WRITE_LOCK, owner=2, wait=True))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await take(table, NO_LOCK, owner=1)
    assert table.count == 0
    # Given up in the moment in which it was granted.
    await take(table, WRITE_LOCK, owner=1)
    waiting = asyncio.create_task(take(table, WRITE_LOCK, owner=2, wait=True))
    await asyncio.sleep(0)
    await take(table, NO_LOCK, owner=1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await take(table, WRITE_LOCK, owner=3)


async def test_a_circle_is_a_deadlock() -> None:
    table = LockTable()
    for owner in (1, 2, 3):
        await take(table, WRITE_LOCK, owner, owner, owner=owner)
    waits = [
        asyncio.create_task(take(table, WRITE_LOCK, 2, 2, owner=1, wait=True)),
        asyncio.create_task(take(table, WRITE_LOCK, 3, 3, owner=2, wait=True)),
    ]
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="deadlock") as caught:
        await take(table, READ_LOCK, 1, 1, owner=3, wait=True)
    assert caught.value.errno == errno.EDEADLK
    await take(table, NO_LOCK, owner=3)
    await waits[1]
    await take(table, NO_LOCK, owner=2)
    await waits[0]


async def test_a_circle_over_two_files() -> None:
    table = LockTable()
    await take(table, WRITE_LOCK, owner=1, node="x")
    await take(table, WRITE_LOCK, owner=2, node="y")
    waiting = asyncio.create_task(take(table, WRITE_LOCK, owner=1, node="y", wait=True))
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="deadlock"):
        await take(table, WRITE_LOCK, owner=2, node="x", wait=True)
    await take(table, NO_LOCK, owner=2, node="y")
    await waiting


async def test_owners_of_two_sandboxes_are_two() -> None:
    table = LockTable()
    await take(table, WRITE_LOCK, owner=1)
    with pytest.raises(BlockingIOError):
        await take(table, WRITE_LOCK, owner=1, ctx=OTHER)
    found = table.get(OTHER, "n", Lock(0, 0, READ_LOCK, 1))
    assert found is not None and found.pid == 0  # a pid of another machine says nothing
    found = table.get(CTX, "n", Lock(0, 0, READ_LOCK, 2))
    assert found is not None and found.pid == 5
    waiting = asyncio.create_task(take(table, WRITE_LOCK, owner=1, ctx=OTHER, wait=True))
    await asyncio.sleep(0)
    table.release("a", "/v")
    await waiting
    table.release("b", "/v")
    assert table.count == 0 and not table._nodes


async def test_flock_is_another_kind_and_is_given_up_before_waiting() -> None:
    table = LockTable()
    await take(table, WRITE_LOCK, owner=1)
    await take(table, READ_LOCK, owner=1, whole=True)
    await take(table, READ_LOCK, owner=2, whole=True)
    with pytest.raises(BlockingIOError):
        await take(table, WRITE_LOCK, owner=1, whole=True)
    one = asyncio.create_task(take(table, WRITE_LOCK, owner=1, whole=True, wait=True))
    await asyncio.sleep(0)
    await take(table, WRITE_LOCK, owner=2, whole=True, wait=True)
    assert not one.done()
    table.drop("n", ("a", "/v", 2))
    await one


async def test_locks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_LOCKS", 4)
    table = LockTable()
    for at in (0, 2, 4):
        await take(table, WRITE_LOCK, at, at)
    with pytest.raises(OSError, match="too many") as caught:
        await take(table, WRITE_LOCK, 6, 6, node="other")
    assert caught.value.errno == errno.ENOLCK
    assert set(table._nodes) == {"n"}
