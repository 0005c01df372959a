from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from sandlot.errors import ConfigError, NameTaken, StateError, VolumeNotFound, WrongState
from sandlot.volume.store import VolumeStore, checked_name, named, new_record


@pytest.fixture
def store(own_state: Path) -> VolumeStore:
    return VolumeStore.current()


def with_sandbox(own_state: Path, name: str, volumes: list[dict[str, object]]) -> None:
    from dataclasses import asdict

    from sandlot.state.records import SandboxRecord

    folder = own_state / "sandboxes" / name
    folder.mkdir(parents=True)
    record = SandboxRecord(
        id="0" * 12, name=name, image="i", image_digest="d", memory=1, cpus=1, disk=1,
        hostname="h", machine_id="m", volumes=volumes,
    )  # fmt: skip
    (folder / "sandbox.json").write_text(json.dumps(asdict(record)))


def test_a_volume_is_made_found_and_removed(store: VolumeStore) -> None:
    folder = store.create(new_record("data", size=5, labels={"a": "b"}))
    assert folder.data.is_dir()
    record = store.find("data").record()
    assert (record.name, record.size, record.labels, record.kind) == (
        "data",
        5,
        {"a": "b"},
        "folder",
    )
    assert store.find(record.id[:6]).path == folder.path
    with pytest.raises(NameTaken):
        store.create(new_record("data"))
    store.remove(folder)
    assert not folder.path.exists() and store.all() == []
    with pytest.raises(VolumeNotFound):
        store.find("data")
    with pytest.raises(VolumeNotFound):
        store.remove(folder)


def test_making_is_whole_or_nothing(store: VolumeStore, own_state: Path) -> None:
    with pytest.raises(RuntimeError), store.making(new_record("x")) as folder:
        assert store.all() == []  # it is held, and has no name yet
        assert folder.path.exists()
        raise RuntimeError
    assert list((own_state / "volumes").iterdir()) == []


def _die_making(data: str) -> None:
    os.environ["SANDLOT_DATA"] = data
    with VolumeStore.current().making(new_record("x")):
        os._exit(9)


def test_half_made_ones_are_found_and_removed(store: VolumeStore, own_state: Path) -> None:
    dead = multiprocessing.get_context("fork").Process(target=_die_making, args=(str(own_state),))
    dead.start()
    dead.join()
    (own_state / "volumes" / ".rm-1234").mkdir()
    assert len(store.half_made()) == 2
    assert store.all() == []
    assert list((own_state / "volumes").iterdir()) == []


def test_one_that_a_sandbox_has_is_not_removed(store: VolumeStore, own_state: Path) -> None:
    folder = store.create(new_record("data"))
    with_sandbox(own_state, "box", [{"path": "/d", "kind": "named", "name": "data"}])
    assert store.users() == {"data": ["box"]}
    with pytest.raises(WrongState, match="used by sandbox box"):
        store.remove(folder)
    hold = folder.hold()
    assert hold is not None and folder.in_use()
    with pytest.raises(WrongState, match="mounted by sandbox box"):
        store.remove(folder, force=True)
    hold.release()
    assert not folder.in_use()
    store.remove(folder, force=True)
    assert not folder.path.exists()


def test_many_share_it_and_one_may_have_it_alone(store: VolumeStore) -> None:
    folder = store.create(new_record("data"))
    one, two = folder.hold(), folder.hold()
    assert one is not None and two is not None
    assert folder.hold(alone=True) is None
    one.release()
    one.release()
    two.release()
    alone = folder.hold(alone=True)
    assert alone is not None and folder.hold() is None
    alone.release()


def test_it_is_made_on_first_use(store: VolumeStore) -> None:
    folder = store.for_use("new")
    assert store.for_use("new").path == folder.path
    anonymous = store.anonymous()
    assert anonymous.record().anonymous and len(anonymous.name) == 32


def test_a_damaged_record_is_told_and_can_be_removed(store: VolumeStore) -> None:
    folder = store.create(new_record("data"))
    (folder.path / "volume.json").write_text("{")
    with pytest.raises(StateError, match="cannot be read"):
        folder.record()
    assert list(store.records()) == []
    store.remove(folder)


@pytest.mark.parametrize("name", ["", ".x", "a/b", "a" * 64, 5, "a\0", "ä"])
def test_names_that_are_none(name: object) -> None:
    with pytest.raises(ConfigError, match="not a name"):
        checked_name(name)


def test_names_in_a_list_of_volumes() -> None:
    volumes: list[dict[str, Any]] = [
        {"kind": "host", "name": "no"}, {"kind": "named", "name": "a"},
        {"kind": "named", "name": "b", "anonymous": True},
    ]  # fmt: skip
    assert named(volumes) == ["a", "b"] and named(volumes, anonymous=True) == ["b"]
