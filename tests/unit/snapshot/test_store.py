"""Snapshots on disk: there whole or not at all, found by name, id and tag."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandlot.errors import NameTaken, SnapshotDamaged, SnapshotNotFound
from sandlot.snapshot.integrity import digest_sparse
from sandlot.snapshot.store import SnapshotFolder, SnapshotStore
from sandlot.snapshot.usage import usage_of
from tests.unit.snapshot.test_record import record


def made(store: SnapshotStore, name: str, **fields: object) -> SnapshotFolder:
    with store.making() as folder:
        folder.disk.mkdir()
        (folder.disk / "0-a").write_bytes(b"disk of " + name.encode())
        digests = {"disk/0-a": digest_sparse(folder.disk / "0-a")}
        return store.publish(folder, record(name=name, digests=digests, **fields))


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path)


def test_what_is_not_published_leaves_nothing(store: SnapshotStore, tmp_path: Path) -> None:
    with store.making() as folder:
        (folder.path / "state").write_bytes(b"half")
        assert store.all() == []  # nor is it taken away from its maker
        assert folder.path.exists()
    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_program_left_is_cleaned_away(store: SnapshotStore, tmp_path: Path) -> None:
    left = tmp_path / ".new-0123"
    left.mkdir()
    (left / "lock").write_bytes(b"")
    assert store.half_made() == [left]
    assert store.all() == []
    assert not left.exists()


def test_a_snapshot_is_found_by_name_id_and_newest_tag(store: SnapshotStore) -> None:
    one = made(store, "one", id="aa0123456789", tags=["good"], created=1.0)
    two = made(store, "two", id="ab0123456789", tags=["good", "new"], created=2.0)
    assert store.find("one") == store.find("aa") == one
    assert store.find("good") == store.find("new") == two
    # A name goes first, then a whole id, then a tag, then the beginning of an id.
    three = made(store, "new", id="ba0123456789", tags=["one", "ab", "aa0123456789"], created=3.0)
    assert store.find("new") == three and store.find("one") == one
    assert store.find("aa0123456789") == one and store.find("ab") == three
    assert store.find("ab0") == two
    for name in ("", "a", "a/b", "three", "..", ".new"):
        with pytest.raises(SnapshotNotFound):
            store.find(name)


def test_the_newest_of_a_sandbox_is_found(store: SnapshotStore) -> None:
    made(store, "one", created=2.0, source={"id": "a"})
    newest = made(store, "two", created=3.0, source={"id": "a"})
    made(store, "three", created=4.0, source={"id": "b"})
    assert store.newest_of("a") == newest and store.newest_of("c") is None


def test_a_name_is_given_once(store: SnapshotStore) -> None:
    made(store, "one")
    with pytest.raises(NameTaken, match="'one'"):
        made(store, "one")
    two = made(store, "two")
    with pytest.raises(NameTaken):
        store.rename(two, "one")
    assert store.rename(two, "three").record().name == "three"
    assert [folder.path.name for folder in store.all()] == ["one", "three"]


def test_children_name_their_parent(store: SnapshotStore) -> None:
    made(store, "one", id="aa0123456789")
    made(store, "two", id="ab0123456789", parent="aa0123456789")
    assert [child.name for child in store.children("aa0123456789")] == ["two"]


def test_a_file_that_was_changed_is_found(store: SnapshotStore) -> None:
    folder = made(store, "one")
    folder.verify()
    disk = folder.disk / "0-a"
    whole = disk.read_bytes()
    folder.verify()
    for damage in (b"disk of onf", whole[:-1], b""):
        disk.write_bytes(damage)
        with pytest.raises(SnapshotDamaged, match=r"disk/0-a: it was changed or cut off"):
            folder.verify()
    disk.write_bytes(whole)
    folder.verify()
    times = disk.stat()
    disk.write_bytes(b"disk of onf")
    os.utime(disk, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(SnapshotDamaged):
        folder.verify(whole=True)
    disk.unlink()
    with pytest.raises(SnapshotDamaged, match="missing"):
        folder.verify()


def test_a_removed_one_is_gone_and_its_links_are_not(store: SnapshotStore, tmp_path: Path) -> None:
    folder = made(store, "one")
    alone = usage_of(folder)
    os.link(folder.disk / "0-a", tmp_path / ".kept")
    shared = usage_of(folder)
    assert shared.shared > 0 and shared.own < alone.own and alone.shared == 0
    store.remove(folder)
    assert (tmp_path / ".kept").read_bytes() == b"disk of one"
    with pytest.raises(SnapshotNotFound):
        store.remove(folder)
    with pytest.raises(SnapshotNotFound):
        folder.verify()
