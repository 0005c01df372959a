from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sandlot.filesystem.host import syscalls
from sandlot.filesystem.host.tree import Descriptor
from tests.unit.filesystem.host.test_names import failed

FLAGS = os.O_RDONLY


def opened(path: Path) -> Descriptor:
    return Descriptor(os.open(path, os.O_RDONLY))


def test_opening_beneath(folder: Path) -> None:
    (folder / "a/b").mkdir(parents=True)
    (folder / "a/b/file").write_text("x")
    (folder / "a/link").symlink_to("b")
    (folder / "a/out").symlink_to("/etc")
    root = opened(folder)
    number = syscalls.open_beneath(root.number, "a/b/file", FLAGS)
    assert number is not None
    assert os.read(Descriptor(number).number, 9) == b"x"
    for path in ("a/link/file", "a/out/passwd"):
        with failed(errno.ELOOP):
            syscalls.open_beneath(root.number, path, FLAGS)
    for path in ("../x", "a/../../x", "/etc/passwd"):
        with failed(errno.EXDEV):
            syscalls.open_beneath(root.number, path, FLAGS)
    with pytest.raises(FileNotFoundError):
        syscalls.open_beneath(root.number, "nothing", FLAGS)


def test_hosts_without_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "_without", set())
    monkeypatch.setattr(syscalls, "_OPENAT2", 9999)  # no such call: ENOSYS
    root = opened(folder)
    assert syscalls.open_beneath(root.number, "x", FLAGS) is None
    assert syscalls._without == {"openat2"}
    assert syscalls.open_beneath(root.number, "x", FLAGS) is None


def test_renaming_with_flags(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "one").write_text("1")
    (folder / "two").write_text("2")
    root = opened(folder)
    at = root.number
    with pytest.raises(FileExistsError):
        syscalls.rename(at, "one", at, "two", syscalls.NOREPLACE)
    syscalls.rename(at, "one", at, "two", syscalls.EXCHANGE)
    assert (folder / "one").read_text() == "2"
    syscalls.rename(at, "one", at, "two", 0)
    assert (folder / "two").read_text() == "2"
    for flags in (3, 4):
        with failed(errno.EINVAL):
            syscalls.rename(at, "two", at, "one", flags)
    monkeypatch.setattr(syscalls, "LINUX", False)
    with failed(errno.EINVAL):
        syscalls.rename(at, "two", at, "one", syscalls.NOREPLACE)


def test_room_where_the_host_has_no_call_for_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syscalls, "_libc", object())
    with (folder / "file").open("w") as file:
        syscalls.fallocate(file.fileno(), 0, 10, 20)
        assert (folder / "file").stat().st_size == 30
        syscalls.fallocate(file.fileno(), 0, 0, 5)
        assert (folder / "file").stat().st_size == 30
        with failed(errno.EOPNOTSUPP):
            syscalls.fallocate(file.fileno(), 3, 0, 5)
        with failed(errno.EINVAL):
            syscalls.fallocate(file.fileno(), 0, 1 << 62, 1 << 62)
    assert not syscalls.is_remote(0) and syscalls.watch_init() is None


def test_what_is_remote(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = opened(folder)
    assert not syscalls.is_remote(root.number)
    shared = opened(Path("/dev/shm"))
    monkeypatch.setattr(syscalls, "_REMOTE", {0x01021994})  # as if tmpfs were
    assert syscalls.is_remote(shared.number)
    assert not syscalls.is_remote(-1)


def test_memory_is_kept_only_where_nobody_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert not syscalls.keep_freed_memory.__wrapped__()
    monkeypatch.delenv("MALLOC_ARENA_MAX")
    assert syscalls.keep_freed_memory()
