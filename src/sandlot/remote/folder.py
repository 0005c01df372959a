"""A store in a folder: of this machine, or of a network drive that is mounted.

All that is relied on is that a file can be linked or renamed to a name in one step, which NFS and
SMB do too. Where a file system has no links (FAT), a lock on a file takes their place.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sandlot.remote.tree import INCOMING, Disk, Entry, TreeStore

T = TypeVar("T")

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class FolderStore(TreeStore):
    """Blobs as files below a folder, which is made if the folder around it is there.

    Example:
        >>> async with FolderStore("/mnt/team/sandboxes") as store:
        ...     await store.put("packs/one", b"...")
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        path = Path(folder).absolute()
        super().__init__(LocalDisk(path), str(path))


class LocalDisk(Disk):
    """The files of a folder, by calls that each run in a thread."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def begin(self) -> None:
        def begin() -> None:
            # It is made by who writes: who mistypes it and reads leaves nothing.
            if not self._root.is_dir():
                number = errno.EEXIST if self._root.exists() else errno.ENOENT
                if number == errno.EEXIST or not self._root.parent.is_dir():
                    raise OSError(number, os.strerror(number), str(self._root))

        await _aside(begin)

    async def read(self, path: str, start: int, length: int | None) -> bytes:
        def read() -> bytes:
            with self._at(path).open("rb") as file:
                file.seek(start)
                return file.read(-1 if length is None else length)

        return await _aside(read)

    async def write(self, path: str, data: bytes) -> None:
        def write() -> None:
            # Not for this user alone: who may use the folder may use what is in it.
            descriptor = os.open(self._at(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)

        await _aside(write)

    async def link(self, source: str, target: str) -> None:
        def link() -> None:
            try:
                os.link(self._at(source), self._at(target))
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                self._move_if_new(source, target)
            _sync_folder(self._at(target).parent)

        await _aside(link)

    def _move_if_new(self, source: str, target: str) -> None:
        with (self._root / INCOMING / ".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self._at(target).exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
            self._at(source).rename(self._at(target))

    async def rename(self, source: str, target: str) -> None:
        def rename() -> None:
            self._at(source).replace(self._at(target))
            _sync_folder(self._at(target).parent)

        await _aside(rename)

    async def remove(self, path: str) -> None:
        await _aside(self._at(path).unlink)

    async def make(self, path: str) -> None:
        def make() -> None:
            for folder in (*reversed(Path(path).parents), Path(path)):
                at = self._root / folder
                if not at.is_dir():
                    at.mkdir(mode=0o700 if at == self._root else 0o777, exist_ok=True)
                    _sync_folder(at.parent)

        await _aside(make)

    async def info(self, path: str) -> Entry | None:
        def info() -> Entry | None:
            try:
                return _entry(path, self._at(path).stat())
            except (FileNotFoundError, NotADirectoryError):
                return None

        return await _aside(info)

    async def entries(self, path: str) -> list[Entry]:
        def entries() -> list[Entry]:
            found = []
            with os.scandir(self._at(path)) as inside:
                for each in inside:
                    try:
                        entry = _entry(each.name, each.stat(follow_symlinks=False))
                    except FileNotFoundError:
                        continue
                    if entry is not None:
                        found.append(entry)
            return found

        return await _aside(entries)

    async def close(self) -> None:
        pass

    def _at(self, path: str) -> Path:
        return self._root / path


def _entry(name: str, info: os.stat_result) -> Entry | None:
    folder = stat.S_ISDIR(info.st_mode)
    if not folder and not stat.S_ISREG(info.st_mode):
        return None
    return Entry(name, folder, info.st_size, info.st_mtime)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # network drives that cannot
            raise
    finally:
        os.close(descriptor)


async def _aside(call: Callable[[], T]) -> T:
    return await asyncio.to_thread(call)
