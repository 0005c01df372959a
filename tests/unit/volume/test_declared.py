from __future__ import annotations

from pathlib import Path

import pytest

from sandlot.errors import ConfigError
from sandlot.filesystem.base import FileSystem
from sandlot.filesystem.host.hostfs import HostFs
from sandlot.filesystem.memory.memfs import MemFs
from sandlot.volume.declared import Memory, NamedVolume, checked_path, declared, opened
from sandlot.volume.named import NamedFs, SizedFs
from sandlot.volume.store import VolumeStore
from sandlot.volume.volume import Volume


@pytest.mark.parametrize(
    "path", ["", "data", "/", "/../x", "/proc/x", "/dev", "/a\0", 5, "/run/sandlot"]
)
def test_paths_that_cannot_be_mounted_on(path: object) -> None:
    with pytest.raises(ConfigError):
        checked_path(path)


def test_paths_in_their_plain_form() -> None:
    assert checked_path("//a//b/./c/") == "/a/b/c"


async def test_a_name_is_made_on_first_use_and_opened_again(own_state: Path) -> None:
    record, objects = declared({"/data": "data"})
    assert objects == {}
    assert record == [
        {"path": "/data", "kind": "named", "name": "data", "readonly": False, "cache": "coherent"}
    ]
    fs = opened(record, {})["/data"]
    assert type(fs) is NamedFs and fs.folder.path == VolumeStore.current().find("data").path
    record, _ = declared({"/data": NamedVolume("data", readonly=True, cache="none")})
    again = opened(record, {})["/data"]
    assert again.readonly and again.cache == "none"
    sized = await Volume.create("sized", size="10M")
    record, _ = declared({"/s": sized})
    assert type(opened(record, {})["/s"]) is SizedFs


async def test_a_disk_has_no_cache_to_choose(own_state: Path) -> None:
    base = await Volume.create("base", size="64M", kind="disk")
    declared({"/base": base})
    with pytest.raises(ConfigError, match="base is a disk"):
        declared({"/base": NamedVolume("base", cache="fast")})


async def test_one_of_its_own_is_named_by_a_number(own_state: Path) -> None:
    record, _ = declared({"/own": NamedVolume()})
    assert record[0]["anonymous"] is True
    assert VolumeStore.current().find(record[0]["name"]).record().anonymous


async def test_folders_of_the_host(own_state: Path, tmp_path: Path) -> None:
    folder = tmp_path / "src"
    folder.mkdir()
    record, objects = declared({"/a": str(folder), "/b": folder, "/c": HostFs(folder, True)})
    assert set(objects) == {"/a", "/b", "/c"}
    again = opened(record, {})
    assert all(type(fs) is HostFs and fs.source == str(folder) for fs in again.values())
    assert [fs.readonly for fs in again.values()] == [False, False, True]
    assert opened(record, objects) == objects
    with pytest.raises(ConfigError, match="does not exist"):
        declared({"/a": f"{folder}/missing"})
    folder.rmdir()
    with pytest.raises(ConfigError, match="does not exist"):
        opened(record, {})


class Audit(HostFs):
    pass


async def test_what_a_program_made_is_only_its_own(own_state: Path, tmp_path: Path) -> None:
    mine: dict[str, FileSystem] = {"/a": Audit(tmp_path), "/b": FileSystem()}
    record, objects = declared(mine)
    assert objects == mine and [each["kind"] for each in record] == ["given", "given"]
    assert opened(record, objects) == mine
    with pytest.raises(ConfigError, match="object of the program"):
        opened(record, {})


async def test_memory(own_state: Path) -> None:
    record, _ = declared({"/a": Memory(1 << 20, 0o700)})
    fs = opened(record, {})["/a"]
    assert type(fs) is MemFs and fs.room.limit == 1 << 20


@pytest.mark.parametrize(
    "volumes", [5, {"/a": 5}, {"/a": ""}, {"/a": "x", "//a": "y"}, {"/a": "b/c"}]
)
def test_what_is_wrong_is_told(own_state: Path, volumes: object) -> None:
    with pytest.raises(ConfigError):
        declared(volumes)


def test_a_kind_of_another_version(own_state: Path) -> None:
    with pytest.raises(ConfigError, match="does not know"):
        opened([{"path": "/a", "kind": "nfs"}], {})
