"""Trying again: a store that outlasts what passes by itself.

Only RemoteUnreachable is tried again. A blob that was cut goes on where it stopped, if it is still
the same one. After a cut nobody knows whether a `replace` was carried out: then what is there is
compared with what was to be put.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from sandlot.errors import BlobChanged, BlobNotFound, RemoteUnreachable
from sandlot.remote.store import Blob, BlobStore, check_span

T = TypeVar("T")

LONGEST_WAIT = 60.0
"""Seconds: a remote that asks for a longer wait is given up at once."""


class Clock:
    """What time it is, and waiting. Tests have one of their own."""

    def now(self) -> float:
        """Seconds, from any beginning."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""
        await asyncio.sleep(seconds)


@dataclass(frozen=True)
class Patience:
    """How often to try, and how long to wait before the second time, in seconds; then doubled.

    What brought bytes does not count as a failed try.
    """

    attempts: int = 6
    first: float = 0.5
    longest: float = 15.0

    def delay(self, attempt: int) -> float:
        """Before the attempt after this one, which counts from 0."""
        return min(self.first * 2.0**attempt, self.longest) * random.uniform(0.75, 1.25)


class PatientStore(BlobStore):
    """A store whose calls are tried again when its remote cannot be reached."""

    def __init__(
        self, store: BlobStore, patience: Patience | None = None, clock: Clock | None = None
    ) -> None:
        self.address = store.address
        self._store = store
        self._patience = patience or Patience()
        self._clock = clock or Clock()

    async def __aenter__(self) -> PatientStore:
        await self._store.__aenter__()
        return self

    async def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        check_span(key, start, length)
        got = bytearray()
        pin = ""

        async def once() -> bytes:
            nonlocal pin
            at, left = start + len(got), None if length is None else length - len(got)
            try:
                if pin:
                    return await self._store.go_on(key, pin, start=at, length=left)
                return await self._store.get(key, start=at, length=left)
            except RemoteUnreachable as error:
                if error.pin:
                    got.extend(error.received)
                    pin = error.pin
                raise
            except (BlobChanged, BlobNotFound):
                if not pin:
                    raise
                got.clear()  # it is another one by now: from its beginning
                pin = ""
                return await self._store.get(key, start=start, length=length)

        rest = await self._patiently(once, lambda: len(got))
        return bytes(got) + rest if got else rest

    async def put(self, key: str, data: bytes) -> None:
        await self._patiently(lambda: self._store.put(key, data))

    async def has(self, key: str) -> bool:
        return await self._patiently(lambda: self._store.has(key))

    async def list(self, prefix: str = "") -> AsyncIterator[Blob]:
        told: set[str] = set()
        attempt = 0
        while True:
            before = len(told)
            try:
                async for blob in self._store.list(prefix):
                    if blob.key not in told:
                        told.add(blob.key)
                        yield blob
                return
            except RemoteUnreachable as error:
                attempt = 0 if len(told) > before else attempt
                await self._wait(attempt, error)
                attempt += 1

    async def delete(self, key: str) -> None:
        await self._patiently(lambda: self._store.delete(key))

    async def read(self, key: str) -> tuple[bytes, str]:
        return await self._patiently(lambda: self._store.read(key))

    async def replace(self, key: str, data: bytes, expected: str | None) -> str:
        unsure = False

        async def once() -> str:
            nonlocal unsure
            try:
                return await self._store.replace(key, data, expected)
            except RemoteUnreachable:
                unsure = True
                raise
            except BlobChanged:
                if not unsure:
                    raise
                try:
                    there, version = await self._store.read(key)
                except BlobNotFound:
                    there, version = b"", ""
                if version in ("", expected) or there != data:
                    raise
                return version

        return await self._patiently(once)

    async def close(self) -> None:
        await self._store.close()

    async def _patiently(
        self, once: Callable[[], Awaitable[T]], progress: Callable[[], int] = lambda: 0
    ) -> T:
        attempt = 0
        while True:
            before = progress()
            try:
                return await once()
            except RemoteUnreachable as error:
                if progress() > before:
                    attempt = 0
                await self._wait(attempt, error)
                attempt += 1

    async def _wait(self, attempt: int, error: RemoteUnreachable) -> None:
        """Before the next try. Raises the error when there is none."""
        if attempt + 1 >= self._patience.attempts:
            raise error
        wait = self._patience.delay(attempt)
        if error.retry_after is not None:
            if error.retry_after > LONGEST_WAIT:
                raise error
            wait = max(wait, error.retry_after)
        await self._clock.sleep(wait)
