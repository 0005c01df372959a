"""`MemFs`: a file system in the program's memory."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import time
import uuid
import weakref
from collections.abc import Iterator
from typing import Any, BinaryIO

from sandlot.errors import ConfigError
from sandlot.filesystem.base import CACHES, FileSystem, quick, unsupported
from sandlot.filesystem.host.syscalls import keep_freed_memory
from sandlot.filesystem.locks import LockTable, owner_of
from sandlot.filesystem.memory import files, tree
from sandlot.filesystem.memory.contents import LARGEST
from sandlot.filesystem.memory.room import PAGE, Room, half_of_memory
from sandlot.filesystem.memory.tree import Node, OpenFile, error
from sandlot.filesystem.types import (
    Attr,
    Context,
    DirEntry,
    Entry,
    Lock,
    MountPoint,
    Opened,
    SetAttr,
    Statistics,
)
from sandlot.sizes import parse_size

# Of the guest's open(2), whatever the host is.
_TRUNC, _APPEND = 0o1000, 0o2000
_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 1, 2, 0x10
_DATA, _HOLE = 3, 4
_DAY = 86400 * 1_000_000_000
_LONG = 86400.0
_STEP = 16 << 20
"""Bytes that are copied or allocated at once, before others have their turn."""
_NAMESPACES = ("user.", "trusted.", "security.")


class MemFs(FileSystem):
    """A file system in the program's memory: all that POSIX has, quickly, and gone afterwards.

    Args:
        size: bytes it may hold, as a number or like `"64M"`; half of the host's memory unless told.
            Contents count in pages of 4096 bytes. What comes above is ENOSPC in the guest.
        nodes: files, folders and names of links it may hold; one a page of `size` unless told.
        cache: `"fast"` for one sandbox; `"coherent"` for several that see one another's changes.
        mode: permissions of its root.
        uid, gid: owner of its root.

    Raises:
        ConfigError: an argument is wrong.

    Example:
        >>> volumes = {"/cache": MemFs(size="64M")}
    """

    tells_changes: bool = False
    absent_timeout: float = 0.0

    def __init__(
        self, size: int | str | None = None, *, nodes: int | None = None, cache: str = "fast",
        mode: int = 0o1777, uid: int = 0, gid: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        if cache not in CACHES:
            raise ConfigError(f"cache {cache!r} is unknown", hint=f"use one of {', '.join(CACHES)}")
        self.cache = cache
        self.tells_changes = self.remote_locks = cache != "fast"
        self.absent_timeout = self._timeout = 0.0 if cache == "none" else _LONG
        self.room = Room(half_of_memory() if size is None else parse_size(size), nodes)
        self.identity = uuid.uuid4().hex
        self.locks = LockTable()
        self._next = 2
        self._root = Node(self.room, 1, stat.S_IFDIR | mode & 0o7777, uid, gid)
        self._root.nlink = 2
        self._orphans: weakref.WeakValueDictionary[int, Node] = weakref.WeakValueDictionary()
        self._kept: list[Node] = []

    @property
    def root(self) -> Node:
        return self._root

    def attr_timeout(self, node: Node) -> float:
        return self._timeout

    def path_of(self, node: Node) -> str:
        return tree.path(node)

    async def start(self, mount: MountPoint) -> None:
        if self.mounts and self.cache == "fast":
            raise ConfigError(
                "this MemFs is mounted already, and keeps what a guest has not written yet in it",
                hint='make it with cache="coherent" to share it between sandboxes',
            )
        keep_freed_memory()
        await super().start(mount)

    async def stop(self, mount: MountPoint) -> None:
        await super().stop(mount)
        self.locks.release(mount.sandbox, mount.path)

    # -- contents in a file, and for snapshots -----------------------------------------------

    @property
    def held(self) -> dict[str, Any] | None:
        if self.cache != "fast" or type(self) is not MemFs:
            return None
        return {"size": self.room.limit, "mode": stat.S_IMODE(self._root.mode)}

    def dump(self, file: BinaryIO) -> None:
        """Write everything it holds to a binary file, also files that are open but have no name."""
        files.dump(file, self._root, list(self._orphans.values()), self.identity)

    def load(self, file: BinaryIO) -> None:
        """Hold what was dumped into a file, in place of what it holds. Nothing may be mounted.

        Raises:
            SnapshotDamaged: the file is none of these, or cut off.
            OSError: it is more than fits (ENOSPC).
        """
        if self.mounts:
            raise ConfigError("a MemFs that is mounted cannot be loaded")
        room = Room(self.room.limit, self.room.most_nodes)
        found = files.load(file, room)
        self.room, self.identity, self._root = room, found.identity, found.root
        self._next = found.highest + 1
        self._orphans = weakref.WeakValueDictionary({node.ino: node for node in found.orphans})
        self._kept = found.orphans  # until they are asked for by `recall`

    def save(self, nodes: list[Any], handles: list[tuple[Any, Any, int]]) -> dict[str, Any]:
        return {
            "memory": self.identity,
            "nodes": [node.ino for node in nodes],
            "handles": [[node.ino, getattr(handle, "flags", 0)] for node, handle, _ in handles],
        }

    async def recall(
        self, saved: dict[str, Any], nodes: int, handles: int
    ) -> tuple[list[Any], list[Any]]:
        if saved.get("memory") != self.identity:
            return await super().recall(saved, nodes, handles)
        known = self._numbered()
        self._kept = []
        return (
            [known.get(ino) for ino in saved["nodes"]],
            [OpenFile(flags) if ino in known else None for ino, flags in saved["handles"]],
        )

    def _numbered(self) -> dict[int, Node]:
        known = {node.ino: node for node in self._orphans.values()}
        look = [self._root]
        while look:
            node = look.pop()
            known[node.ino] = node
            look += (node.entries or {}).values()
        return known

    # -- names and nodes -------------------------------------------------------------------

    def _entry(self, node: Node) -> Entry:
        return Entry(node, node.attr(), self._timeout, self._timeout)

    def _told(self, ctx: Context, node: Node, *, data: bool = False) -> None:
        """Others may have been told otherwise."""
        if len(self.mounts) > 1:
            self.changed(node, data=data, by=ctx)

    def _named(self, ctx: Context, parent: Node, name: str) -> None:
        if len(self.mounts) > 1:
            self.changed_name(parent, name, by=ctx)
            self.changed(parent, by=ctx)

    @quick
    async def lookup(self, ctx: Context, parent: Node, name: str) -> Entry:
        return self._entry(tree.found(parent, name))

    @quick
    async def getattr(self, ctx: Context, node: Node, handle: Any = None) -> Attr:
        return node.attr()

    @quick
    async def setattr(self, ctx: Context, node: Node, changes: SetAttr, handle: Any = None) -> Attr:
        if changes.size is not None:
            if node.contents is None:
                raise error(errno.EISDIR if node.entries is not None else errno.EINVAL)
            node.contents.truncate(changes.size)
            node.mtime = time.time_ns()
        if changes.mode is not None:
            node.mode = node.mode & ~0o7777 | changes.mode & 0o7777
        if changes.uid is not None:
            node.uid = changes.uid
        if changes.gid is not None:
            node.gid = changes.gid
        if changes.atime_ns is not None:
            node.atime = changes.atime_ns
        if changes.mtime_ns is not None:
            node.mtime = changes.mtime_ns
        node.ctime = changes.ctime_ns if changes.ctime_ns is not None else time.time_ns()
        self._told(ctx, node, data=changes.size is not None)
        return node.attr()

    @quick
    async def readlink(self, ctx: Context, node: Node) -> str:
        if node.target is None:
            raise error(errno.EINVAL)
        return node.target

    def _make(self, ctx: Context, parent: Node, name: str, mode: int) -> Node:
        tree.check_open(parent, name)
        gid = ctx.gid
        if parent.mode & stat.S_ISGID:  # what is made there belongs to the folder's group
            gid = parent.gid
            if stat.S_ISDIR(mode):
                mode |= stat.S_ISGID
        node = Node(self.room, self._next, mode, ctx.uid, gid)
        self._next += 1
        return node

    def _add(self, ctx: Context, parent: Node, name: str, node: Node) -> Entry:
        tree.add(parent, name, node)
        self._named(ctx, parent, name)
        return self._entry(node)

    @quick
    async def mknod(self, ctx: Context, parent: Node, name: str, mode: int, rdev: int) -> Entry:
        kind = mode & 0o170000
        if not kind:
            mode |= stat.S_IFREG
        elif kind in (stat.S_IFDIR, stat.S_IFLNK):
            raise error(errno.EINVAL, name)
        node = self._make(ctx, parent, name, mode)
        node.rdev = rdev
        return self._add(ctx, parent, name, node)

    @quick
    async def mkdir(self, ctx: Context, parent: Node, name: str, mode: int) -> Entry:
        if parent.nlink >= tree.MOST_LINKS * 100:
            raise error(errno.EMLINK, name)
        node = self._make(ctx, parent, name, stat.S_IFDIR | mode & 0o7777)
        return self._add(ctx, parent, name, node)

    @quick
    async def symlink(self, ctx: Context, parent: Node, name: str, target: str) -> Entry:
        node = self._make(ctx, parent, name, stat.S_IFLNK | 0o777)
        node.charge(len(os.fsencode(target)))
        node.target = target
        return self._add(ctx, parent, name, node)

    @quick
    async def link(self, ctx: Context, node: Node, new_parent: Node, new_name: str) -> Entry:
        tree.link(node, new_parent, new_name)
        self._named(ctx, new_parent, new_name)
        self._told(ctx, node)
        return self._entry(node)

    def _lost_name(self, ctx: Context, node: Node) -> None:
        if not node.nlink:
            self._orphans[node.ino] = node
        self._told(ctx, node)

    @quick
    async def unlink(self, ctx: Context, parent: Node, name: str) -> None:
        node = tree.remove(parent, name, folder=False)
        self._named(ctx, parent, name)
        self._lost_name(ctx, node)

    @quick
    async def rmdir(self, ctx: Context, parent: Node, name: str) -> None:
        node = tree.remove(parent, name, folder=True)
        self._named(ctx, parent, name)
        self._lost_name(ctx, node)

    @quick
    async def rename(
        self, ctx: Context, parent: Node, name: str, new_parent: Node, new_name: str, flags: int
    ) -> None:
        node, other = tree.rename(parent, name, new_parent, new_name, flags)
        self._named(ctx, parent, name)
        self._named(ctx, new_parent, new_name)
        self._told(ctx, node)
        if other is not None:
            self._lost_name(ctx, other)

    # -- open files ------------------------------------------------------------------------

    @quick
    async def open(self, ctx: Context, node: Node, flags: int) -> Opened:
        if node.contents is None:
            raise error(errno.EISDIR if node.entries is not None else errno.ENXIO)
        if flags & _TRUNC and node.contents.size:
            node.contents.truncate(0)
            node.touch()
            self._told(ctx, node, data=True)
        return Opened(OpenFile(flags), keep_cache=self.cache != "none")

    @quick
    async def create(
        self, ctx: Context, parent: Node, name: str, mode: int, flags: int
    ) -> tuple[Entry, Opened]:
        node = self._make(ctx, parent, name, stat.S_IFREG | mode & 0o7777)
        entry = self._add(ctx, parent, name, node)
        return entry, Opened(OpenFile(flags), keep_cache=self.cache != "none")

    @quick
    async def read(self, ctx: Context, node: Node, handle: Any, offset: int, size: int) -> bytes:
        contents = node.contents
        if contents is None:
            raise error(errno.EISDIR)
        atime = node.atime
        if atime <= node.mtime or atime <= node.ctime or time.time_ns() - atime > _DAY:
            node.atime = time.time_ns()  # as relatime does it
        return contents.read(offset, size)

    @quick
    async def write(
        self, ctx: Context, node: Node, handle: Any, offset: int, data: memoryview
    ) -> int:
        contents = node.contents
        if contents is None:
            raise error(errno.EISDIR)
        moved = handle.flags & _APPEND and offset != contents.size
        if moved:
            offset = contents.size
        # A guest that writes back what it cached takes no fewer bytes for an answer.
        written = contents.write(offset, data, whole=self.cache == "fast")
        node.mtime = node.ctime = time.time_ns()
        if len(self.mounts) > 1:
            # Where it was written elsewhere than the guest believes, it has to look as well.
            self.changed(node, by=None if moved else ctx)
        return written

    @quick
    async def release(self, ctx: Context, node: Node, handle: OpenFile) -> None:
        if handle.locked is not None:  # flock(2) ends with the open file
            self.locks.drop(node, handle.locked)

    @quick
    async def fsync(self, ctx: Context, node: Node, handle: Any, data_only: bool) -> None:
        return None

    @quick
    async def fallocate(
        self, ctx: Context, node: Node, handle: Any, offset: int, length: int, mode: int
    ) -> None:
        contents, end = node.contents, offset + length
        if contents is None:
            raise error(errno.ENODEV)
        if length <= 0:
            raise error(errno.EINVAL)
        if mode & ~(_KEEP_SIZE | _PUNCH_HOLE | _ZERO_RANGE):
            raise error(errno.EOPNOTSUPP)
        if mode & _PUNCH_HOLE:
            if mode != _PUNCH_HOLE | _KEEP_SIZE:
                raise error(errno.EOPNOTSUPP)
            contents.punch(offset, end)
        else:
            if not mode & _KEEP_SIZE and end > LARGEST:
                raise error(errno.EFBIG)
            contents.check_room(offset, end)
            if mode & _ZERO_RANGE:
                contents.punch(offset, end)
            for start in range(offset, end, _STEP):
                if start > offset:
                    await asyncio.sleep(0)
                contents.allocate(start, min(start + _STEP, end))
            if not mode & _KEEP_SIZE:
                contents.size = max(contents.size, end)
        node.touch()
        self._told(ctx, node, data=True)

    @quick
    async def lseek(self, ctx: Context, node: Node, handle: Any, offset: int, whence: int) -> int:
        contents = node.contents
        if contents is None or whence not in (_DATA, _HOLE):
            raise error(errno.EINVAL)
        if offset >= contents.size:
            raise error(errno.ENXIO)
        found = contents.data_from(offset) if whence == _DATA else contents.hole_from(offset)
        if found is None:
            raise error(errno.ENXIO)
        return found

    @quick
    async def copy_file_range(
        self, ctx: Context, node: Node, handle: Any, offset: int, to_node: Node, to_handle: Any,
        to_offset: int, length: int,
    ) -> int:  # fmt: skip
        source, target = node.contents, to_node.contents
        if source is None or target is None:
            raise error(errno.EINVAL)
        length = min(length, _STEP)
        if source is target and abs(offset - to_offset) < length:
            raise error(errno.EINVAL)
        copied = target.copy_from(source, offset, to_offset, length)
        if copied:
            to_node.touch()
            self._told(ctx, to_node, data=True)
        return copied

    # -- folders ---------------------------------------------------------------------------

    @property
    def unopened(self) -> bool:
        return self.opens_as_is

    @quick
    async def opendir(self, ctx: Context, node: Node) -> Opened:
        node.folder()
        return Opened(OpenFile(0), keep_cache=self.lists_as_is)

    @quick
    async def readdir(self, ctx: Context, node: Node, handle: Any) -> Iterator[DirEntry]:
        node.atime = max(node.atime, time.time_ns())
        return self._listed(node)

    def _listed(self, node: Node) -> Iterator[DirEntry]:
        """What was there when it began, and still is."""
        entries = node.folder()
        for name in node.names():
            child = entries.get(name)
            if child is not None:
                yield DirEntry(name, child.mode, child.ino)

    @quick
    async def readdirplus(self, ctx: Context, node: Node, handle: Any) -> Iterator[DirEntry]:
        node.atime = max(node.atime, time.time_ns())
        return self._listed_plus(node)

    def _listed_plus(self, node: Node) -> Iterator[DirEntry]:
        entries = node.folder()
        for name in node.names():
            child = entries.get(name)
            if child is not None:
                yield DirEntry(name, child.mode, child.ino, self._entry(child))

    @quick
    async def releasedir(self, ctx: Context, node: Node, handle: Any) -> None:
        return None

    @quick
    async def fsyncdir(self, ctx: Context, node: Node, handle: Any, data_only: bool) -> None:
        return None

    @quick
    async def statfs(self, ctx: Context, node: Node) -> Statistics:
        room = self.room
        free = room.free_pages
        files_free = max(room.most_nodes - room.nodes, 0)
        return Statistics(room.limit // PAGE, free, free, room.most_nodes, files_free, PAGE)

    # -- attributes, locks -----------------------------------------------------------------

    @quick
    async def getxattr(self, ctx: Context, node: Node, name: str) -> bytes:
        value = (node.xattrs or {}).get(name)
        if value is None:
            raise error(errno.ENODATA if name.startswith(_NAMESPACES) else errno.EOPNOTSUPP, name)
        return value

    @quick
    async def setxattr(self, ctx: Context, node: Node, name: str, value: bytes, flags: int) -> None:
        if not name.startswith(_NAMESPACES):
            raise error(errno.EOPNOTSUPP, name)
        tree.set_xattr(node, name, value, flags)
        self._told(ctx, node)

    @quick
    async def listxattr(self, ctx: Context, node: Node) -> list[str]:
        return list(node.xattrs or ())

    @quick
    async def removexattr(self, ctx: Context, node: Node, name: str) -> None:
        if not node.xattrs or name not in node.xattrs:
            raise error(errno.ENODATA, name)
        value = node.xattrs.pop(name)
        node.charge(-len(value) - len(os.fsencode(name)))
        node.ctime = time.time_ns()
        self._told(ctx, node)

    @quick
    async def getlk(self, ctx: Context, node: Node, handle: Any, lock: Lock) -> Lock | None:
        if not self.remote_locks:
            raise unsupported("getlk")
        return self.locks.get(ctx, node, lock)

    @quick
    async def setlk(self, ctx: Context, node: Node, handle: Any, lock: Lock, wait: bool) -> None:
        if not self.remote_locks:
            raise unsupported("setlk")
        await self.locks.set(ctx, node, lock, wait)
        if lock.whole:
            handle.locked = owner_of(ctx, lock)
