from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sandlot.engine.config import DISK_OFFSET
from sandlot.errors import ConfigError, HostError
from sandlot.volume.declared import NamedVolume, declared, disks, opened
from sandlot.volume.disk import format_disk
from sandlot.volume.volume import Volume

_MAGIC = DISK_OFFSET + 1024 + 56  # of ext4's superblock


async def test_a_disk_is_an_ext4_that_takes_little(own_state: Path) -> None:
    disk = await Volume.create("db", kind="disk", size="64M")
    assert disk.path.stat().st_size == DISK_OFFSET + (64 << 20)
    assert await disk.used() < 16 << 20
    with disk.path.open("rb") as file:
        file.seek(_MAGIC)
        assert file.read(2) == b"\x53\xef"
    with pytest.raises(ConfigError, match="is a disk"):
        await disk.upload(own_state, "/")


async def test_in_a_record_it_is_no_file_system(own_state: Path) -> None:
    await Volume.create("db", kind="disk", size="16M")
    record, objects = declared({"/db": "db", "/ro": NamedVolume("db", readonly=True), "/x": "x"})
    assert objects == {} and set(opened(record, {})) == {"/x"}
    assert {path: (folder.name, ro) for path, (folder, ro) in disks(record).items()} == {
        "/db": ("db", False), "/ro": ("db", True),
    }  # fmt: skip


@pytest.mark.parametrize("size", ["1M", "9000G"])
async def test_a_size_out_of_range(own_state: Path, size: str) -> None:
    with pytest.raises(ConfigError, match="size"):
        await Volume.create("db", kind="disk", size=size)


def test_what_mke2fs_says_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(argv: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(argv, 1, b"", b"no luck\n")

    monkeypatch.setattr(subprocess, "run", failing)
    with pytest.raises(HostError, match="no luck"):
        format_disk(tmp_path / "disk", 16 << 20)


def test_without_mke2fs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(HostError, match="was not found"):
        format_disk(tmp_path / "disk", 16 << 20)
