"""`ModelFs`: a file system as plain as can be, for others to be compared with. It is slow, and keeps
whole files in one piece."""

from __future__ import annotations

import errno
import os
import stat
from typing import Any

from sandlot.filesystem.base import FileSystem
from sandlot.filesystem.types import Attr, Context, DirEntry, Entry, Opened, SetAttr

_TRUNC, _APPEND = 0o1000, 0o2000


def fail(number: int) -> OSError:
    """An OSError by its number."""
    return OSError(number, os.strerror(number))


class Item:
    """A node of the model."""

    def __init__(self, ino: int, mode: int, ctx: Context) -> None:
        self.ino = ino
        self.mode = mode
        self.uid, self.gid = ctx.uid, ctx.gid
        self.data = b""
        self.names: dict[str, Item] = {}
        self.target = ""
        self.xattrs: dict[str, bytes] = {}
        self.links = 0

    @property
    def folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    def attr(self) -> Attr:
        size = len(self.data) if stat.S_ISREG(self.mode) else len(os.fsencode(self.target))
        links = self.links
        if self.folder:
            links = 2 + sum(item.folder for item in self.names.values())
        return Attr(self.mode, self.ino, size, links, self.uid, self.gid)

    def holds(self, other: Item) -> bool:
        return self is other or any(item.holds(other) for item in self.names.values())


class ModelFs(FileSystem):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self._root = Item(1, stat.S_IFDIR | 0o755, Context(0, 0, 0))
        self._root.links = 1
        self._last = 1

    @property
    def root(self) -> Item:
        return self._root

    @staticmethod
    def _found(parent: Item, name: str) -> Item:
        if not parent.folder:
            raise fail(errno.ENOTDIR)
        if name not in parent.names:
            raise fail(errno.ENOENT)
        return parent.names[name]

    def _new(self, ctx: Context, parent: Item, name: str, mode: int) -> Item:
        if not parent.folder:
            raise fail(errno.ENOTDIR)
        if name in parent.names:
            raise fail(errno.EEXIST)
        if not parent.links:
            raise fail(errno.ENOENT)
        self._last += 1
        item = parent.names[name] = Item(self._last, mode, ctx)
        item.links = 1
        if parent.mode & stat.S_ISGID:
            item.gid = parent.gid
            if item.folder:
                item.mode |= stat.S_ISGID
        return item

    async def lookup(self, ctx: Context, parent: Item, name: str) -> Entry:
        item = self._found(parent, name)
        return Entry(item, item.attr())

    async def getattr(self, ctx: Context, node: Item, handle: Any = None) -> Attr:
        return node.attr()

    async def setattr(self, ctx: Context, node: Item, changes: SetAttr, handle: Any = None) -> Attr:
        if changes.size is not None:
            if not stat.S_ISREG(node.mode):
                raise fail(errno.EISDIR if node.folder else errno.EINVAL)
            node.data = node.data[: changes.size].ljust(changes.size, b"\0")
        if changes.mode is not None:
            node.mode = stat.S_IFMT(node.mode) | changes.mode
        node.uid = node.uid if changes.uid is None else changes.uid
        node.gid = node.gid if changes.gid is None else changes.gid
        return node.attr()

    async def readlink(self, ctx: Context, node: Item) -> str:
        if not stat.S_ISLNK(node.mode):
            raise fail(errno.EINVAL)
        return node.target

    async def mknod(self, ctx: Context, parent: Item, name: str, mode: int, rdev: int) -> Entry:
        item = self._new(ctx, parent, name, mode)
        return Entry(item, item.attr())

    async def mkdir(self, ctx: Context, parent: Item, name: str, mode: int) -> Entry:
        return await self.mknod(ctx, parent, name, stat.S_IFDIR | mode, 0)

    async def symlink(self, ctx: Context, parent: Item, name: str, target: str) -> Entry:
        item = self._new(ctx, parent, name, stat.S_IFLNK | 0o777)
        item.target = target
        return Entry(item, item.attr())

    async def link(self, ctx: Context, node: Item, new_parent: Item, new_name: str) -> Entry:
        if node.folder:
            raise fail(errno.EPERM)
        self._new(ctx, new_parent, new_name, node.mode)
        new_parent.names[new_name] = node
        node.links += 1
        return Entry(node, node.attr())

    async def unlink(self, ctx: Context, parent: Item, name: str) -> None:
        item = self._found(parent, name)
        if item.folder:
            raise fail(errno.EISDIR)
        del parent.names[name]
        item.links -= 1

    async def rmdir(self, ctx: Context, parent: Item, name: str) -> None:
        item = self._found(parent, name)
        if not item.folder:
            raise fail(errno.ENOTDIR)
        if item.names:
            raise fail(errno.ENOTEMPTY)
        del parent.names[name]
        item.links -= 1

    async def rename(
        self, ctx: Context, parent: Item, name: str, new_parent: Item, new_name: str, flags: int
    ) -> None:
        item = self._found(parent, name)
        other = new_parent.names.get(new_name)
        if flags == 2 and other is None:
            raise fail(errno.ENOENT)
        if flags == 1 and other is not None:
            raise fail(errno.EEXIST)
        if item is other:
            return
        if item.holds(new_parent) or (flags == 2 and other is not None and other.holds(parent)):
            raise fail(errno.EINVAL)
        if flags != 2 and other is not None and other.holds(parent):
            raise fail(errno.ENOTEMPTY)
        if flags == 2 and other is not None:
            parent.names[name] = other
        else:
            if other is not None:
                if item.folder != other.folder:
                    raise fail(errno.ENOTDIR if item.folder else errno.EISDIR)
                if other.names:
                    raise fail(errno.ENOTEMPTY)
                other.links -= 1
            del parent.names[name]
        new_parent.names[new_name] = item

    async def open(self, ctx: Context, node: Item, flags: int) -> Opened:
        if not stat.S_ISREG(node.mode):
            raise fail(errno.EISDIR if node.folder else errno.ENXIO)
        if flags & _TRUNC:
            node.data = b""
        return Opened(flags)

    async def read(self, ctx: Context, node: Item, handle: Any, offset: int, size: int) -> bytes:
        return node.data[offset : offset + size]

    async def write(
        self, ctx: Context, node: Item, handle: Any, offset: int, data: memoryview
    ) -> int:
        if handle & _APPEND:
            offset = len(node.data)
        before = node.data[:offset].ljust(offset, b"\0")
        node.data = before + bytes(data) + node.data[offset + len(data) :]
        return len(data)

    async def fallocate(
        self, ctx: Context, node: Item, handle: Any, offset: int, length: int, mode: int
    ) -> None:
        end = min(offset + length, len(node.data)) if mode & 1 else offset + length
        if not mode & 1:
            node.data = node.data.ljust(end, b"\0")
        if mode & 0x12 and end > offset:
            node.data = node.data[:offset] + bytes(end - offset) + node.data[end:]

    async def readdir(self, ctx: Context, node: Item, handle: Any) -> list[DirEntry]:
        return [DirEntry(name, item.mode, item.ino) for name, item in node.names.items()]

    async def getxattr(self, ctx: Context, node: Item, name: str) -> bytes:
        if name not in node.xattrs:
            raise fail(errno.ENODATA)
        return node.xattrs[name]

    async def setxattr(self, ctx: Context, node: Item, name: str, value: bytes, flags: int) -> None:
        node.xattrs[name] = bytes(value)

    async def listxattr(self, ctx: Context, node: Item) -> list[str]:
        return list(node.xattrs)

    async def removexattr(self, ctx: Context, node: Item, name: str) -> None:
        await self.getxattr(ctx, node, name)
        del node.xattrs[name]
