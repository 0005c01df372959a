"""Pushes and the collection of garbage never meet."""

from __future__ import annotations

import asyncio

import pytest

from sandlot.errors import RemoteConflict
from sandlot.remote.leases import GC, LEASE, RENEW, collecting, pushing
from tests.framework.blobs import MemoryStore


async def test_no_garbage_is_collected_while_somebody_pushes() -> None:
    store = MemoryStore()
    async with pushing(store), pushing(store):
        with pytest.raises(RemoteConflict, match="2 pushes are under way"):
            async with collecting(store):
                pass
        assert GC not in store.blobs
    async with collecting(store):
        pass
    assert not store.blobs


async def test_a_push_waits_for_a_collection() -> None:
    store, naps = MemoryStore(), 0
    done = asyncio.Event()

    async def collect() -> None:
        async with collecting(store):
            begun.set()
            await done.wait()

    async def sleep(seconds: float) -> None:
        nonlocal naps
        naps += seconds == 1.0
        if naps == 3:
            done.set()
        await asyncio.sleep(0)

    begun = asyncio.Event()
    task = asyncio.create_task(collect())
    await begun.wait()
    async with pushing(store, sleep=sleep):
        assert task.done() and naps >= 3
    await task
    with pytest.raises(RemoteConflict, match="collecting garbage"):
        async with collecting(store), pushing(store, patience=2, sleep=sleep):
            pass
    assert not store.blobs


async def test_what_the_dead_left_counts_for_a_while() -> None:
    store = MemoryStore()
    await store.put("pending/dead", b"")
    store.now += LEASE - 1
    with pytest.raises(RemoteConflict, match="1 push is"):
        async with collecting(store):
            pass
    store.now += 2
    async with collecting(store):
        assert "pending/dead" not in store.blobs
    await store.put(GC, b"")
    with pytest.raises(RemoteConflict, match="somebody else is collecting"):
        async with collecting(store):
            pass
    store.now += LEASE + 1
    async with collecting(store):
        pass
    await store.put(GC, b"")
    store.now += LEASE + 1
    async with pushing(store, patience=5, sleep=lambda _: asyncio.sleep(0)):
        pass


async def test_a_lease_is_renewed_and_a_lost_one_is_told() -> None:
    store = MemoryStore()
    naps = 0

    async def sleep(seconds: float) -> None:
        nonlocal naps
        assert seconds == RENEW
        naps += 1
        store.now += seconds
        if naps > 20:
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    async with pushing(store, sleep=sleep) as still_there:
        while naps <= 20:
            await asyncio.sleep(0)
        await still_there()
        with pytest.raises(RemoteConflict):
            async with collecting(store):
                pass
        for key in list(store.blobs):
            del store.blobs[key]
        with pytest.raises(RemoteConflict, match="taken for dead"):
            await still_there()
