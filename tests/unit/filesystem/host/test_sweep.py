from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from sandlot.filesystem.host import sweep
from sandlot.filesystem.host.sweep import Sweep
from tests.unit.filesystem.host.guest import Guest, until


def _quiet(guest: Guest) -> None:
    assert guest.fs._watch is not None
    guest.fs._watch.drain()
    guest.told.data.clear()
    guest.told.names.clear()


async def test_what_is_written_in_a_mapping_is_seen(guest: Guest, folder: Path) -> None:
    (folder / "file").write_bytes(bytes(4096))
    os.utime(folder / "file", (1, 1))
    found = Sweep(guest.fs)
    entry = await guest.entry("file")
    with (folder / "file").open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        _quiet(guest)
        found.look_at_all()
        assert not guest.told.data
        memory[0] = 1
        memory.flush()
        assert guest.fs._watch is not None
        guest.fs._watch.drain()
        assert not guest.told.data  # which is what it is for
        found.look_at_all()
        assert guest.told.data == [(entry.node, True)]
        guest.told.data.clear()
        found.look_at_all()
        assert not guest.told.data and not guest.told.names


async def test_the_guests_own_changes_are_known(guest: Guest) -> None:
    found = Sweep(guest.fs)
    await guest.mkdir("folder")
    await guest.list("folder")
    await guest.write("folder/file", b"x" * 300_000)
    await guest.set("folder/file", mode=0o4600, uid=5, mtime_ns=3)
    await guest.link("folder/file", "link")
    await guest.rename("folder/file", "folder/other")
    _quiet(guest)
    found.look_at_all()
    assert not guest.told.data and not guest.told.names


async def test_a_name_that_is_something_else(guest: Guest, folder: Path) -> None:
    (folder / "folder").mkdir()
    await guest.entry("folder")
    found = Sweep(guest.fs)
    (folder / "folder").rmdir()
    (folder / "folder").write_text("a file")
    _quiet(guest)
    found.look_at_all()
    assert guest.told.names == [(guest.fs.root, "folder")]


async def test_it_goes_on_by_itself(
    guest: Guest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "EACH", 0.05)
    monkeypatch.setattr(sweep, "PAUSE", 0.01)
    monkeypatch.setattr(sweep, "AT_ONCE", 2)
    for number in range(7):
        (folder / str(number)).write_text("x")
    nodes = [await guest.find(str(number)) for number in range(7)]
    _quiet(guest)
    loop = guest.fs._loop
    assert loop is not None
    found = Sweep(guest.fs)
    found.start(loop)
    for node in nodes:
        node.stamp = (1, 1, 1)  # as if the host had changed them unseen
    await until(lambda: {(node, True) for node in nodes} <= set(guest.told.data))
    found.stop()
