"""The file of a file system in memory: all of it comes back, and a bad one is refused."""

from __future__ import annotations

import io
import random
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandlot.errors import ConfigError, SnapshotDamaged
from sandlot.filesystem.memory.memfs import MemFs
from sandlot.testing import FileSystemClient, Kernel


async def filled() -> MemFs:
    fs = MemFs(size="32M", mode=0o750, uid=7)
    client = FileSystemClient(fs, uid=3, gid=4)
    await client.mkdir("/d", 0o2755)
    await client.write_bytes("/d/a", b"text" * 5000)
    await client.setxattr("/d/a", "user.one", b"\0\xff")
    await client.link("/d/a", "/also")
    await client.symlink("no\udcffwhere", "/d/link")
    await client.mknod("/d/fifo", stat.S_IFIFO | 0o600)
    await client.mknod("/null", stat.S_IFCHR | 0o666, 0x103)
    async with client.opened("/sparse", 0o102) as file:
        await file.pwrite(b"end", 5 << 30)
    await client.change("/d", mtime_ns=-5_000_000_000, atime_ns=123)
    return fs


def dumped(fs: MemFs) -> bytes:
    file = io.BytesIO()
    fs.dump(file)
    return file.getvalue()


async def test_all_of_it_comes_back() -> None:
    fs = await filled()
    copy = MemFs(size="32M")
    copy.load(io.BytesIO(dumped(fs)))
    assert dumped(copy) == dumped(fs)
    assert (copy.room.used, copy.room.nodes) == (fs.room.used, fs.room.nodes)
    client = FileSystemClient(copy)
    assert await client.read_bytes("/also") == b"text" * 5000
    assert (await client.stat("/also")).nlink == 2
    assert (await client.stat("/d")).mtime_ns == -5_000_000_000
    assert (await client.stat("/")).nlink == 3
    assert await client.readlink("/d/link") == "no\udcffwhere"
    await client.mkdir("/new")
    assert (await client.stat("/new")).ino not in {(await fs.getattr(client.ctx, n)).ino
                                                   for n in fs._numbered().values()}  # fmt: skip


async def test_open_files_without_a_name_come_back() -> None:
    fs = await filled()
    async with Kernel(fs) as kernel:
        client = FileSystemClient(kernel)
        file = await client.open("/gone", 0o102)
        await file.write(b"still")
        await client.unlink("/gone")
        saved, data = kernel.mount.save(), dumped(fs)
        copy = MemFs()
        copy.load(io.BytesIO(data))
        again = Kernel(copy, "copy")
        await again.mount.recall(saved)
        assert await again.read(client.ctx, file.node, file.handle, 0, 10) == b"still"
        with pytest.raises(ConfigError, match="mounted"):
            fs.load(io.BytesIO(data))


async def test_a_smaller_one_has_no_room() -> None:
    small = MemFs(size=8192)
    with pytest.raises(OSError, match="no room"):
        small.load(io.BytesIO(dumped(await filled())))
    assert small.room.used == 0


async def test_a_file_that_is_cut_off_is_damaged() -> None:
    data = dumped(await filled())
    for size in (0, 5, 40, 100, len(data) // 2, len(data) - 1):
        with pytest.raises(SnapshotDamaged, match="cannot be read"):
            MemFs().load(io.BytesIO(data[:size]))


@settings(deadline=None, max_examples=200)
@given(st.randoms(use_true_random=False))
async def test_a_file_that_was_changed_is_refused_or_whole(dice: random.Random) -> None:
    data = bytearray(dumped(await filled()))
    for _ in range(dice.randint(1, 4)):
        data[dice.randrange(len(data))] = dice.randrange(256)
    fs = MemFs(size="32M")
    try:
        fs.load(io.BytesIO(bytes(data)))
    except (SnapshotDamaged, OSError):
        return
    fs._numbered()
    dumped(fs)


RECORDS = [
    b'["name", 1, "..", 1]', b'["name", 1, "a/b", 1]', b'["name", 1, "x", 1]', b'["end", 5', b"{}",
    b'["open", 99]', b'["node", 1, 16877, 0, 0, 0, 0, 0, 0, 0, null]', b'["data", 0, 5]', b'["what"]',
    b'["node", 2, 4294967295, 0, 0, 0, 0, 0, 0, 0, null]', b'["xattr", "user.a", 99999999]', b"[]",
    b'["node", 2, 33188, 0, 0, 0, 0, 0, 0, 1e9, null]', b'["node", 2, 33188]', b"[" * 60000,
]  # fmt: skip


@pytest.mark.parametrize("record", RECORDS, ids=range(len(RECORDS)))
def test_records_that_cannot_be_are_refused(record: bytes) -> None:
    data = dumped(MemFs())
    end = len(b'["end"]') + 4
    bad = data[:-end] + len(record).to_bytes(4, "little") + record + data[-end:]
    with pytest.raises(SnapshotDamaged):
        MemFs().load(io.BytesIO(bad))


def test_a_folder_within_itself_is_refused() -> None:
    def record(text: str) -> bytes:
        return len(text).to_bytes(4, "little") + text.encode()

    data = dumped(MemFs())
    node = '["node", %d, 16877, 0, 0, 0, 0, 0, 0, 0, null]'
    names = record('["name", 2, "a", 3]') + record('["name", 3, "b", 2]')
    bad = data[:-11] + record(node % 2) + record(node % 3) + names + data[-11:]
    with pytest.raises(SnapshotDamaged, match="within itself"):
        MemFs().load(io.BytesIO(bad))
