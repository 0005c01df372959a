"""What each request of the guest's kernel does to a file system: one function an operation."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from sandlot.errors import GuestProtocolError
from sandlot.filesystem.fuse import opcodes, replies, requests
from sandlot.filesystem.fuse.opcodes import Op, OpenFlag, Valid
from sandlot.filesystem.fuse.requests import Request
from sandlot.filesystem.known import ECHO
from sandlot.filesystem.types import (
    Attr,
    Buffer,
    Context,
    DirEntry,
    Entry,
    Lock,
    Opened,
    SetAttr,
)

if TYPE_CHECKING:
    from sandlot.filesystem.mount import Mount

Operation = Callable[["Mount", Context, Request], Coroutine[Any, Any, Buffer]]
_BILLION = 1_000_000_000
# Of the guest's open(2), whatever the host is.
_ACCESS, _WRONLY, _RDWR, _TRUNC, _APPEND = 3, 1, 2, 0o1000, 0o2000
_DIRECT = 0o40000


async def lookup(mount: Mount, ctx: Context, request: Request) -> bytes:
    parent = mount.node(request.node)
    name, _ = request.name()
    try:
        entry = await mount.fs.lookup(ctx, parent, name)
    except FileNotFoundError:
        if timeout := mount.absent_timeout:
            return replies.no_entry_body(timeout)
        raise
    return mount.told(entry)


async def getattr_(mount: Mount, ctx: Context, request: Request) -> bytes:
    flags, _, handle = request.fields(requests.GETATTR)
    node = mount.node(request.node)
    inner = mount.handle_of(handle, request.node) if flags & opcodes.GETATTR_FH else None
    attr = await mount.fs.getattr(ctx, node, inner)
    return replies.attr_body(mount.numbered(request.node, attr), mount.attr_timeout(node))


def _seconds(whole: int, part: int) -> int:
    signed = whole - (1 << 64) if whole >> 63 else whole
    return signed * _BILLION + min(part, _BILLION - 1)


async def setattr_(mount: Mount, ctx: Context, request: Request) -> bytes:
    (valid, _, handle, size, _, atime, mtime, ctime, atime_ns, mtime_ns, ctime_ns, mode, _, uid,
     gid, _) = request.fields(requests.SETATTR)  # fmt: skip
    node = mount.node(request.node)
    inner = mount.handle_of(handle, request.node) if valid & Valid.FH else None
    now = time.time_ns()
    changes = SetAttr()
    if valid & Valid.MODE:
        changes.mode = mode & 0o7777
    if valid & Valid.UID:
        changes.uid = uid
    if valid & Valid.GID:
        changes.gid = gid
    if valid & Valid.SIZE:
        changes.size = size
    if valid & Valid.ATIME:
        changes.atime_ns = now if valid & Valid.ATIME_NOW else _seconds(atime, atime_ns)
    if valid & Valid.MTIME:
        changes.mtime_ns = now if valid & Valid.MTIME_NOW else _seconds(mtime, mtime_ns)
    changes.now = bool(valid & Valid.ATIME_NOW and valid & Valid.MTIME_NOW)
    if valid & Valid.CTIME:
        changes.ctime_ns = _seconds(ctime, ctime_ns)
    owner = changes.uid is not None or changes.gid is not None
    if changes.mode is None and (owner or valid & Valid.KILL_SUIDGID):
        changes.mode = await _unprivileged(mount, ctx, node)
    attr = await mount.fs.setattr(ctx, node, changes, inner)
    return replies.attr_body(mount.numbered(request.node, attr), mount.attr_timeout(node))


async def _unprivileged(mount: Mount, ctx: Context, node: object) -> int | None:
    """The mode of a file without set-user-id and set-group-id, or None when it has neither."""
    attr = await mount.fs.getattr(ctx, node)
    kill = killed(attr)
    return attr.mode & 0o7777 & ~kill if kill else None


def killed(attr: Attr) -> int:
    """The bits of privilege that a file loses when it is written to or gets another owner."""
    if not stat.S_ISREG(attr.mode):
        return 0
    kill = attr.mode & stat.S_ISUID
    if attr.mode & stat.S_IXGRP:  # else it asks for mandatory locks
        kill |= attr.mode & stat.S_ISGID
    return kill


async def _kill_privileges(mount: Mount, ctx: Context, node: object) -> None:
    mode = await _unprivileged(mount, ctx, node)
    if mode is not None:
        await mount.fs.setattr(ctx, node, SetAttr(mode=mode))


async def readlink(mount: Mount, ctx: Context, request: Request) -> bytes:
    return os.fsencode(await mount.fs.readlink(ctx, mount.node(request.node)))


async def symlink(mount: Mount, ctx: Context, request: Request) -> bytes:
    parent = mount.node(request.node)
    name, end = request.name()
    target, _ = request.text(end)
    return mount.told(await mount.fs.symlink(ctx, parent, name, target))


async def mknod(mount: Mount, ctx: Context, request: Request) -> bytes:
    mode, rdev, _, _ = request.fields(requests.MKNOD)
    parent = mount.node(request.node)
    name, _ = request.name(requests.MKNOD.size)
    return mount.told(await mount.fs.mknod(ctx, parent, name, mode, rdev))


async def mkdir(mount: Mount, ctx: Context, request: Request) -> bytes:
    mode, _ = request.fields(requests.MKDIR)
    parent = mount.node(request.node)
    name, _ = request.name(requests.MKDIR.size)
    return mount.told(await mount.fs.mkdir(ctx, parent, name, mode & 0o7777))


async def unlink(mount: Mount, ctx: Context, request: Request) -> bytes:
    await mount.fs.unlink(ctx, mount.node(request.node), request.name()[0])
    return b""


async def rmdir(mount: Mount, ctx: Context, request: Request) -> bytes:
    await mount.fs.rmdir(ctx, mount.node(request.node), request.name()[0])
    return b""


async def rename(mount: Mount, ctx: Context, request: Request) -> bytes:
    flags = 0
    if request.op == Op.RENAME:
        (number,) = request.fields(requests.RENAME)
        start = requests.RENAME.size
    else:
        number, flags, _ = request.fields(requests.RENAME2)
        start = requests.RENAME2.size
    parent, new_parent = mount.node(request.node), mount.node(number)
    name, end = request.name(start)
    new_name, _ = request.name(end)
    if flags & ~3:
        raise OSError(errno.EINVAL, "unknown flags of rename")
    await mount.fs.rename(ctx, parent, name, new_parent, new_name, flags)
    return b""


async def link(mount: Mount, ctx: Context, request: Request) -> bytes:
    (number,) = request.fields(requests.LINK)
    name, _ = request.name(requests.LINK.size)
    return mount.told(await mount.fs.link(ctx, mount.node(number), mount.node(request.node), name))


def _flags(mount: Mount, flags: int) -> int:
    """How the file system is to open, when the guest's kernel caches what is written: it reads
    what it writes parts of, and knows itself where a file ends."""
    if mount.fs.cache == "fast":
        flags &= ~_APPEND
        if flags & _ACCESS == _WRONLY:
            flags = flags & ~_ACCESS | _RDWR
    return flags


def _opened(mount: Mount, opened: Opened) -> int:
    if opened.direct_io or mount.fs.cache == "none":
        return int(OpenFlag.DIRECT_IO)
    keep = opened.keep_cache or mount.fs.cache == "fast"
    return int(OpenFlag.KEEP_CACHE) if keep else 0


async def open_(mount: Mount, ctx: Context, request: Request) -> bytes:
    flags, open_flags = request.fields(requests.OPEN)
    node = mount.node(request.node)
    mount.refuse_too_many()
    if mount.fs.readonly and flags & (_ACCESS | _TRUNC):
        raise OSError(errno.EROFS, "the volume is read-only")
    if flags & _TRUNC and open_flags & opcodes.OPEN_KILL_SUIDGID:
        await _kill_privileges(mount, ctx, node)
    opened = await mount.fs.open(ctx, node, _flags(mount, flags))
    number = mount.opened(request.node, node, opened.handle, flags)
    return replies.open_body(number, _opened(mount, opened))


async def create(mount: Mount, ctx: Context, request: Request) -> bytes:
    flags, mode, _, _ = request.fields(requests.CREATE)
    parent = mount.node(request.node)
    name, _ = request.name(requests.CREATE.size)
    mount.refuse_too_many()
    entry, opened = await mount.fs.create(ctx, parent, name, mode & 0o7777, _flags(mount, flags))
    told = mount.told(entry)
    number = mount.opened(mount.number(entry.node), entry.node, opened.handle, flags)
    return told + replies.open_body(number, _opened(mount, opened))


async def read(mount: Mount, ctx: Context, request: Request) -> Buffer:
    handle, offset, size, _, _, _, _ = request.fields(requests.READ)
    if size > requests.MAX_DATA:
        raise GuestProtocolError(f"a FUSE request reads {size} bytes at once")
    file = mount.file(handle)
    data = await mount.fs.read(ctx, file.node, file.handle, offset, size)
    if len(data) > size:
        raise ValueError(f"read returned {len(data)} bytes of {size}")
    return data


async def write(mount: Mount, ctx: Context, request: Request) -> bytes:
    handle, offset, size, flags, _, _, _ = request.fields(requests.WRITE)
    file = mount.file(handle)
    data = request.rest(requests.WRITE.size, size)
    if flags & opcodes.WRITE_KILL_SUIDGID:
        await _kill_privileges(mount, ctx, file.node)
    written = await mount.fs.write(ctx, file.node, file.handle, offset, data)
    if not 0 <= written <= size:
        raise ValueError(f"write returned {written} for {size} bytes")
    return replies.write_body(written)


async def statfs(mount: Mount, ctx: Context, request: Request) -> bytes:
    return replies.statfs_body(await mount.fs.statfs(ctx, mount.node(request.node)))


async def release(mount: Mount, ctx: Context, request: Request) -> bytes:
    handle, _, _, _ = request.fields(requests.RELEASE)
    file = mount.files.pop(handle, None)
    if file is not None and file.handle is not ECHO:
        for owner in file.owners:
            await mount.unlock(ctx, file, owner)
        if file.listing is None:
            await mount.fs.release(ctx, file.node, file.handle)
        else:
            await mount.fs.releasedir(ctx, file.node, file.handle)
    return b""


async def fsync(mount: Mount, ctx: Context, request: Request) -> bytes:
    handle, flags, _ = request.fields(requests.FSYNC)
    data_only = bool(flags & opcodes.FSYNC_DATA)
    if request.op == Op.FSYNCDIR and not handle and mount.unopened:
        node = mount.node(request.node)
        opened = await mount.fs.opendir(ctx, node)
        try:
            await mount.fs.fsyncdir(ctx, node, opened.handle, data_only)
        finally:
            await mount.fs.releasedir(ctx, node, opened.handle)
        return b""
    file = mount.file(handle, folder=request.op == Op.FSYNCDIR)
    if request.op == Op.FSYNCDIR:
        await mount.fs.fsyncdir(ctx, file.node, file.handle, data_only)
    else:
        await mount.fs.fsync(ctx, file.node, file.handle, data_only)
    return b""


async def flush(mount: Mount, ctx: Context, request: Request) -> bytes:
    handle, _, _, owner = request.fields(requests.FLUSH)
    file = mount.file(handle)
    await mount.unlock(ctx, file, owner)
    try:
        if not mount.flushes:
            raise OSError(errno.ENOSYS, "its kernel need not ask again")
        await mount.fs.flush(ctx, file.node, file.handle)
    except OSError as error:
        if error.errno != errno.ENOSYS or not mount.fs.remote_locks:
            raise
        # Locks end here, so its kernel must go on asking.
    return b""


async def setxattr(mount: Mount, ctx: Context, request: Request) -> bytes:
    size, flags = request.fields(requests.SETXATTR)
    name, end = request.text(requests.SETXATTR.size, requests.MAX_NAME)
    if name.partition(".")[2] == "":
        raise OSError(errno.EINVAL, "the attribute has no name")
    if size > requests.MAX_XATTR:
        raise OSError(errno.E2BIG, "the attribute is too long")
    value = bytes(request.rest(end, size))
    await mount.fs.setxattr(ctx, mount.node(request.node), name, value, flags)
    return b""


def _sized(value: bytes, size: int) -> bytes:
    if size == 0:
        return replies.write_body(len(value))
    if len(value) > size:
        raise OSError(errno.ERANGE, "the buffer is too small")
    return value


async def getxattr(mount: Mount, ctx: Context, request: Request) -> bytes:
    size, _ = request.fields(requests.GETXATTR)
    name, _ = request.text(requests.GETXATTR.size, requests.MAX_NAME)
    return _sized(await mount.fs.getxattr(ctx, mount.node(request.node), name), size)


async def listxattr(mount: Mount, ctx: Context, request: Request) -> bytes:
    size, _ = request.fields(requests.GETXATTR)
    names = await mount.fs.listxattr(ctx, mount.node(request.node))
    return _sized(b"".join(os.fsencode(name) + b"\0" for name in names), size)


async def removexattr(mount: Mount, ctx: Context, request: Request) -> bytes:
    name, _ = request.text(0, requests.MAX_NAME)
    await mount.fs.removexattr(ctx, mount.node(request.node), name)
    return b""


async def opendir(mount: Mount, ctx: Context, request: Request) -> bytes:
    if mount.unopened:
        raise OSError(errno.ENOSYS, "its kernel need not ask again")
    node = mount.node(request.node)
    mount.refuse_too_many(folder=True)
    opened = await mount.fs.opendir(ctx, node)
    number = mount.opened(request.node, node, opened.handle, 0)
    file = mount.files[number]
    file.listing = mount.listing(file)
    keeps = opened.keep_cache and mount.fs.cache != "none"
    return replies.open_body(number, int(OpenFlag.CACHE_DIR | OpenFlag.KEEP_CACHE) if keeps else 0)


async def readdir(mount: Mount, ctx: Context, request: Request) -> bytes:
    handle, offset, size, _, _, _, _ = request.fields(requests.READ)
    reading = None
    if not handle and mount.unopened:
        reading = await mount.folders.find(ctx, request.node, offset)
        file, listing = reading.file, reading.listing
    else:
        file = mount.file(handle, folder=True)
        if file.listing is None:
            raise OSError(errno.ENOTDIR, "not a folder")
        listing = file.listing

    async def tell(entry: DirEntry) -> Entry | None:
        if mount.crowded:
            return None
        if entry.entry is not None:
            return entry.entry
        try:
            return await mount.fs.lookup(ctx, file.node, entry.name)
        except OSError:  # it is gone meanwhile, and looked up again by who wants it
            return None

    here = request.node
    if offset == 0:  # `.` is what the folder is
        with contextlib.suppress(OSError):
            attr = await mount.fs.getattr(ctx, file.node)
            here = mount.numbered(request.node, attr).ino
    plus = tell if request.op == Op.READDIRPLUS else None
    body = await listing.read(offset, size, here, plus, lambda entry: mount.count(entry))
    if reading is not None and not body:
        await mount.folders.end(ctx, reading)
    return body


def _lock(request: Request) -> tuple[int, Lock]:
    handle, owner, start, end, kind, pid, flags, _ = request.fields(requests.LOCK)
    if kind > 2 or end < start:
        raise OSError(errno.EINVAL, "no such lock")
    return handle, Lock(start, end, kind, owner, pid, bool(flags & opcodes.LK_FLOCK))


async def getlk(mount: Mount, ctx: Context, request: Request) -> bytes:
    handle, lock = _lock(request)
    file = mount.file(handle)
    found = await mount.fs.getlk(ctx, file.node, file.handle, lock)
    if found is None:
        return replies.lock_body(0, 0, 2, 0)
    return replies.lock_body(found.start, found.end, found.kind, found.pid)


async def setlk(mount: Mount, ctx: Context, request: Request) -> bytes:
    handle, lock = _lock(request)
    file = mount.file(handle)
    mount.refuse_too_many_locks(lock)
    await mount.fs.setlk(ctx, file.node, file.handle, lock, request.op == Op.SETLKW)
    mount.locked(file, lock)
    return b""


async def fallocate(mount: Mount, ctx: Context, request: Request) -> bytes:
    handle, offset, length, mode, _ = request.fields(requests.FALLOCATE)
    file = mount.file(handle)
    if ctx.uid:  # its kernel leaves that to this side
        await _kill_privileges(mount, ctx, file.node)
    await mount.fs.fallocate(ctx, file.node, file.handle, offset, length, mode)
    return b""


async def lseek(mount: Mount, ctx: Context, request: Request) -> bytes:
    if mount.fs.cache == "fast":  # its kernel has data that is not here yet
        raise OSError(errno.ENOSYS, "only the guest knows where its data is")
    handle, offset, whence, _ = request.fields(requests.LSEEK)
    file = mount.file(handle)
    return replies.offset_body(await mount.fs.lseek(ctx, file.node, file.handle, offset, whence))


async def copy_file_range(mount: Mount, ctx: Context, request: Request) -> bytes:
    handle, offset, number, to_handle, to_offset, length, _ = request.fields(
        requests.COPY_FILE_RANGE
    )
    file, to_file = mount.file(handle), mount.file(to_handle)
    mount.node(number)
    if ctx.uid:
        await _kill_privileges(mount, ctx, to_file.node)
    copied = await mount.fs.copy_file_range(
        ctx, file.node, file.handle, offset, to_file.node, to_file.handle, to_offset, length
    )
    return replies.write_body(copied)


async def nothing(mount: Mount, ctx: Context, request: Request) -> bytes:
    return b""


async def absent(mount: Mount, ctx: Context, request: Request) -> bytes:
    raise OSError(errno.ENOSYS, "not implemented")


async def init(mount: Mount, ctx: Context, request: Request) -> bytes:
    major, minor, readahead, flags = request.fields(requests.INIT)
    if major != 7 or minor < 31:
        raise GuestProtocolError(
            f"the guest's kernel speaks FUSE {major}.{minor}, not 7.31 or later"
        )
    return mount.agree(minor, readahead, flags)


OPERATIONS: dict[int, tuple[Operation, str]] = {
    Op.LOOKUP: (lookup, "lookup"), Op.GETATTR: (getattr_, "getattr"),
    Op.SETATTR: (setattr_, "setattr"), Op.READLINK: (readlink, "readlink"),
    Op.SYMLINK: (symlink, "symlink"), Op.MKNOD: (mknod, "mknod"), Op.MKDIR: (mkdir, "mkdir"),
    Op.UNLINK: (unlink, "unlink"), Op.RMDIR: (rmdir, "rmdir"), Op.RENAME: (rename, "rename"),
    Op.RENAME2: (rename, "rename"), Op.LINK: (link, "link"), Op.OPEN: (open_, "open"),
    Op.CREATE: (create, "create"), Op.READ: (read, "read"), Op.WRITE: (write, "write"),
    Op.STATFS: (statfs, "statfs"), Op.RELEASE: (release, "release"), Op.FSYNC: (fsync, "fsync"),
    Op.FSYNCDIR: (fsync, "fsyncdir"), Op.FLUSH: (flush, "flush"),
    Op.SETXATTR: (setxattr, "setxattr"), Op.GETXATTR: (getxattr, "getxattr"),
    Op.LISTXATTR: (listxattr, "listxattr"), Op.REMOVEXATTR: (removexattr, "removexattr"),
    Op.OPENDIR: (opendir, "opendir"), Op.READDIR: (readdir, "readdir"),
    Op.READDIRPLUS: (readdir, "readdirplus"), Op.RELEASEDIR: (release, "releasedir"),
    Op.GETLK: (getlk, "getlk"), Op.SETLK: (setlk, "setlk"), Op.SETLKW: (setlk, "setlk"),
    Op.FALLOCATE: (fallocate, "fallocate"), Op.LSEEK: (lseek, "lseek"),
    Op.COPY_FILE_RANGE: (copy_file_range, "copy_file_range"),
    Op.INIT: (init, ""), Op.DESTROY: (nothing, ""), Op.ACCESS: (absent, ""),
    Op.IOCTL: (absent, ""), Op.POLL: (absent, ""), Op.BMAP: (absent, ""),
    Op.SYNCFS: (absent, ""), Op.TMPFILE: (absent, ""),
}  # fmt: skip
"""What does it, and the method of the file system that says whether it is quick."""

CHANGES = frozenset({
    Op.SETATTR, Op.SYMLINK, Op.MKNOD, Op.MKDIR, Op.UNLINK, Op.RMDIR, Op.RENAME, Op.RENAME2, Op.LINK,
    Op.CREATE, Op.WRITE, Op.SETXATTR, Op.REMOVEXATTR, Op.FALLOCATE, Op.COPY_FILE_RANGE,
})  # fmt: skip
"""Requests that a read-only volume refuses."""
