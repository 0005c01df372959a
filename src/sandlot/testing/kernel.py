"""`Kernel`: the other side of a `Mount`, a guest's kernel in its messages.

It is a `FileSystem` itself, whose nodes are the numbers that the mount gave: what drives a file
system directly can drive it through FUSE's bytes as well.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from struct import Struct
from typing import Any

from sandlot.errors import GuestProtocolError
from sandlot.filesystem.asking import OnFs
from sandlot.filesystem.base import FileSystem
from sandlot.filesystem.fuse import opcodes, requests
from sandlot.filesystem.fuse.opcodes import Init, Op, Valid
from sandlot.filesystem.mount import Mount
from sandlot.filesystem.types import (
    Attr,
    Context,
    DirEntry,
    Entry,
    Lock,
    Opened,
    SetAttr,
    Statistics,
)

_ATTR = "QQQQQQIIIIIIIIII"
_ATTR_OUT = Struct("<QII" + _ATTR)
_ENTRY_OUT = Struct("<QQQQII" + _ATTR)
_OPEN_OUT = Struct("<QII")
_DIRENT = Struct("<QQII")
_STATFS_OUT = Struct("<QQQQQIIII24x")
_LOCK_OUT = Struct("<QQII")
_BILLION = 1_000_000_000


def pack(
    op: int, unique: int, node: int, body: bytes = b"", *, uid: int = 0, gid: int = 0, pid: int = 1
) -> bytes:
    """A request as the kernel sends it."""
    size = requests.HEADER_SIZE + len(body)
    return requests.HEADER.pack(size, op, unique, node, uid, gid, pid, 0, 0) + body


def _signed(seconds: int) -> int:
    return seconds - (1 << 64) if seconds >> 63 else seconds


def _attr(fields: tuple[int, ...]) -> Attr:
    (ino, size, blocks, atime, mtime, ctime, atime_ns, mtime_ns, ctime_ns, mode, nlink, uid, gid,
     rdev, blksize, _) = fields  # fmt: skip
    return Attr(
        mode, ino, size, nlink, uid, gid, rdev, _signed(atime) * _BILLION + atime_ns,
        _signed(mtime) * _BILLION + mtime_ns, _signed(ctime) * _BILLION + ctime_ns, blocks, blksize,
    )  # fmt: skip


def _name(name: str) -> bytes:
    return os.fsencode(name) + b"\0"


class Kernel(FileSystem):
    """A file system, mounted, by way of its messages.

    Args:
        fs: the file system that is mounted.
        sandbox, path: where it believes to be.
        unopened: it can do without opening folders, as Linux can.
        on_fs: a hook that is asked before something is done.

    Example:
        >>> async with Kernel(MemFs()) as kernel:
        ...     await FileSystemClient(kernel).write_bytes("/a", b"hello")
    """

    def __init__(
        self, fs: FileSystem, sandbox: str = "test", path: str = "/", *, unopened: bool = False,
        on_fs: OnFs | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.taken = 0
        self.broken: GuestProtocolError | None = None
        self.notices: list[tuple[int, bytes]] = []
        """What the mount told unasked: the code, and its body."""
        self.agreed = 0
        self._can_do_without = unopened
        self._does_without = False
        self._unique = 2
        self._answers: dict[int, asyncio.Future[bytes]] = {}
        self.inner = fs
        self.mount = Mount(
            fs, sandbox, path, send=self._receive, taken=self._taken, broken=self._broken,
            on_fs=on_fs,
        )  # fmt: skip

    async def __aenter__(self) -> Kernel:
        await self.inner.start(self.mount)
        everything = (1 << 32) - 1 & ~Init.EXPORT_SUPPORT
        if not self._can_do_without:
            everything &= ~Init.NO_OPENDIR_SUPPORT
        body = await self.ask(Op.INIT, 0, requests.INIT.pack(7, 38, 1 << 20, everything))
        self.agreed = int.from_bytes(body[12:16], "little")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.mount.close()

    # -- messages --------------------------------------------------------------------------

    def _receive(self, data: bytes) -> int:
        size, error, unique = int.from_bytes(data[:4], "little"), data[4:8], data[8:16]
        assert size == len(data), "an answer of another size than it says"
        number = int.from_bytes(error, "little", signed=True)
        key = int.from_bytes(unique, "little")
        if not key:
            self.notices.append((number, data[16:]))
            return 0
        answer = self._answers.pop(key)
        if answer.done():
            return 0
        if number:
            answer.set_exception(OSError(-number, os.strerror(-number)))
        else:
            answer.set_result(data[16:])
        return 0

    def _taken(self, size: int) -> None:
        self.taken += size

    def _broken(self, error: GuestProtocolError) -> None:
        self.broken = error
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(error)

    def begin(
        self, op: int, node: int, body: bytes = b"", ctx: Context | None = None
    ) -> tuple[int, asyncio.Future[bytes]]:
        """Send a request; its number, and its answer when it comes."""
        ctx = ctx or Context(1, 0, 0)
        self._unique += 2
        answer = self._answers[self._unique] = asyncio.get_running_loop().create_future()
        data = pack(op, self._unique, node, body, uid=ctx.uid, gid=ctx.gid, pid=ctx.pid)
        self.mount.receive(data)
        return self._unique, answer

    async def ask(self, op: int, node: int, body: bytes = b"", ctx: Context | None = None) -> bytes:
        """Send a request and wait for its answer.

        Raises:
            OSError: what was answered.
            GuestProtocolError: the mount takes it for a breach of the protocol.
        """
        return await self.begin(op, node, body, ctx)[1]

    def tell(self, op: int, node: int, body: bytes) -> None:
        """Send what is not answered: FORGET, INTERRUPT."""
        self._unique += 2
        self.mount.receive(pack(op, self._unique, node, body))

    def interrupt(self, unique: int) -> None:
        """Say that nobody waits for a request any more."""
        self.tell(Op.INTERRUPT, 0, requests.INTERRUPT.pack(unique))

    def forget(self, node: int, times: int = 1) -> None:
        """Forget a node."""
        self.tell(Op.FORGET, node, requests.FORGET.pack(times))

    # -- as a file system ------------------------------------------------------------------

    @property
    def root(self) -> int:
        return opcodes.ROOT

    @staticmethod
    def _entry(body: bytes) -> Entry:
        node, _, entry_s, attr_s, entry_ns, attr_ns, *attr = _ENTRY_OUT.unpack_from(body)
        if not node:
            raise FileNotFoundError(2, os.strerror(2))
        return Entry(
            node, _attr(tuple(attr)), entry_s + entry_ns / _BILLION, attr_s + attr_ns / _BILLION
        )

    async def lookup(self, ctx: Context, parent: int, name: str) -> Entry:
        return self._entry(await self.ask(Op.LOOKUP, parent, _name(name), ctx))

    async def getattr(self, ctx: Context, node: int, handle: Any = None) -> Attr:
        flags = 0 if handle is None else opcodes.GETATTR_FH
        body = await self.ask(Op.GETATTR, node, requests.GETATTR.pack(flags, 0, handle or 0), ctx)
        return _attr(_ATTR_OUT.unpack(body)[3:])

    async def setattr(self, ctx: Context, node: int, changes: SetAttr, handle: Any = None) -> Attr:
        valid = Valid(0)
        for name in ("mode", "uid", "gid", "size"):
            if getattr(changes, name) is not None:
                valid |= Valid[name.upper()]
        times = []
        for name in ("atime", "mtime", "ctime"):
            value = getattr(changes, f"{name}_ns")
            if value is not None:
                valid |= Valid[name.upper()]
            times.append(divmod(value or 0, _BILLION))
        if handle is not None:
            valid |= Valid.FH
        body = requests.SETATTR.pack(
            valid, 0, handle or 0, changes.size or 0, 0, *(s & (1 << 64) - 1 for s, _ in times),
            *(ns for _, ns in times), changes.mode or 0, 0, changes.uid or 0, changes.gid or 0, 0,
        )  # fmt: skip
        return _attr(_ATTR_OUT.unpack(await self.ask(Op.SETATTR, node, body, ctx))[3:])

    async def readlink(self, ctx: Context, node: int) -> str:
        return os.fsdecode(await self.ask(Op.READLINK, node, b"", ctx))

    async def mknod(self, ctx: Context, parent: int, name: str, mode: int, rdev: int) -> Entry:
        body = requests.MKNOD.pack(mode, rdev, 0, 0) + _name(name)
        return self._entry(await self.ask(Op.MKNOD, parent, body, ctx))

    async def mkdir(self, ctx: Context, parent: int, name: str, mode: int) -> Entry:
        body = requests.MKDIR.pack(mode, 0) + _name(name)
        return self._entry(await self.ask(Op.MKDIR, parent, body, ctx))

    async def unlink(self, ctx: Context, parent: int, name: str) -> None:
        await self.ask(Op.UNLINK, parent, _name(name), ctx)

    async def rmdir(self, ctx: Context, parent: int, name: str) -> None:
        await self.ask(Op.RMDIR, parent, _name(name), ctx)

    async def symlink(self, ctx: Context, parent: int, name: str, target: str) -> Entry:
        return self._entry(await self.ask(Op.SYMLINK, parent, _name(name) + _name(target), ctx))

    async def rename(
        self, ctx: Context, parent: int, name: str, new_parent: int, new_name: str, flags: int
    ) -> None:
        names = _name(name) + _name(new_name)
        if flags:
            await self.ask(Op.RENAME2, parent, requests.RENAME2.pack(new_parent, flags, 0) + names)
        else:
            await self.ask(Op.RENAME, parent, requests.RENAME.pack(new_parent) + names, ctx)

    async def link(self, ctx: Context, node: int, new_parent: int, new_name: str) -> Entry:
        body = requests.LINK.pack(node) + _name(new_name)
        return self._entry(await self.ask(Op.LINK, new_parent, body, ctx))

    async def open(self, ctx: Context, node: int, flags: int) -> Opened:
        body = await self.ask(Op.OPEN, node, requests.OPEN.pack(flags, 0), ctx)
        return self._opened(body)

    @staticmethod
    def _opened(body: bytes) -> Opened:
        handle, flags, _ = _OPEN_OUT.unpack(body)
        return Opened(handle, bool(flags & 2), bool(flags & 1))

    async def create(
        self, ctx: Context, parent: int, name: str, mode: int, flags: int
    ) -> tuple[Entry, Opened]:
        body = requests.CREATE.pack(flags, mode, 0, 0) + _name(name)
        answer = await self.ask(Op.CREATE, parent, body, ctx)
        return self._entry(answer), self._opened(answer[_ENTRY_OUT.size :])

    async def read(self, ctx: Context, node: int, handle: int, offset: int, size: int) -> bytes:
        found = b""
        while size > 0:
            step = min(size, requests.MAX_DATA)
            body = requests.READ.pack(handle, offset, step, 0, 0, 0, 0)
            piece = await self.ask(Op.READ, node, body, ctx)
            found += piece
            if len(piece) < step:
                break
            offset, size = offset + step, size - step
        return found

    async def write(
        self, ctx: Context, node: int, handle: int, offset: int, data: memoryview
    ) -> int:
        data = data[: requests.MAX_DATA]
        body = requests.WRITE.pack(handle, offset, len(data), 0, 0, 0, 0) + data
        return int.from_bytes((await self.ask(Op.WRITE, node, body, ctx))[:4], "little")

    async def flush(self, ctx: Context, node: int, handle: int) -> None:
        await self.ask(Op.FLUSH, node, requests.FLUSH.pack(handle, 0, 0, 1), ctx)

    async def release(self, ctx: Context, node: int, handle: int) -> None:
        await self.ask(Op.RELEASE, node, requests.RELEASE.pack(handle, 0, 0, 1), ctx)

    async def fsync(self, ctx: Context, node: int, handle: int, data_only: bool) -> None:
        await self.ask(Op.FSYNC, node, requests.FSYNC.pack(handle, int(data_only), 0), ctx)

    async def fallocate(
        self, ctx: Context, node: int, handle: int, offset: int, length: int, mode: int
    ) -> None:
        body = requests.FALLOCATE.pack(handle, offset, length, mode, 0)
        await self.ask(Op.FALLOCATE, node, body, ctx)

    async def lseek(self, ctx: Context, node: int, handle: int, offset: int, whence: int) -> int:
        body = requests.LSEEK.pack(handle, offset, whence, 0)
        return int.from_bytes(await self.ask(Op.LSEEK, node, body, ctx), "little")

    async def copy_file_range(
        self, ctx: Context, node: int, handle: int, offset: int, to_node: int, to_handle: int,
        to_offset: int, length: int,
    ) -> int:  # fmt: skip
        body = requests.COPY_FILE_RANGE.pack(
            handle, offset, to_node, to_handle, to_offset, length, 0
        )
        return int.from_bytes((await self.ask(Op.COPY_FILE_RANGE, node, body, ctx))[:4], "little")

    # -- folders, attributes, locks --------------------------------------------------------

    async def opendir(self, ctx: Context, node: int) -> Opened:
        if not self._does_without:
            try:
                return self._opened(await self.ask(Op.OPENDIR, node, requests.OPEN.pack(0, 0), ctx))
            except OSError as error:
                if error.errno != errno.ENOSYS:
                    raise
                self._does_without = True
        return Opened(0)

    async def readdir(self, ctx: Context, node: int, handle: int) -> AsyncIterator[DirEntry]:
        return self._listed(ctx, Op.READDIR, node, handle)

    async def readdirplus(self, ctx: Context, node: int, handle: int) -> AsyncIterator[DirEntry]:
        return self._listed(ctx, Op.READDIRPLUS, node, handle)

    async def _listed(
        self, ctx: Context, op: Op, node: int, handle: int
    ) -> AsyncIterator[DirEntry]:
        offset, size = 0, 4096
        while True:
            body = await self.ask(
                op, node, requests.READ.pack(handle, offset, size, 0, 0, 0, 0), ctx
            )
            if not body:
                return
            at = 0
            while at < len(body):
                entry = None
                if op == Op.READDIRPLUS:
                    if int.from_bytes(body[at : at + 8], "little"):
                        entry = self._entry(body[at:])
                    at += _ENTRY_OUT.size
                ino, offset, length, kind = _DIRENT.unpack_from(body, at)
                name = os.fsdecode(body[at + _DIRENT.size : at + _DIRENT.size + length])
                at += (_DIRENT.size + length + 7) // 8 * 8
                if name not in (".", ".."):
                    yield DirEntry(name, kind << 12, ino, entry)

    async def releasedir(self, ctx: Context, node: int, handle: int) -> None:
        if not self._does_without:
            await self.ask(Op.RELEASEDIR, node, requests.RELEASE.pack(handle, 0, 0, 0), ctx)

    async def fsyncdir(self, ctx: Context, node: int, handle: int, data_only: bool) -> None:
        await self.ask(Op.FSYNCDIR, node, requests.FSYNC.pack(handle, int(data_only), 0), ctx)

    async def statfs(self, ctx: Context, node: int) -> Statistics:
        fields = _STATFS_OUT.unpack(await self.ask(Op.STATFS, node, b"", ctx))
        return Statistics(*fields[:7])

    async def getxattr(self, ctx: Context, node: int, name: str) -> bytes:
        body = requests.GETXATTR.pack(requests.MAX_XATTR, 0) + _name(name)
        return await self.ask(Op.GETXATTR, node, body, ctx)

    async def setxattr(self, ctx: Context, node: int, name: str, value: bytes, flags: int) -> None:
        body = requests.SETXATTR.pack(len(value), flags) + _name(name) + value
        await self.ask(Op.SETXATTR, node, body, ctx)

    async def listxattr(self, ctx: Context, node: int) -> list[str]:
        body = await self.ask(Op.LISTXATTR, node, requests.GETXATTR.pack(65536, 0), ctx)
        return [os.fsdecode(name) for name in body.split(b"\0")[:-1]]

    async def removexattr(self, ctx: Context, node: int, name: str) -> None:
        await self.ask(Op.REMOVEXATTR, node, _name(name), ctx)

    def _lock(self, handle: int, lock: Lock) -> bytes:
        flags = opcodes.LK_FLOCK if lock.whole else 0
        return requests.LOCK.pack(
            handle, lock.owner, lock.start, lock.end, lock.kind, lock.pid, flags, 0
        )

    async def getlk(self, ctx: Context, node: int, handle: int, lock: Lock) -> Lock | None:
        body = await self.ask(Op.GETLK, node, self._lock(handle, lock), ctx)
        start, end, kind, pid = _LOCK_OUT.unpack(body)
        return None if kind == 2 else Lock(start, end, kind, 0, pid)

    async def setlk(self, ctx: Context, node: int, handle: int, lock: Lock, wait: bool) -> None:
        op = Op.SETLKW if wait else Op.SETLK
        unique, answer = self.begin(op, node, self._lock(handle, lock), ctx)
        try:
            await answer
        except asyncio.CancelledError:
            self.interrupt(unique)
            raise
