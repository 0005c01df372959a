from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandlot.errors import WrongState
from sandlot.filesystem.types import Context
from sandlot.testing.client import APPEND, CREAT, RDWR, TRUNC, WRONLY, FileSystemClient
from sandlot.testing.kernel import Kernel
from sandlot.volume.ledger import BLOCK, NAME, count
from sandlot.volume.named import NamedFs, SizedFs, named_fs
from sandlot.volume.store import VolumeStore, new_record

SIZE = 1 << 20


@pytest.fixture
async def fs(own_state: Path) -> AsyncIterator[SizedFs]:
    fs = SizedFs(VolumeStore.current().create(new_record("data", size=SIZE)), SIZE)
    async with Kernel(fs):
        yield fs
        right(fs)


def right(fs: SizedFs) -> None:
    assert fs.ledger.used == count(fs.folder.data)


async def test_it_is_held_as_long_as_it_is_mounted(own_state: Path) -> None:
    folder = VolumeStore.current().create(new_record("data"))
    fs, other = NamedFs(folder), NamedFs(folder)
    async with Kernel(fs, "one"):
        async with Kernel(fs, "two", "/other"), Kernel(other, "three"):
            assert folder.in_use()
        assert folder.in_use()
        with pytest.raises(WrongState, match="mounted elsewhere"):
            await Kernel(NamedFs(folder, cache="fast")).__aenter__()
    assert not folder.in_use()
    async with Kernel(NamedFs(folder, cache="fast")):
        with pytest.raises(WrongState, match="mounted elsewhere"):
            await Kernel(fs).__aenter__()


async def test_one_object_for_all_of_a_loop(own_state: Path) -> None:
    folder = VolumeStore.current().create(new_record("data"))
    one = named_fs(folder, 0)
    assert named_fs(folder, 0) is one and named_fs(folder, 0, True) is not one
    assert type(one) is NamedFs and type(named_fs(folder, SIZE)) is SizedFs
    assert one.declaration() == {
        "kind": "named", "name": "data", "readonly": False, "cache": "coherent",
    }  # fmt: skip


async def test_a_full_volume_says_so_and_the_room_comes_back(fs: SizedFs) -> None:
    client = FileSystemClient(fs)
    await client.write_bytes("/a", bytes(300_000))
    with pytest.raises(OSError) as caught:
        await client.write_bytes("/b", bytes(SIZE))
    assert caught.value.errno == errno.ENOSPC
    statistics = await client.statfs()
    assert (statistics.blocks, statistics.free) == (SIZE // BLOCK, 0)
    assert SIZE - BLOCK < fs.ledger.used <= SIZE
    for work in (client.mkdir("/d"), client.symlink("x" * 100, "/l")):
        with pytest.raises(OSError):
            await work
    await client.unlink("/b")
    assert (await client.statfs()).free > 150
    await client.write_bytes("/a", b"")  # truncated first
    assert fs.ledger.used == NAME


async def test_what_is_there_already_may_be_written_in_a_full_volume(fs: SizedFs) -> None:
    client = FileSystemClient(fs)
    await client.write_bytes("/a", bytes(SIZE - NAME - BLOCK))
    async with client.opened("/a", RDWR) as file:
        assert await file.pwrite(b"x" * 200_000, 4096) == 200_000
        with pytest.raises(OSError):
            await file.pwrite(bytes(2 * BLOCK), SIZE)


async def test_an_unlinked_open_file_is_counted_until_it_is_closed(fs: SizedFs) -> None:
    client = FileSystemClient(fs)
    file = await client.open("/a", RDWR | CREAT)
    again = await client.open("/a", RDWR)
    await file.pwrite(bytes(100_000), 0)
    await client.unlink("/a")
    await file.close()
    assert fs.ledger.used == 102_400
    await again.pwrite(bytes(100_000), 100_000)
    assert fs.ledger.used == 200_704
    await again.close()
    assert fs.ledger.used == 0


async def test_a_file_that_another_program_has_open_is_given_back_by_the_last(fs: SizedFs) -> None:
    other = SizedFs(fs.folder, SIZE)  # with descriptors of its own, as another program's
    async with Kernel(other, "other"):
        mine, theirs = FileSystemClient(fs), FileSystemClient(other)
        await mine.write_bytes("/a", bytes(100_000))
        held = await theirs.open("/a", RDWR)
        await mine.unlink("/a")
        assert fs.ledger.used == 102_400
        await held.pwrite(bytes(4096), 200_000)
        await held.close()
        assert fs.ledger.used == 0


async def test_two_together_do_not_exceed_it(fs: SizedFs) -> None:
    import asyncio

    other = SizedFs(fs.folder, SIZE)
    async with Kernel(other, "other"):

        async def fill(one: SizedFs, name: str) -> None:
            client = FileSystemClient(one)
            with pytest.raises(OSError):
                for number in range(1000):
                    await client.write_bytes(f"/{name}{number}", bytes(7000))
                    await asyncio.sleep(0)

        await asyncio.gather(fill(fs, "a"), fill(other, "b"))
        assert SIZE - 8192 - NAME <= count(fs.folder.data) <= SIZE


async def test_appending_by_two_is_counted_where_it_ends(fs: SizedFs) -> None:
    client = FileSystemClient(fs)
    one = await client.open("/log", WRONLY | CREAT | APPEND)
    two = await client.open("/log", WRONLY | APPEND)
    for _ in range(20):
        await fs.write(client.ctx, one.node, one.handle, 0, memoryview(bytes(3000)))
        await fs.write(client.ctx, two.node, two.handle, 0, memoryview(bytes(3000)))
    assert (await client.stat("/log")).size == 120_000
    right(fs)
    await one.close()
    await two.close()


async def test_holes_attributes_and_room_beyond_the_end(fs: SizedFs) -> None:
    client = FileSystemClient(fs)
    file = await client.open("/a", RDWR | CREAT)
    await file.truncate(1 << 40)
    assert fs.ledger.used == NAME
    await file.allocate(0, 65536)
    right(fs)
    await file.allocate(0, 65536, 3)  # a hole
    right(fs)
    with pytest.raises(OSError) as caught:
        await file.allocate(1 << 40, 1 << 30, 1)
    assert caught.value.errno == errno.EOPNOTSUPP
    await file.truncate(0)
    with pytest.raises(OSError) as caught:
        await file.allocate(0, SIZE * 2)
    assert caught.value.errno == errno.ENOSPC
    await client.setxattr("/a", "user.a", bytes(2000))
    with pytest.raises(OSError):
        await client.setxattr("/a", "user.b", bytes(3000))
    await file.close()


async def test_links_and_renames(fs: SizedFs) -> None:
    client = FileSystemClient(fs)
    for name in ("/a", "/b"):
        await client.write_bytes(name, bytes(10_000))
    await client.link("/a", "/c")
    right(fs)
    await client.rename("/a", "/c")  # two names of one file: nothing happens
    right(fs)
    await client.rename("/b", "/c")  # one name of two
    right(fs)
    await client.mkdir("/d")
    await client.mkdir("/e")
    await client.rename("/d", "/e")
    await client.rename("/c", "/e/c")
    await client.rename("/a", "/e/c")  # over the last name
    right(fs)
    assert fs.ledger.used == 2 * NAME + BLOCK + 12_288


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ("write", "append", "truncate", "unlink", "rename", "link", "mkdir", "rmdir",
             "symlink", "punch", "open", "close", "trunc")
        ),
        st.integers(0, 3), st.integers(0, 3), st.integers(0, 40_000),
    ),
    max_size=40,
)  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS)
async def test_the_count_is_right_whatever_is_done(
    operations: list[tuple[str, int, int, int]], tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    store = VolumeStore(tmp_path_factory.mktemp("volumes"))
    fs = SizedFs(store.create(new_record("data", size=200_000)), 200_000)
    async with Kernel(fs):
        client, opened = FileSystemClient(fs), []
        for what, one, two, number in operations:
            a, b = f"/{one}", f"/{two}"
            try:
                if what == "write":
                    async with client.opened(a, RDWR | CREAT) as file:
                        await file.pwrite(bytes(number), number // 2)
                elif what == "append":
                    async with client.opened(a, RDWR | CREAT | APPEND) as file:
                        await file.write(bytes(number))
                elif what == "trunc":
                    await (await client.open(a, RDWR | TRUNC)).close()
                elif what == "punch":
                    async with client.opened(a, RDWR) as file:
                        await file.allocate(number, number + 1, 3)
                elif what == "open":
                    opened.append(await client.open(a, RDWR | CREAT))
                elif what == "close":
                    await opened.pop(number % len(opened) if opened else 0).close()
                elif what == "truncate":
                    await client.truncate(a, number)
                elif what == "unlink":
                    await client.unlink(a)
                elif what == "rename":
                    await client.rename(a, b)
                elif what == "link":
                    await client.link(a, b)
                elif what == "symlink":
                    await client.symlink("x" * (number % 200 + 1), a)
                elif what == "mkdir":
                    await client.mkdir(a)
                else:
                    await client.rmdir(a)
            except (OSError, IndexError):
                pass
            assert fs.ledger.used <= 200_000
        for file in opened:
            await file.close()
        right(fs)


async def test_the_context_is_the_clients(fs: SizedFs) -> None:
    ctx = Context(1, 1000, 1000, "box", "/data")
    made = await fs.mkdir(ctx, fs.root, "mine", 0o755)
    assert (made.attr.uid, made.attr.gid) == (1000, 1000)
    assert (fs.folder.data / "mine").stat().st_uid == os.getuid()
