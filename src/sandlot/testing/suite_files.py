"""Checks of the suite: what is in files."""

from __future__ import annotations

import errno

from sandlot.testing.checks import needs, refused
from sandlot.testing.client import (
    APPEND,
    CREAT,
    EXCL,
    RDONLY,
    RDWR,
    TRUNC,
    WRONLY,
    FileSystemClient,
)
from sandlot.testing.kernel import Kernel

_MIB = 1 << 20
_DATA, _HOLE = 3, 4
_KEEP, _PUNCH, _ZERO = 1, 2, 0x10


def _tells_holes(c: FileSystemClient) -> bool:
    """Whether a guest's kernel is told of holes: not while it keeps data of its own back."""
    return not isinstance(c.fs, Kernel) or c.fs.inner.cache != "fast"


class Files:
    """What is in files: reading, writing, sizes, holes."""

    async def check_write_and_read(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"hello")
        assert await c.read_bytes("/a") == b"hello"
        assert (await c.stat("/a")).size == 5

    async def check_empty_file(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"")
        assert await c.read_bytes("/a") == b""
        assert (await c.stat("/a")).size == 0

    async def check_large_file(self, c: FileSystemClient) -> None:
        data = bytes(range(256)) * 4096 * 5 + b"end"
        await c.write_bytes("/a", data)
        assert await c.read_bytes("/a") == data

    async def check_read_parts(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"0123456789")
        async with c.opened("/a") as file:
            assert await file.pread(3, 0) == b"012"
            assert await file.pread(100, 8) == b"89"
            assert await file.pread(10, 10) == b""
            assert await file.pread(10, 1000) == b""

    async def check_write_parts(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"0123456789")
        async with c.opened("/a", RDWR) as file:
            assert await file.pwrite(b"AB", 3) == 2
            assert await file.pwrite(b"XYZ", 9) == 3
            assert await file.pread(100, 0) == b"012AB5678XYZ"
        assert await c.read_bytes("/a") == b"012AB5678XYZ"

    async def check_write_past_the_end(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"ab")
        async with c.opened("/a", RDWR) as file:
            await file.pwrite(b"z", 5000)
            assert (await file.stat()).size == 5001
        assert await c.read_bytes("/a") == b"ab" + bytes(4998) + b"z"

    async def check_create_exclusively(self, c: FileSystemClient) -> None:
        async with c.opened("/a", WRONLY | CREAT | EXCL):
            pass
        await refused(errno.EEXIST, c.open("/a", WRONLY | CREAT | EXCL))

    async def check_truncate_at_open(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"hello")
        async with c.opened("/a", WRONLY | TRUNC) as file:
            assert (await file.stat()).size == 0
        assert await c.read_bytes("/a") == b""

    async def check_overwrite_with_less(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"x" * 100_000)
        await c.write_bytes("/a", b"short")
        assert await c.read_bytes("/a") == b"short"

    async def check_missing_file(self, c: FileSystemClient) -> None:
        await refused(errno.ENOENT, c.open("/none", RDONLY))
        await refused(errno.ENOENT, c.stat("/none"))
        await refused(errno.ENOENT, c.open("/none/a", WRONLY | CREAT))

    async def check_two_descriptors_see_the_same(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"hello")
        async with c.opened("/a", RDWR) as one, c.opened("/a", RDONLY) as two:
            await one.pwrite(b"J", 0)
            await one.fsync()
            assert await two.pread(5, 0) == b"Jello"

    async def check_fsync(self, c: FileSystemClient) -> None:
        async with c.opened("/a", WRONLY | CREAT) as file:
            await file.write(b"kept")
            await file.fsync()
            await file.fsync(data_only=True)
        assert await c.read_bytes("/a") == b"kept"

    @needs("append")
    async def check_append(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"one")
        async with c.opened("/a", WRONLY | APPEND) as file:
            await file.write(b"two")
            await file.write(b"three")
        assert await c.read_bytes("/a") == b"onetwothree"

    @needs("append")
    async def check_append_from_two(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"")
        async with c.opened("/a", WRONLY | APPEND) as one, c.opened("/a", WRONLY | APPEND) as two:
            for _ in range(3):
                await one.write(b"1")
                await two.write(b"2")
        assert await c.read_bytes("/a") == b"121212"

    @needs("truncate")
    async def check_truncate(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"0123456789")
        assert (await c.truncate("/a", 4)).size == 4
        assert await c.read_bytes("/a") == b"0123"
        assert (await c.truncate("/a", 8)).size == 8
        assert await c.read_bytes("/a") == b"0123" + bytes(4)

    @needs("truncate")
    async def check_truncate_shows_zeros_only(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"x" * 200_000)
        for size in (150_001, 70_000, 65_536, 4097, 3):
            await c.truncate("/a", size)
            await c.truncate("/a", 200_000)
            data = await c.read_bytes("/a")
            assert data == b"x" * size + bytes(200_000 - size)

    @needs("truncate")
    async def check_truncate_an_open_file(self, c: FileSystemClient) -> None:
        async with c.opened("/a", RDWR | CREAT) as file:
            await file.write(b"0123456789")
            await file.truncate(3)
            assert await file.pread(10, 0) == b"012"
            await file.pwrite(b"x", 4)
            assert await file.pread(10, 0) == b"012\0x"

    @needs("truncate")
    async def check_truncate_a_folder(self, c: FileSystemClient) -> None:
        await c.mkdir("/d")
        await refused((errno.EISDIR, errno.EINVAL), c.truncate("/d", 0))

    @needs("unlinked")
    async def check_unlinked_while_open(self, c: FileSystemClient) -> None:
        async with c.opened("/a", RDWR | CREAT) as file:
            await file.write(b"still")
            await c.unlink("/a")
            assert not await c.exists("/a")
            assert await file.pread(10, 0) == b"still"
            await file.pwrite(b" here", 5)
            assert await file.pread(20, 0) == b"still here"
            assert (await file.stat()).nlink == 0

    @needs("unlinked")
    async def check_replaced_while_open(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"old")
        async with c.opened("/a") as file:
            await c.write_bytes("/b", b"new")
            await c.rename("/b", "/a")
            assert await file.pread(10, 0) == b"old"
            assert await c.read_bytes("/a") == b"new"

    # -- holes -----------------------------------------------------------------------------

    @needs("sparse")
    async def check_beyond_4_gib(self, c: FileSystemClient) -> None:
        far = (5 << 30) + 123
        async with c.opened("/a", RDWR | CREAT) as file:
            await file.pwrite(b"far", far)
            assert (await file.stat()).size == far + 3
            assert await file.pread(10, far) == b"far"
            assert await file.pread(4, far - 2) == b"\0\0fa"
            assert await file.pread(8, 1 << 32) == bytes(8)
            assert (await file.stat()).blocks < 4096

    @needs("sparse")
    async def check_seek_data_and_holes(self, c: FileSystemClient) -> None:
        if not _tells_holes(c):
            return
        async with c.opened("/a", RDWR | CREAT) as file:
            await file.pwrite(b"x" * 4096, 10 * _MIB)
            await file.truncate(20 * _MIB)
            assert await file.seek(0, _HOLE) == 0
            start = await file.seek(0, _DATA)
            assert 0 < start <= 10 * _MIB
            assert 10 * _MIB + 4096 <= await file.seek(start, _HOLE) <= 20 * _MIB
            await refused(errno.ENXIO, file.seek(20 * _MIB, _DATA))
            await refused(errno.ENXIO, file.seek(20 * _MIB, _HOLE))

    @needs("sparse")
    async def check_no_hole_but_the_end(self, c: FileSystemClient) -> None:
        if not _tells_holes(c):
            return
        await c.write_bytes("/a", b"x" * 10_000)
        async with c.opened("/a") as file:
            assert await file.seek(0, _DATA) == 0
            assert await file.seek(123, _DATA) == 123
            assert await file.seek(123, _HOLE) == 10_000

    @needs("sparse")
    async def check_punch_a_hole(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"x" * _MIB)
        async with c.opened("/a", RDWR) as file:
            before = (await file.stat()).blocks
            await file.allocate(65536, 131072, _PUNCH | _KEEP)
            assert (await file.stat()).size == _MIB
            assert (await file.stat()).blocks <= before - 131072 // 512
            assert await file.pread(4, 65534) == b"xx\0\0"
            assert await file.pread(4, 65536 + 131072 - 2) == b"\0\0xx"
            await file.allocate(10, 5, _PUNCH | _KEEP)
            assert await file.pread(9, 8) == b"xx" + bytes(5) + b"xx"

    @needs("sparse")
    async def check_allocate(self, c: FileSystemClient) -> None:
        async with c.opened("/a", RDWR | CREAT) as file:
            await file.write(b"data")
            await file.allocate(0, 100_000)
            assert (await file.stat()).size == 100_000
            assert (await file.stat()).blocks * 512 >= 100_000
            assert await file.pread(6, 0) == b"data\0\0"
            await file.allocate(0, 200_000, _KEEP)
            assert (await file.stat()).size == 100_000

    @needs("sparse")
    async def check_zero_a_range(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"x" * 20_000)
        async with c.opened("/a", RDWR) as file:
            await file.allocate(100, 10_000, _ZERO)
            assert await file.pread(20_000, 0) == b"x" * 100 + bytes(10_000) + b"x" * 9900
            await file.allocate(19_990, 100, _ZERO)
            assert (await file.stat()).size == 20_090

    @needs("copy")
    async def check_copy_within(self, c: FileSystemClient) -> None:
        data = bytes(range(256)) * 600
        await c.write_bytes("/a", data)
        await c.write_bytes("/b", b"-" * 10)
        async with c.opened("/a") as one, c.opened("/b", RDWR) as two:
            done = 0
            while done < 100_000:
                step = await one.copy_to(two, 7 + done, 5 + done, 100_000 - done)
                assert step > 0
                done += step
            assert await one.copy_to(two, len(data), 0, 10) == 0
        assert await c.read_bytes("/b") == b"-----" + data[7:100_007]
