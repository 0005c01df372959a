"""A named volume's file system: its data folder, held while it is mounted, and counted where it has
a size."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from sandlot.errors import ConfigError, WrongState
from sandlot.filesystem.base import quick
from sandlot.filesystem.host.files import IN_THREAD
from sandlot.filesystem.host.hostfs import HostFs
from sandlot.filesystem.types import Attr, Context, Entry, MountPoint, Opened, SetAttr, Statistics
from sandlot.volume.ledger import AVAILABLE, BLOCK, NAME, Ledger, room, whole

if TYPE_CHECKING:
    from sandlot.filesystem.host.files import File
    from sandlot.filesystem.host.tree import Node
    from sandlot.volume.store import Hold, VolumeFolder

T = TypeVar("T")

_TRUNC = 0o1000  # of the guest's open(2)
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_EXCHANGE = 2
MOST_ATTRIBUTES = 4096
"""Bytes of extended attributes of one file, in a volume with a size: they are not counted."""


class NamedFs(HostFs):
    """A named volume that may grow as long as the host's disk has room."""

    def __init__(
        self, folder: VolumeFolder, readonly: bool = False, cache: str = "coherent"
    ) -> None:
        super().__init__(folder.data, readonly, cache)
        self.folder = folder
        self._hold: Hold | None = None

    def declaration(self) -> dict[str, Any]:
        return {
            "kind": "named", "name": self.folder.name, "readonly": self.readonly,
            "cache": self.cache,
        }  # fmt: skip

    def adopt(self, uid: int, gid: int) -> None:
        """Its files are whose they are, whoever mounts it."""

    def __repr__(self) -> str:
        return f"<volume {self.folder.name!r}>"

    async def start(self, mount: MountPoint) -> None:
        alone = self.cache == "fast" and not self.readonly
        if self.mounts and alone:
            raise self._busy()
        if self._hold is None:
            self._hold = self.folder.hold(alone=alone)
            if self._hold is None:
                raise self._busy()
        try:
            await self.opened()
            await super().start(mount)
        except BaseException:
            if not self.mounts:
                self.closed()
            raise

    def _busy(self) -> WrongState:
        return WrongState(
            f"volume {self.folder.name!r} is mounted elsewhere, and cache='fast' is for one alone",
            hint="use cache='coherent' in all of them",
        )

    async def stop(self, mount: MountPoint) -> None:
        await super().stop(mount)
        if not self.mounts:
            self.closed()

    async def opened(self) -> None:
        """It is held now."""

    def closed(self) -> None:
        """Nothing has it mounted any more."""
        if self._hold is not None:
            self._hold.release()
            self._hold = None


class SizedFs(NamedFs):
    """A named volume of a size: ENOSPC is what the guest gets that wants more, and never the host.

    Every change of a file is made in its turn (ledger.py), with what it may take counted before it
    and what it took after it. Changes of names are made in the turn of their folder.
    """

    def __init__(
        self, folder: VolumeFolder, size: int, readonly: bool = False, cache: str = "coherent"
    ) -> None:
        if not AVAILABLE:
            raise ConfigError(
                f"the size of volume {folder.name!r} cannot be enforced on this host",
                hint="use kind='disk', or a volume without a size",
            )
        super().__init__(folder, readonly, cache)
        self.ledger = Ledger(folder.usage_path, folder.data, size)
        self._turns: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._times_open: dict[int, int] = {}  # how often each file is open here
        self._counts = False

    async def opened(self) -> None:
        if not self._counts:
            await asyncio.to_thread(self.ledger.open)
            self._counts = True

    def closed(self) -> None:
        if self._counts:
            self._counts = False
            self._times_open.clear()
            self.ledger.close()
        super().closed()

    # -- counting --------------------------------------------------------------------------

    def _room(self, st: os.stat_result) -> int:
        return room(st, by_length=self.ledger.by_length)

    @contextlib.asynccontextmanager
    async def _turn(self, *inodes: int) -> AsyncIterator[None]:
        """Nobody else changes these meanwhile; folders before files."""
        if not inodes:
            yield
            return
        inode, *others = inodes
        lock = self._turns.get(inode)
        if lock is None:
            self._turns[inode] = lock = asyncio.Lock()
        async with lock:
            pause = 0.0005
            while not self.ledger.try_turn(inode):
                # Asked again and again, so that who is cancelled leaves no thread that gets it.
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, 0.02)
            try:
                async with self._turn(*others):
                    yield
            finally:
                self.ledger.end_turn(inode)

    @contextlib.asynccontextmanager
    async def _grows(self, node: Node, most: int, descriptor: int = -1) -> AsyncIterator[None]:
        """A file is changed, in its turn; it takes `most` more at the most."""
        before = self._stat(node, descriptor)
        taken = self.ledger.take(most)
        try:
            yield
        finally:
            after = self._stat(node, descriptor)
            self.ledger.settle(self._room(after) - self._room(before) - taken)

    def _stat(self, node: Node, descriptor: int) -> os.stat_result:
        return os.fstat(descriptor) if descriptor >= 0 else self.tree.stat(node)

    def _growth(self, st: os.stat_result, offset: int, size: int) -> int:
        """How much more a file may take by a write."""
        old, end = whole(st.st_size), whole(offset + size)
        if self.ledger.by_length:
            return max(end - old, 0)
        if st.st_blocks * 512 >= old and offset <= old:  # without holes
            return max(end - old, 0)
        return end - offset // BLOCK * BLOCK

    @contextlib.contextmanager
    def _named(self, most: int) -> Iterator[None]:
        """A name is made; if it was not, nothing is taken."""
        self.ledger.take(most)
        try:
            yield
        except BaseException:
            self.ledger.settle(-most)
            raise

    # -- contents --------------------------------------------------------------------------

    @quick
    async def write(
        self, ctx: Context, node: Node, handle: Any, offset: int, data: memoryview
    ) -> int:
        fd, size, inode = handle.fd, len(data), node.key[1]
        at_once = size < IN_THREAD and not (handle.append or handle.sync or self.slow)
        if at_once and inode not in self._turns and self.ledger.try_turn(inode):
            # What takes nothing more, in one go: nobody of this program comes in between.
            try:
                if not self._growth(os.fstat(fd), offset, size):
                    return await super().write(ctx, node, handle, offset, data)
            finally:
                self.ledger.end_turn(inode)
        async with self._turn(inode):
            st = os.fstat(fd)
            start = st.st_size if handle.append else offset
            most = self._growth(st, start, size)
            free = self.ledger.free
            if most > free >= BLOCK and self.cache != "fast":
                # As much as fits: what is left out is asked for again, and refused.
                fits = size - (most - free // BLOCK * BLOCK)
                if fits > 0:
                    data, most = data[:fits], self._growth(st, start, fits)
            async with self._grows(node, most, fd):
                return await _to_its_end(super().write(ctx, node, handle, offset, data))

    @quick
    async def fallocate(
        self, ctx: Context, node: Node, handle: Any, offset: int, length: int, mode: int
    ) -> None:
        async with self._turn(node.key[1]):
            st = os.fstat(handle.fd)
            if mode & _KEEP_SIZE and not mode & _PUNCH_HOLE and offset + length > st.st_size:
                # What lies behind the end of a file is counted nowhere.
                raise OSError(errno.EOPNOTSUPP, "no room beyond the end in a volume with a size")
            most = 0 if mode & _PUNCH_HOLE else self._growth(st, offset, length)
            async with self._grows(node, most, handle.fd):
                await _to_its_end(super().fallocate(ctx, node, handle, offset, length, mode))

    @quick
    async def copy_file_range(
        self, ctx: Context, node: Node, handle: Any, offset: int, to_node: Node, to_handle: Any,
        to_offset: int, length: int,
    ) -> int:  # fmt: skip
        fd = getattr(to_handle, "fd", -1)
        if fd < 0:
            raise OSError(errno.EOPNOTSUPP, "not both files are of this volume")
        length = min(length, 1 << 20)
        async with self._turn(to_node.key[1]):
            most = self._growth(os.fstat(fd), to_offset, length)
            async with self._grows(to_node, most, fd):
                copying = super().copy_file_range(
                    ctx, node, handle, offset, to_node, to_handle, to_offset, length
                )
                return await _to_its_end(copying)

    @quick
    async def setattr(self, ctx: Context, node: Node, changes: SetAttr, handle: Any = None) -> Attr:
        if changes.size is None:
            return await super().setattr(ctx, node, changes, handle)
        fd = getattr(handle, "fd", -1)
        async with self._turn(node.key[1]):
            st = self._stat(node, fd)
            longer = max(whole(changes.size) - whole(st.st_size), 0)
            most = longer if self.ledger.by_length else min(longer, BLOCK)
            async with self._grows(node, most, fd):
                return await _to_its_end(super().setattr(ctx, node, changes, handle))

    @quick
    async def setxattr(self, ctx: Context, node: Node, name: str, value: bytes, flags: int) -> None:
        async with self._turn(node.key[1]):
            names = await super().listxattr(ctx, node)
            size = len(name) + len(value)
            for other in names:
                if other != name:
                    size += len(other) + len(await super().getxattr(ctx, node, other))
            if size > MOST_ATTRIBUTES:
                raise OSError(errno.ENOSPC, "no room for more attributes of this file")
            await super().setxattr(ctx, node, name, value, flags)

    # -- open files ------------------------------------------------------------------------

    def _note_opened(self, inode: int) -> None:
        held = self._times_open.get(inode, 0)
        if not held:
            self.ledger.note_open(inode)
        self._times_open[inode] = held + 1

    @quick
    async def open(self, ctx: Context, node: Node, flags: int) -> Opened:
        if not flags & _TRUNC:
            opened = await super().open(ctx, node, flags)
        else:
            async with self._turn(node.key[1]), self._grows(node, 0):
                opened = await super().open(ctx, node, flags)
        self._note_opened(node.key[1])
        return opened

    @quick
    async def create(
        self, ctx: Context, parent: Node, name: str, mode: int, flags: int
    ) -> tuple[Entry, Opened]:
        with self._named(NAME):
            made = await super().create(ctx, parent, name, mode, flags)
        self._note_opened(made[0].node.key[1])
        return made

    def reopened(self, node: Node, flags: int) -> File:
        handle = super().reopened(node, flags)
        self._note_opened(node.key[1])
        return handle

    @quick
    async def release(self, ctx: Context, node: Node, handle: Any) -> None:
        inode = node.key[1]
        held = self._times_open.get(inode, 0)
        if held > 1:
            self._times_open[inode] = held - 1
            await super().release(ctx, node, handle)
            return
        self._times_open.pop(inode, None)
        if os.fstat(handle.fd).st_nlink:
            self.ledger.note_closed(inode)
            await super().release(ctx, node, handle)
            return
        async with self._turn(inode):
            st = os.fstat(handle.fd)
            await super().release(ctx, node, handle)
            self.ledger.note_closed(inode)
            if not self.ledger.open_elsewhere(inode):
                self.ledger.settle(-self._room(st))

    # -- names -----------------------------------------------------------------------------

    @quick
    async def mknod(self, ctx: Context, parent: Node, name: str, mode: int, rdev: int) -> Entry:
        with self._named(NAME):
            return await super().mknod(ctx, parent, name, mode, rdev)

    @quick
    async def mkdir(self, ctx: Context, parent: Node, name: str, mode: int) -> Entry:
        with self._named(NAME + BLOCK):
            return await super().mkdir(ctx, parent, name, mode)

    @quick
    async def symlink(self, ctx: Context, parent: Node, name: str, target: str) -> Entry:
        with self._named(NAME + BLOCK):
            entry = await super().symlink(ctx, parent, name, target)
        with contextlib.suppress(OSError):
            self.ledger.settle(self._room(self.tree.stat(entry.node)) - BLOCK)
        return entry

    @quick
    async def link(self, ctx: Context, node: Node, new_parent: Node, new_name: str) -> Entry:
        async with self._turn(node.key[1]):
            with self._named(NAME):
                return await super().link(ctx, node, new_parent, new_name)

    @quick
    async def unlink(self, ctx: Context, parent: Node, name: str) -> None:
        async with self._turn(parent.key[1]):
            st = self._look(parent, name)
            async with self._turn(st.st_ino):
                st = self._look(parent, name)  # its links may have been others before its turn
                await _to_its_end(super().unlink(ctx, parent, name))
                self._gone(st)

    @quick
    async def rmdir(self, ctx: Context, parent: Node, name: str) -> None:
        async with self._turn(parent.key[1]):
            await super().rmdir(ctx, parent, name)
            self.ledger.settle(-NAME - BLOCK)

    @quick
    async def rename(self, ctx: Context, parent: Node, name: str, new_parent: Node, new_name: str,
                     flags: int) -> None:  # fmt: skip
        folders = sorted({parent.key[1], new_parent.key[1]})
        async with self._turn(*folders):
            victim = None
            if not flags & _EXCHANGE:
                with contextlib.suppress(FileNotFoundError):
                    victim = self._look(new_parent, new_name)
            if victim is None or stat.S_ISDIR(victim.st_mode):
                moved = victim is not None and self._look(parent, name).st_ino != victim.st_ino
                await super().rename(ctx, parent, name, new_parent, new_name, flags)
                if victim is not None and moved:
                    self._gone(victim)
                return
            async with self._turn(victim.st_ino):
                victim = self._look(new_parent, new_name)
                same = self._look(parent, name).st_ino == victim.st_ino
                await super().rename(ctx, parent, name, new_parent, new_name, flags)
                if not same:
                    self._gone(victim)

    def _look(self, parent: Node, name: str) -> os.stat_result:
        folder = self.tree.folder(parent)
        return os.stat(name, dir_fd=folder.number, follow_symlinks=False)

    def _gone(self, st: os.stat_result) -> None:
        """A name was taken away; with the last one goes the file, unless somebody has it open."""
        freed = NAME
        if stat.S_ISDIR(st.st_mode):
            freed += BLOCK
        elif (
            st.st_nlink == 1 and not self._times_open.get(st.st_ino)
            and not self.ledger.open_elsewhere(st.st_ino)
        ):  # fmt: skip
            freed += self._room(st)
        self.ledger.settle(-freed)

    # -- how full it is --------------------------------------------------------------------

    @quick
    async def statfs(self, ctx: Context, node: Any) -> Statistics:
        host = await super().statfs(ctx, node)
        of_host = host.available * host.block_size
        free = min(self.ledger.free, of_host) // BLOCK
        names = self.ledger.size // NAME
        return Statistics(
            self.ledger.size // BLOCK, free, free, names,
            min(self.ledger.free // NAME, host.files_free), BLOCK, host.name_length,
        )  # fmt: skip


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Wait for something also when this is cancelled: a thread goes on in any case, and what it
    does is to be counted."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


_mounted: WeakValueDictionary[tuple[Any, ...], NamedFs] = WeakValueDictionary()


def named_fs(
    folder: VolumeFolder, size: int, readonly: bool = False, cache: str = "coherent"
) -> NamedFs:
    """The file system of a named volume: one for all sandboxes of an event loop that have it, so
    that they see one another's changes at once."""
    loop = None
    with contextlib.suppress(RuntimeError):
        loop = id(asyncio.get_running_loop())
    key = (str(folder.path), folder.record().id, size, readonly, cache, loop)
    found = _mounted.get(key)
    if found is None:
        found = SizedFs(folder, size, readonly, cache) if size else NamedFs(folder, readonly, cache)
        _mounted[key] = found
    return found
