"""Open files: reading, writing, and room on the disk."""

from __future__ import annotations

import errno
import os
import stat
from time import monotonic
from typing import Any

from sandlot.filesystem.base import idle, quick
from sandlot.filesystem.host import syscalls
from sandlot.filesystem.host.locks import Owner
from sandlot.filesystem.host.names import Names
from sandlot.filesystem.host.served import served
from sandlot.filesystem.host.tree import Descriptor, Node, stale, stamp_of
from sandlot.filesystem.host.writable import chmod, forced
from sandlot.filesystem.types import Buffer, Context, Entry, Opened

# Of the guest's open(2), whatever the host is.
_ACCESS, _WRONLY, _EXCL, _TRUNC, _APPEND = 3, 1, 0o200, 0o1000, 0o2000
_DSYNC, _SYNC = 0o10000, 0o4000000
_PRIVILEGED = stat.S_ISUID | stat.S_ISGID

IN_THREAD = 64 * 1024
"""Bytes from which on a write is done in a thread while the disk does not keep up; else that would
take twice as long as the write itself."""
SLOW_WRITE = 0.01
"""Seconds that a write takes when the host makes it wait for the disk."""
PATIENCE = 64
"""Writes that are done in threads then, before it is tried again without."""
_COPIED_AT_ONCE = 16 << 20
_NOWAIT: int = getattr(os, "RWF_NOWAIT", 0)
_SEEK = {3: getattr(os, "SEEK_DATA", -1), 4: getattr(os, "SEEK_HOLE", -1)}


class File:
    """An open file of the guest."""

    __slots__ = ("append", "descriptor", "fd", "flags", "locked", "node", "sync", "writes")

    def __init__(self, node: Node, descriptor: Descriptor, flags: int) -> None:
        self.node = node
        self.descriptor = descriptor
        self.fd = descriptor.number
        self.flags = flags
        self.writes = bool(flags & _ACCESS)
        self.append = bool(flags & _APPEND)
        self.sync = bool(flags & (_DSYNC | _SYNC))
        self.locked: Owner | None = None
        """Who holds the lock of flock(2) that it has."""

    def write(self, data: memoryview, offset: int) -> int:
        """Write at an offset; with O_APPEND at the end, which only the host knows."""
        return os.write(self.fd, data) if self.append else os.pwrite(self.fd, data, offset)

    def read(self, offset: int, size: int) -> bytes:
        """Read, waiting for the disk."""
        data = os.pread(self.fd, size, offset)
        if data and len(data) < size:  # the end of the file, or less than was asked for
            pieces, got = [data], len(data)
            while got < size and (data := os.pread(self.fd, size - got, offset + got)):
                pieces.append(data)
                got += len(data)
            return b"".join(pieces)
        return data


def _host_flags(flags: int) -> int:
    access = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR)[flags & _ACCESS]
    if flags & _APPEND:
        access |= os.O_APPEND
    if flags & _SYNC:
        access |= os.O_SYNC
    elif flags & _DSYNC:
        access |= os.O_DSYNC
    return access


class Files(Names):
    """The part of `HostFs` that is about what is in files."""

    _patience = 0
    _nowait = bool(_NOWAIT) and hasattr(os, "preadv")

    @served
    def open(self, ctx: Context, node: Node, flags: int) -> Opened:
        return self._open(ctx, node, flags)

    def _open(self, ctx: Context, node: Node, flags: int) -> Opened:
        writes = bool(flags & (_ACCESS | _TRUNC))
        if writes:
            self.refuse_changes()
            if flags & _TRUNC and not flags & _ACCESS:
                flags |= os.O_RDWR
        descriptor, st = self.open_host(node, _host_flags(flags))
        if writes and st.st_mode & _PRIVILEGED:  # what a guest writes is not to run as somebody
            chmod(descriptor, stat.S_IMODE(st.st_mode) & ~_PRIVILEGED)
            st = os.fstat(descriptor.number)
            self.own(ctx, node, st)
        if flags & _TRUNC:
            os.ftruncate(descriptor.number, 0)
            st = os.fstat(descriptor.number)
            self.own(ctx, node, st)
        stamp = stamp_of(st)
        keep = node.cached and node.stamp == stamp
        if not keep and node.cached and len(self.mounts) > 1:
            self.changed(node)
        node.stamp, node.cached = stamp, True
        node.files.append(descriptor)
        return Opened(File(node, descriptor, flags), keep_cache=keep)

    def open_host(self, node: Node, flags: int) -> tuple[Descriptor, os.stat_result]:
        """Open the host's file, also one of our own without a write bit."""
        try:
            return self.tree.open(node, flags)
        except PermissionError:
            if not flags & (os.O_WRONLY | os.O_RDWR) or node.kind != stat.S_IFREG:
                raise
            exact = self.tree.exact(node)
            return forced(exact, lambda: self.tree.open(node, flags))

    @served
    def create(
        self, ctx: Context, parent: Node, name: str, mode: int, flags: int
    ) -> tuple[Entry, Opened]:
        self.refuse_changes()
        folder = self.tree.folder(parent)
        made = (
            _host_flags(flags) | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            | os.O_NONBLOCK | os.O_NOCTTY
        )  # fmt: skip
        mode = mode & 0o7777 | stat.S_IFREG
        try:
            number = os.open(name, made, mode & 0o777 | 0o400, dir_fd=folder.number)
        except FileExistsError:
            if flags & _EXCL:
                raise
            entry = self._found(parent, name)  # somebody else made it meanwhile
            return entry, self._open(ctx, entry.node, flags)
        descriptor = Descriptor(number)
        node, st = self.new(ctx, parent, name, folder, descriptor, mode)
        node.cached = True
        node.files.append(descriptor)
        entry = self.entry(node, st, parent, folder.number)
        return entry, Opened(File(node, descriptor, flags), keep_cache=True)

    @quick
    async def read(self, ctx: Context, node: Node, handle: Any, offset: int, size: int) -> Buffer:
        if self._nowait and not self.slow:
            buffer = bytearray(size)
            try:
                got = os.preadv(handle.fd, (buffer,), offset, _NOWAIT)
            except BlockingIOError:
                pass
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                    raise
                if error.errno != errno.EINVAL:
                    self._nowait = False
            else:
                if got == size:
                    return buffer
                if offset + got >= os.fstat(handle.fd).st_size:
                    del buffer[got:]
                    return buffer
        elif size < IN_THREAD and not self.slow:
            data: bytes = handle.read(offset, size)
            return data
        return await self.in_thread(File.read, handle, offset, size)

    @quick
    async def write(
        self, ctx: Context, node: Node, handle: Any, offset: int, data: memoryview
    ) -> int:
        large = len(data) >= IN_THREAD
        if not handle.sync and not self.slow and not (large and self._patience):
            begun = monotonic() if large else 0.0
            written: int = handle.write(data, offset)
            if large and monotonic() - begun > SLOW_WRITE:
                self._patience = PATIENCE
        else:
            self._patience = max(0, self._patience - 1)
            node.busy += 1
            try:
                written = await self.in_thread(handle.write, data, offset)
            finally:
                node.busy -= 1
        if self._coherent or len(self.mounts) > 1:
            self.own(ctx, node, os.fstat(handle.fd))
            if handle.append and os.lseek(handle.fd, 0, os.SEEK_CUR) != offset + written:
                self.changed(node)  # others appended, and the guest has it at a wrong place
        return written

    @quick
    @idle
    async def flush(self, ctx: Context, node: Node, handle: Any) -> None:
        pass

    @quick
    async def release(self, ctx: Context, node: Node, handle: Any) -> None:
        if handle.descriptor in node.files:
            node.files.remove(handle.descriptor)

    @quick
    async def fsync(self, ctx: Context, node: Node, handle: Any, data_only: bool) -> None:
        if self.readonly:
            return
        sync = os.fdatasync if data_only and hasattr(os, "fdatasync") else os.fsync
        await self.in_thread(_on, handle.descriptor, sync)

    @quick
    async def fallocate(
        self, ctx: Context, node: Node, handle: Any, offset: int, length: int, mode: int
    ) -> None:
        self.refuse_changes()
        node.busy += 1
        try:
            await self.in_thread(_fallocate, handle.descriptor, mode, offset, length)
        finally:
            node.busy -= 1
        self.own(ctx, node, os.fstat(handle.fd))

    @served
    def lseek(self, ctx: Context, node: Node, handle: Any, offset: int, whence: int) -> int:
        if self.cache == "fast":  # its kernel has data that is not here yet
            raise OSError(errno.ENOSYS, "only the guest knows where its data is")
        how = _SEEK.get(whence, -1)
        if how < 0:
            raise OSError(errno.EINVAL, "no such way to seek")
        return os.lseek(handle.fd, offset, how)

    @quick
    async def copy_file_range(
        self, ctx: Context, node: Node, handle: Any, offset: int, to_node: Node, to_handle: Any,
        to_offset: int, length: int,
    ) -> int:  # fmt: skip
        self.refuse_changes()
        if not hasattr(os, "copy_file_range"):
            raise OSError(errno.EOPNOTSUPP, "this host does not copy by itself")
        if not isinstance(to_handle, File) or not isinstance(handle, File):
            raise OSError(errno.EOPNOTSUPP, "not both files are of this volume")
        to_node.busy += 1
        try:
            copied = await self.in_thread(
                _copy, handle.descriptor, to_handle.descriptor, min(length, _COPIED_AT_ONCE),
                offset, to_offset,
            )  # fmt: skip
        finally:
            to_node.busy -= 1
        self.own(ctx, to_node, os.fstat(to_handle.fd))
        return copied

    def reopened(self, node: Node, flags: int) -> File:
        """Open a file that was open when its machine was saved."""
        flags &= ~(_TRUNC | _EXCL)
        if flags & _ACCESS and self.readonly:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        descriptor, _ = self.open_host(node, _host_flags(flags))
        node.files.append(descriptor)
        node.cached = True
        return File(node, descriptor, flags)

    def exact_for_writing(self, node: Node, handle: Any) -> Descriptor:
        """A descriptor by which the size of a file can be changed."""
        if isinstance(handle, File) and handle.writes:
            return handle.descriptor
        if node.kind == stat.S_IFDIR:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), node.name)
        if node.gone and not node.files:
            raise stale(node)
        return self.open_host(node, os.O_WRONLY)[0]


# With the descriptor itself, which stays open as long as the thread has it.


def _on(descriptor: Descriptor, call: Any) -> None:
    call(descriptor.number)


def _fallocate(descriptor: Descriptor, mode: int, offset: int, length: int) -> None:
    syscalls.fallocate(descriptor.number, mode, offset, length)


def _copy(source: Descriptor, target: Descriptor, length: int, offset: int, to_offset: int) -> int:
    return os.copy_file_range(source.number, target.number, length, offset, to_offset)
