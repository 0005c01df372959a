from __future__ import annotations

import asyncio
import errno
import os
import stat
from pathlib import Path

import pytest

from sandlot.filesystem.host import notes
from sandlot.filesystem.types import SetAttr
from tests.unit.filesystem.host.conftest import Mounted
from tests.unit.filesystem.host.guest import Guest, kind
from tests.unit.filesystem.host.test_names import failed


def noted(path: Path) -> bytes | None:
    try:
        return os.getxattr(path, notes.NOTE, follow_symlinks=False)
    except OSError:
        return None


async def test_a_plain_folder_needs_no_notes(guest: Guest, folder: Path) -> None:
    await guest.write("file", b"")
    await guest.mkdir("folder")
    await guest.set("file", mode=0o755)
    assert (folder / "file").stat().st_mode & 0o7777 == 0o755
    await guest.set("file", uid=0, gid=0)
    assert not os.listxattr(folder) and noted(folder / "file") is None
    assert not guest.fs.notes.present()


async def test_files_look_owned_by_the_guests_user(folder: Path, mounted: Mounted) -> None:
    (folder / "file").touch()
    os.chown(folder / "file", 4242, 4242)
    guest = await mounted(owner=(1000, 100))
    attr = await guest.stat("file")
    assert (attr.uid, attr.gid) == (1000, 100)
    guest.user(1000, 100)
    await guest.mkdir("own")
    assert noted(folder / "own") is None
    guest.user(0, 0)
    await guest.mkdir("roots")
    assert noted(folder / "roots") == b"1 0 0 - 755 0"
    attr = await guest.stat("roots")
    assert (attr.uid, attr.gid) == (0, 0)


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o1777, 0o6711, 0o000, 0o200, 0o077, 0o444])
async def test_modes_that_the_host_must_not_have(guest: Guest, folder: Path, mode: int) -> None:
    await guest.write("file", b"")
    await guest.mkdir("folder")
    for name, least in (("file", 0o400), ("folder", 0o700)):
        attr = await guest.set(name, mode=mode)
        assert attr.mode & 0o7777 == mode
        assert (folder / name).stat().st_mode & 0o7777 == mode & 0o777 | least
        assert (await guest.stat(name)).mode & 0o7777 == mode
        assert ((await guest.list())[name].mode) & 0o7777 == mode
        await guest.set(name, mode=0o755)
        assert (folder / name).stat().st_mode & 0o7777 == 0o755
        assert (await guest.stat(name)).mode & 0o7777 == 0o755


async def test_a_mode_at_creation(guest: Guest, folder: Path) -> None:
    guest.user(1000, 1000)
    await guest.create("file", 0o6755)
    assert (folder / "file").stat().st_mode & 0o7777 == 0o755
    attr = await guest.stat("file")
    assert (attr.mode & 0o7777, attr.uid, attr.gid) == (0o6755, 1000, 1000)
    await guest.create("all", 0o666)  # whatever the umask of this program is
    assert (folder / "all").stat().st_mode & 0o7777 == 0o666


async def test_a_chmod_on_the_host_is_seen(guest: Guest, folder: Path) -> None:
    await guest.write("file", b"")
    await guest.set("file", mode=0o4755)
    (folder / "file").chmod(0o600)
    assert (await guest.stat("file")).mode & 0o7777 == 0o600


async def test_owners(guest: Guest, folder: Path) -> None:
    await guest.write("file", b"")
    before = (folder / "file").stat()
    attr = await guest.set("file", uid=1000, gid=1001)
    assert (attr.uid, attr.gid) == (1000, 1001)
    after = (folder / "file").stat()
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    await guest.set("file", mode=0o600)
    attr = await guest.set("file", gid=5)
    assert (attr.uid, attr.gid, attr.mode & 0o7777) == (1000, 5, 0o600)
    await guest.link("file", "other")
    assert (await guest.stat("other")).uid == 1000
    await guest.rename("file", "third")
    assert (await guest.stat("third")).uid == 1000
    root = await guest.fs.setattr(guest.ctx, guest.fs.root, SetAttr(uid=7))
    assert root.uid == 7 and (await guest.fs.getattr(guest.ctx, guest.fs.root)).uid == 7


@pytest.mark.parametrize("kind_", [stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK])
async def test_special_files_are_empty_files_on_the_host(
    guest: Guest, folder: Path, kind_: int
) -> None:
    rdev = 0x0103 if kind_ in (stat.S_IFCHR, stat.S_IFBLK) else 0
    node = await guest.mknod("special", kind_ | 0o640, rdev)
    st = (folder / "special").stat()
    assert stat.S_ISREG(st.st_mode) and st.st_size == 0 and st.st_mode & 0o7777 == 0o640
    attr = await guest.fs.getattr(guest.ctx, node)
    assert (kind(attr), attr.mode & 0o7777, attr.rdev) == (kind_, 0o640, rdev)
    await guest.set("special", mode=0o600, uid=3)
    attr = await guest.stat("special")
    assert (kind(attr), attr.mode & 0o7777, attr.rdev, attr.uid) == (kind_, 0o600, rdev, 3)
    with failed(errno.EINVAL):
        await guest.mknod("folder", stat.S_IFDIR | 0o755)


async def test_times(guest: Guest, folder: Path) -> None:
    await guest.write("file", b"")
    await guest.mkdir("folder")
    await guest.symlink("link", "file")
    for name in ("file", "folder", "link"):
        attr = await guest.set(name, atime_ns=1_000_000_007, mtime_ns=-5_000_000_000)
        assert (attr.atime_ns, attr.mtime_ns) == (1_000_000_007, -5_000_000_000)
        attr = await guest.set(name, mtime_ns=9)
        assert (attr.atime_ns, attr.mtime_ns) == (1_000_000_007, 9)
        assert (folder / name).lstat().st_mtime_ns == 9
    await guest.fs.setattr(guest.ctx, guest.fs.root, SetAttr(mtime_ns=11))
    assert folder.stat().st_mtime_ns == 11
    file = await guest.open("file")
    await guest.fs.setattr(guest.ctx, file.node, SetAttr(atime_ns=1, mtime_ns=2), file.handle)
    assert (folder / "file").stat().st_mtime_ns == 2


async def test_changes_that_change_nothing_are_changes(guest: Guest, folder: Path) -> None:
    await guest.write("file", b"")
    await guest.symlink("link", "x")
    before = {name: (folder / name).lstat().st_ctime_ns for name in ("file", "link")}

    async def later(name: str, **what: int) -> bool:
        attr = await guest.set(name, **what)
        return attr.ctime_ns > before[name]

    for name, what in (("file", {"uid": 0}), ("file", {"mode": 0o644}), ("link", {"uid": 4})):
        async with asyncio.timeout(60):
            while not await later(name, **what):  # the host's clock has ticks
                await asyncio.sleep(0.001)
        before[name] = (folder / name).lstat().st_ctime_ns


async def test_this_moment(guest: Guest, folder: Path) -> None:
    await guest.write("file", b"")
    attr = await guest.set("file", atime_ns=1, mtime_ns=1, now=True)
    assert attr.mtime_ns == attr.ctime_ns and attr.atime_ns > 1


async def test_sizes(guest: Guest, folder: Path) -> None:
    await guest.write("file", b"0123456789")
    assert (await guest.set("file", size=4)).size == 4
    assert (await guest.set("file", size=6)).size == 6
    assert (folder / "file").read_bytes() == b"0123\0\0"
    await guest.mkdir("folder")
    with pytest.raises(IsADirectoryError):
        await guest.set("folder", size=0)
    reader = await guest.open("file", os.O_RDONLY)
    await guest.fs.setattr(guest.ctx, reader.node, SetAttr(size=1), reader.handle)
    assert (folder / "file").read_bytes() == b"0"


async def test_the_guests_own_attributes(guest: Guest, folder: Path) -> None:
    await guest.write("file", b"")
    fs, ctx = guest.fs, guest.ctx
    node = await guest.find("file")
    await fs.setxattr(ctx, node, "user.mime", b"text/plain", 0)
    assert os.getxattr(folder / "file", "user.mime") == b"text/plain"
    await fs.setxattr(ctx, node, "security.capability", b"\x01\0\0\x02", 0)
    await fs.setxattr(ctx, node, "trusted.overlay.opaque", b"y", 0)
    assert os.listxattr(folder / "file").count("security.capability") == 0
    assert os.getxattr(folder / "file", "user.sandlot.x.security.capability") == b"\x01\0\0\x02"
    assert await fs.getxattr(ctx, node, "security.capability") == b"\x01\0\0\x02"
    names = ["security.capability", "trusted.overlay.opaque", "user.mime"]
    assert sorted(await fs.listxattr(ctx, node)) == names
    guest.user(1000, 1000)
    assert "trusted.overlay.opaque" not in await fs.listxattr(guest.ctx, node)
    with pytest.raises(FileExistsError):
        await fs.setxattr(ctx, node, "user.mime", b"", 1)
    for name in names:
        await fs.removexattr(ctx, node, name)
        with failed(notes.NO_ATTRIBUTE):
            await fs.getxattr(ctx, node, name)
        with failed(notes.NO_ATTRIBUTE):
            await fs.removexattr(ctx, node, name)
    assert await fs.listxattr(ctx, node) == []


async def test_attributes_that_are_none_of_the_guests(guest: Guest, folder: Path) -> None:
    await guest.write("file", b"")
    fs, ctx = guest.fs, guest.ctx
    node = await guest.find("file")
    await guest.set("file", uid=9)
    note = noted(folder / "file")
    with pytest.raises(PermissionError):
        await fs.setxattr(ctx, node, notes.NOTE, b"1 0 0 104755 0 0", 0)
    with pytest.raises(PermissionError):
        await fs.removexattr(ctx, node, notes.NOTE)
    with failed(notes.NO_ATTRIBUTE):
        await fs.getxattr(ctx, node, notes.NOTE)
    assert await fs.listxattr(ctx, node) == [] and noted(folder / "file") == note
    for name in ("system.posix_acl_access", "btrfs.compression"):
        with failed(errno.EOPNOTSUPP):
            await fs.setxattr(ctx, node, name, b"", 0)
    with failed(errno.EOPNOTSUPP):
        await fs.getxattr(ctx, node, "system.posix_acl_default")


async def test_how_full_it_is(guest: Guest, folder: Path) -> None:
    st = os.statvfs(folder)
    found = await guest.fs.statfs(guest.ctx, guest.fs.root)
    assert found.blocks == st.f_blocks and found.block_size == st.f_frsize
    assert found.name_length == 255
