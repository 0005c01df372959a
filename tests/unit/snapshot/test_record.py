"""What is known of a snapshot, and which host it fits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sandlot.engine.config import DISK_OFFSET
from sandlot.errors import SnapshotDamaged, SnapshotMismatch, SnapshotNotFound
from sandlot.snapshot.record import MachineRecord, SnapshotRecord, read_record

FACTS = {"engine": "qemu", "version": "7.2", "accelerator": "kvm", "features": "a1"}


def machine(place: int = 1) -> MachineRecord:
    return MachineRecord(
        memory=1 << 29, cpus=1, token="00" * 16, place=place, disk=4 << 30, staged=1 << 30,
        facts=FACTS,
    )  # fmt: skip


def record(**changes: object) -> SnapshotRecord:
    values: dict[str, object] = {
        "id": "0123456789ab", "name": "ready", "created": 1.0, "sandbox": "box", "source": {},
        "layers": ["0-a"],
    }  # fmt: skip
    return SnapshotRecord(**(values | changes))  # type: ignore[arg-type]


def test_a_host_that_differs_is_refused_with_what_differs() -> None:
    machine().check(dict(FACTS))
    with pytest.raises(
        SnapshotMismatch, match=r"version of QEMU was 7\.2 and is 9\.1 here"
    ) as raised:
        machine().check(FACTS | {"version": "9.1", "features": "b2"})
    assert raised.value.differences == {"version": ("7.2", "9.1"), "features": ("a1", "b2")}
    assert "disk_only" in raised.value.hint


@pytest.mark.parametrize("place", [1, 2])
def test_the_disk_takes_its_place_among_the_devices(place: int) -> None:
    layers = (Path("l0"), Path("l1"))
    config = machine(place).config(Path("ram"), Path("image"), layers, Path("top"))
    image, *disks = config.disks
    assert image.concatenated and image.readonly
    own, other = disks[place - 1], disks[2 - place]
    assert (own.path, own.layers, own.size, own.readonly) == (Path("top"), layers, 4 << 30, False)
    assert own.offset == DISK_OFFSET
    assert other.path is None
    assert config.ram == Path("ram") and config.memory == 1 << 29


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = tmp_path / "renamed"
    folder.mkdir()
    (folder / "snapshot.json").write_text(json.dumps(record(tags=["v1"]).to_json()))
    found = read_record(folder)
    assert found.name == "renamed" and found.tags == ["v1"] and found.machine_record is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "odd": 2}'])
def test_a_record_that_cannot_be_read_is_said_to_be_damaged(tmp_path: Path, text: str) -> None:
    with pytest.raises(SnapshotNotFound):
        read_record(tmp_path)
    (tmp_path / "snapshot.json").write_text(text)
    with pytest.raises(SnapshotDamaged, match="cannot be read"):
        read_record(tmp_path)
