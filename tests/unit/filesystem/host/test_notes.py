from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.filesystem.host import notes, syscalls
from sandlot.filesystem.host.notes import Note, host_mode, parse_note
from tests.unit.filesystem.host.conftest import Mounted
from tests.unit.filesystem.host.guest import Guest, kind
from tests.unit.filesystem.host.test_names import failed

numbers = st.integers(0, (1 << 32) - 1)
permissions = st.integers(0, 0o7777)
kinds = st.sampled_from([stat.S_IFREG, stat.S_IFDIR, stat.S_IFCHR, stat.S_IFSOCK])


@given(
    st.none() | numbers, st.none() | numbers,
    st.none() | st.builds(lambda k, p: k | p, kinds, permissions), permissions, numbers,
)  # fmt: skip
def test_notes_are_read_as_they_were_written(
    uid: int | None, gid: int | None, mode: int | None, host: int, rdev: int
) -> None:
    note = Note(uid, gid, mode, host, rdev)
    assert parse_note(note.encode()) == note


@given(st.binary(max_size=120) | st.from_regex(rb"1( [-0-9]{1,12}){5}"))
def test_anything_in_a_note(value: bytes) -> None:
    note = parse_note(value)
    if note is not None:
        assert note.uid is None or 0 <= note.uid < 1 << 32
        assert note.mode is None or 0 <= note.mode < 1 << 16


@given(permissions, st.booleans())
def test_the_host_gets_no_privileged_mode(mode: int, folder: bool) -> None:
    given_mode = host_mode(mode, folder=folder)
    assert given_mode <= 0o777 and given_mode & 0o400
    assert given_mode & ~(0o700 if folder else 0o400) == mode & 0o777 & ~(
        0o700 if folder else 0o400
    )


async def test_a_damaged_note_is_no_note(guest: Guest, folder: Path) -> None:
    await guest.write("file", b"")
    await guest.set("file", uid=5)
    os.setxattr(folder / "file", notes.NOTE, b"1 -5 x")
    assert (await guest.stat("file")).uid == 0


async def test_notes_outlive_the_program(folder: Path, mounted: Mounted) -> None:
    guest = await mounted()
    await guest.write("file", b"")
    await guest.set("file", uid=1000, mode=0o4711)
    await guest.mknod("device", stat.S_IFCHR | 0o600, 0x0501)
    await guest.close()
    again = await mounted(owner=(5, 5))
    attr = await again.stat("file")
    assert (attr.uid, attr.gid, attr.mode & 0o7777) == (1000, 5, 0o4711)
    assert (await again.stat("device")).rdev == 0x0501
    assert os.getxattr(folder, notes.MARK) == b"1"


async def test_notes_that_another_program_begins(folder: Path, mounted: Mounted) -> None:
    one, two = await mounted(), await mounted(sandbox="two")
    await one.write("file", b"")
    assert (await two.stat("file")).uid == 0
    await one.set("file", uid=1000)
    two.fs.notes._look_at = 0.0  # as after a second
    assert (await two.stat("file")).uid == 1000


def without_attributes(*_: object, **__: object) -> None:
    raise OSError(errno.EOPNOTSUPP, "no attributes")


async def test_hosts_without_attributes(
    guest: Guest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("getxattr", "setxattr", "listxattr", "removexattr"):
        monkeypatch.setattr(os, name, without_attributes)
    await guest.write("file", b"")
    node = await guest.find("file")
    await guest.set("file", uid=1000, mode=0o4755)
    attr = await guest.stat("file")
    assert (attr.uid, attr.mode & 0o7777) == (1000, 0o4755)
    assert (folder / "file").stat().st_mode & 0o7777 == 0o755
    await guest.mknod("pipe", stat.S_IFIFO | 0o600)
    assert kind(await guest.stat("pipe")) == stat.S_IFIFO
    fs, ctx = guest.fs, guest.ctx
    with failed(errno.EOPNOTSUPP):
        await fs.setxattr(ctx, node, "user.x", b"", 0)
    await fs.setxattr(ctx, node, "security.capability", b"cap", 0)
    assert await fs.getxattr(ctx, node, "security.capability") == b"cap"
    assert await fs.listxattr(ctx, node) == ["security.capability"]
    with pytest.raises(FileExistsError):
        await fs.setxattr(ctx, node, "security.capability", b"", 1)
    with failed(notes.NO_ATTRIBUTE):
        await fs.setxattr(ctx, node, "security.other", b"", 2)
    with monkeypatch.context() as patch, failed(errno.ENOSPC):
        patch.setattr(notes, "MOST_VALUES", 10)
        await fs.setxattr(ctx, node, "security.more", b"x" * 20, 0)
    await fs.removexattr(ctx, node, "security.capability")
    assert await fs.listxattr(ctx, node) == []
    monkeypatch.setattr(notes, "MOST_KEPT", 2)
    await guest.write("third", b"")
    with failed(errno.ENOSPC):
        await guest.set("third", uid=4)
    await guest.unlink("file")  # makes room
    await guest.set("third", uid=4)


async def test_hosts_where_descriptors_have_no_paths(
    folder: Path, mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS: no /proc, no O_PATH, no attributes, nothing that watches."""
    from sandlot.filesystem.host import tree

    monkeypatch.setattr(syscalls, "has_proc", lambda: False)
    monkeypatch.setattr(tree, "O_PATH", 0)
    monkeypatch.setattr(tree, "_FOLDER", tree._FOLDER & ~os.O_PATH)
    monkeypatch.setattr(tree, "_EXACT", tree._EXACT & ~os.O_PATH)
    monkeypatch.setattr(syscalls, "_without", {"openat2"})
    monkeypatch.setattr(syscalls, "LINUX", False)
    guest = await mounted()
    assert not guest.fs.tells_changes and guest.fs.absent_timeout == 0.0
    await guest.mkdir("folder")
    await guest.write("folder/file", b"abc")
    assert await guest.read("folder/file") == b"abc"
    attr = await guest.set("folder/file", uid=1000, mode=0o4711, size=2, mtime_ns=5)
    assert (attr.uid, attr.mode & 0o7777, attr.size) == (1000, 0o4711, 2)
    assert attr.mtime_ns == 5
    await guest.rename("folder/file", "file")
    entry = await guest.entry("file")
    assert entry.attr.uid == 1000 and entry.entry_timeout == 0.5
    with failed(errno.EOPNOTSUPP):
        await guest.fs.setxattr(guest.ctx, entry.node, "user.x", b"", 0)
    assert await guest.fs.listxattr(guest.ctx, entry.node) == []


async def test_owners_of_symbolic_links_are_kept_in_memory(guest: Guest, folder: Path) -> None:
    await guest.symlink("link", "x")
    assert (await guest.set("link", uid=1000)).uid == 1000
    assert (await guest.stat("link")).uid == 1000
    assert not os.listxattr(folder / "link", follow_symlinks=False)
    await guest.unlink("link")
    await guest.symlink("link", "x")
    assert (await guest.stat("link")).uid == 0
