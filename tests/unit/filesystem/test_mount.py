"""What a mount does besides passing requests on: time, errors, bounds, numbers, closing."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import stat
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sandlot.errors import GuestProtocolError, Refuse
from sandlot.filesystem import known
from sandlot.filesystem import mount as mounting
from sandlot.filesystem.base import FileSystem, quick
from sandlot.filesystem.fuse import requests
from sandlot.filesystem.fuse.opcodes import Init, Op
from sandlot.filesystem.memory.memfs import MemFs
from sandlot.filesystem.mount import Mount, linux_errno
from sandlot.filesystem.types import (
    NO_LOCK,
    READ_LOCK,
    WRITE_LOCK,
    Attr,
    Context,
    Entry,
    Lock,
    Opened,
)
from sandlot.testing import FileSystemClient, Kernel
from sandlot.testing.kernel import pack


class Odd(MemFs):
    """Does what a name says."""

    def __init__(self) -> None:
        super().__init__(size="16M", cache="coherent")
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cancelled = 0
        self.closed: list[str] = []

    def is_quick(self, method: str) -> bool:
        return method != "readlink" and super().is_quick(method)

    @quick
    async def lookup(self, ctx: Context, parent: Any, name: str) -> Entry:
        if name == "breaks":
            raise RuntimeError("a bug of the user's")
        if name == "refuses":
            raise Refuse("not that one")
        if name == "cannot":
            raise NotImplementedError
        if name == "absent":
            raise FileNotFoundError(name)
        if name == "waits":
            self.began.set()
            try:
                await self.go_on.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            return self._entry(self.root)
        return await super().lookup(ctx, parent, name)

    async def readlink(self, ctx: Context, node: Any) -> str:
        self.began.set()
        await self.go_on.wait()
        return "x"

    @quick
    async def release(self, ctx: Context, node: Any, handle: Any) -> None:
        self.closed.append("file")
        await super().release(ctx, node, handle)

    @quick
    async def releasedir(self, ctx: Context, node: Any, handle: Any) -> None:
        self.closed.append("folder")


@pytest.fixture
async def fs() -> Odd:
    return Odd()


@pytest.fixture
async def kernel(fs: Odd) -> AsyncIterator[Kernel]:
    async with Kernel(fs) as kernel:
        yield kernel
        assert kernel.broken is None


def name(text: str) -> bytes:
    return text.encode() + b"\0"


async def failed(answer: asyncio.Future[bytes]) -> int | None:
    """The errno of an answer."""
    with pytest.raises(OSError) as caught:
        await answer
    return caught.value.errno


async def test_an_error_of_the_users_is_logged_and_harms_nothing(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    assert await failed(kernel.begin(Op.LOOKUP, 1, name("breaks"))[1]) == errno.EIO
    (record,) = caplog.records
    assert record.name == "sandlot.filesystem"
    assert "Odd at / of sandbox test: lookup failed" in record.getMessage()
    assert record.exc_info is not None and "a bug of the user's" in str(record.exc_info[1])
    client = FileSystemClient(kernel)
    await client.write_bytes("/a", b"x")
    assert await client.read_bytes("/a") == b"x"


async def test_errors_become_the_right_numbers(kernel: Kernel) -> None:
    for text, number in (
        ("refuses", errno.EACCES), ("cannot", errno.ENOSYS), ("none", errno.ENOENT),
        ("x" * 256, errno.ENAMETOOLONG),
    ):  # fmt: skip
        kernel.mount.absent_timeout = 0
        assert await failed(kernel.begin(Op.LOOKUP, 1, name(text))[1]) == number
    assert await failed(kernel.begin(Op.LOOKUP, 1, name("absent"))[1]) == errno.ENOENT
    assert await failed(kernel.begin(Op.IOCTL, 1)[1]) == errno.ENOSYS
    assert await failed(kernel.begin(4095, 1)[1]) == errno.ENOSYS


async def test_what_is_absent_may_be_remembered(kernel: Kernel) -> None:
    body = await kernel.ask(Op.LOOKUP, 1, name("none"))
    assert int.from_bytes(body[:8], "little") == 0
    assert int.from_bytes(body[16:24], "little") > 0


async def test_a_slow_method_blocks_only_its_caller(kernel: Kernel, fs: Odd) -> None:
    _, slow = kernel.begin(Op.LOOKUP, 1, name("waits"))
    await fs.began.wait()
    await FileSystemClient(kernel).write_bytes("/a", b"x")
    assert not slow.done()
    fs.go_on.set()
    await slow


async def test_an_interrupt_lets_go_of_a_method_after_a_while(
    kernel: Kernel, fs: Odd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounting, "INTERRUPT_GRACE", 0.0)
    unique, answer = kernel.begin(Op.LOOKUP, 1, name("waits"))
    await fs.began.wait()
    kernel.interrupt(unique)
    kernel.interrupt(unique)
    kernel.interrupt(123456)
    assert await failed(answer) == errno.EINTR
    assert fs.cancelled == 1


async def test_an_interrupt_ends_waiting_for_a_lock(kernel: Kernel) -> None:
    client = FileSystemClient(kernel)
    await client.write_bytes("/a", b"")
    async with client.opened("/a", 2) as file:
        await file.lock(WRITE_LOCK, owner=1)
        lock = kernel._lock(file.handle, Lock(0, 10, READ_LOCK, 2, 7))
        unique, answer = kernel.begin(Op.SETLKW, file.node, lock)
        await asyncio.sleep(0)
        assert not answer.done()
        kernel.interrupt(unique)
        assert await failed(answer) == errno.EINTR
        await file.lock(NO_LOCK, owner=1)
        await file.lock(WRITE_LOCK, owner=3)  # the one who was interrupted holds nothing


async def test_a_method_that_hangs_is_timed_out(
    fs: Odd, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounting, "_TICK", 0.01)
    fs.operation_timeout = 0.01
    async with Kernel(fs) as kernel:
        for op, node, body in ((Op.LOOKUP, 1, name("waits")), (Op.READLINK, 1, b"")):
            assert await failed(kernel.begin(op, node, body)[1]) == errno.ETIMEDOUT
        assert fs.cancelled == 1
        assert any("took longer than 0.01 s" in record.getMessage() for record in caplog.records)


async def test_closing_lets_go_of_everything(fs: Odd) -> None:
    other = FileSystemClient(fs, sandbox="other")
    async with Kernel(fs) as kernel:
        client = FileSystemClient(kernel)
        file = await client.open("/a", 0o102)
        await file.lock(WRITE_LOCK, owner=1)
        await kernel.opendir(client.ctx, 1)
        _, waiting = kernel.begin(Op.LOOKUP, 1, name("waits"))
        await fs.began.wait()
        await asyncio.sleep(0)  # it goes on in a task
    assert fs.closed == ["file", "folder"]
    assert fs.cancelled == 1
    assert not waiting.done()
    assert not fs.mounts
    assert fs.locks.count == 0
    async with other.opened("/a", 2) as again:
        await again.lock(WRITE_LOCK, owner=1)
    await kernel.mount.close()


async def test_a_failure_to_close_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Stuck(MemFs):
        async def release(self, ctx: Context, node: Any, handle: Any) -> None:
            raise RuntimeError("it sticks")

    async with Kernel(Stuck()) as kernel:
        await FileSystemClient(kernel).open("/a", 0o102)
    assert "could not be closed" in caplog.text
    assert logging.ERROR in {record.levelno for record in caplog.records}


# -- bounds --------------------------------------------------------------------------------


async def test_nodes_are_bounded(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "MOST_NODES", 3)
    client = FileSystemClient(kernel)
    await client.mkdir("/a")
    await client.mkdir("/b")
    assert await failed(
        kernel.begin(Op.MKDIR, 1, requests.MKDIR.pack(0o755, 0) + name("c"))[1]
    ) == (errno.ENFILE)
    node, _ = await client.resolve("/a")
    kernel.forget(node, 1 << 60)
    assert kernel.mount.statistics()["nodes"] == 2
    assert kernel.mount.statistics()["mkdir"] == 3
    await client.mkdir("/d")


async def test_open_files_are_bounded(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    client = FileSystemClient(kernel)
    await client.write_bytes("/a", b"x")
    monkeypatch.setattr(known, "MOST_FILES", 2)
    first = await client.open("/a")
    await kernel.opendir(client.ctx, 1)
    for work in (client.open("/a"), client.open("/b", 0o101), kernel.opendir(client.ctx, 1)):
        with pytest.raises(OSError, match=r".") as caught:
            await work
        assert caught.value.errno == errno.ENFILE
    await first.close()
    await (await client.open("/a")).close()


async def test_open_folders_are_bounded(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    client = FileSystemClient(kernel)
    await client.write_bytes("/a", b"x")
    monkeypatch.setattr(known, "MOST_FOLDERS", 2)
    files = [await client.open("/a") for _ in range(3)]
    opened = [await kernel.opendir(client.ctx, 1) for _ in range(2)]
    with pytest.raises(OSError, match=r".") as caught:
        await kernel.opendir(client.ctx, 1)
    assert caught.value.errno == errno.ENFILE
    await kernel.releasedir(client.ctx, 1, opened[0].handle)
    await kernel.opendir(client.ctx, 1)
    for file in files:
        await file.close()


async def test_what_is_under_way_is_bounded(
    kernel: Kernel, fs: Odd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes above waits, and its bytes are not acknowledged to the channel."""
    monkeypatch.setattr(mounting, "MOST_RUNNING", 3)
    taken = kernel.taken
    answers = [kernel.begin(Op.LOOKUP, 1, name("waits"))[1] for _ in range(10)]
    one = requests.HEADER_SIZE + len(name("waits"))
    assert kernel.mount.statistics()["running"] == 3
    assert kernel.mount.statistics()["waiting"] == 7
    assert kernel.taken - taken == 3 * one
    fs.go_on.set()
    await asyncio.gather(*answers)
    assert kernel.taken - taken == 10 * one
    await asyncio.sleep(0)
    assert kernel.mount.statistics()["running"] == 0


async def test_nothing_is_begun_while_too_much_waits_to_be_sent(fs: Odd) -> None:
    sent: list[bytes] = []
    unsent = 0

    def send(data: bytes) -> int:
        sent.append(data)
        return unsent

    mount = Mount(fs, "a", "/", send=send, taken=lambda _: None, broken=lambda error: None)
    unsent = mounting.MOST_BYTES + 1
    mount.receive(pack(Op.GETATTR, 2, 1, requests.GETATTR.pack(0, 0, 0)))
    mount.receive(pack(Op.GETATTR, 4, 1, requests.GETATTR.pack(0, 0, 0)))
    assert len(sent) == 1
    unsent = 0
    mount.drained(0)
    assert len(sent) == 2


# -- numbers -------------------------------------------------------------------------------


async def test_numbers_it_never_got_are_refused(kernel: Kernel) -> None:
    client = FileSystemClient(kernel)
    file = await client.open("/a", 0o102)
    for number in (0, 2**64 - 1, 999):
        assert await failed(kernel.begin(Op.LOOKUP, number, name("a"))[1]) == errno.ESTALE
        body = requests.READ.pack(number, 0, 10, 0, 0, 0, 0)
        assert await failed(kernel.begin(Op.READ, file.node, body)[1]) == errno.EIO
        kernel.forget(number)
    kernel.forget(1, 1 << 40)  # the root is never forgotten
    assert await client.listdir("/") == ["a"]


async def test_a_node_is_kept_until_it_is_forgotten_as_often_as_told(kernel: Kernel) -> None:
    client = FileSystemClient(kernel)
    await client.mkdir("/a")
    node, _ = await client.resolve("/a")
    assert (await client.resolve("/a"))[0] == node
    kernel.forget(node, 2)
    await kernel.getattr(client.ctx, node)
    kernel.forget(node, 1)
    assert await failed(kernel.begin(Op.GETATTR, node, bytes(16))[1]) == errno.ESTALE
    assert (await client.resolve("/a"))[0] != node


async def test_a_request_number_used_twice_is_a_breach(fs: Odd) -> None:
    async with Kernel(fs) as kernel:
        request = pack(Op.LOOKUP, 77, 1, name("waits"))
        kernel.mount.receive(request)
        kernel.mount.receive(request)
        assert isinstance(kernel.broken, GuestProtocolError)


async def test_a_method_that_answers_nonsense_is_an_error(
    kernel: Kernel, fs: Odd, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = FileSystemClient(kernel)
    file = await client.open("/a", 0o102)

    async def too_much(*_: object) -> bytes:
        return b"x" * 100

    async def far_too_much(*_: object) -> int:
        return 1 << 40

    monkeypatch.setattr(fs, "read", too_much)
    monkeypatch.setattr(fs, "write", far_too_much)
    with pytest.raises(OSError, match=r".") as caught:
        await file.pread(10, 0)
    assert caught.value.errno == errno.EIO
    with pytest.raises(OSError, match=r".") as caught:
        await kernel.write(client.ctx, file.node, file.handle, 0, memoryview(b"x"))
    assert caught.value.errno == errno.EIO


# -- what is told unasked, and agreed ------------------------------------------------------


async def test_one_mount_is_told_of_the_changes_of_the_other() -> None:
    fs = MemFs(cache="coherent")
    async with Kernel(fs, "one", "/a") as one, Kernel(fs, "two", "/b") as two:
        first = FileSystemClient(one)
        second = FileSystemClient(two)
        await first.write_bytes("/a", b"x")
        node, _ = await second.resolve("/a")
        one.notices.clear()
        two.notices.clear()
        await first.write_bytes("/a", b"y")
        assert not one.notices
        numbers = {int.from_bytes(body[:8], "little") for code, body in two.notices if code == 2}
        assert node in numbers
        two.notices.clear()
        await first.unlink("/a")
        names = [body[16:-1] for code, body in two.notices if code == 3]
        assert names == [b"a"]
        await second.mkdir("/new")
        assert [body[16:-1] for code, body in one.notices if code == 3] == [b"new"]


async def test_append_of_two_guests_overwrites_nothing() -> None:
    fs = MemFs(cache="coherent")
    async with Kernel(fs, "one") as one, Kernel(fs, "two") as two:
        first, second = FileSystemClient(one), FileSystemClient(two)
        await first.write_bytes("/log", b"")
        async with first.opened("/log", 0o2001) as a, second.opened("/log", 0o2001) as b:
            await one.write(first.ctx, a.node, a.handle, 0, memoryview(b"one"))
            one.notices.clear()
            two.notices.clear()
            # The second one believes that the file is empty still.
            await two.write(second.ctx, b.node, b.handle, 0, memoryview(b"two"))
            assert one.notices and two.notices  # both have to look
        assert await first.read_bytes("/log") == b"onetwo"


@pytest.mark.parametrize(
    ("cache", "has", "lacks"),
    [
        ("fast", Init.WRITEBACK_CACHE | Init.AUTO_INVAL_DATA, Init.POSIX_LOCKS),
        ("coherent", Init.EXPLICIT_INVAL_DATA | Init.POSIX_LOCKS, Init.WRITEBACK_CACHE),
        ("none", Init.POSIX_LOCKS | Init.FLOCK_LOCKS, Init.WRITEBACK_CACHE),
    ],
)
async def test_what_is_agreed_depends_on_the_cache(cache: str, has: Init, lacks: Init) -> None:
    async with Kernel(MemFs(cache=cache)) as kernel:
        assert kernel.agreed & has == has
        assert not kernel.agreed & lacks


@pytest.mark.parametrize(("major", "minor"), [(6, 38), (7, 30), (8, 0)])
async def test_another_protocol_is_a_breach(major: int, minor: int) -> None:
    kernel = Kernel(MemFs())
    with pytest.raises(GuestProtocolError, match="FUSE"):
        await kernel.ask(Op.INIT, 0, requests.INIT.pack(major, minor, 0, (1 << 32) - 1))


async def test_a_file_system_of_two_methods_is_useful() -> None:
    class Greeting(FileSystem):
        async def lookup(self, ctx: Context, parent: Any, name: str) -> Entry:
            if name == "hello":
                return Entry("hello", Attr(stat.S_IFREG | 0o444, size=3))
            raise FileNotFoundError(name)

        async def read(self, ctx: Context, node: Any, handle: Any, offset: int, size: int) -> bytes:
            return b"hi\n"[offset : offset + size]

    async with Kernel(Greeting()) as kernel:
        client = FileSystemClient(kernel)
        assert await client.read_bytes("/hello") == b"hi\n"
        assert not await client.exists("/bye")
        assert (await client.stat("/hello")).ino


def test_numbers_of_errors_are_linux_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    assert linux_errno(errno.ENOENT) == 2

    class Other:
        sysname = "Darwin"

    monkeypatch.setattr(os, "uname", lambda: Other)
    assert linux_errno(errno.ENOTEMPTY) == 39


def test_opened_defaults() -> None:
    assert Opened().handle is None
