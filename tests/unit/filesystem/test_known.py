"""What a guest knows of a file system: what is open and locked, now and in a machine that goes on."""

from __future__ import annotations

import errno
import json
from collections.abc import AsyncIterator

import pytest

from sandlot.filesystem import known
from sandlot.filesystem.fuse import requests
from sandlot.filesystem.fuse.opcodes import Op
from sandlot.filesystem.memory.memfs import MemFs
from sandlot.filesystem.types import NO_LOCK, READ_LOCK, WRITE_LOCK
from sandlot.testing import FileSystemClient, Kernel
from tests.unit.filesystem.test_mount import failed


@pytest.fixture
async def kernel() -> AsyncIterator[Kernel]:
    async with Kernel(MemFs(cache="coherent")) as made:
        yield made


async def test_a_file_that_is_no_more_after_a_restore_is_an_error() -> None:
    fs = MemFs()
    async with Kernel(fs) as kernel:
        client = FileSystemClient(kernel)
        await client.write_bytes("/a", b"kept")
        file = await client.open("/a")
        gone = await client.open("/b", 0o102)
        folder = await kernel.opendir(client.ctx, 1)
        saved = kernel.mount.save()
        same, another = Kernel(fs, "copy"), Kernel(MemFs(), "other")
        await same.mount.recall(saved)
        await another.mount.recall(saved)
        assert await same.read(client.ctx, file.node, file.handle, 0, 10) == b"kept"
        listed = await same.readdir(client.ctx, 1, folder.handle)
        assert {entry.name async for entry in listed} == {"a", "b"}
        body = requests.READ.pack(gone.handle, 0, 10, 0, 0, 0, 0)
        assert await failed(another.begin(Op.READ, gone.node, body)[1]) == errno.EIO
        assert await failed(another.begin(Op.GETATTR, gone.node, bytes(16))[1]) == errno.ESTALE


async def test_locks_are_had_again_after_a_restore() -> None:
    fs = MemFs(cache="coherent")
    other = FileSystemClient(fs, sandbox="other")
    async with Kernel(fs) as kernel:
        client = FileSystemClient(kernel)
        for path in ("/a", "/b"):
            await client.write_bytes(path, b"kept")
        ranges, flocked = await client.open("/a", 2), await client.open("/b", 2)
        await ranges.lock(WRITE_LOCK, 0, 99, owner=1)
        await ranges.lock(NO_LOCK, 10, 19, owner=1)
        await flocked.lock(WRITE_LOCK, owner=2, whole=True)
        saved = json.loads(json.dumps(kernel.mount.save()))
    again = Kernel(fs)
    await again.mount.recall(saved)
    async with other.opened("/a", 2) as file, other.opened("/b", 2) as second:
        await file.lock(WRITE_LOCK, 10, 19, owner=7)
        await file.lock(NO_LOCK, 10, 19, owner=7)
        for start in (0, 20):
            with pytest.raises(BlockingIOError):
                await file.lock(READ_LOCK, start, start, owner=7)
        with pytest.raises(BlockingIOError):
            await second.lock(WRITE_LOCK, owner=7, whole=True)
        await again.flush(client.ctx, ranges.node, ranges.handle)
        await file.lock(WRITE_LOCK, 0, 99, owner=7)
        await again.mount.close()
        await second.lock(WRITE_LOCK, owner=7, whole=True)
        # Both are somebody else's now: who believes to have them must not write.
        late = Kernel(fs)
        await late.mount.recall(saved)
        for lost in (ranges, flocked):
            body = requests.READ.pack(lost.handle, 0, 4, 0, 0, 0, 0)
            assert await failed(late.begin(Op.READ, lost.node, body)[1]) == errno.EIO
        await late.mount.close()


async def test_locks_have_a_bound(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "MOST_LOCKS", 3)
    client = FileSystemClient(kernel)
    await client.write_bytes("/a", b"")
    async with client.opened("/a", 2) as file:
        for start in (0, 10, 20):
            await file.lock(WRITE_LOCK, start, start, owner=1)
        with pytest.raises(OSError, match="No locks available"):
            await file.lock(WRITE_LOCK, 30, 30, owner=1)
        await file.lock(NO_LOCK, 10, 10, owner=1)
        await file.lock(WRITE_LOCK, 30, 30, owner=1)


async def test_locks_are_let_go_of_when_a_file_is_closed(kernel: Kernel) -> None:
    client = FileSystemClient(kernel)
    await client.write_bytes("/a", b"")
    async with client.opened("/a", 2) as one, client.opened("/a", 2) as two:
        await one.lock(WRITE_LOCK, 0, 9, owner=1)
        with pytest.raises(BlockingIOError):
            await two.lock(WRITE_LOCK, 0, 9, owner=2)
        await kernel.flush(client.ctx, one.node, one.handle)  # of owner 1
        await two.lock(WRITE_LOCK, 0, 9, owner=2)


async def test_a_lock_of_the_whole_file_ends_with_the_open_file(kernel: Kernel) -> None:
    client = FileSystemClient(kernel)
    await client.write_bytes("/a", b"")
    async with client.opened("/a", 2) as other:
        async with client.opened("/a", 2) as file:
            await file.lock(WRITE_LOCK, owner=1, whole=True)
            with pytest.raises(BlockingIOError):
                await other.lock(WRITE_LOCK, owner=2, whole=True)
        await other.lock(WRITE_LOCK, owner=2, whole=True)
