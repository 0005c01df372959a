"""A clock that tests own, and a store that fails where a test says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from sandlot.errors import BlobChanged, RemoteUnreachable
from sandlot.remote.patience import Clock
from sandlot.remote.store import Blob, BlobStore

T = TypeVar("T")


class FakeClock(Clock):
    """Sleeping moves it on, and takes no time."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


class FaultyStore(BlobStore):
    """Calls, counted from 1, fail as `faults` says: `before` they are carried out, `after` that,
    or `halfway`, which tells half of what was to be read."""

    def __init__(self, store: BlobStore, faults: dict[int, str], retry_after: float | None = None):
        self.address = store.address
        self.inner = store
        self.faults = faults
        self.calls = 0
        self.retry_after = retry_after

    def _failure(self, received: bytes = b"", pin: str = "") -> RemoteUnreachable:
        return RemoteUnreachable(
            f"{self.address} fails", address=self.address, retry_after=self.retry_after,
            received=received, pin=pin,
        )  # fmt: skip

    async def _do(self, call: Callable[[], Awaitable[T]]) -> T:
        self.calls += 1
        fault = self.faults.get(self.calls)
        if fault == "before":
            raise self._failure()
        result = await call()
        if fault == "after":
            raise self._failure()
        if fault == "halfway":
            assert isinstance(result, bytes)
            raise self._failure(result[: len(result) // 2], (await self.inner.read("a"))[1])
        return result

    async def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        return await self._do(lambda: self.inner.get(key, start=start, length=length))

    async def go_on(self, key: str, pin: str, *, start: int, length: int | None) -> bytes:
        if (await self.inner.read(key))[1] != pin:
            raise BlobChanged(f"{key} is another one")
        return await self._do(lambda: self.inner.get(key, start=start, length=length))

    async def put(self, key: str, data: bytes) -> None:
        await self._do(lambda: self.inner.put(key, data))

    async def has(self, key: str) -> bool:
        return await self._do(lambda: self.inner.has(key))

    async def list(self, prefix: str = "") -> AsyncIterator[Blob]:
        self.calls += 1
        fault = self.faults.get(self.calls)
        if fault == "before":
            raise self._failure()
        async for blob in self.inner.list(prefix):
            yield blob
            if fault:
                raise self._failure()

    async def delete(self, key: str) -> None:
        await self._do(lambda: self.inner.delete(key))

    async def read(self, key: str) -> tuple[bytes, str]:
        return await self._do(lambda: self.inner.read(key))

    async def replace(self, key: str, data: bytes, expected: str | None) -> str:
        return await self._do(lambda: self.inner.replace(key, data, expected))

    async def close(self) -> None:
        await self.inner.close()
