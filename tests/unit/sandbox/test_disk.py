"""The writable disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sandlot.engine.config import GIB, MIB
from sandlot.errors import ConfigError, HostError, ResourceError
from sandlot.sandbox import disk


@pytest.mark.parametrize("pieces", [[], [(0, 4096)], [(8192, 100), (3 * MIB, 70000)]])
def test_a_sparse_copy_is_equal_and_sparse(tmp_path: Path, pieces: list[tuple[int, int]]) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    with source.open("wb") as file:
        file.truncate(8 * MIB)
        for at, size in pieces:
            file.seek(at)
            file.write(os.urandom(size))
    disk.copy_sparse(source, target)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks <= source.stat().st_blocks + 16


@pytest.mark.parametrize("size", [0, 63 * MIB, 64 * GIB + MIB])
def test_sizes_out_of_range(size: int) -> None:
    with pytest.raises(ConfigError, match="out of range"):
        disk.check_size(size)


def test_sizes_are_whole_mebibytes() -> None:
    assert disk.check_size(64 * MIB + 5) == 64 * MIB


def test_no_mke2fs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandlot.sandbox.disk.shutil.which", lambda *_, **__: None)
    with pytest.raises(HostError, match="mke2fs") as caught:
        disk.mke2fs()
    assert "e2fsprogs" in caught.value.hint


async def test_a_disk_is_made_from_one_blank(tmp_path: Path) -> None:
    (tmp_path / "blanks").mkdir()
    for name in ("one", "two"):
        await disk.make_disk(tmp_path / "blanks", 64 * MIB, tmp_path / name)
    data = (tmp_path / "one").read_bytes()
    assert data[1080:1082] == b"\x53\xef"  # the magic number of ext4
    assert data == (tmp_path / "two").read_bytes()
    assert len(list((tmp_path / "blanks").glob("*.img"))) == 1


async def test_a_full_host_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(disk, "copy_sparse", full)
    with pytest.raises(ResourceError, match="no space left"):
        await disk.make_disk(tmp_path, 64 * MIB, tmp_path / "x")
    assert not (tmp_path / "x").exists()
