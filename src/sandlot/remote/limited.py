"""A store that moves no more bytes a second than it may."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sandlot.errors import ConfigError
from sandlot.remote.patience import Clock
from sandlot.remote.store import Blob, BlobStore, check_blob, check_span


def limited(store: BlobStore, bytes_per_second: float, clock: Clock | None = None) -> BlobStore:
    """The store, with at most so many bytes of contents a second, both ways together.

    A blob is moved in one go, and what comes after it waits until its time is paid. So it is the
    average that is kept, over the time of a few blobs.

    Example:
        >>> slow = limited(store, 500_000)
    """
    if not bytes_per_second > 0:
        raise ConfigError(
            f"a rate of {bytes_per_second:g} bytes a second moves nothing", hint="use a larger one"
        )
    return LimitedStore(store, bytes_per_second, clock or Clock())


class LimitedStore(BlobStore):
    """See `limited`."""

    def __init__(self, store: BlobStore, rate: float, clock: Clock) -> None:
        self.address = store.address
        self._store = store
        self._rate = rate
        self._clock = clock
        self._paid = clock.now()

    async def __aenter__(self) -> LimitedStore:
        await self._store.__aenter__()
        return self

    async def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        check_span(key, start, length)
        await self._turn(length or 0)
        data = await self._store.get(key, start=start, length=length)
        self._paid += (len(data) - (length or 0)) / self._rate
        return data

    async def put(self, key: str, data: bytes) -> None:
        check_blob(key, data)
        await self._turn(len(data))
        await self._store.put(key, data)

    async def has(self, key: str) -> bool:
        return await self._store.has(key)

    def list(self, prefix: str = "") -> AsyncIterator[Blob]:
        return self._store.list(prefix)

    async def delete(self, key: str) -> None:
        await self._store.delete(key)

    async def read(self, key: str) -> tuple[bytes, str]:
        await self._turn(0)
        data, version = await self._store.read(key)
        self._paid += len(data) / self._rate
        return data, version

    async def replace(self, key: str, data: bytes, expected: str | None) -> str:
        check_blob(key, data)
        await self._turn(len(data))
        return await self._store.replace(key, data, expected)

    async def close(self) -> None:
        await self._store.close()

    async def _turn(self, size: int) -> None:
        """Wait until all that went before is paid; this then is owed."""
        now = self._clock.now()
        begin = max(self._paid, now)
        self._paid = begin + size / self._rate
        if begin > now:
            await self._clock.sleep(begin - now)
