"""A store in memory whose calls can be made to fail, for tests of what is above stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from sandlot.errors import BlobChanged, BlobNotFound, RemoteUnreachable
from sandlot.remote.store import Blob, BlobStore, check_blob, check_span


class MemoryStore(BlobStore):
    """Blobs in a dict, with a clock that tests set. `before` is told of each call: its number from
    1, its verb and its key; what it raises, the call raises."""

    def __init__(self, blobs: dict[str, bytes] | None = None) -> None:
        self.address = "memory://test"
        self.blobs: dict[str, bytes] = {} if blobs is None else blobs
        self.modified: dict[str, float] = {}
        self.versions: dict[str, int] = {}
        self.now = 1000.0
        self.calls = 0
        self.before: Callable[[int, str, str], object] = lambda number, verb, key: None

    async def _called(self, verb: str, key: str) -> None:
        self.calls += 1
        await asyncio.sleep(0)
        self.before(self.calls, verb, key)

    async def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        check_span(key, start, length)
        await self._called("get", key)
        data = self._found(key)
        return data[start:] if length is None else data[start : start + length]

    async def put(self, key: str, data: bytes) -> None:
        check_blob(key, data)
        await self._called("put", key)
        self._set(key, data)

    async def has(self, key: str) -> bool:
        await self._called("has", key)
        return key in self.blobs

    async def list(self, prefix: str = "") -> AsyncIterator[Blob]:
        await self._called("list", prefix)
        for key, data in [*self.blobs.items()]:
            if key.startswith(prefix):
                yield Blob(key, len(data), self.modified.get(key, 0.0))

    async def delete(self, key: str) -> None:
        await self._called("delete", key)
        self.blobs.pop(key, None)

    async def read(self, key: str) -> tuple[bytes, str]:
        await self._called("read", key)
        return self._found(key), str(self.versions.get(key, 0))

    async def replace(self, key: str, data: bytes, expected: str | None) -> str:
        check_blob(key, data)
        await self._called("replace", key)
        there = str(self.versions.get(key, 0)) if key in self.blobs else None
        if there != expected:
            raise BlobChanged(f"{key} was changed", address=self.address)
        self._set(key, data)
        return str(self.versions[key])

    async def close(self) -> None:
        pass

    def _found(self, key: str) -> bytes:
        if key not in self.blobs:
            raise BlobNotFound(f"no blob {key}", address=self.address)
        return self.blobs[key]

    def _set(self, key: str, data: bytes) -> None:
        self.blobs[key] = data
        self.modified[key] = self.now
        self.versions[key] = self.versions.get(key, 0) + 1


def failing(at: int) -> Callable[[int, str, str], object]:
    """Every call from this one on fails, as without a network."""

    def before(number: int, verb: str, key: str) -> None:
        if number >= at:
            raise RemoteUnreachable(f"cut off at {verb} {key}")

    return before
