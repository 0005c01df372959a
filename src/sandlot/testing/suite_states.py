"""Checks of the suite: modes, owners, times, attributes, locks, how full it is."""

from __future__ import annotations

import asyncio
import errno
import stat

from sandlot.filesystem.types import NO_LOCK, READ_LOCK, WRITE_LOCK
from sandlot.testing.checks import needs, refused
from sandlot.testing.client import CREAT, RDWR, FileSystemClient
from sandlot.testing.kernel import Kernel

_SECOND = 1_000_000_000


class States:
    """What is kept of a node besides its contents."""

    async def check_statfs(self, c: FileSystemClient) -> None:
        found = await c.statfs()
        assert found.block_size > 0
        assert found.free <= found.blocks
        assert found.name_length >= 1

    async def check_inode_numbers_stay(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"x")
        await c.mkdir("/d")
        first = await c.stat("/a")
        await c.write_bytes("/a", b"yy")
        assert (await c.stat("/a")).ino == first.ino
        assert (await c.stat("/d")).ino == (await c.stat("/d")).ino

    @needs("links")
    async def check_links_of_folders(self, c: FileSystemClient) -> None:
        before = (await c.stat("/")).nlink
        if before < 2:
            return  # as btrfs: folders always have one
        await c.mkdir("/d")
        assert (await c.stat("/")).nlink == before + 1
        assert (await c.stat("/d")).nlink == 2
        await c.mkdir("/d/e")
        assert (await c.stat("/d")).nlink == 3
        await c.rmdir("/d/e")
        assert (await c.stat("/d")).nlink == 2

    @needs("owners")
    async def check_modes(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"x", mode=0o640)
        await c.mkdir("/d", 0o1777)
        assert (await c.stat("/a")).mode == stat.S_IFREG | 0o640
        assert (await c.stat("/d")).mode == stat.S_IFDIR | 0o1777
        for mode in (0o4755, 0o000, 0o777, 0o2711):
            assert (await c.change("/a", mode=mode)).mode == stat.S_IFREG | mode
            assert (await c.stat("/a")).mode == stat.S_IFREG | mode

    @needs("owners")
    async def check_owners(self, c: FileSystemClient) -> None:
        await c.change("/", mode=0o777)
        user = FileSystemClient(c.fs, uid=1000, gid=1001)
        await user.write_bytes("/a", b"x")
        attr = await c.stat("/a")
        assert (attr.uid, attr.gid) == (1000, 1001)
        attr = await c.change("/a", uid=5, gid=6)
        assert (attr.uid, attr.gid) == (5, 6)
        attr = await c.change("/a", gid=7)
        assert (attr.uid, attr.gid) == (5, 7)

    @needs("owners")
    async def check_group_of_a_setgid_folder(self, c: FileSystemClient) -> None:
        await c.mkdir("/d")
        await c.change("/d", gid=77)
        await c.change("/d", mode=0o2777)
        user = FileSystemClient(c.fs, uid=1000, gid=1001)
        await user.write_bytes("/d/a", b"x")
        await user.mkdir("/d/e", 0o755)
        assert (await c.stat("/d/a")).gid == 77
        inner = await c.stat("/d/e")
        assert inner.gid == 77
        assert inner.mode & stat.S_ISGID

    @needs("times")
    async def check_set_times(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"x")
        when = 1_234_567_890 * _SECOND + 123_456_789
        attr = await c.change("/a", atime_ns=when, mtime_ns=when + _SECOND)
        assert (attr.atime_ns, attr.mtime_ns) == (when, when + _SECOND)
        attr = await c.stat("/a")
        assert (attr.atime_ns, attr.mtime_ns) == (when, when + _SECOND)

    @needs("times")
    async def check_times_move_on(self, c: FileSystemClient) -> None:
        long_ago = 1000 * _SECOND
        await c.write_bytes("/a", b"x")
        await c.change("/a", atime_ns=long_ago, mtime_ns=long_ago)
        async with c.opened("/a", RDWR) as file:
            await file.pwrite(b"y", 0)
            await file.fsync()
        attr = await c.stat("/a")
        assert attr.mtime_ns > long_ago
        assert attr.ctime_ns > long_ago

    @needs("times")
    async def check_times_of_folders(self, c: FileSystemClient) -> None:
        long_ago = 1000 * _SECOND
        await c.mkdir("/d")
        changes = (
            lambda: c.write_bytes("/d/a", b"x"), lambda: c.rename("/d/a", "/d/b"),
            lambda: c.unlink("/d/b"), lambda: c.mkdir("/d/e"), lambda: c.rmdir("/d/e"),
        )  # fmt: skip
        for change in changes:
            await c.change("/d", mtime_ns=long_ago)
            await change()
            assert (await c.stat("/d")).mtime_ns > long_ago

    @needs("times", "truncate")
    async def check_truncate_changes_times(self, c: FileSystemClient) -> None:
        long_ago = 1000 * _SECOND
        await c.write_bytes("/a", b"xyz")
        await c.change("/a", mtime_ns=long_ago)
        await c.truncate("/a", 1)
        assert (await c.stat("/a")).mtime_ns > long_ago

    # -- extended attributes ---------------------------------------------------------------

    @needs("xattrs")
    async def check_xattrs(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"x")
        await refused(errno.ENODATA, c.getxattr("/a", "user.one"))
        await c.setxattr("/a", "user.one", b"1")
        await c.setxattr("/a", "user.two", b"\0\xff" * 100)
        await c.setxattr("/a", "user.empty", b"")
        assert await c.getxattr("/a", "user.one") == b"1"
        assert await c.getxattr("/a", "user.two") == b"\0\xff" * 100
        assert await c.getxattr("/a", "user.empty") == b""
        assert set(await c.listxattr("/a")) >= {"user.empty", "user.one", "user.two"}
        await c.setxattr("/a", "user.one", b"more")
        assert await c.getxattr("/a", "user.one") == b"more"
        await c.removexattr("/a", "user.one")
        await refused(errno.ENODATA, c.getxattr("/a", "user.one"))
        await refused(errno.ENODATA, c.removexattr("/a", "user.one"))

    @needs("xattrs")
    async def check_xattr_flags(self, c: FileSystemClient) -> None:
        await c.mkdir("/d")
        await refused(errno.ENODATA, c.setxattr("/d", "user.one", b"1", 2))
        await c.setxattr("/d", "user.one", b"1", 1)
        await refused(errno.EEXIST, c.setxattr("/d", "user.one", b"2", 1))
        await c.setxattr("/d", "user.one", b"2", 2)
        assert await c.getxattr("/d", "user.one") == b"2"

    # -- locks -----------------------------------------------------------------------------

    @needs("locks")
    async def check_locks(self, c: FileSystemClient) -> None:
        async with c.opened("/a", RDWR | CREAT) as file:
            await file.lock(WRITE_LOCK, 0, 9, owner=1)
            await refused(errno.EAGAIN, file.lock(READ_LOCK, 5, 20, owner=2))
            await file.lock(READ_LOCK, 10, 20, owner=2)
            await file.lock(READ_LOCK, 15, 30, owner=3)
            found = await file.find_lock(WRITE_LOCK, 0, 5, owner=2)
            assert found is not None
            assert (found.start, found.end, found.kind) == (0, 9, WRITE_LOCK)
            assert await file.find_lock(WRITE_LOCK, 0, 9, owner=1) is None
            await file.lock(NO_LOCK, 4, 6, owner=1)
            await file.lock(WRITE_LOCK, 4, 6, owner=2)
            await refused(errno.EAGAIN, file.lock(WRITE_LOCK, 0, 0, owner=2))
            for owner in (1, 2, 3):
                await file.lock(NO_LOCK, owner=owner)
            assert await file.find_lock(WRITE_LOCK, owner=9) is None

    @needs("locks")
    async def check_wait_for_a_lock(self, c: FileSystemClient) -> None:
        async with c.opened("/a", RDWR | CREAT) as file:
            await file.lock(WRITE_LOCK, owner=1)
            waiting = asyncio.create_task(file.lock(WRITE_LOCK, owner=2, wait=True))
            await refused(errno.EAGAIN, file.lock(READ_LOCK, owner=3))
            assert not waiting.done()
            await file.lock(NO_LOCK, owner=1)
            await waiting
            await refused(errno.EAGAIN, file.lock(READ_LOCK, owner=1))
            await file.lock(NO_LOCK, owner=2)

    @needs("locks")
    async def check_whole_file_locks(self, c: FileSystemClient) -> None:
        async with c.opened("/a", RDWR | CREAT) as one, c.opened("/a", RDWR) as two:
            await one.lock(WRITE_LOCK, owner=1, whole=True)
            await refused(errno.EAGAIN, two.lock(READ_LOCK, owner=2, whole=True))
            await two.lock(WRITE_LOCK, owner=2)  # of another kind
            await two.lock(NO_LOCK, owner=2)
            await one.lock(READ_LOCK, owner=1, whole=True)
            await two.lock(READ_LOCK, owner=2, whole=True)
            await one.lock(NO_LOCK, owner=1, whole=True)
            await two.lock(NO_LOCK, owner=2, whole=True)

    @needs("locks")
    async def check_locks_of_two_sandboxes(self, c: FileSystemClient) -> None:
        other = FileSystemClient(c.fs, sandbox="other")
        if isinstance(c.fs, Kernel):
            return  # a kernel is one sandbox
        async with c.opened("/a", RDWR | CREAT) as one, other.opened("/a", RDWR) as two:
            await one.lock(WRITE_LOCK, owner=1)
            await refused(errno.EAGAIN, two.lock(WRITE_LOCK, owner=1))
            await one.lock(NO_LOCK, owner=1)
            await two.lock(WRITE_LOCK, owner=1)
            await two.lock(NO_LOCK, owner=1)
