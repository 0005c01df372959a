from __future__ import annotations

import errno
import os
import stat
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from sandlot.filesystem.host import syscalls
from sandlot.filesystem.host.names import OpenFolder
from tests.unit.filesystem.host.conftest import Mounted
from tests.unit.filesystem.host.guest import Guest, kind

NAMES = [
    "a", "x" * 255, "with space", "new\nline", "back\\slash", "ünï", "\udcff\udcfe", "-rf", "%s",
    "...", "a.", " ", "\x01",
]  # fmt: skip


def failed(number: int) -> AbstractContextManager[object]:
    return pytest.raises(OSError, match=rf"\[Errno {number}\]")


@pytest.mark.parametrize("name", NAMES)
async def test_names_of_any_bytes(guest: Guest, folder: Path, name: str) -> None:
    await guest.write(name, b"here")
    assert [os.fsencode(path.name) for path in folder.iterdir()] == [os.fsencode(name)]
    assert await guest.read(name) == b"here"
    assert list(await guest.list()) == [name] == list(await guest.list(plus=False))
    await guest.rename(name, "other")
    await guest.rename("other", name)
    await guest.unlink(name)
    assert not list(folder.iterdir())


async def test_too_long_a_name(guest: Guest) -> None:
    with failed(errno.ENAMETOOLONG):
        await guest.mkdir("x" * 256)


async def test_what_is_not_there(guest: Guest) -> None:
    with pytest.raises(FileNotFoundError):
        await guest.find("nothing")
    with pytest.raises(FileNotFoundError):
        await guest.unlink("nothing")
    with pytest.raises(FileNotFoundError):
        await guest.rename("nothing", "else")


async def test_a_file_is_no_folder(guest: Guest) -> None:
    await guest.write("file", b"")
    with pytest.raises(NotADirectoryError):
        await guest.find("file/below")
    with pytest.raises(NotADirectoryError):
        await guest.list("file")


async def test_folders(guest: Guest, folder: Path) -> None:
    node = await guest.mkdir("one", 0o750)
    assert (folder / "one").stat().st_mode == stat.S_IFDIR | 0o750
    await guest.write("one/file", b"x")
    with failed(errno.ENOTEMPTY):
        await guest.rmdir("one")
    await guest.unlink("one/file")
    await guest.rmdir("one")
    assert node.gone
    with pytest.raises(FileExistsError):
        await guest.mkdir("two")
        await guest.mkdir("two")
    with pytest.raises(FileNotFoundError):
        await guest.fs.mkdir(guest.ctx, node, "below", 0o755)


async def test_a_deep_tree_below_a_removed_cache(guest: Guest, folder: Path) -> None:
    """Deeper than one path, with fewer descriptors than folders."""
    guest.fs.tree._most = 16
    here = guest.fs.root
    for number in range(120):
        name = f"{number:03}" + "x" * 200
        here = (await guest.fs.mkdir(guest.ctx, here, name, 0o755)).node
        guest.nodes.add(here)
    entry, opened = await guest.fs.create(guest.ctx, here, "leaf", 0o644, os.O_RDWR)
    await guest.fs.write(guest.ctx, entry.node, opened.handle, 0, memoryview(b"deep"))
    assert guest.fs.tree.open_folders() <= 17
    for node in guest.nodes:  # as after a second
        node.checked = -1
        if node.kind == stat.S_IFDIR:
            node.descriptor = None
    found = await guest.fs.lookup(guest.ctx, here, "leaf")
    assert found.node is entry.node and found.attr.size == 4


async def test_listing_thousands(guest: Guest, folder: Path) -> None:
    for number in range(3000):
        (folder / str(number)).touch()
    entries = await guest.list()
    assert len(entries) == 3000
    assert all(e.entry is not None and e.entry.attr.ino == e.ino for e in entries.values())
    assert {e.mode & 0o170000 for e in (await guest.list(plus=False)).values()} == {stat.S_IFREG}


async def test_kinds_in_a_listing(guest: Guest) -> None:
    await guest.mkdir("folder")
    await guest.symlink("link", "nowhere")
    await guest.mknod("pipe", stat.S_IFIFO | 0o600)
    await guest.write("file", b"")
    for plus in (True, False):
        kinds = {n: stat.S_IFMT(e.mode) for n, e in (await guest.list(plus=plus)).items()}
        assert kinds == {
            "folder": stat.S_IFDIR, "link": stat.S_IFLNK, "pipe": stat.S_IFIFO, "file": stat.S_IFREG,
        }  # fmt: skip


async def test_two_listings_at_once(guest: Guest, folder: Path) -> None:
    for number in range(100):
        (folder / str(number)).touch()
    root = guest.fs.root
    one, two = [(await guest.fs.opendir(guest.ctx, root)).handle for _ in range(2)]
    assert isinstance(one, OpenFolder)
    first, second = guest.fs._entries(one), guest.fs._names(two)
    pairs = list(zip(first, second, strict=True))
    assert len(pairs) == 100


async def test_symbolic_links(guest: Guest, folder: Path) -> None:
    node = await guest.symlink("link", "/etc/passwd")
    assert await guest.fs.readlink(guest.ctx, node) == "/etc/passwd"
    assert kind(await guest.stat("link")) == stat.S_IFLNK
    with pytest.raises(PermissionError):
        await guest.open("link")
    with pytest.raises(NotADirectoryError):
        await guest.find("link/below")
    (folder / "link").unlink()
    (folder / "link").touch()
    with failed(errno.ESTALE):
        await guest.fs.readlink(guest.ctx, node)
    with failed(errno.EINVAL):
        await guest.fs.readlink(guest.ctx, await guest.find("link"))


async def test_hard_links(guest: Guest, folder: Path) -> None:
    await guest.write("one", b"same")
    await guest.mkdir("below")
    node = await guest.link("one", "below/two")
    assert node is await guest.find("one")
    assert (await guest.stat("one")).nlink == 2
    with pytest.raises(FileExistsError):
        await guest.link("one", "below/two")
    with pytest.raises(PermissionError):
        await guest.link("below", "again")
    await guest.unlink("below/two")  # the name by which it was seen last
    assert (await guest.fs.getattr(guest.ctx, node)).nlink == 1
    (folder / "three").hardlink_to(folder / "one")
    await guest.find("three")
    await guest.find("one")
    (folder / "one").unlink()  # by the host, whose guest knows another name
    assert (await guest.fs.getattr(guest.ctx, node)).nlink == 1
    await guest.unlink("three")
    assert (await guest.fs.getattr(guest.ctx, node)).nlink == 0
    with failed(errno.ESTALE):
        await guest.open(node)


async def test_renaming(guest: Guest, folder: Path) -> None:
    await guest.write("one", b"1")
    await guest.write("two", b"2")
    one, two = await guest.find("one"), await guest.find("two")
    with pytest.raises(FileExistsError):
        await guest.rename("one", "two", 1)
    await guest.rename("one", "two", 2)
    assert (folder / "one").read_bytes() == b"2" and (folder / "two").read_bytes() == b"1"
    assert (one.name, two.name) == ("two", "one")
    await guest.rename("one", "two")
    assert [p.name for p in folder.iterdir()] == ["two"]
    assert one.gone and (await guest.fs.getattr(guest.ctx, two)).size == 1
    assert (await guest.fs.getattr(guest.ctx, one)).nlink == 0
    await guest.rename("two", "three", 1)
    with failed(errno.EINVAL):
        await guest.rename("three", "four", 3)


async def test_renaming_folders(guest: Guest, folder: Path) -> None:
    await guest.mkdir("one")
    await guest.mkdir("one/two")
    await guest.write("one/two/file", b"x")
    await guest.mkdir("other")
    node = await guest.find("one/two/file")
    await guest.rename("one", "other/one")
    assert guest.fs.tree.path(node) == "other/one/two/file"
    assert (await guest.fs.getattr(guest.ctx, node)).size == 1
    with failed(errno.EINVAL):
        await guest.rename("other", "other/one/two/inside")
    await guest.mkdir("empty")
    await guest.rename("other", "empty")
    assert await guest.read("empty/one/two/file") == b"x"


async def test_renaming_one_name_of_a_file_over_another(guest: Guest, folder: Path) -> None:
    await guest.write("one", b"x")
    await guest.link("one", "two")
    await guest.rename("one", "two")
    assert sorted(p.name for p in folder.iterdir()) == ["one", "two"]
    assert (await guest.stat("one")).nlink == 2


async def test_a_number_that_the_host_gives_again(guest: Guest, folder: Path) -> None:
    """ext4 gives the number of a removed inode to the next file at once."""
    await guest.write("one", b"old")
    old = await guest.find("one")
    (folder / "one").unlink()
    await guest.mkdir("folder")
    new = await guest.find("folder")
    assert new is not old and kind(await guest.stat("folder")) == stat.S_IFDIR


async def test_a_folder_that_gives_its_group(guest: Guest, folder: Path) -> None:
    await guest.mkdir("shared", 0o2775)
    await guest.set("shared", uid=0, gid=77)
    guest.user(1000, 1000)
    await guest.mkdir("shared/below")
    await guest.write("shared/file", b"")
    below = await guest.stat("shared/below")
    assert (below.uid, below.gid, below.mode & 0o7777) == (1000, 77, 0o2755)
    file = await guest.stat("shared/file")
    assert (file.uid, file.gid, file.mode & 0o7777) == (1000, 77, 0o644)


@pytest.mark.parametrize(
    "change",
    [
        lambda g: g.mkdir("new"),
        lambda g: g.mknod("new", stat.S_IFREG | 0o644),
        lambda g: g.symlink("new", "x"),
        lambda g: g.link("file", "new"),
        lambda g: g.unlink("file"),
        lambda g: g.rmdir("folder"),
        lambda g: g.rename("file", "new"),
        lambda g: g.create("new"),
        lambda g: g.open("file", os.O_WRONLY),
        lambda g: g.open("file", os.O_RDONLY | os.O_TRUNC),
        lambda g: g.set("file", mode=0o600),
        lambda g: g.set("file", size=0),
        lambda g: g.set("file", mtime_ns=1),
        lambda g: g.set("file", uid=5),
    ],
)
async def test_a_read_only_volume(folder: Path, mounted: Mounted, change: object) -> None:
    (folder / "file").write_text("kept")
    (folder / "folder").mkdir()
    before = (folder / "file").stat()
    guest = await mounted(readonly=True)
    with failed(errno.EROFS):
        await change(guest)  # type: ignore[operator]
    assert (folder / "file").stat() == before
    assert await guest.read("file") == b"kept"
    assert sorted(p.name for p in folder.iterdir()) == ["file", "folder"]


async def test_a_network_file_system_is_asked_in_threads(
    folder: Path, mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandlot.filesystem.host.syscalls.is_remote", lambda _: True)
    guest = await mounted()
    assert guest.fs.slow and not guest.fs.is_quick("lookup") and not guest.fs.tells_changes
    await guest.mkdir("folder")
    for number in range(600):
        (folder / "folder" / str(number)).touch()
    assert len(await guest.list("folder")) == 600
    await guest.write("folder/file", b"x" * 200_000)
    assert await guest.read("folder/file") == b"x" * 200_000
    await guest.rename("folder/file", "file")
    await guest.set("file", size=3, mode=0o600, uid=9)
    assert (await guest.stat("file")).uid == 9
    assert (await guest.entry("file")).attr_timeout == 0.5
    await guest.unlink("file")


async def test_hosts_without_openat2(
    guest: Guest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syscalls, "_without", {"openat2"})
    (folder / "a/b/c").mkdir(parents=True)
    (folder / "a/b/c/file").write_text("x")
    file = await guest.find("a/b/c/file")
    for node in guest.nodes:
        node.checked, node.descriptor = -1, None
    assert (await guest.fs.getattr(guest.ctx, file)).size == 1
    (folder / "a/b").rename(folder / "a/moved")
    (folder / "a/b").symlink_to("moved")
    for node in guest.nodes:
        node.checked = -1
    with failed(errno.ESTALE):
        await guest.fs.getattr(guest.ctx, file)
