"""Pushes and the collection of garbage, which must not meet: a push may count on chunks that nothing
names yet, and the collection removes those.

Who pushes puts `pending/ID` first and then looks for `gc`; who collects puts `gc` first and then looks
for `pending/`. At least one sees the other. A lease is renewed while its holder lives, and counts for
a while by the store's clock, so that what a dead program left is taken away.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from sandlot.errors import BlobChanged, BlobNotFound, RemoteConflict, RemoteError
from sandlot.remote.store import Blob, BlobStore

LEASE = 900.0
"""Seconds that a lease counts after it was renewed."""
RENEW = 60.0
GC = "gc"
PENDING = "pending/"
Sleep = Callable[[float], Awaitable[object]]


@contextlib.asynccontextmanager
async def pushing(
    store: BlobStore, *, patience: float = 600.0, sleep: Sleep = asyncio.sleep
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Nobody collects garbage until the end of the block. Before what was pushed is named, await
    what is given: it makes sure that the lease still counted.

    Raises:
        RemoteConflict: somebody collects garbage, longer than `patience` in seconds.
    """
    key = f"{PENDING}{secrets.token_hex(16)}"
    waited = 0.0
    while True:
        await store.put(key, b"push")
        if not await store.has(GC):
            break
        await store.delete(key)
        await _drop_dead(store, GC)
        if waited >= patience:
            raise RemoteConflict(
                f"somebody is collecting garbage in {store.address}",
                hint="try again later", address=store.address,
            )  # fmt: skip
        await sleep(1.0)
        waited += 1.0

    async def renew() -> None:
        while True:
            await sleep(RENEW)
            with contextlib.suppress(RemoteError):
                if await store.has(key):
                    await store.put(key, b"push")

    async def still_there() -> None:
        if not await store.has(key):
            raise RemoteConflict(
                "this push stood still for so long that it was taken for dead",
                hint="push again: what was sent is not sent twice", address=store.address,
            )  # fmt: skip

    renewing = asyncio.create_task(renew())
    try:
        yield still_there
    finally:
        renewing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await renewing
        with contextlib.suppress(RemoteError):
            await store.delete(key)


@contextlib.asynccontextmanager
async def collecting(
    store: BlobStore, *, patience: float = 0.0, sleep: Sleep = asyncio.sleep
) -> AsyncIterator[None]:
    """Nobody pushes until the end of the block.

    Args:
        patience: how many seconds to wait for pushes to end.

    Raises:
        RemoteConflict: somebody pushes, or collects garbage too.
    """
    await _drop_dead(store, GC)
    try:
        tag = await store.replace(GC, b"gc", None)
    except BlobChanged:
        raise RemoteConflict(
            f"somebody else is collecting garbage in {store.address}", hint="let them",
            address=store.address,
        ) from None  # fmt: skip

    async def renew() -> None:
        nonlocal tag
        while True:
            await sleep(RENEW)
            with contextlib.suppress(RemoteError):
                tag = await store.replace(GC, b"gc", tag)

    renewing = asyncio.create_task(renew())
    try:
        waited = 0.0
        while count := await _live(store):
            if waited >= patience:
                raise RemoteConflict(
                    f"{count} push{'es are' if count > 1 else ' is'} under way to {store.address}",
                    hint="try again when they have ended; one that was cut off counts for "
                    f"{LEASE / 60:.0f} minutes",
                    address=store.address,
                )
            await sleep(1.0)
            waited += 1.0
        yield
    finally:
        renewing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await renewing
        with contextlib.suppress(RemoteError):
            await store.delete(GC)


async def _live(store: BlobStore) -> int:
    """How many push now; leases of the dead are taken away."""
    found = [blob async for blob in store.list(PENDING)]
    if not found:
        return 0
    now = await _clock(store)
    live = 0
    for blob in found:
        if _dead(blob, now):
            await store.delete(blob.key)
        else:
            live += 1
    return live


async def _drop_dead(store: BlobStore, key: str) -> None:
    found = [blob async for blob in store.list(key) if blob.key == key]
    if found and _dead(found[0], await _clock(store)):
        await store.delete(key)


async def _clock(store: BlobStore) -> float:
    """What time the store has."""
    key = f"clock/{secrets.token_hex(8)}"
    await store.put(key, b"now")
    try:
        async for blob in store.list(key):
            if blob.modified is not None:
                return blob.modified
        return time.time()
    finally:
        with contextlib.suppress(BlobNotFound):
            await store.delete(key)


def _dead(blob: Blob, now: float) -> bool:
    """A store that tells no times keeps leases alive until they are removed by hand."""
    return blob.modified is not None and now - blob.modified > LEASE
