"""Named volumes into a folder and out of it again."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandlot import NameTaken, Remote, RemoteDamaged, Volume, WrongState
from sandlot.engine.config import DISK_OFFSET
from sandlot.remote.keys import new_key_file
from sandlot.snapshot.integrity import digest_sparse
from sandlot.volume.pushing import _checked
from tests.framework.pushing import noise


@pytest.fixture
def remote(own_state: Path, tmp_path: Path) -> Remote:
    new_key_file(tmp_path / "key")
    return Remote(str(tmp_path / "remote"), key=tmp_path / "key")


async def test_a_folder_there_and_back(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = await Volume.create("data", labels={"a": "b"}, size="1G")
    noise(volume.path / "big", 3 << 20, 1)
    (volume.path / "deep").mkdir()
    (volume.path / "deep" / "file").write_text("hello")
    first = await volume.push(remote)
    (volume.path / "a-new-file").write_text("x" * 5000)
    second = await volume.push(remote)
    assert second.version == 2 and second.moved < first.moved / 2
    assert {p.name for p in volume.path.parent.iterdir()} <= {
        "volume.json",
        "data",
        "lock",
        "usage",
    }
    with pytest.raises(NameTaken):
        await Volume.pull("data", remote=remote)
    monkeypatch.setenv("SANDLOT_DATA", str(tmp_path / "elsewhere"))
    there = await Volume.pull("data", remote=remote)
    assert (there.path / "deep" / "file").read_text() == "hello"
    assert (there.path / "big").read_bytes() == (volume.path / "big").read_bytes()
    assert (there.size, there.labels, there.kind) == (1 << 30, {"a": "b"}, "folder")
    assert not list(there.path.parent.glob("tmp*"))
    old = await Volume.pull("data@1", "old", remote=remote)
    assert not (old.path / "a-new-file").exists()
    assert (await there.push(remote)).version == 3  # it came from what is there


async def test_a_disk_there_and_back(remote: Remote) -> None:
    volume = await Volume.create("disk", kind="disk", size="64M")
    noise(volume.path, 100_000, 1, at=DISK_OFFSET + (8 << 20))
    await volume.push(remote, "other")
    back = await Volume.pull("other", remote=remote)
    assert digest_sparse(back.path) == digest_sparse(volume.path) and back.kind == "disk"


async def test_one_that_is_mounted_is_not_pushed(remote: Remote) -> None:
    volume = await Volume.create("data")
    hold = volume._folder.hold()
    assert hold is not None
    with pytest.raises(WrongState, match="is mounted"):
        await volume.push(remote)
    hold.release()


@pytest.mark.parametrize(
    "config",
    [
        {}, {"kind": "disk", "size": 0, "labels": {}}, {"kind": "folder", "size": -1, "labels": {}},
        {"kind": "folder", "size": 0, "labels": {"a": 1}}, {"kind": "x", "size": 0, "labels": {}},
    ],
)  # fmt: skip
def test_what_no_volume_can_be_is_refused(config: dict[str, object]) -> None:
    from sandlot.remote.manifest import Manifest, StoredPart

    parts = tuple(StoredPart(name, 0, 0, "0" * 64, ()) for name in ("tree", "data"))
    with pytest.raises(RemoteDamaged, match="no volume can be"):
        _checked(Manifest("volume", "x", 1, 0.0, config, parts))
