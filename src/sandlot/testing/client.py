"""`FileSystemClient`: drives a `FileSystem` by paths, as a guest's kernel does for programs.

It looks names up one by one, follows links, and opens with the flags of open(2). Permissions are not
checked: the kernel does that from the modes. Errors are the OSErrors that the methods raise.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sandlot.filesystem.base import FileSystem
from sandlot.filesystem.types import (
    NO_LOCK,
    WHOLE_FILE,
    Attr,
    Context,
    DirEntry,
    Entry,
    Lock,
    Opened,
    SetAttr,
    Statistics,
)

# Linux's, whatever this machine is: they are what a file system gets.
RDONLY, WRONLY, RDWR = 0, 1, 2
CREAT, EXCL, TRUNC, APPEND = 0o100, 0o200, 0o1000, 0o2000
NOFOLLOW = 0o400000
MOST_LINKS = 40
_OPEN_ONLY = CREAT | EXCL | NOFOLLOW | 0o400 | 0o2000000  # the kernel keeps these to itself


def fail(number: int, path: str = "") -> OSError:
    """An OSError by its number."""
    return OSError(number, os.strerror(number), path)


class OpenedFile:
    """An open file, with a place in it as file descriptors have."""

    def __init__(self, client: FileSystemClient, node: Any, opened: Opened, flags: int) -> None:
        self.client = client
        self.fs = client.fs
        self.node = node
        self.handle = opened.handle
        self.flags = flags
        self.place = 0

    async def pread(self, size: int, offset: int) -> bytes:
        """Bytes from a place."""
        return bytes(await self.fs.read(self.client.ctx, self.node, self.handle, offset, size))

    async def pwrite(self, data: bytes, offset: int) -> int:
        """Write at a place; how much was written."""
        if self.flags & APPEND:
            offset = (await self.stat()).size
        return await self.fs.write(
            self.client.ctx, self.node, self.handle, offset, memoryview(data)
        )

    async def read(self, size: int = -1) -> bytes:
        """Bytes from where it is; all that follow with -1."""
        if size < 0:
            size = max((await self.stat()).size - self.place, 0)
        data = await self.pread(size, self.place)
        self.place += len(data)
        return data

    async def write(self, data: bytes) -> int:
        """Write where it is, all of it."""
        view, done = memoryview(data), 0
        while done < len(data):
            step = await self.pwrite(bytes(view[done : done + (1 << 20)]), self.place)
            if step <= 0:
                raise fail(errno.EIO)
            self.place += step
            done += step
        return done

    async def stat(self) -> Attr:
        """What it is."""
        return await self.fs.getattr(self.client.ctx, self.node, self.handle)

    async def truncate(self, size: int) -> Attr:
        """Cut off or lengthen."""
        return await self.fs.setattr(self.client.ctx, self.node, SetAttr(size=size), self.handle)

    async def fsync(self, *, data_only: bool = False) -> None:
        """What was written is to last."""
        await self._may_lack(self.fs.fsync(self.client.ctx, self.node, self.handle, data_only))

    async def allocate(self, offset: int, length: int, mode: int = 0) -> None:
        """As fallocate(2)."""
        await self.fs.fallocate(self.client.ctx, self.node, self.handle, offset, length, mode)

    async def seek(self, offset: int, whence: int) -> int:
        """The next data (3) or hole (4)."""
        return await self.fs.lseek(self.client.ctx, self.node, self.handle, offset, whence)

    async def copy_to(self, other: OpenedFile, offset: int, to: int, length: int) -> int:
        """As copy_file_range(2)."""
        return await self.fs.copy_file_range(
            self.client.ctx, self.node, self.handle, offset, other.node, other.handle, to, length
        )

    async def lock(
        self, kind: int, start: int = 0, end: int = WHOLE_FILE, *, owner: int = 1,
        wait: bool = False, whole: bool = False,
    ) -> None:  # fmt: skip
        """Take or release a lock."""
        lock = Lock(start, end, kind, owner, 1, whole)
        await self.fs.setlk(self.client.ctx, self.node, self.handle, lock, wait)

    async def find_lock(
        self, kind: int, start: int = 0, end: int = WHOLE_FILE, *, owner: int = 1
    ) -> Lock | None:
        """What is in the way of a lock."""
        lock = Lock(start, end, kind, owner, 1)
        found = await self.fs.getlk(self.client.ctx, self.node, self.handle, lock)
        return None if found is None or found.kind == NO_LOCK else found

    async def close(self) -> None:
        """Close it."""
        try:
            await self._may_lack(self.fs.flush(self.client.ctx, self.node, self.handle))
        finally:
            await self.fs.release(self.client.ctx, self.node, self.handle)

    @staticmethod
    async def _may_lack(work: Any) -> None:
        try:
            await work
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise


class FileSystemClient:
    """See the module.

    Args:
        fs: the file system.
        uid, gid, pid: who asks.

    Example:
        >>> client = FileSystemClient(MemFs())
        >>> await client.write_bytes("/a", b"hello")
        >>> (await client.stat("/a")).size
        5
    """

    def __init__(
        self, fs: FileSystem, *, uid: int = 0, gid: int = 0, pid: int = 1, sandbox: str = "test",
        volume: str = "/",
    ) -> None:  # fmt: skip
        self.fs = fs
        self.ctx = Context(pid, uid, gid, sandbox, volume)

    # -- names -----------------------------------------------------------------------------

    async def _folder(self, path: str) -> tuple[Any, str]:
        """The folder that a path's last name is in, and that name."""
        head, _, name = path.rstrip("/").rpartition("/")
        node, attr = await self.resolve(head or "/")
        if not attr.is_folder:
            raise fail(errno.ENOTDIR, path)
        return node, name

    async def resolve(self, path: str, *, follow: bool = True) -> tuple[Any, Attr]:
        """The node of a path and what it is."""
        fs, ctx = self.fs, self.ctx
        above: list[tuple[Any, Attr]] = []
        here: tuple[Any, Attr] = fs.root, await fs.getattr(ctx, fs.root)
        names = [name for name in path.split("/") if name]
        links = 0
        while names:
            name = names.pop(0)
            if not here[1].is_folder:
                raise fail(errno.ENOTDIR, path)
            if name == ".":
                continue
            if name == "..":
                here = above.pop() if above else here
                continue
            if len(os.fsencode(name)) > 255:
                raise fail(errno.ENAMETOOLONG, path)
            entry = await fs.lookup(ctx, here[0], name)
            if stat.S_ISLNK(entry.attr.mode) and (names or follow or path.endswith("/")):
                links += 1
                if links > MOST_LINKS:
                    raise fail(errno.ELOOP, path)
                target = await fs.readlink(ctx, entry.node)
                names = [part for part in target.split("/") if part] + names
                if target.startswith("/"):
                    above, here = [], (fs.root, await fs.getattr(ctx, fs.root))
                continue
            above.append(here)
            here = entry.node, entry.attr
        if path.endswith("/") and not here[1].is_folder:
            raise fail(errno.ENOTDIR, path)
        return here

    async def stat(self, path: str) -> Attr:
        """What a path is, a link's target for a link."""
        node, _ = await self.resolve(path)
        return await self.fs.getattr(self.ctx, node)

    async def lstat(self, path: str) -> Attr:
        """What a path is, itself."""
        node, _ = await self.resolve(path, follow=False)
        return await self.fs.getattr(self.ctx, node)

    async def exists(self, path: str) -> bool:
        """Whether there is something."""
        try:
            await self.resolve(path, follow=False)
        except FileNotFoundError:
            return False
        return True

    # -- files -----------------------------------------------------------------------------

    async def open(self, path: str, flags: int = RDONLY, mode: int = 0o644) -> OpenedFile:
        """Open a file, as open(2)."""
        fs, ctx = self.fs, self.ctx
        told = flags & ~_OPEN_ONLY
        if flags & CREAT:
            parent, name = await self._folder(path)
            try:
                entry = await fs.lookup(ctx, parent, name)
            except FileNotFoundError:
                made, opened = await fs.create(ctx, parent, name, mode, told & ~TRUNC)
                return OpenedFile(self, made.node, opened, flags)
            if flags & EXCL:
                raise fail(errno.EEXIST, path)
            if entry.attr.is_folder:
                raise fail(errno.EISDIR, path)
        node, attr = await self.resolve(path, follow=not flags & NOFOLLOW)
        if stat.S_ISLNK(attr.mode):
            raise fail(errno.ELOOP, path)
        if attr.is_folder:
            raise fail(errno.EISDIR, path)
        opened = await fs.open(ctx, node, told)
        return OpenedFile(self, node, opened, flags)

    @asynccontextmanager
    async def opened(
        self, path: str, flags: int = RDONLY, mode: int = 0o644
    ) -> AsyncIterator[OpenedFile]:
        """Open a file for a while."""
        file = await self.open(path, flags, mode)
        try:
            yield file
        finally:
            await file.close()

    async def read_bytes(self, path: str) -> bytes:
        """All of a file."""
        async with self.opened(path) as file:
            found = bytearray()
            while piece := await file.pread(1 << 20, len(found)):
                found += piece
            return bytes(found)

    async def write_bytes(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Make a file, or replace what is in it."""
        async with self.opened(path, WRONLY | CREAT | TRUNC, mode) as file:
            await file.write(data)

    async def truncate(self, path: str, size: int) -> Attr:
        """Cut off or lengthen."""
        node, _ = await self.resolve(path)
        return await self.fs.setattr(self.ctx, node, SetAttr(size=size))

    async def change(self, path: str, *, follow: bool = True, **changes: Any) -> Attr:
        """Set `mode`, `uid`, `gid`, `atime_ns` or `mtime_ns`."""
        node, _ = await self.resolve(path, follow=follow)
        return await self.fs.setattr(self.ctx, node, SetAttr(**changes))

    # -- folders and links -----------------------------------------------------------------

    async def mkdir(self, path: str, mode: int = 0o755) -> Attr:
        """Make a folder."""
        return (await self._made("mkdir", path, mode)).attr

    async def mknod(self, path: str, mode: int, rdev: int = 0) -> Attr:
        """Make a node of another kind."""
        return (await self._made("mknod", path, mode, rdev)).attr

    async def symlink(self, target: str, path: str) -> Attr:
        """Make a symbolic link."""
        return (await self._made("symlink", path, target)).attr

    async def _made(self, method: str, path: str, *arguments: Any) -> Entry:
        parent, name = await self._folder(path)
        try:
            await self.fs.lookup(self.ctx, parent, name)
        except FileNotFoundError:
            made: Entry = await getattr(self.fs, method)(self.ctx, parent, name, *arguments)
            return made
        raise fail(errno.EEXIST, path)

    async def link(self, path: str, new: str) -> Attr:
        """One more name for a file."""
        node, _ = await self.resolve(path, follow=False)
        parent, name = await self._folder(new)
        return (await self.fs.link(self.ctx, node, parent, name)).attr

    async def readlink(self, path: str) -> str:
        """Where a link leads."""
        node, _ = await self.resolve(path, follow=False)
        return await self.fs.readlink(self.ctx, node)

    async def unlink(self, path: str) -> None:
        """Remove a name of a file."""
        await self.fs.unlink(self.ctx, *await self._folder(path))

    async def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        await self.fs.rmdir(self.ctx, *await self._folder(path))

    async def rename(self, old: str, new: str, flags: int = 0) -> None:
        """Move, as renameat2(2)."""
        parent, name = await self._folder(old)
        new_parent, new_name = await self._folder(new)
        await self.fs.rename(self.ctx, parent, name, new_parent, new_name, flags)

    async def entries(self, path: str) -> list[DirEntry]:
        """What is in a folder, with what is known of each."""
        fs, ctx = self.fs, self.ctx
        node, attr = await self.resolve(path)
        if not attr.is_folder:
            raise fail(errno.ENOTDIR, path)
        opened = await fs.opendir(ctx, node)
        try:
            source = await fs.readdirplus(ctx, node, opened.handle)
            if isinstance(source, AsyncIterable):
                found = [entry async for entry in source]
            else:
                found = list(source)
        finally:
            await fs.releasedir(ctx, node, opened.handle)
        for entry in found:
            if not entry.mode:  # its type was not known when it was listed
                entry.mode = (await fs.lookup(ctx, node, entry.name)).attr.mode
        return found

    async def listdir(self, path: str = "/") -> list[str]:
        """The names in a folder, sorted."""
        return sorted(entry.name for entry in await self.entries(path))

    async def statfs(self, path: str = "/") -> Statistics:
        """How full it is."""
        node, _ = await self.resolve(path)
        return await self.fs.statfs(self.ctx, node)

    # -- extended attributes ---------------------------------------------------------------

    async def _noted(self, path: str, name: str, otherwise: int) -> Any:
        """What may have such an attribute: of users' ones only files and folders, as in Linux."""
        node, attr = await self.resolve(path, follow=False)
        if name.startswith("user.") and not (attr.is_folder or stat.S_ISREG(attr.mode)):
            raise fail(otherwise, path)
        return node

    async def getxattr(self, path: str, name: str) -> bytes:
        """The value of one."""
        node = await self._noted(path, name, errno.ENODATA)
        return bytes(await self.fs.getxattr(self.ctx, node, name))

    async def setxattr(self, path: str, name: str, value: bytes, flags: int = 0) -> None:
        """Set one."""
        node = await self._noted(path, name, errno.EPERM)
        await self.fs.setxattr(self.ctx, node, name, value, flags)

    async def listxattr(self, path: str) -> list[str]:
        """The names of all, sorted."""
        node, _ = await self.resolve(path, follow=False)
        return sorted(await self.fs.listxattr(self.ctx, node))

    async def removexattr(self, path: str, name: str) -> None:
        """Remove one."""
        node = await self._noted(path, name, errno.EPERM)
        await self.fs.removexattr(self.ctx, node, name)
