"""What requests are to a file system: privileges that a write takes, times, flags, sizes."""

from __future__ import annotations

import errno
import stat
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sandlot.errors import GuestProtocolError
from sandlot.filesystem.base import FileSystem, quick
from sandlot.filesystem.fuse import opcodes, requests
from sandlot.filesystem.fuse.opcodes import Op, Valid
from sandlot.filesystem.memory.memfs import MemFs
from sandlot.filesystem.operations import OPERATIONS
from sandlot.filesystem.types import Attr, Context, DirEntry, Entry, Opened
from sandlot.testing import FileSystemClient, Kernel


@pytest.fixture
async def kernel() -> AsyncIterator[Kernel]:
    async with Kernel(MemFs(size="16M", cache="coherent")) as kernel:
        yield kernel


def setattr_body(valid: int, **fields: int) -> bytes:
    names = ("size", "lock", "atime", "mtime", "ctime", "atime_ns", "mtime_ns", "ctime_ns", "mode",
             "unused", "uid", "gid", "unused2")  # fmt: skip
    return requests.SETATTR.pack(valid, 0, 0, *(fields.get(name, 0) for name in names))


def test_there_is_one_for_every_request() -> None:
    missing = set(Op) - set(OPERATIONS) - opcodes.UNANSWERED
    assert missing <= {Op.NOTIFY_REPLY, Op.SETUPMAPPING, Op.REMOVEMAPPING}


@pytest.mark.parametrize(
    ("mode", "after"),
    [(0o6755, 0o755), (0o2745, 0o2745), (0o4711, 0o711), (0o1644, 0o1644), (0o2755, 0o755)],
)
async def test_who_may_not_keep_privileges_takes_them_by_writing(
    kernel: Kernel, mode: int, after: int
) -> None:
    client = FileSystemClient(kernel)
    file = await client.open("/a", 0o102)
    for way in ("write", "truncate", "chown", "open"):
        await client.change("/a", mode=mode)
        if way == "write":
            body = (
                requests.WRITE.pack(file.handle, 0, 1, opcodes.WRITE_KILL_SUIDGID, 0, 0, 0) + b"x"
            )
            await kernel.ask(Op.WRITE, file.node, body)
        elif way == "truncate":
            valid = Valid.SIZE | Valid.KILL_SUIDGID
            await kernel.ask(Op.SETATTR, file.node, setattr_body(valid, size=1))
        elif way == "chown":
            await kernel.ask(Op.SETATTR, file.node, setattr_body(Valid.UID, uid=9))
        else:
            body = requests.OPEN.pack(0o1001, opcodes.OPEN_KILL_SUIDGID)
            await kernel.ask(Op.OPEN, file.node, body)
        assert stat.S_IMODE((await client.stat("/a")).mode) == after, way


async def test_folders_keep_their_bits(kernel: Kernel) -> None:
    client = FileSystemClient(kernel)
    await client.mkdir("/d")
    await client.change("/d", mode=0o2755)
    assert (await client.change("/d", uid=5)).mode & stat.S_ISGID


async def test_times_before_1970_and_now(kernel: Kernel) -> None:
    client = FileSystemClient(kernel)
    await client.write_bytes("/a", b"")
    attr = await client.change("/a", mtime_ns=-1_500_000_000)
    assert attr.mtime_ns == -1_500_000_000
    node, _ = await client.resolve("/a")
    before = time.time_ns()
    await kernel.ask(Op.SETATTR, node, setattr_body(Valid.MTIME | Valid.MTIME_NOW, mtime=5))
    assert (await client.stat("/a")).mtime_ns >= before


async def test_a_kernel_that_caches_writes_opens_to_read_as_well() -> None:
    class Flags(MemFs):
        seen: list[int] = []

        async def open(self, ctx: Context, node: Any, flags: int) -> Opened:
            self.seen.append(flags)
            return await super().open(ctx, node, flags)

    fs = Flags(cache="fast")
    async with Kernel(fs) as kernel:
        client = FileSystemClient(kernel)
        await client.write_bytes("/a", b"x")
        node, _ = await client.resolve("/a")
        await kernel.open(client.ctx, node, 0o2001)
        assert fs.seen[-1] == 2  # O_RDWR, and the kernel knows where the file ends


@pytest.mark.parametrize(("cache", "flags"), [("none", 1), ("coherent", 2), ("fast", 2)])
async def test_what_the_kernel_may_cache_of_open_files(cache: str, flags: int) -> None:
    async with Kernel(MemFs(cache=cache)) as kernel:
        client = FileSystemClient(kernel)
        await client.write_bytes("/a", b"x")
        node, attr = await client.resolve("/a")
        body = await kernel.ask(Op.OPEN, node, requests.OPEN.pack(0, 0))
        assert int.from_bytes(body[8:12], "little") == flags
        entry = await kernel.lookup(client.ctx, 1, "a")
        assert (entry.entry_timeout == 0) == (cache == "none")
        assert attr.size == 1
        body = await kernel.ask(Op.OPENDIR, 1, requests.OPEN.pack(0, 0))
        assert int.from_bytes(body[8:12], "little") == (0 if cache == "none" else 8 | 2)


async def test_a_listing_of_a_users_own_is_asked_for_each_time() -> None:
    class Clock(MemFs):
        async def readdirplus(self, ctx: Context, node: Any, handle: Any) -> Any:
            return [DirEntry(str(time.time_ns()), stat.S_IFREG)]

    async with Kernel(Clock()) as kernel:
        body = await kernel.ask(Op.OPENDIR, 1, requests.OPEN.pack(0, 0))
        assert int.from_bytes(body[8:12], "little") == 0


async def test_attributes_are_asked_for_their_size_first(kernel: Kernel) -> None:
    client = FileSystemClient(kernel)
    await client.write_bytes("/a", b"")
    await client.setxattr("/a", "user.one", b"12345")
    node, _ = await client.resolve("/a")

    def ask(op: Op, size: int, name: bytes = b"") -> Any:
        return kernel.ask(op, node, requests.GETXATTR.pack(size, 0) + name)

    assert (await ask(Op.GETXATTR, 0, b"user.one\0"))[:4] == (5).to_bytes(4, "little")
    assert await ask(Op.GETXATTR, 5, b"user.one\0") == b"12345"
    assert (await ask(Op.LISTXATTR, 0))[:4] == (9).to_bytes(4, "little")
    for op, name in ((Op.GETXATTR, b"user.one\0"), (Op.LISTXATTR, b"")):
        with pytest.raises(OSError, match=r".") as caught:
            await ask(op, 4, name)
        assert caught.value.errno == errno.ERANGE
    with pytest.raises(OSError, match=r".") as caught:
        body = requests.SETXATTR.pack(70000, 0) + b"user.big\0" + bytes(70000)
        await kernel.ask(Op.SETXATTR, node, body)
    assert caught.value.errno == errno.E2BIG


async def test_an_open_folder_is_no_file(kernel: Kernel) -> None:
    client = FileSystemClient(kernel)
    folder = await kernel.opendir(client.ctx, 1)
    file = await client.open("/a", 0o102)
    for op, handle, body in (
        (Op.READ, folder.handle, requests.READ.pack(folder.handle, 0, 9, 0, 0, 0, 0)),
        (Op.FSYNC, folder.handle, requests.FSYNC.pack(folder.handle, 0, 0)),
        (Op.READDIR, file.handle, requests.READ.pack(file.handle, 0, 9, 0, 0, 0, 0)),
        (Op.FSYNCDIR, file.handle, requests.FSYNC.pack(file.handle, 0, 0)),
    ):
        with pytest.raises(OSError, match=r".") as caught:
            await kernel.ask(op, 1, body)
        assert caught.value.errno == errno.EBADF, handle


async def test_unknown_flags_of_rename_are_refused(kernel: Kernel) -> None:
    client = FileSystemClient(kernel)
    await client.write_bytes("/a", b"")
    for flags in (4, 8, 3):
        with pytest.raises(OSError, match=r".") as caught:
            await client.rename("/a", "/b", flags)
        assert caught.value.errno == errno.EINVAL


async def test_a_read_of_more_than_was_agreed_is_a_breach(kernel: Kernel) -> None:
    """Else a guest would make the host take as much memory as it likes for one request."""
    client = FileSystemClient(kernel)
    await client.write_bytes("/a", b"x")
    file = await client.open("/a")
    body = requests.READ.pack(file.handle, 0, requests.MAX_DATA + 1, 0, 0, 0, 0)
    with pytest.raises(GuestProtocolError, match="reads"):
        await kernel.ask(Op.READ, file.node, body)
    assert kernel.broken is not None


async def test_what_a_method_must_not_return_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    class Wrong(FileSystem):
        async def lookup(self, ctx: Context, parent: Any, name: str) -> Entry:
            return Entry(name, Attr(stat.S_IFREG | 0o444, size=3))

        async def read(self, ctx: Context, node: Any, handle: Any, offset: int, size: int) -> Any:
            return "text" if node == "text" else None

    class Quick(Wrong):
        read = quick(Wrong.read)

    for kind in (Wrong, Quick):
        async with Kernel(kind()) as kernel:
            client = FileSystemClient(kernel)
            for path in ("/text", "/nothing"):
                with pytest.raises(OSError, match="Input/output error"):
                    await client.read_bytes(path)
    assert "read failed" in caplog.text
