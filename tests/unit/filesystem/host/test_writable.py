from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandlot.filesystem.host import syscalls
from sandlot.filesystem.host.tree import Descriptor
from sandlot.filesystem.host.writable import chmod, forced, writing


def named(path: Path) -> Descriptor:
    return Descriptor(os.open(path, os.O_PATH | os.O_NOFOLLOW))


def test_the_bit_is_lent_for_the_change_only(folder: Path) -> None:
    (folder / "file").touch(0o444)
    (folder / "file").chmod(0o444)
    modes = []

    def change() -> str:
        modes.append((folder / "file").stat().st_mode & 0o777)
        if len(modes) == 1:
            raise PermissionError(13, "no")
        return "done"

    assert forced(named(folder / "file"), change) == "done"
    assert modes == [0o444, 0o644] and (folder / "file").stat().st_mode & 0o777 == 0o444


def test_it_is_taken_back_after_a_failure(folder: Path) -> None:
    (folder / "file").touch()
    (folder / "file").chmod(0o400)

    def change() -> None:
        raise PermissionError(13, "no")

    with pytest.raises(PermissionError):
        forced(named(folder / "file"), change)
    assert (folder / "file").stat().st_mode & 0o777 == 0o400


def test_not_of_another_users_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "file").touch()
    (folder / "file").chmod(0o444)
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    tries = []

    def change() -> None:
        tries.append(1)
        raise PermissionError(13, "no")

    with pytest.raises(PermissionError):
        forced(named(folder / "file"), change)
    assert tries == [1]


def test_by_the_very_inode(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "file").touch()
    held = named(folder / "file")
    (folder / "file").rename(folder / "moved")
    (folder / "file").symlink_to("/etc/passwd")
    chmod(held, 0o600)
    writing(held, lambda path: os.setxattr(path, "user.x", b"1"))
    assert (folder / "moved").stat().st_mode & 0o777 == 0o600
    assert os.getxattr(folder / "moved", "user.x") == b"1"
    monkeypatch.setattr(syscalls, "has_proc", lambda: False)
    chmod(Descriptor(os.open(folder / "moved", os.O_RDONLY)), 0o640)
    assert (folder / "moved").stat().st_mode & 0o777 == 0o640
