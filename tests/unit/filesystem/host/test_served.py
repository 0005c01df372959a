from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandlot.filesystem.host.hostfs import HostFs
from tests.unit.filesystem.host.conftest import Mounted
from tests.unit.filesystem.host.guest import Guest


@pytest.fixture
async def both(folder: Path, mounted: Mounted) -> tuple[Guest, Guest]:
    """One file system in two sandboxes, whose own notifications are left out."""
    one = await mounted()
    two = await mounted(one.fs, sandbox="two")
    assert one.fs is two.fs and len(one.fs.mounts) == 2
    return one, two


async def test_one_sandbox_is_told_at_once_what_another_does(both: tuple[Guest, Guest]) -> None:
    one, two = both
    root = one.fs.root
    await one.write("file", b"x")
    assert (root, "file") in two.told.names and (root, True) in two.told.data
    node = await two.find("file")
    two.told.data.clear()
    file = await one.open("file")
    await file.write(b"more")
    assert (node, True) in two.told.data
    two.told.data.clear()
    await one.set("file", mode=0o600)
    assert (node, False) in two.told.data
    two.told.names.clear()
    await one.rename("file", "other")
    assert {(root, "file"), (root, "other")} <= set(two.told.names)
    two.told.names.clear()
    await one.unlink("other")
    assert (root, "other") in two.told.names
    assert one.told.names == [] == [data for _, data in one.told.data if data]


async def test_the_last_one_ends_it(both: tuple[Guest, Guest], folder: Path) -> None:
    one, two = both
    await one.close()
    watch = two.fs._watch
    assert watch is not None and watch.works
    await two.write("file", b"x" * 100)
    await two.close()
    assert not watch.works
    await two.close()
    again = await Guest.of(two.fs, "three")
    assert watch.works and await again.read("file") == b"x" * 100
    await again.close()


async def test_quick_methods(guest: Guest) -> None:
    for method in (
        "lookup",
        "getattr",
        "read",
        "write",
        "create",
        "readdirplus",
        "release",
        "setlk",
    ):
        assert guest.fs.is_quick(method), method
    assert HostFs.lookup.__name__ == "lookup"


async def test_names_are_relative_to_where_the_program_was(
    folder: Path, mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    fs = HostFs("volume")
    monkeypatch.chdir("/")
    (folder / "file").write_text("x")
    guest = await mounted(fs)
    assert await guest.read("file") == b"x" and os.path.isabs(fs.source)
