from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from sandlot.filesystem.host import syscalls, watch
from sandlot.filesystem.host.tree import Node
from sandlot.filesystem.host.watch import Watch
from tests.unit.filesystem.host.conftest import Mounted
from tests.unit.filesystem.host.guest import Guest, until

Event = tuple[str, str, str]


def watch_of(guest: Guest) -> Watch:
    found = guest.fs._watch
    assert found is not None
    return found


def read(guest: Guest) -> None:
    """What has happened, without waiting for it to be told."""
    watch_of(guest).drain()


def clear(guest: Guest) -> None:
    read(guest)
    guest.told.data.clear()
    guest.told.names.clear()


@pytest.fixture
async def events(guest: Guest) -> list[Event]:
    """What a callback is told."""
    found: list[Event] = []
    guest.fs.on_host_change(lambda kind, path, to: found.append((kind, path, to)))
    return found


async def test_changes_on_the_host_are_told(guest: Guest, folder: Path) -> None:
    root = guest.fs.root
    assert guest.fs.tells_changes and guest.fs.absent_timeout == 3600.0
    with pytest.raises(FileNotFoundError):
        await guest.find("new")
    (folder / "new").write_text("one")
    await until(lambda: (root, "new") in guest.told.names)
    assert (root, True) in guest.told.data
    entry = await guest.entry("new")
    assert (entry.entry_timeout, entry.attr_timeout) == (3600.0, 3600.0)
    assert guest.fs.attr_timeout(entry.node) == 3600.0
    guest.told.data.clear()
    (folder / "new").write_text("two and more")
    await until(lambda: (entry.node, True) in guest.told.data)
    guest.told.data.clear()
    (folder / "new").chmod(0o600)
    await until(lambda: (entry.node, False) in guest.told.data)
    guest.told.names.clear()
    (folder / "new").rename(folder / "other")
    await until(lambda: {(root, "new"), (root, "other")} <= set(guest.told.names))
    guest.told.names.clear()
    (folder / "other").unlink()
    await until(lambda: (root, "other") in guest.told.names)


async def test_the_guests_own_changes_are_not(guest: Guest, folder: Path) -> None:
    await guest.list()
    await guest.mkdir("folder")
    await guest.list("folder")
    clear(guest)
    await guest.write("folder/file", b"x" * 300_000)
    file = await guest.open("folder/file", os.O_RDWR | os.O_APPEND)
    await file.write(b"more", 300_000)
    await guest.set("folder/file", mode=0o4600, uid=5, mtime_ns=3)
    await guest.link("folder/file", "link")
    await guest.rename("folder/file", "folder/other")
    await guest.symlink("sym", "x")
    await guest.mknod("pipe", 0o10600)
    await guest.unlink("sym")
    await guest.write("sym", b"")
    await guest.rename("sym", "folder/other")
    await guest.rename("pipe", "link", 2)
    await guest.mkdir("away")
    await guest.rmdir("away")
    read(guest)
    assert guest.told.names == []
    assert [node.name for node, data in guest.told.data if data] == []


async def test_the_guests_own_folders_are_not(guest: Guest, events: list[Event]) -> None:
    """A folder's times are others when something is made in it, also while its making is not told."""
    await guest.list()
    await guest.mkdir("folder")
    await guest.list("folder")
    await guest.set("folder", mode=0o1700)
    await guest.write("folder/file", b"")
    clear(guest)
    await guest.set("folder", mode=0o700)
    await guest.unlink("folder/file")
    read(guest)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert events == []


async def test_a_name_of_the_guests_is_not_told_for_what_the_host_does_to_it(
    guest: Guest, folder: Path, events: list[Event]
) -> None:
    await guest.list()
    clear(guest)
    await guest.mkdir("made")
    await guest.write("file", b"text")
    (folder / "file").chmod(0o600)
    (folder / "made" / "other").touch()
    (folder / "made").chmod(0o500)
    read(guest)
    await until(lambda: bool(events))
    assert events == [("attributes", "made", ""), ("modified", "file", "")]


async def test_a_host_that_comes_between(guest: Guest, folder: Path) -> None:
    """In one round with the guest's own changes, and with the same size and time."""
    await guest.write("file", b"aaa")
    clear(guest)
    node = await guest.find("file")
    file = await guest.open(node)
    await file.write(b"bbb")
    clear(guest)
    with (folder / "file").open("r+b") as host:
        host.write(b"ccc")
    stamp = node.stamp
    assert stamp is not None
    os.utime(folder / "file", ns=(0, stamp[0]))
    read(guest)
    assert (node, True) in guest.told.data
    await guest.unlink("file")
    (folder / "file").write_text("again")  # a name that was just the guest's
    read(guest)
    assert (guest.fs.root, "file") in guest.told.names


async def test_what_callbacks_are_told(guest: Guest, folder: Path, events: list[Event]) -> None:
    (folder / "src").mkdir()
    await guest.list("src")
    await guest.list()
    clear(guest)
    (folder / "src/a.py").write_text("x")
    await until(lambda: ("modified", "src/a.py", "") in events)
    assert ("created", "src/a.py", "") in events
    (folder / "src/a.py").rename(folder / "b.py")
    await until(lambda: ("moved", "src/a.py", "b.py") in events)
    (folder / "b.py").chmod(0o600)
    await until(lambda: ("attributes", "b.py", "") in events)
    (folder / "b.py").unlink()
    await until(lambda: ("deleted", "b.py", "") in events)
    events.clear()
    await guest.write("src/own", b"x")
    (folder / "src/last").touch()
    await until(lambda: ("created", "src/last", "") in events)
    assert not [event for event in events if event[1] == "src/own"]


async def test_callbacks_are_told_of_many_changes_in_part(
    guest: Guest, folder: Path, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "MOST_TOLD", 10)
    await guest.list()
    for number in range(100):
        (folder / str(number)).touch()
    read(guest)
    assert len(watch_of(guest)._changes) == 10
    assert len({name for _, name in guest.told.names}) == 100
    await until(lambda: len(events) >= 10)


async def test_a_callback_that_fails_harms_no_other(guest: Guest, folder: Path) -> None:
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))

    def fail(*_: object) -> None:
        raise ValueError("mine")

    found: list[str] = []
    end = guest.fs.on_host_change(fail)
    guest.fs.on_host_change(lambda kind, path, to: found.append(path))
    await guest.list()
    (folder / "new").touch()
    await until(lambda: "new" in found)
    assert failures
    end()
    end()
    assert len(guest.fs.callbacks) == 1


async def test_a_watch_ends_with_its_folder(guest: Guest, folder: Path) -> None:
    (folder / "one").mkdir()
    await guest.list("one")
    node = await guest.find("one")
    number = node.watch
    assert number > 0
    guest.nodes.clear()
    del node
    await until(lambda: number not in watch_of(guest)._folders)
    await guest.list("one")
    node = await guest.find("one")
    assert node.watch > 0
    (folder / "one").rmdir()
    node.checked = -1  # as after a second
    with pytest.raises(OSError):
        await guest.fs.opendir(guest.ctx, node)
    await until(lambda: node.watch == 0)


async def test_folders_that_cannot_be_watched(
    guest: Guest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_many(*_: object) -> int:
        raise OSError(errno.ENOSPC, "too many")

    monkeypatch.setattr(syscalls, "watch_add", too_many)
    watch_of(guest).stop()  # which watched the root
    watch_of(guest).start(asyncio.get_running_loop())
    (folder / "file").touch()
    entry = await guest.entry("file")
    assert (entry.entry_timeout, entry.attr_timeout) == (0.5, 0.5)
    with pytest.raises(OSError) as found:  # not to be remembered by the guest
        await guest.find("nothing")
    assert found.value.errno == errno.ENOENT
    assert not isinstance(found.value, FileNotFoundError)


async def test_folders_that_nobody_looked_into(guest: Guest, folder: Path) -> None:
    """What is made in them changes them, and is not seen."""
    (folder / "one").mkdir()
    entry = await guest.entry("one")
    assert (entry.entry_timeout, entry.attr_timeout) == (3600.0, 0.5)
    await guest.list("one")
    assert (await guest.entry("one")).attr_timeout == 3600.0 == guest.fs.attr_timeout(entry.node)
    clear(guest)
    (folder / "one/new").touch()
    read(guest)
    assert entry.node in [node for node, _ in guest.told.data]


async def test_files_with_hard_links_are_looked_at_again_soon(guest: Guest, folder: Path) -> None:
    (folder / "one").touch()
    (folder / "two").hardlink_to(folder / "one")
    entry = await guest.entry("one")
    assert (entry.entry_timeout, entry.attr_timeout) == (3600.0, 1.0)
    assert guest.fs.attr_timeout(entry.node) == 1.0


async def test_lost_events(guest: Guest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(10):
        await guest.write(str(number), b"")
    clear(guest)
    monkeypatch.setattr(watch, "FORGET_AT_ONCE", 3)
    overflow = watch._EVENT.pack(-1, watch._OVERFLOW, 0, 0)
    ours = watch_of(guest)
    assert ours._sort(overflow, watch._Batch())
    ours._missed()
    await until(lambda: len(guest.told.names) == 10)
    told: set[Node] = {node for node, _ in guest.told.data}
    assert len(told) == 11


async def test_other_caches_watch_nothing(folder: Path, mounted: Mounted) -> None:
    (folder / "file").touch()
    for cache, timeout in (("fast", 3600.0), ("none", 0.0)):
        guest = await mounted(cache=cache, sandbox=cache)
        entry = await guest.entry("file")
        assert (entry.entry_timeout, guest.fs.absent_timeout) == (timeout, timeout)
        assert guest.fs.attr_timeout(entry.node) == timeout
        assert guest.fs._watch is None and not guest.fs.tells_changes


async def test_nothing_is_left(folder: Path, mounted: Mounted) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    guest = await mounted()
    (folder / "a/b").mkdir(parents=True)
    await guest.list("a/b")
    await guest.write("a/b/file", b"x")
    file = await guest.open("a/b/file")
    await file.close()
    await guest.close()
    fs = guest.fs
    guest.nodes.clear()
    del file, guest
    fs._place = fs._notes = fs._watch = None
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
