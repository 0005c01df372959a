"""The writable disk."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from sandlot.engine.config import DISK_OFFSET, MIB
from sandlot.errors import HostError, ResourceError
from sandlot.sandbox import disk


def test_no_mke2fs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandlot.sandbox.disk.shutil.which", lambda *_, **__: None)
    with pytest.raises(HostError, match="mke2fs") as caught:
        disk.mke2fs()
    assert "e2fsprogs" in caught.value.hint


async def test_a_blank_disk_is_made_once_and_copied(tmp_path: Path) -> None:
    (tmp_path / "blanks").mkdir()
    for name in ("one", "two"):
        blank = await disk.blank_disk(tmp_path / "blanks", 64 * MIB)
        disk.copy_disk(blank, tmp_path / name)
    data = contents(tmp_path / "one")
    assert data[1080:1082] == b"\x53\xef"  # the magic number of ext4
    assert data == contents(tmp_path / "two") == blank.read_bytes()
    assert len(list((tmp_path / "blanks").glob("*.img"))) == 1


def contents(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(DISK_OFFSET)
        return file.read()


def test_a_copy_of_a_disk_begins_where_disks_do(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"old" * 4096)
    assert disk.begins_at_zero(old)
    disk.copy_disk(old, old)  # in its own place
    assert not disk.begins_at_zero(old)
    disk.copy_disk(old, tmp_path / "copy")
    assert contents(tmp_path / "copy") == contents(old) == b"old" * 4096
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "old"]


def test_a_file_system_without_such_files_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(source: Path, target: Path, at: int) -> None:
        raise OSError(errno.EFBIG, "too large")

    monkeypatch.setattr(disk, "copy_sparse", short)
    (tmp_path / "blank").write_bytes(b"")
    with pytest.raises(ResourceError, match="no files of 1 TiB"):
        disk.copy_disk(tmp_path / "blank", tmp_path / "x")


def test_a_full_host_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path, at: int) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(disk, "copy_sparse", full)
    blank = tmp_path / "blank"
    blank.write_bytes(b"")
    with pytest.raises(ResourceError, match="no space left"):
        disk.copy_disk(blank, tmp_path / "x")
    assert list(tmp_path.iterdir()) == [blank]
