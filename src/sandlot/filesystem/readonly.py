"""`ReadOnly`: a file system of which nothing can be changed."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterable, Iterable
from typing import Any

from sandlot.filesystem.base import FileSystem, file_system, quick
from sandlot.filesystem.types import (
    Attr,
    Buffer,
    Context,
    DirEntry,
    Entry,
    Lock,
    MountPoint,
    Opened,
    SetAttr,
    Statistics,
)

_ACCESS, _TRUNC = 3, 0o1000
_REFUSED = frozenset({
    "setattr", "mknod", "mkdir", "unlink", "rmdir", "symlink", "rename", "link", "create", "write",
    "fallocate", "copy_file_range", "setxattr", "removexattr",
})  # fmt: skip


def refuse() -> OSError:
    """What is said of every change."""
    return OSError(errno.EROFS, os.strerror(errno.EROFS))


class ReadOnly(FileSystem):
    """Another file system, of which nothing can be changed: every attempt is EROFS.

    Args:
        fs: the file system that is read.

    Example:
        >>> volumes = {"/data": ReadOnly(MyFs())}
    """

    readonly = True

    tells_changes: bool = False
    absent_timeout: float = 0.0

    def __init__(self, fs: FileSystem) -> None:
        super().__init__()
        self.inner = fs = file_system(fs, "a ReadOnly")
        # Nothing is written, so that there is nothing to keep back.
        self.cache = "coherent" if fs.cache == "fast" else fs.cache
        self.operation_timeout = fs.operation_timeout
        self.remote_locks = fs.remote_locks
        self.tells_changes = fs.tells_changes
        self.absent_timeout = fs.absent_timeout

    @property
    def root(self) -> Any:
        return self.inner.root

    @property
    def flushes(self) -> bool:
        return type(self).flush is not ReadOnly.flush or self.inner.flushes

    def is_quick(self, method: str) -> bool:
        return method in _REFUSED or self.inner.is_quick(method)

    def attr_timeout(self, node: Any) -> float:
        return self.inner.attr_timeout(node)

    def path_of(self, node: Any) -> str:
        return self.inner.path_of(node)

    def adopt(self, uid: int, gid: int) -> None:
        self.inner.adopt(uid, gid)

    async def start(self, mount: MountPoint) -> None:
        await super().start(mount)
        await self.inner.start(mount)

    async def stop(self, mount: MountPoint) -> None:
        await super().stop(mount)
        await self.inner.stop(mount)

    def save(self, nodes: list[Any], handles: list[tuple[Any, Any, int]]) -> dict[str, Any]:
        return self.inner.save(nodes, handles)

    async def recall(
        self, saved: dict[str, Any], nodes: int, handles: int
    ) -> tuple[list[Any], list[Any]]:
        return await self.inner.recall(saved, nodes, handles)

    # -- what is passed on -----------------------------------------------------------------

    async def lookup(self, ctx: Context, parent: Any, name: str) -> Entry:
        return await self.inner.lookup(ctx, parent, name)

    async def getattr(self, ctx: Context, node: Any, handle: Any = None) -> Attr:
        return await self.inner.getattr(ctx, node, handle)

    async def readlink(self, ctx: Context, node: Any) -> str:
        return await self.inner.readlink(ctx, node)

    async def open(self, ctx: Context, node: Any, flags: int) -> Opened:
        if flags & _ACCESS or flags & _TRUNC:
            raise refuse()
        return await self.inner.open(ctx, node, flags)

    async def read(self, ctx: Context, node: Any, handle: Any, offset: int, size: int) -> Buffer:
        return await self.inner.read(ctx, node, handle, offset, size)

    async def flush(self, ctx: Context, node: Any, handle: Any) -> None:
        await self.inner.flush(ctx, node, handle)

    async def release(self, ctx: Context, node: Any, handle: Any) -> None:
        await self.inner.release(ctx, node, handle)

    async def fsync(self, ctx: Context, node: Any, handle: Any, data_only: bool) -> None:
        await self.inner.fsync(ctx, node, handle, data_only)

    async def lseek(self, ctx: Context, node: Any, handle: Any, offset: int, whence: int) -> int:
        return await self.inner.lseek(ctx, node, handle, offset, whence)

    @property
    def unopened(self) -> bool:
        return self.opens_as_is and self.inner.unopened

    async def opendir(self, ctx: Context, node: Any) -> Opened:
        return await self.inner.opendir(ctx, node)

    async def readdir(
        self, ctx: Context, node: Any, handle: Any
    ) -> Iterable[DirEntry] | AsyncIterable[DirEntry]:
        return await self.inner.readdir(ctx, node, handle)

    async def readdirplus(
        self, ctx: Context, node: Any, handle: Any
    ) -> Iterable[DirEntry] | AsyncIterable[DirEntry]:
        return await self.inner.readdirplus(ctx, node, handle)

    async def releasedir(self, ctx: Context, node: Any, handle: Any) -> None:
        await self.inner.releasedir(ctx, node, handle)

    async def fsyncdir(self, ctx: Context, node: Any, handle: Any, data_only: bool) -> None:
        await self.inner.fsyncdir(ctx, node, handle, data_only)

    async def statfs(self, ctx: Context, node: Any) -> Statistics:
        found = await self.inner.statfs(ctx, node)
        found.free = found.available = found.files_free = 0
        return found

    async def getxattr(self, ctx: Context, node: Any, name: str) -> bytes:
        return await self.inner.getxattr(ctx, node, name)

    async def listxattr(self, ctx: Context, node: Any) -> list[str]:
        return await self.inner.listxattr(ctx, node)

    async def getlk(self, ctx: Context, node: Any, handle: Any, lock: Lock) -> Lock | None:
        return await self.inner.getlk(ctx, node, handle, lock)

    async def setlk(self, ctx: Context, node: Any, handle: Any, lock: Lock, wait: bool) -> None:
        await self.inner.setlk(ctx, node, handle, lock, wait)

    # -- what is refused -------------------------------------------------------------------

    @quick
    async def setattr(self, ctx: Context, node: Any, changes: SetAttr, handle: Any = None) -> Attr:
        raise refuse()

    @quick
    async def mknod(self, ctx: Context, parent: Any, name: str, mode: int, rdev: int) -> Entry:
        raise refuse()

    @quick
    async def mkdir(self, ctx: Context, parent: Any, name: str, mode: int) -> Entry:
        raise refuse()

    @quick
    async def unlink(self, ctx: Context, parent: Any, name: str) -> None:
        raise refuse()

    @quick
    async def rmdir(self, ctx: Context, parent: Any, name: str) -> None:
        raise refuse()

    @quick
    async def symlink(self, ctx: Context, parent: Any, name: str, target: str) -> Entry:
        raise refuse()

    @quick
    async def rename(
        self, ctx: Context, parent: Any, name: str, new_parent: Any, new_name: str, flags: int
    ) -> None:
        raise refuse()

    @quick
    async def link(self, ctx: Context, node: Any, new_parent: Any, new_name: str) -> Entry:
        raise refuse()

    @quick
    async def create(
        self, ctx: Context, parent: Any, name: str, mode: int, flags: int
    ) -> tuple[Entry, Opened]:
        raise refuse()

    @quick
    async def write(
        self, ctx: Context, node: Any, handle: Any, offset: int, data: memoryview
    ) -> int:
        raise refuse()

    @quick
    async def fallocate(
        self, ctx: Context, node: Any, handle: Any, offset: int, length: int, mode: int
    ) -> None:
        raise refuse()

    @quick
    async def copy_file_range(
        self, ctx: Context, node: Any, handle: Any, offset: int, to_node: Any, to_handle: Any,
        to_offset: int, length: int,
    ) -> int:  # fmt: skip
        raise refuse()

    @quick
    async def setxattr(self, ctx: Context, node: Any, name: str, value: bytes, flags: int) -> None:
        raise refuse()

    @quick
    async def removexattr(self, ctx: Context, node: Any, name: str) -> None:
        raise refuse()
