"""A store in a tree of files, on a disk here or behind SSH.

    packs/0a/0a1b2c              a blob that was put: written in .incoming, then renamed
    heads/.x.versions/000000007  a blob that is replaced: one file for each version
    .incoming/…                  what is being written

A version is made by linking a finished file to the next number, which fails when that is taken.
So of all who replace a version one succeeds, no lock is held by anybody, and whoever dies at any
step leaves the old version or the new one, and at most a file in .incoming. A removed blob has an
empty file as its last version, so that numbers never come twice.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from sandlot.errors import (
    BlobChanged,
    BlobNotFound,
    ConfigError,
    RemoteError,
    RemoteFull,
    RemoteRefused,
    RemoteUnreachable,
)
from sandlot.remote.store import (
    Blob,
    BlobStore,
    check_blob,
    check_key,
    check_span,
    split_prefix,
)

INCOMING = ".incoming"
KEPT = 8
"""Versions of a replaced blob that stay. A writer that slept through more is told that it lost."""
FORGOTTEN = 24 * 3600.0
"""Seconds after which a file in .incoming is nobody's any more."""
FOLDERS_AT_ONCE = 16
_HEAD = b"="


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder. `modified` is by the disk's own clock."""

    name: str
    folder: bool
    size: int
    modified: float


class Disk(ABC):
    """Files below a root, by paths divided with `/`. Raises OSError as the system does.

    What a call returned from is on the disk, not only in memory.
    """

    @abstractmethod
    async def begin(self) -> None:
        """Make the root, if the folder around it is there."""

    @abstractmethod
    async def read(self, path: str, start: int, length: int | None) -> bytes: ...

    @abstractmethod
    async def write(self, path: str, data: bytes) -> None:
        """A new file. FileExistsError when there is one."""

    @abstractmethod
    async def link(self, source: str, target: str) -> None:
        """A second name, which must be new. The first may be gone then. FileExistsError."""

    @abstractmethod
    async def rename(self, source: str, target: str) -> None:
        """Give a file its name, in place of what had it."""

    @abstractmethod
    async def remove(self, path: str) -> None:
        """Remove a file. FileNotFoundError when there is none."""

    @abstractmethod
    async def make(self, path: str) -> None:
        """Make a folder and those around it, as far as they are missing."""

    @abstractmethod
    async def info(self, path: str) -> Entry | None: ...

    @abstractmethod
    async def entries(self, path: str) -> list[Entry]:
        """What is in a folder: regular files and folders."""

    @abstractmethod
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Current:
    """A replaced blob as it is: the last number used, and the version, None when there is none."""

    number: int
    version: str | None
    data: bytes = b""
    plain: bool = False


class TreeStore(BlobStore):
    """A `BlobStore` on a `Disk`."""

    def __init__(self, disk: Disk, address: str) -> None:
        self.address = address
        self._disk = disk
        self._begun = False
        self._swept = False
        self._lock = asyncio.Lock()

    async def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        check_span(key, start, length)
        await self._begin()
        try:
            with suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
                return await self._disk.read(key, start, length)
            current = await self._current(key)
        except OSError as error:
            raise self._failure(error, f"read {key}") from error
        if current.version is None:
            raise self._missing(key)
        return current.data[start : None if length is None else start + length]

    async def put(self, key: str, data: bytes) -> None:
        check_blob(key, data)
        await self._begin()
        try:
            if await self._disk.info(_versions(key)) is not None:
                await self._append(key, _HEAD + data)
                return
            new = await self._write(data)
            try:
                await self._rename(new, key)
            except BaseException:
                await self._drop(new)
                raise
        except OSError as error:
            raise self._failure(error, f"keep {key}") from error

    async def has(self, key: str) -> bool:
        check_key(key)
        await self._begin()
        try:
            entry = await self._disk.info(key)
            if entry is not None and not entry.folder:
                return True
            numbers = await self._numbers(key)
            return bool(numbers) and numbers[max(numbers)].size > 0
        except OSError as error:
            raise self._failure(error, f"look for {key}") from error

    async def list(self, prefix: str = "") -> AsyncIterator[Blob]:
        folder = split_prefix(prefix)
        await self._begin()
        waiting = [folder]
        try:
            while waiting:
                some, waiting = waiting[:FOLDERS_AT_ONCE], waiting[FOLDERS_AT_ONCE:]
                for blobs, folders in await asyncio.gather(*map(self._look, some)):
                    waiting += [path for path in folders if _on_the_way(path, prefix)]
                    for blob in blobs:
                        if blob.key.startswith(prefix):
                            yield blob
        except OSError as error:
            raise self._failure(error, f"list {prefix or 'what is there'}") from error

    async def delete(self, key: str) -> None:
        check_key(key)
        await self._begin()
        try:
            with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                await self._disk.remove(key)
            if (await self._current(key)).version is not None:
                await self._append(key, b"")
        except OSError as error:
            raise self._failure(error, f"remove {key}") from error

    async def read(self, key: str) -> tuple[bytes, str]:
        check_key(key)
        await self._begin()
        try:
            current = await self._current(key)
        except OSError as error:
            raise self._failure(error, f"read {key}") from error
        if current.version is None:
            raise self._missing(key)
        return current.data, current.version

    async def replace(self, key: str, data: bytes, expected: str | None) -> str:
        check_blob(key, data)
        await self._begin()
        try:
            current = await self._current(key)
            if current.version != expected:
                raise self._changed(key)
            number = await self._append(key, _HEAD + data, current)
        except OSError as error:
            raise self._failure(error, f"replace {key}") from error
        return _version(number, data)

    async def close(self) -> None:
        await self._disk.close()

    # Section: versions

    async def _current(self, key: str) -> Current:
        """What a key has now. Looks again when what it found was removed meanwhile."""
        while True:
            numbers = await self._numbers(key)
            last = max(numbers, default=0)
            with suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
                data = await self._disk.read(key, 0, None)
                return Current(last, f"{last}p{_digest(data)}", data, plain=True)
            if not last or not numbers[last].size:
                return Current(last, None)
            with suppress(FileNotFoundError):
                data = (await self._disk.read(f"{_versions(key)}/{_name(last)}", 0, None))[1:]
                return Current(last, _version(last, data), data)

    async def _numbers(self, key: str) -> dict[int, Entry]:
        try:
            entries = await self._disk.entries(_versions(key))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {int(e.name): e for e in entries if e.name.isdecimal() and not e.folder}

    async def _append(self, key: str, content: bytes, onto: Current | None = None) -> int:
        """Make the version after `onto`, or after whichever is the last. Its number."""
        new = await self._write(content)
        try:
            while True:
                before = onto or await self._current(key)
                number = before.number + 1
                try:
                    await self._link(new, f"{_versions(key)}/{_name(number)}")
                except FileExistsError:
                    if onto is None:
                        continue
                    raise self._changed(key) from None
                numbers = await self._numbers(key)
                # This number may have been free only because it was used and removed long ago.
                if max(numbers, default=number) >= number + KEPT:
                    if onto is None:
                        continue
                    raise self._changed(key)
                break
        finally:
            await self._drop(new)
        if before.plain:
            with suppress(FileNotFoundError):
                await self._disk.remove(key)
        for old in sorted(numbers):
            if old <= number - KEPT:
                with suppress(OSError):
                    await self._disk.remove(f"{_versions(key)}/{_name(old)}")
        return number

    # Section: files

    async def _begin(self) -> None:
        async with self._lock:
            if self._begun:
                return
            try:
                await self._disk.begin()
            except OSError as error:
                raise self._failure(error, "be opened") from error
            self._begun = True

    async def _write(self, data: bytes) -> str:
        path = f"{INCOMING}/{secrets.token_hex(16)}"
        try:
            try:
                await self._disk.write(path, data)
            except FileNotFoundError:
                await self._disk.make(INCOMING)
                await self._disk.write(path, data)
        except BaseException:
            await self._drop(path)
            raise
        await self._sweep(path)
        return path

    async def _sweep(self, fresh: str) -> None:
        """Once for each opening: remove what writers that died left, by the disk's clock."""
        if self._swept:
            return
        self._swept = True
        with suppress(OSError, RemoteError):
            now = await self._disk.info(fresh)
            for entry in await self._disk.entries(INCOMING) if now else []:
                if now and entry.modified < now.modified - FORGOTTEN and not entry.folder:
                    await self._drop(f"{INCOMING}/{entry.name}")

    async def _drop(self, path: str) -> None:
        with suppress(OSError, RemoteError):
            await self._disk.remove(path)

    async def _rename(self, source: str, target: str) -> None:
        try:
            await self._disk.rename(source, target)
        except FileNotFoundError:
            await self._disk.make(_around(target))
            await self._disk.rename(source, target)

    async def _link(self, source: str, target: str) -> None:
        try:
            await self._disk.link(source, target)
        except FileNotFoundError:
            await self._disk.make(_around(target))
            await self._disk.link(source, target)

    async def _look(self, folder: str) -> tuple[Sequence[Blob], Sequence[str]]:
        """The blobs in a folder, and the folders in it, with their `/`."""
        try:
            entries = await self._disk.entries(folder.rstrip("/"))
        except (FileNotFoundError, NotADirectoryError):
            return [], []
        blobs: dict[str, Blob] = {}
        folders = []
        for entry in entries:
            path = folder + entry.name
            if entry.folder and entry.name.startswith(".") and entry.name.endswith(".versions"):
                key = folder + entry.name[1 : -len(".versions")]
                numbers = await self._numbers(key)
                last = numbers.get(max(numbers, default=0))
                if last is not None and last.size:
                    blobs.setdefault(key, Blob(key, last.size - 1, last.modified))
            elif not _is_key(path):
                continue
            elif entry.folder:
                folders.append(f"{path}/")
            else:
                blobs[path] = Blob(path, entry.size, entry.modified)
        return list(blobs.values()), folders

    # Section: what went wrong

    def _missing(self, key: str) -> BlobNotFound:
        return BlobNotFound(f"{self.address} has no blob {key}", address=self.address)

    def _changed(self, key: str) -> BlobChanged:
        return BlobChanged(
            f"{self.address}: {key} was replaced by somebody else", address=self.address,
            hint="look at what is there now, then try again",
        )  # fmt: skip

    def _failure(self, error: OSError, what: str) -> RemoteError:
        return explained(error, self.address, what)


def explained(error: OSError, address: str, what: str) -> RemoteError:
    """An error of the system as one of a remote."""
    reason = error.strerror or str(error) or type(error).__name__
    message = f"{address} cannot {what}: {reason}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return RemoteFull(
            message, hint="make room there, or push to another remote", address=address
        )
    if error.errno in _PASSING or isinstance(error, (ConnectionError, TimeoutError)):
        return RemoteUnreachable(message, hint="try again when it is back", address=address)
    if error.errno == errno.ENOENT:
        return RemoteRefused(
            message, hint="mount the drive, or make the folder around it", address=address
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return RemoteRefused(message, hint="your user must be able to write there", address=address)
    return RemoteRefused(message, address=address)


_PASSING = {
    errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN,
    errno.EAGAIN, errno.EINTR, errno.ENETDOWN, errno.ENETUNREACH, errno.ENOLCK,
}  # fmt: skip


def _versions(key: str) -> str:
    folder, slash, name = key.rpartition("/")
    return f"{folder}{slash}.{name}.versions"


def _name(number: int) -> str:
    return f"{number:09d}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _version(number: int, data: bytes) -> str:
    return f"{number}-{_digest(data)}"


def _around(path: str) -> str:
    return path.rpartition("/")[0]


def _is_key(path: str) -> bool:
    try:
        check_key(path)
    except ConfigError:
        return False
    return True


def _on_the_way(folder: str, prefix: str) -> bool:
    return folder.startswith(prefix) or prefix.startswith(folder)
