"""`OverlayFs`: what is changed goes into an upper file system, and the lower one stays as it is."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any, TypeVar

from sandlot.filesystem.base import FileSystem, file_system, quick
from sandlot.filesystem.locks import LockTable, owner_of
from sandlot.filesystem.overlay import saving
from sandlot.filesystem.overlay.layers import PRIVATE, WORK, Handle, Node, Relay, find
from sandlot.filesystem.overlay.merging import Merging, as_root, fail
from sandlot.filesystem.overlay.moving import rename
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

T = TypeVar("T")
_ACCESS, _TRUNC, _CHR = 3, 0o1000, 0o020000


class OverlayFs(FileSystem):
    """Two file systems as one: `upper` over `lower`. What is changed is copied up first; the lower
    one is never changed. In the upper one whiteouts and opaque folders are kept as Linux's
    overlayfs does. A folder of the lower one cannot be renamed (EXDEV; `mv` copies it then).

    Args:
        lower: what is read.
        upper: what is written; it needs device nodes or extended attributes for what is removed.

    Example:
        >>> volumes = {"/app": OverlayFs(HostFs("./src"), MemFs())}
    """

    tells_changes: bool = False
    absent_timeout: float = 0.0

    def __init__(self, lower: FileSystem, upper: FileSystem) -> None:
        super().__init__()
        self.lower = lower = file_system(lower, "an OverlayFs")
        self.upper = upper = file_system(upper, "an OverlayFs")
        caches = {lower.cache, upper.cache}
        self.cache = "none" if "none" in caches else "fast" if caches == {"fast"} else "coherent"
        self.tells_changes = lower.tells_changes and upper.tells_changes
        self.absent_timeout = min(lower.absent_timeout, upper.absent_timeout)
        self.operation_timeout = max(lower.operation_timeout, upper.operation_timeout)
        self.remote_locks = self.cache != "fast"
        self.merging = Merging(lower, upper)
        self.locks = LockTable()
        self._relays: dict[MountPoint, tuple[Relay, Relay]] = {}

    @property
    def root(self) -> Node:
        return self.merging.root

    @property
    def flushes(self) -> bool:
        own = type(self).flush is not OverlayFs.flush
        return own or self.lower.flushes or self.upper.flushes

    def is_quick(self, method: str) -> bool:
        return self.lower.is_quick(method) and self.upper.is_quick(method)

    def attr_timeout(self, node: Node) -> float:
        if node.upper is not None:
            return self.upper.attr_timeout(node.upper)
        return self.lower.attr_timeout(node.lower)

    def path_of(self, node: Node) -> str:
        parts: list[str] = []
        here = node
        while here.names:
            here, name = next(iter(here.names))
            parts.append(name)
        return "/".join(reversed(parts))

    # -- mounting --------------------------------------------------------------------------

    def adopt(self, uid: int, gid: int) -> None:
        self.lower.adopt(uid, gid)
        self.upper.adopt(uid, gid)

    async def start(self, mount: MountPoint) -> None:
        relays = tuple(Relay(self, upper, mount.sandbox, mount.path) for upper in (True, False))
        await self.upper.start(relays[0])
        try:
            await self.lower.start(relays[1])
        except BaseException:
            await self.upper.stop(relays[0])
            raise
        self._relays[mount] = relays[0], relays[1]
        await super().start(mount)

    async def stop(self, mount: MountPoint) -> None:
        await super().stop(mount)
        self.locks.release(mount.sandbox, mount.path)
        relays = self._relays.pop(mount, None)
        if relays is not None:
            await self.upper.stop(relays[0])
            await self.lower.stop(relays[1])

    def relayed(self, relay: Relay, inner: Any, name: str | None, data: bool) -> None:
        """A layer tells of a change: the mount that this relay stands for is told of the whole's."""
        node = self.merging.known(relay.upper, inner)
        if node is None or (not relay.upper and node.upper is not None and not node.folder):
            return
        for mount, relays in self._relays.items():
            if relay in relays:
                if name is None:
                    mount.forget_data(node, data=data)
                else:
                    mount.forget_name(node, name)

    def save(self, nodes: list[Any], handles: list[tuple[Any, Any, int]]) -> dict[str, Any]:
        return saving.save(self.merging, nodes, handles)

    async def recall(
        self, saved: dict[str, Any], nodes: int, handles: int
    ) -> tuple[list[Any], list[Any]]:
        if "overlay" not in saved:
            return await super().recall(saved, nodes, handles)
        return await saving.recall(self.merging, saved)

    # -- names -----------------------------------------------------------------------------

    async def _found(self, ctx: Context, parent: Node, name: str) -> Entry:
        entry = await self.merging.find(ctx, parent, name)
        if entry is None:
            raise fail(errno.ENOENT, name)
        return entry

    async def lookup(self, ctx: Context, parent: Node, name: str) -> Entry:
        if not parent.folder:
            raise fail(errno.ENOTDIR, name)
        return await self._found(ctx, parent, name)

    async def _new(
        self, ctx: Context, parent: Node, name: str, make: Callable[[Any], Awaitable[T]],
        entry_of: Callable[[T], Entry],
    ) -> tuple[Entry, T]:  # fmt: skip
        """Make something in the upper layer, in place of a whiteout if there is one."""
        merging, upper = self.merging, self.upper
        merging.check_there(parent)
        if name.startswith(WORK):
            raise fail(errno.EPERM, name)
        if await merging.find(ctx, parent, name) is not None:
            raise fail(errno.EEXIST, name)
        into = await merging.up(ctx, parent)
        white = await find(upper, ctx, into, name) is not None
        if white:
            await upper.unlink(as_root(ctx), into, name)
        try:
            made = await make(into)
            entry = entry_of(made)
            if entry.attr.is_folder and await merging.below(ctx, parent, name):
                try:
                    await merging.marks.opaque(as_root(ctx), entry.node)
                except BaseException:
                    await upper.rmdir(as_root(ctx), into, name)
                    raise
        except BaseException:
            if white:
                await merging.marks.whiteout(as_root(ctx), into, name)
            raise
        return merging.entry(parent, name, entry, None), made

    async def mknod(self, ctx: Context, parent: Node, name: str, mode: int, rdev: int) -> Entry:
        if mode & 0o170000 == _CHR and rdev == 0:
            raise fail(errno.EPERM, name)  # that is what whiteouts are
        entry, _ = await self._new(
            ctx, parent, name, lambda into: self.upper.mknod(ctx, into, name, mode, rdev), _same
        )
        return entry

    async def mkdir(self, ctx: Context, parent: Node, name: str, mode: int) -> Entry:
        entry, _ = await self._new(
            ctx, parent, name, lambda into: self.upper.mkdir(ctx, into, name, mode), _same
        )
        return entry

    async def symlink(self, ctx: Context, parent: Node, name: str, target: str) -> Entry:
        entry, _ = await self._new(
            ctx, parent, name, lambda into: self.upper.symlink(ctx, into, name, target), _same
        )
        return entry

    async def link(self, ctx: Context, node: Node, new_parent: Node, new_name: str) -> Entry:
        if node.folder:
            raise fail(errno.EPERM, new_name)
        inner = await self.merging.up(ctx, node)
        entry, _ = await self._new(
            ctx, new_parent, new_name,
            lambda into: self.upper.link(ctx, inner, into, new_name), _same,
        )  # fmt: skip
        return entry

    async def create(
        self, ctx: Context, parent: Node, name: str, mode: int, flags: int
    ) -> tuple[Entry, Opened]:
        entry, (_, opened) = await self._new(
            ctx, parent, name, lambda into: self.upper.create(ctx, into, name, mode, flags),
            lambda made: made[0],
        )  # fmt: skip
        opened.handle = Handle(opened.handle, True, flags)
        return entry, opened

    async def unlink(self, ctx: Context, parent: Node, name: str) -> None:
        await self._remove(ctx, parent, name, folder=False)

    async def rmdir(self, ctx: Context, parent: Node, name: str) -> None:
        await self._remove(ctx, parent, name, folder=True)

    async def _remove(self, ctx: Context, parent: Node, name: str, *, folder: bool) -> None:
        merging, upper = self.merging, self.upper
        node: Node = (await self._found(ctx, parent, name)).node
        if folder and not node.folder:
            raise fail(errno.ENOTDIR, name)
        if node.folder and not folder:
            raise fail(errno.EISDIR, name)
        if folder and not await merging.empty(ctx, node):
            raise fail(errno.ENOTEMPTY, name)
        into = await merging.up(ctx, parent)
        up = await find(upper, ctx, into, name)
        if up is not None:
            if folder:
                await merging.clear(ctx, up.node)
            await (upper.rmdir if folder else upper.unlink)(ctx, into, name)
        if await merging.below(ctx, parent, name):
            await merging.marks.whiteout(as_root(ctx), into, name)
        node.names.pop((parent, name), None)
        if not folder and up is None:
            merging.more_names(node, -1)

    async def rename(
        self, ctx: Context, parent: Node, name: str, new_parent: Node, new_name: str, flags: int
    ) -> None:
        await rename(self.merging, ctx, parent, name, new_parent, new_name, flags)

    # -- nodes -----------------------------------------------------------------------------

    def _top(self, node: Node) -> tuple[FileSystem, Any]:
        """The layer that a node is read from, and its node there."""
        if node.upper is not None:
            return self.upper, node.upper
        if node.lower is None:
            raise fail(errno.ENOENT)
        return self.lower, node.lower

    async def _follow(
        self, ctx: Context, node: Node, handle: Handle
    ) -> tuple[FileSystem, Any, Any]:
        """The layer, its node and its open file. What was opened before it was copied up follows."""
        if handle.upper:
            return self.upper, node.upper, handle.inner
        if node.upper is None:
            return self.lower, node.lower, handle.inner
        opened = await self.upper.open(ctx, node.upper, handle.flags & ~_TRUNC)
        if handle.upper:  # another one was quicker
            await self.upper.release(ctx, node.upper, opened.handle)
        else:
            old, handle.inner, handle.upper = handle.inner, opened.handle, True
            await self.lower.release(ctx, node.lower, old)
        return self.upper, node.upper, handle.inner

    async def getattr(self, ctx: Context, node: Node, handle: Any = None) -> Attr:
        inner = None
        if isinstance(handle, Handle):
            inner = (await self._follow(ctx, node, handle))[2]
        return await self.merging.getattr(ctx, node, inner)

    async def setattr(self, ctx: Context, node: Node, changes: SetAttr, handle: Any = None) -> Attr:
        upper = await self.merging.up(ctx, node, empty=changes.size == 0)
        inner = None
        if isinstance(handle, Handle):
            inner = (await self._follow(ctx, node, handle))[2]
        return self.merging.attr(node, await self.upper.setattr(ctx, upper, changes, inner))

    async def readlink(self, ctx: Context, node: Node) -> str:
        fs, inner = self._top(node)
        return await fs.readlink(ctx, inner)

    # -- open files ------------------------------------------------------------------------

    async def open(self, ctx: Context, node: Node, flags: int) -> Opened:
        if node.folder:
            raise fail(errno.EISDIR)
        if flags & _ACCESS or flags & _TRUNC:
            await self.merging.up(ctx, node, empty=bool(flags & _TRUNC))
        fs, inner = self._top(node)
        opened = await fs.open(ctx, inner, flags)
        opened.handle = Handle(opened.handle, fs is self.upper, flags)
        return opened

    async def read(self, ctx: Context, node: Node, handle: Any, offset: int, size: int) -> Buffer:
        fs, inner, open_file = await self._follow(ctx, node, handle)
        return await fs.read(ctx, inner, open_file, offset, size)

    async def write(
        self, ctx: Context, node: Node, handle: Any, offset: int, data: memoryview
    ) -> int:
        fs, inner, open_file = await self._changed(ctx, node, handle)
        return await fs.write(ctx, inner, open_file, offset, data)

    async def _changed(
        self, ctx: Context, node: Node, handle: Handle
    ) -> tuple[FileSystem, Any, Any]:
        if not handle.flags & _ACCESS:
            raise fail(errno.EBADF)
        return await self._follow(ctx, node, handle)

    async def flush(self, ctx: Context, node: Node, handle: Any) -> None:
        fs, inner, open_file = await self._follow(ctx, node, handle)
        await fs.flush(ctx, inner, open_file)

    async def release(self, ctx: Context, node: Node, handle: Any) -> None:
        if handle.locked is not None:  # flock(2) ends with the open file
            self.locks.drop(node, handle.locked)
        fs, inner = (self.upper, node.upper) if handle.upper else (self.lower, node.lower)
        await fs.release(ctx, inner, handle.inner)

    async def fsync(self, ctx: Context, node: Node, handle: Any, data_only: bool) -> None:
        fs, inner, open_file = await self._follow(ctx, node, handle)
        await fs.fsync(ctx, inner, open_file, data_only)

    async def fallocate(
        self, ctx: Context, node: Node, handle: Any, offset: int, length: int, mode: int
    ) -> None:
        fs, inner, open_file = await self._changed(ctx, node, handle)
        await fs.fallocate(ctx, inner, open_file, offset, length, mode)

    async def lseek(self, ctx: Context, node: Node, handle: Any, offset: int, whence: int) -> int:
        fs, inner, open_file = await self._follow(ctx, node, handle)
        return await fs.lseek(ctx, inner, open_file, offset, whence)

    async def copy_file_range(
        self, ctx: Context, node: Node, handle: Any, offset: int, to_node: Node, to_handle: Any,
        to_offset: int, length: int,
    ) -> int:  # fmt: skip
        fs, inner, open_file = await self._follow(ctx, node, handle)
        to_fs, to_inner, to_open = await self._changed(ctx, to_node, to_handle)
        if fs is not to_fs:
            raise fail(errno.EXDEV)
        return await fs.copy_file_range(
            ctx, inner, open_file, offset, to_inner, to_open, to_offset, length
        )

    # -- folders ---------------------------------------------------------------------------

    @quick
    async def opendir(self, ctx: Context, node: Node) -> Opened:
        if not node.folder:
            raise fail(errno.ENOTDIR)
        return Opened(0)

    async def readdir(self, ctx: Context, node: Node, handle: Any) -> AsyncIterable[DirEntry]:
        return self.merging.children(ctx, node)

    async def readdirplus(self, ctx: Context, node: Node, handle: Any) -> AsyncIterable[DirEntry]:
        return self.merging.children(ctx, node, plus=True)

    async def fsyncdir(self, ctx: Context, node: Node, handle: Any, data_only: bool) -> None:
        if node.upper is not None:
            opened = await self.upper.opendir(ctx, node.upper)
            try:
                await self.upper.fsyncdir(ctx, node.upper, opened.handle, data_only)
            finally:
                await self.upper.releasedir(ctx, node.upper, opened.handle)

    async def statfs(self, ctx: Context, node: Node) -> Statistics:
        return await self.upper.statfs(ctx, self.root.upper)

    # -- attributes, locks -----------------------------------------------------------------

    async def getxattr(self, ctx: Context, node: Node, name: str) -> bytes:
        if name.startswith(PRIVATE):
            raise fail(errno.ENODATA, name)
        fs, inner = self._top(node)
        return await fs.getxattr(ctx, inner, name)

    async def listxattr(self, ctx: Context, node: Node) -> list[str]:
        fs, inner = self._top(node)
        return [name for name in await fs.listxattr(ctx, inner) if not name.startswith(PRIVATE)]

    async def setxattr(self, ctx: Context, node: Node, name: str, value: bytes, flags: int) -> None:
        if name.startswith(PRIVATE):
            raise fail(errno.EPERM, name)
        inner = await self.merging.up(ctx, node)
        await self.upper.setxattr(ctx, inner, name, value, flags)

    async def removexattr(self, ctx: Context, node: Node, name: str) -> None:
        await self.getxattr(ctx, node, name)  # before something is copied up in vain
        inner = await self.merging.up(ctx, node)
        await self.upper.removexattr(ctx, inner, name)

    async def getlk(self, ctx: Context, node: Node, handle: Any, lock: Lock) -> Lock | None:
        return self.locks.get(ctx, node, lock)

    async def setlk(self, ctx: Context, node: Node, handle: Any, lock: Lock, wait: bool) -> None:
        await self.locks.set(ctx, node, lock, wait)
        if lock.whole:
            handle.locked = owner_of(ctx, lock)


def _same(entry: Entry) -> Entry:
    return entry
