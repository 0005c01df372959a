"""`SimpleFileSystem`: a file system by paths and whole files, for those who want no inodes.

class Notes(SimpleFileSystem):
    def list(self, path):
        return ["today.txt"]

    def read_bytes(self, path):
        return b"buy milk\\n"
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import logging
import os
import stat as modes
import time
from collections.abc import Callable, Iterable
from typing import Any

from sandlot.filesystem.base import FileSystem, unsupported
from sandlot.filesystem.paths import Buffer, PathNode, Paths, joined
from sandlot.filesystem.types import (
    Attr,
    Context,
    DirEntry,
    Entry,
    Opened,
    SetAttr,
    Statistics,
)
from sandlot.filesystem.types import Buffer as Bytes

_ACCESS, _TRUNC, _APPEND = 3, 0o1000, 0o2000
_NOREPLACE = 1
LARGEST = 256 << 20
"""Bytes of one file that is held in memory while it is open; more is EFBIG."""
MOST_HELD = 1 << 30
"""Bytes of all of them together; more is ENOSPC."""

log = logging.getLogger("sandlot.filesystem")


def fail(number: int, path: str = "") -> OSError:
    """An OSError by its number."""
    return OSError(number, os.strerror(number), path)


class SimpleFileSystem(FileSystem):
    """A file system by paths, such as `/notes/today.txt`, and whole files.

    Override `list` and `read_bytes`, and `write_bytes` where it can be written; `stat`, `remove`,
    `make_folder`, `move` and `read_range` where you can. They may be coroutines; others are called
    in threads, several at a time. Raise what fits: `FileNotFoundError`, `PermissionError`, any
    OSError.

    A file is kept in memory while it is open, and written as a whole when it is closed or
    synchronised. Modes, owners and times that a guest sets are not kept.

    Example:
        >>> class Hello(SimpleFileSystem):
        ...     def list(self, path):
        ...         return ["hello.txt"]
        ...     def read_bytes(self, path):
        ...         return b"hello\\n"
    """

    def __init__(self) -> None:
        super().__init__()
        self._paths = Paths()
        self._held = 0

    # -- what you override -----------------------------------------------------------------

    def list(self, path: str) -> Any:
        """The names in a folder. Those of folders end with `/`, unless `stat` tells."""
        raise unsupported("list")

    def read_bytes(self, path: str) -> Any:
        """All of a file, as bytes."""
        raise unsupported("read_bytes")

    def read_range(self, path: str, offset: int, size: int) -> Any:
        """A part of a file, fewer bytes only at its end. Files that are only read are not read as a
        whole then."""
        raise unsupported("read_range")

    def write_bytes(self, path: str, data: bytes) -> Any:
        """Make a file, or replace what is in it."""
        raise fail(errno.EROFS, path)

    def stat(self, path: str) -> Any:
        """What a path is, as `Attr`. Without it, it is found by `list` and `read_bytes`.

        Raises:
            FileNotFoundError: there is none.
        """
        raise unsupported("stat")

    def remove(self, path: str) -> Any:
        """Remove a file or an empty folder."""
        raise fail(errno.EROFS, path)

    def make_folder(self, path: str) -> Any:
        """Make a folder."""
        raise fail(errno.EROFS, path)

    def move(self, path: str, new: str) -> Any:
        """Give a file or a folder, with all that is in it, another path; a file there is replaced.
        Without it files are copied, and folders cannot be renamed."""
        raise unsupported("move")

    # -- calling that ----------------------------------------------------------------------

    def _state(self) -> Paths:
        if "_paths" not in self.__dict__:  # a subclass without a call of __init__
            SimpleFileSystem.__init__(self)
        return self._paths

    def _has(self, method: str) -> bool:
        return getattr(type(self), method) is not getattr(SimpleFileSystem, method)

    @staticmethod
    async def _call(method: Callable[..., Any], *arguments: Any) -> Any:
        if inspect.iscoroutinefunction(method):
            return await method(*arguments)
        found = await asyncio.to_thread(method, *arguments)
        return await found if inspect.isawaitable(found) else found

    async def _names(self, path: str) -> Iterable[str | DirEntry]:
        found: Iterable[str | DirEntry] = await self._call(self.list, path)
        return found

    async def _contents(self, path: str) -> bytes:
        data = await self._call(self.read_bytes, path)
        if not isinstance(data, Bytes):
            raise TypeError(f"read_bytes({path!r}) returned {type(data).__name__} instead of bytes")
        return bytes(data)

    async def _attr(self, path: str) -> Attr:
        if path == "/":
            return Attr(modes.S_IFDIR | 0o777, nlink=2)
        if self._has("stat"):
            attr = await self._call(self.stat, path)
            if not isinstance(attr, Attr):
                raise TypeError(f"stat({path!r}) returned {type(attr).__name__} instead of Attr")
            return attr
        folder, _, name = path.rpartition("/")
        for found in await self._names(folder or "/"):
            folder_here = isinstance(found, DirEntry) and modes.S_ISDIR(found.mode)
            shown = found.name if isinstance(found, DirEntry) else found.removesuffix("/")
            if shown != name:
                continue
            if folder_here or found == name + "/":
                return Attr(modes.S_IFDIR | 0o777, nlink=2)
            return Attr(modes.S_IFREG | 0o666, size=len(await self._contents(path)))
        raise fail(errno.ENOENT, path)

    async def _exists(self, path: str) -> Attr | None:
        node = self._state().get(path)
        if node is not None and node.buffer is not None:
            return self._of_buffer(node, node.buffer)
        try:
            return await self._attr(path)
        except FileNotFoundError:
            return None

    # -- open files ------------------------------------------------------------------------

    @staticmethod
    def _of_buffer(node: PathNode, buffer: Buffer) -> Attr:
        size, when = len(buffer.data), buffer.mtime_ns
        return Attr(
            modes.S_IFREG | 0o666, 0, size, int(not node.gone), 0, 0, 0, when, when, when,
            (size + 511) // 512,
        )  # fmt: skip

    def _room(self, buffer: Buffer, size: int) -> None:
        """Count what a buffer grows, or shrinks, to."""
        if size > LARGEST:
            raise fail(errno.EFBIG)
        if self._held + size - len(buffer.data) > MOST_HELD:
            raise fail(errno.ENOSPC)
        self._held += size - len(buffer.data)

    async def _buffered(self, node: PathNode, *, empty: bool = False) -> Buffer:
        """What is in a file, read if it is not yet; with one use of it counted."""
        buffer = node.buffer
        if buffer is None:
            buffer = node.buffer = Buffer(mtime_ns=time.time_ns())
            buffer.opens = 1
            try:
                async with buffer.busy:
                    data = b"" if empty else await self._contents(node.path)
                    self._room(buffer, len(data))
                    buffer.data += data
            except BaseException:
                node.buffer = None
                raise
            return buffer
        buffer.opens += 1
        async with buffer.busy:  # it may be read just now
            if node.buffer is not buffer:
                raise fail(errno.EIO, node.path)
        return buffer

    async def _written(self, node: PathNode, buffer: Buffer) -> None:
        """Write what was changed in a file."""
        async with buffer.busy:
            if buffer.changed and not node.gone:
                buffer.changed = False
                try:
                    await self._call(self.write_bytes, node.path, bytes(buffer.data))
                except BaseException:
                    buffer.changed = True
                    raise

    async def _let_go(self, node: PathNode, buffer: Buffer) -> None:
        try:
            await self._written(node, buffer)
        finally:
            buffer.opens -= 1
            if not buffer.opens:
                self._held -= len(buffer.data)
                if node.buffer is buffer:
                    node.buffer = None

    async def open(self, ctx: Context, node: PathNode, flags: int) -> Opened:
        whole = flags & _ACCESS or flags & _TRUNC or not self._has("read_range")
        if node.buffer is None:
            if node.gone:
                raise fail(errno.ENOENT, node.path)
            if (await self._attr(node.path)).is_folder:
                raise fail(errno.EISDIR, node.path)
            if not whole:
                return Opened((flags, None))
        if flags & (_ACCESS | _TRUNC) and not self._has("write_bytes"):
            raise fail(errno.EROFS, node.path)
        buffer = await self._buffered(node, empty=bool(flags & _TRUNC))
        if flags & _TRUNC:
            self._cut(buffer, 0)
        return Opened((flags, buffer))

    def _cut(self, buffer: Buffer, size: int) -> None:
        self._room(buffer, size)
        if size < len(buffer.data):
            del buffer.data[size:]
        else:
            buffer.data += bytes(size - len(buffer.data))
        buffer.changed, buffer.mtime_ns = True, time.time_ns()

    async def create(
        self, ctx: Context, parent: PathNode, name: str, mode: int, flags: int
    ) -> tuple[Entry, Opened]:
        node = await self._new(parent, name)
        if not self._has("write_bytes"):
            raise fail(errno.EROFS, node.path)
        buffer = await self._buffered(node, empty=True)
        buffer.changed = True
        return Entry(node, self._of_buffer(node, buffer)), Opened((flags, buffer))

    async def read(
        self, ctx: Context, node: PathNode, handle: Any, offset: int, size: int
    ) -> Bytes:
        buffer = handle[1] or node.buffer
        if buffer is None:
            if node.gone:  # its path may lead to another file by now
                raise fail(errno.ESTALE, node.path)
            found: Bytes = await self._call(self.read_range, node.path, offset, size)
            return found
        return bytes(memoryview(buffer.data)[offset : offset + size])

    async def write(
        self, ctx: Context, node: PathNode, handle: Any, offset: int, data: memoryview
    ) -> int:
        flags, buffer = handle
        if buffer is None or not flags & _ACCESS:
            raise fail(errno.EBADF, node.path)
        if flags & _APPEND:
            offset = len(buffer.data)
        if offset + len(data) > len(buffer.data):
            self._room(buffer, offset + len(data))
            buffer.data += bytes(max(offset - len(buffer.data), 0))
        buffer.data[offset : offset + len(data)] = data
        buffer.changed, buffer.mtime_ns = True, time.time_ns()
        return len(data)

    async def flush(self, ctx: Context, node: PathNode, handle: Any) -> None:
        if handle[1] is not None:
            await self._written(node, handle[1])

    async def fsync(self, ctx: Context, node: PathNode, handle: Any, data_only: bool) -> None:
        await self.flush(ctx, node, handle)

    async def release(self, ctx: Context, node: PathNode, handle: Any) -> None:
        if handle[1] is not None:
            await self._let_go(node, handle[1])

    # -- nodes -----------------------------------------------------------------------------

    @property
    def root(self) -> PathNode:
        return self._state().root

    def path_of(self, node: PathNode) -> str:
        return node.path.lstrip("/")

    async def lookup(self, ctx: Context, parent: PathNode, name: str) -> Entry:
        path = joined(parent.path, name)
        attr = await self._exists(path)
        if attr is None or parent.gone:
            raise fail(errno.ENOENT, path)
        return Entry(self._state().node(path), attr)

    async def getattr(self, ctx: Context, node: PathNode, handle: Any = None) -> Attr:
        buffer = (handle[1] if isinstance(handle, tuple) else None) or node.buffer
        if buffer is not None:
            return self._of_buffer(node, buffer)
        if node.gone:
            raise fail(errno.ENOENT, node.path)
        return await self._attr(node.path)

    async def setattr(
        self, ctx: Context, node: PathNode, changes: SetAttr, handle: Any = None
    ) -> Attr:
        if changes.size is not None:
            if node.buffer is None and (await self._attr(node.path)).is_folder:
                raise fail(errno.EISDIR, node.path)
            buffer = await self._buffered(node, empty=not changes.size)
            try:
                self._cut(buffer, changes.size)
            finally:
                if buffer.opens == 1:
                    await self._let_go(node, buffer)
                else:
                    buffer.opens -= 1
        return await self.getattr(ctx, node, handle)

    async def _new(self, parent: PathNode, name: str) -> PathNode:
        """The node of a path where nothing is yet."""
        path = joined(parent.path, name)
        if parent.gone:
            raise fail(errno.ENOENT, path)
        if await self._exists(path) is not None:
            raise fail(errno.EEXIST, path)
        return self._state().node(path)

    async def mknod(self, ctx: Context, parent: PathNode, name: str, mode: int, rdev: int) -> Entry:
        node = await self._new(parent, name)
        if modes.S_IFMT(mode) not in (0, modes.S_IFREG):
            raise fail(errno.EPERM, node.path)
        await self._call(self.write_bytes, node.path, b"")
        return Entry(node, await self.getattr(ctx, node))

    async def mkdir(self, ctx: Context, parent: PathNode, name: str, mode: int) -> Entry:
        node = await self._new(parent, name)
        await self._call(self.make_folder, node.path)
        return Entry(node, await self._attr(node.path))

    async def unlink(self, ctx: Context, parent: PathNode, name: str) -> None:
        await self._remove(joined(parent.path, name), folder=False)

    async def rmdir(self, ctx: Context, parent: PathNode, name: str) -> None:
        await self._remove(joined(parent.path, name), folder=True)

    async def _remove(self, path: str, *, folder: bool) -> None:
        attr = await self._exists(path)
        if attr is None:
            raise fail(errno.ENOENT, path)
        if attr.is_folder and not folder:
            raise fail(errno.EISDIR, path)
        if folder and not attr.is_folder:
            raise fail(errno.ENOTDIR, path)
        if folder and any(True for _ in await self._names(path)):
            raise fail(errno.ENOTEMPTY, path)
        node = self._state().get(path)
        if node is not None and node.buffer is not None:
            await self._written(node, node.buffer)  # it may not be there at all yet
        await self._call(self.remove, path)
        self._state().removed(path)

    async def rename(
        self, ctx: Context, parent: PathNode, name: str, new_parent: PathNode, new_name: str,
        flags: int,
    ) -> None:  # fmt: skip
        old, new = joined(parent.path, name), joined(new_parent.path, new_name)
        if flags & ~_NOREPLACE:
            raise fail(errno.EINVAL, old)
        source, target = await self._exists(old), await self._exists(new)
        if source is None:
            raise fail(errno.ENOENT, old)
        if target is not None:
            if flags & _NOREPLACE:
                raise fail(errno.EEXIST, new)
            if old == new:
                return
            if source.is_folder and not target.is_folder:
                raise fail(errno.ENOTDIR, new)
            if target.is_folder and not source.is_folder:
                raise fail(errno.EISDIR, new)
        if new.startswith(old + "/"):
            raise fail(errno.EINVAL, new)
        if target is not None and target.is_folder:
            await self._remove(new, folder=True)
        node = self._state().get(old)
        if node is not None and node.buffer is not None:
            await self._written(node, node.buffer)
        if self._has("move"):
            await self._call(self.move, old, new)
        elif source.is_folder:
            raise fail(errno.EXDEV, old)
        else:
            await self._call(self.write_bytes, new, await self._contents(old))
            await self._call(self.remove, old)
        self._state().moved(old, new)

    # -- folders ---------------------------------------------------------------------------

    async def readdir(self, ctx: Context, node: PathNode, handle: Any) -> Iterable[DirEntry]:
        unknown = 0 if self._has("stat") else modes.S_IFREG
        found: dict[str, DirEntry] = {}
        for one in await self._names(node.path):
            if isinstance(one, DirEntry):
                found[one.name] = one
            elif one.endswith("/"):
                found[one[:-1]] = DirEntry(one[:-1], modes.S_IFDIR)
            else:
                found[one] = DirEntry(one, unknown)
        for name in self._state().buffered(node.path):  # made, but perhaps not written yet
            found.setdefault(name, DirEntry(name, modes.S_IFREG))
        return found.values()

    async def statfs(self, ctx: Context, node: PathNode) -> Statistics:
        plenty = 1 << 40
        return Statistics(plenty, plenty, plenty, plenty, plenty)
