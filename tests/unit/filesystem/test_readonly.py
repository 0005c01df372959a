"""Nothing of a file system that is read-only can be changed."""

from __future__ import annotations

import errno

import pytest

from sandlot.filesystem.memory.memfs import MemFs
from sandlot.filesystem.readonly import ReadOnly
from sandlot.filesystem.types import WRITE_LOCK, SetAttr
from sandlot.testing import FileSystemClient, Kernel


@pytest.mark.parametrize("through", [False, True])
async def test_everything_is_read_and_nothing_changed(through: bool) -> None:
    inner = MemFs(size="1M", cache="coherent")
    client = FileSystemClient(inner)
    await client.mkdir("/d")
    await client.write_bytes("/d/a", b"text")
    await client.symlink("d/a", "/l")
    await client.setxattr("/d/a", "user.one", b"1")
    fs = ReadOnly(inner)
    async with Kernel(fs) as kernel:
        reader = FileSystemClient(kernel if through else fs)
        assert await reader.read_bytes("/l") == b"text"
        assert await reader.listdir("/") == ["d", "l"]
        assert await reader.readlink("/l") == "d/a"
        assert await reader.getxattr("/d/a", "user.one") == b"1"
        assert await reader.listxattr("/d/a") == ["user.one"]
        assert (await reader.statfs()).available == 0
        file = await reader.open("/d/a")
        assert await file.seek(0, 4) == 4
        await file.lock(WRITE_LOCK)
        assert await file.find_lock(WRITE_LOCK, owner=9)
        await file.fsync()
        node = file.node
        for work in (
            reader.write_bytes("/d/a", b"x"), reader.write_bytes("/new", b"x"), reader.mkdir("/e"),
            reader.unlink("/l"), reader.rmdir("/d"), reader.symlink("a", "/b"),
            reader.rename("/l", "/m"), reader.link("/l", "/m"), reader.open("/d/a", 1),
            reader.mknod("/f", 0o10644), reader.setxattr("/d/a", "user.one", b"2"),
            reader.removexattr("/d/a", "user.one"), reader.truncate("/d/a", 0),
            reader.change("/d", mode=0o700), file.allocate(0, 10), file.copy_to(file, 0, 9, 1),
            reader.fs.write(reader.ctx, node, file.handle, 0, memoryview(b"x")),
            reader.fs.setattr(reader.ctx, node, SetAttr(uid=1)),
        ):  # fmt: skip
            with pytest.raises(OSError, match=r".") as caught:
                await work
            assert caught.value.errno == errno.EROFS
        await file.close()
        assert fs.path_of(fs.root) == ""
    assert await client.read_bytes("/d/a") == b"text"


async def test_changes_of_the_inner_one_are_told() -> None:
    inner = MemFs(cache="coherent")
    fs = ReadOnly(inner)
    assert fs.is_quick("read") and fs.is_quick("write")
    async with Kernel(fs, "one") as kernel, Kernel(inner, "two") as writer:
        await FileSystemClient(writer).write_bytes("/a", b"x")
        await FileSystemClient(kernel).resolve("/a")
        kernel.notices.clear()
        await FileSystemClient(writer).write_bytes("/a", b"y")
        assert kernel.notices
