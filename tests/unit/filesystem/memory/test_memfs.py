"""What is of `MemFs` alone: quota, what is given back, listings, caches."""

from __future__ import annotations

import errno
import gc
import stat

import pytest

from sandlot.errors import ConfigError
from sandlot.filesystem.memory import room
from sandlot.filesystem.memory.memfs import MemFs
from sandlot.testing import FileSystemClient, Kernel

KEEP = 1


async def test_quota_is_exact_and_comes_back() -> None:
    fs = MemFs(size="1M", cache="coherent")
    client = FileSystemClient(fs)
    await client.write_bytes("/a", b"x" * (1 << 20))
    assert (await client.statfs()).free == 0
    with pytest.raises(OSError, match="no room") as caught:
        await client.write_bytes("/b", b"x")
    assert caught.value.errno == errno.ENOSPC
    await client.truncate("/a", (1 << 20) - 4096)
    await client.write_bytes("/b", b"x")
    await client.unlink("/a")
    gc.collect()
    assert fs.room.used == 4096
    found = await client.statfs()
    assert found.blocks == 256 and found.free == 255


async def test_what_is_open_takes_room_until_it_is_closed() -> None:
    fs = MemFs(size="1M")
    async with Kernel(fs) as kernel:
        client = FileSystemClient(kernel)
        file = await client.open("/a", 0o102)
        await file.write(b"x" * (1 << 20))
        await client.unlink("/a")
        assert fs.room.free_pages == 0
        await file.close()
        kernel.forget(file.node, 100)
        gc.collect()
        assert fs.room.used == 0


async def test_allocating_takes_room_at_once_or_not_at_all() -> None:
    fs = MemFs(size="1M")
    client = FileSystemClient(fs)
    async with client.opened("/a", 0o102) as file:
        await file.allocate(0, 1 << 19)
        with pytest.raises(OSError, match="no room"):
            await file.allocate(0, 1 << 40)
        assert fs.room.used == 1 << 19
        with pytest.raises(OSError, match=r".") as caught:
            await file.allocate(0, 4096, 8)
        assert caught.value.errno == errno.EOPNOTSUPP


async def test_nodes_names_and_attributes_are_bounded() -> None:
    fs = MemFs(size="1M", nodes=5)
    client = FileSystemClient(fs)
    await client.write_bytes("/a", b"")
    for name in ("b", "c", "d"):
        await client.link("/a", f"/{name}")
    for work in (client.mkdir("/e"), client.link("/a", "/f"), client.symlink("x", "/g")):
        with pytest.raises(OSError, match="no room"):
            await work
    assert (await client.statfs()).files_free == 0
    for name in "abcd":
        await client.unlink(f"/{name}")
    gc.collect()
    assert fs.room.nodes == 1
    await client.mkdir("/d")
    for number in range(40):
        try:
            await client.setxattr("/d", f"user.{number}", bytes(60000))
        except OSError as error:
            assert error.errno == errno.ENOSPC
            break
    else:
        raise AssertionError("attributes have no bound")
    await client.rmdir("/d")
    gc.collect()
    assert fs.room.used == 0
    with pytest.raises(OSError, match=r".") as caught:
        await client.setxattr("/", "system.posix_acl_access", b"x")
    assert caught.value.errno == errno.EOPNOTSUPP


async def test_listings_of_large_folders_are_shared_and_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fs = MemFs()
    client = FileSystemClient(fs)
    for number in range(100):
        await client.write_bytes(f"/{number}", b"")
    first = await fs.readdir(client.ctx, fs.root, None)
    second = await fs.readdir(client.ctx, fs.root, None)
    next(first), next(second)
    assert fs.room.listed == 100
    monkeypatch.setattr(room, "MOST_LISTED", 150)
    await client.unlink("/0")
    third = await fs.readdir(client.ctx, fs.root, None)
    with pytest.raises(OSError, match="too many listings") as caught:
        next(third)
    assert caught.value.errno == errno.ENOMEM
    assert len(list(first)) == 99
    del first, second
    gc.collect()
    assert fs.room.listed == 0


async def test_one_that_is_not_shared_is_mounted_once() -> None:
    fs = MemFs()
    async with Kernel(fs):
        with pytest.raises(ConfigError, match="mounted already") as caught:
            await Kernel(fs, "other").__aenter__()
        assert "coherent" in caught.value.hint
    async with Kernel(fs, "other"):
        pass


async def test_the_root_is_like_tmpfs() -> None:
    attr = await FileSystemClient(MemFs()).stat("/")
    assert attr.mode == stat.S_IFDIR | 0o1777


@pytest.mark.parametrize("wrong", [{"size": "lots"}, {"size": 0}, {"cache": "warm"}])
def test_wrong_arguments_are_named(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"lots|size 0|warm"):
        MemFs(**wrong)  # type: ignore[arg-type]


async def test_paths_for_people() -> None:
    fs = MemFs()
    client = FileSystemClient(fs)
    await client.mkdir("/a")
    await client.write_bytes("/a/b", b"")
    node, _ = await client.resolve("/a/b")
    assert fs.path_of(node) == "a/b"
    await client.rename("/a/b", "/c")
    assert fs.path_of(node) == "c"
    assert fs.path_of(fs.root) == ""


async def test_many_files_in_a_folder() -> None:
    fs = MemFs(size="1G")
    client = FileSystemClient(fs)
    for number in range(20_000):
        await fs.mknod(client.ctx, fs.root, f"{number}", 0o100644, 0)
    assert len(await client.entries("/")) == 20_000
    before = await client.stat("/")
    await client.unlink("/19999")
    assert (await client.stat("/")).size < before.size
