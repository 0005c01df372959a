from __future__ import annotations

import asyncio
import errno
import os
import stat
from pathlib import Path

import pytest

from sandlot.filesystem.host import files
from sandlot.filesystem.types import SetAttr
from tests.unit.filesystem.host.conftest import Mounted
from tests.unit.filesystem.host.guest import Guest, until
from tests.unit.filesystem.host.test_names import failed

LARGE = 700_000


async def test_reading_and_writing(guest: Guest, folder: Path) -> None:
    file = await guest.create("file", 0o640)
    assert await file.write(b"hello", 3) == 5
    assert (folder / "file").read_bytes() == b"\0\0\0hello"
    assert (folder / "file").stat().st_mode & 0o7777 == 0o640
    assert await file.read(4, 2) == b"\0hel"
    assert await file.read(100, 6) == b"lo"
    assert await file.read(10, 100) == b""
    data = os.urandom(LARGE)
    assert await file.write(data, 8) == LARGE
    assert await file.read(LARGE, 8) == data
    assert (await file.stat()).size == LARGE + 8
    await file.close()
    assert not file.node.files


async def test_a_cold_file_is_read_in_a_thread(
    guest: Guest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").write_bytes(b"cold" * 1000)
    file = await guest.open("file", os.O_RDONLY)

    def would_wait(*_: object) -> int:
        raise BlockingIOError(errno.EAGAIN, "cold")

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", would_wait)
        assert await file.read(10, 4) == b"coldcoldco"
    with monkeypatch.context() as patch:  # a part of it is there
        patch.setattr(os, "preadv", lambda *_: 3)
        assert await file.read(4000) == b"cold" * 1000

    def cannot(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "no such flag")

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", cannot)
        assert await file.read(5) == b"coldc"
        assert not guest.fs._nowait
    assert await file.read(6) == b"coldco"


async def test_while_the_disk_does_not_keep_up(
    guest: Guest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await guest.create("file")
    monkeypatch.setattr(files, "SLOW_WRITE", -1.0)
    await file.write(b"a" * LARGE)
    assert guest.fs._patience == files.PATIENCE
    await file.write(b"b" * LARGE)
    assert guest.fs._patience == files.PATIENCE - 1
    assert (folder / "file").read_bytes() == b"b" * LARGE


async def test_opening(guest: Guest, folder: Path) -> None:
    (folder / "file").write_text("contents")
    with pytest.raises(FileExistsError):
        await guest.create("file", flags=os.O_RDWR | os.O_EXCL)
    file = await guest.create("file", flags=os.O_RDWR)  # the host made it meanwhile
    assert await file.read() == b"contents"
    cut = await guest.open("file", os.O_RDONLY | os.O_TRUNC)
    assert (await cut.stat()).size == 0 == (folder / "file").stat().st_size
    with pytest.raises(PermissionError):
        await guest.open(await guest.mkdir("folder"))
    os.mkfifo(folder / "pipe")  # would wait for a reader
    with pytest.raises(PermissionError):
        await guest.open("pipe", os.O_WRONLY)


async def test_a_file_is_not_another_that_took_its_name(guest: Guest, folder: Path) -> None:
    (folder / "file").write_text("old")
    node = await guest.find("file")
    (folder / "new").write_text("new")
    (folder / "new").rename(folder / "file")
    with failed(errno.ESTALE):
        await guest.open(node, os.O_RDWR | os.O_TRUNC)
    assert (folder / "file").read_text() == "new"
    (folder / "file").unlink()
    (folder / "file").symlink_to("/etc/passwd")
    with failed(errno.ESTALE):
        await guest.open(node, os.O_RDONLY)


async def test_open_files_without_a_name(guest: Guest, folder: Path) -> None:
    file = await guest.create("file")
    await file.write(b"still here")
    await guest.unlink("file")
    again = await guest.open(file.node)
    assert await again.read() == b"still here"
    await guest.fs.setattr(guest.ctx, file.node, SetAttr(size=5), file.handle)
    attr = await guest.fs.getattr(guest.ctx, file.node)
    assert (attr.size, attr.nlink) == (5, 0)
    await file.close()
    await again.close()
    attr = await guest.fs.getattr(guest.ctx, file.node)  # the guest still has it, but not open
    assert attr.nlink == 0 and stat.S_ISREG(attr.mode)
    late = await guest.fs.setattr(guest.ctx, file.node, SetAttr(mtime_ns=5))
    assert late.mtime_ns == 5
    with failed(errno.ESTALE):
        await guest.open(file.node)


async def test_appending_from_two_sandboxes(folder: Path, mounted: Mounted) -> None:
    one, two = await mounted(), await mounted(sandbox="two")
    await one.write("log", b"")
    logs = [await guest.open("log", os.O_WRONLY | os.O_APPEND) for guest in (one, two)]

    async def append(which: int) -> None:
        for number in range(200):
            await logs[which].write(f"{which} {number}\n".encode() * 3, 0)
            await asyncio.sleep(0)

    await asyncio.gather(append(0), append(1))
    lines = (folder / "log").read_text().splitlines()
    assert len(lines) == 1200
    for start in range(0, 1200, 3):
        assert len(set(lines[start : start + 3])) == 1
    # Each was told that what it has of the file is not at the place where it thinks it is.
    assert any(node is logs[0].node for node, _ in one.told.data)


async def test_the_hosts_own_file_without_a_write_bit(
    guest: Guest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").write_text("x")
    (folder / "file").chmod(0o444)
    node = await guest.find("file")
    tries = []
    real = os.open

    def as_a_user(path: object, flags: int, *rest: object, **more: object) -> int:
        if path == "file" and flags & os.O_RDWR:
            tries.append((folder / "file").stat().st_mode & 0o777)
            if not tries[-1] & 0o200:
                raise PermissionError(errno.EACCES, "no write bit")
        return real(path, flags, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", as_a_user)
    file = await guest.open(node)
    await file.write(b"y")
    assert tries[0] == 0o444 and tries[-1] == 0o644
    assert (folder / "file").stat().st_mode & 0o777 == 0o444


async def test_what_a_guest_writes_does_not_run_as_somebody(guest: Guest, folder: Path) -> None:
    (folder / "tool").write_text("x")
    (folder / "tool").chmod(0o4755)
    assert (await guest.stat("tool")).mode & 0o7777 == 0o4755
    await guest.open("tool", os.O_RDONLY)
    assert (folder / "tool").stat().st_mode & 0o7777 == 0o4755
    await guest.open("tool", os.O_WRONLY)
    assert (folder / "tool").stat().st_mode & 0o7777 == 0o755
    (folder / "tool").chmod(0o2755)
    await guest.set("tool", size=1)
    assert (folder / "tool").stat().st_mode & 0o7777 == 0o755


async def test_room_and_holes(guest: Guest, folder: Path) -> None:
    file = await guest.create("file")
    fs, ctx = guest.fs, guest.ctx
    await fs.fallocate(ctx, file.node, file.handle, 0, 1 << 20, 0)
    assert (await file.stat()).size == 1 << 20
    await fs.fallocate(ctx, file.node, file.handle, 0, 2 << 20, 1)  # KEEP_SIZE
    st = (folder / "file").stat()
    assert st.st_size == 1 << 20 and st.st_blocks * 512 >= 2 << 20
    await file.write(b"x" * (1 << 20))
    await fs.fallocate(ctx, file.node, file.handle, 4096, 8192, 3)  # a hole
    data = (folder / "file").read_bytes()
    assert data[4096:12288] == bytes(8192) and data[4095] == data[12288] == ord("x")
    assert await fs.lseek(ctx, file.node, file.handle, 0, 4) == 4096
    assert await fs.lseek(ctx, file.node, file.handle, 4096, 3) == 12288
    with failed(errno.ENXIO):
        await fs.lseek(ctx, file.node, file.handle, 5 << 20, 3)
    with failed(errno.EINVAL):
        await fs.lseek(ctx, file.node, file.handle, 0, 0)
    await fs.fallocate(ctx, file.node, file.handle, 0, 4096, 0x10)  # zeros
    assert await file.read(1) == b"\0"
    with failed(errno.EOPNOTSUPP):
        await fs.fallocate(ctx, file.node, file.handle, 0, 4096, 0x20)
    with failed(errno.EINVAL):
        await fs.fallocate(ctx, file.node, file.handle, 0, 0, 0)


async def test_holes_are_the_guests_own_matter_where_it_writes_late(
    folder: Path, mounted: Mounted
) -> None:
    guest = await mounted(cache="fast")
    file = await guest.create("file")
    with failed(errno.ENOSYS):
        await guest.fs.lseek(guest.ctx, file.node, file.handle, 0, 3)


async def test_sparse_files_of_many_gigabytes(guest: Guest, folder: Path) -> None:
    file = await guest.create("file")
    far = 5 << 30
    await file.write(b"end", far)
    assert await file.read(10, far - 1) == b"\0end"
    st = (folder / "file").stat()
    assert st.st_size == far + 3 and st.st_blocks * 512 < 1 << 20
    assert (await guest.set("file", size=4)).size == 4  # in a thread: it is that much
    await guest.set("file", size=far)
    await guest.unlink("file")
    assert not list(folder.iterdir())


async def test_copying(guest: Guest, folder: Path) -> None:
    await guest.write("one", b"0123456789")
    source = await guest.open("one", os.O_RDONLY)
    target = await guest.create("two")
    copied = await guest.fs.copy_file_range(
        guest.ctx, source.node, source.handle, 2, target.node, target.handle, 5, 1 << 40
    )
    assert copied == 8 and (folder / "two").read_bytes() == bytes(5) + b"23456789"
    with failed(errno.EOPNOTSUPP):
        await guest.fs.copy_file_range(
            guest.ctx, source.node, source.handle, 0, target.node, object(), 0, 1
        )


async def test_flushing(guest: Guest) -> None:
    file = await guest.create("file")
    await file.write(b"x")
    for data_only in (True, False):
        await guest.fs.fsync(guest.ctx, file.node, file.handle, data_only)
    opened = await guest.fs.opendir(guest.ctx, guest.fs.root)
    await guest.fs.fsyncdir(guest.ctx, guest.fs.root, opened.handle, False)
    await guest.fs.flush(guest.ctx, file.node, file.handle)
    synced = await guest.open("file", os.O_RDWR | 0o4010000)
    assert synced.handle.sync and await synced.write(b"y") == 1


async def test_what_is_cached_is_kept_while_it_is_right(guest: Guest, folder: Path) -> None:
    await guest.write("file", b"one")
    first = await guest.open("file", os.O_RDONLY)
    assert first.kept
    await first.close()
    (folder / "file").write_bytes(b"two, by the host")
    second = await guest.open(first.node, os.O_RDONLY)
    assert not second.kept
    third = await guest.open("file", os.O_RDONLY)
    assert third.kept
    writer = await guest.open("file")
    await writer.write(b"by the guest")
    await guest.set("file", mode=0o600, mtime_ns=5)
    await guest.rename("file", "other")
    assert (await guest.open("other")).kept
    await until(lambda: guest.fs._watch is not None and not guest.fs._watch._own)


async def test_a_hidden_change_is_told_when_it_is_seen(folder: Path, mounted: Mounted) -> None:
    """Where nothing is watched, the guest's next look finds it out."""
    (folder / "file").write_text("one")
    guest = await mounted()
    await guest.open("file", os.O_RDONLY)
    assert guest.fs._watch is not None
    guest.fs._watch.stop()
    node = await guest.find("file")
    guest.told.data.clear()
    (folder / "file").write_text("other")
    await guest.stat("file")
    assert guest.told.data == [(node, True)]
    assert stat.S_ISREG(node.kind)
