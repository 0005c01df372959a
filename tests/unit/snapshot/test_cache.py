"""Whole memory files are dropped in order, and never under somebody who needs them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandlot.snapshot.cache import bound, drop, half_made, whole_memories
from sandlot.snapshot.store import SnapshotFolder, SnapshotStore
from sandlot.state.lock import FileLock
from tests.unit.snapshot.test_store import made

SIZE = 64 * 4096


def with_memory(store: SnapshotStore, name: str, **fields: object) -> SnapshotFolder:
    """A snapshot with memory in one piece beside what it is made from."""
    folder = made(store, name, **fields)
    folder.memory.folder.mkdir()
    folder.memory.root.write_bytes(os.urandom(SIZE))
    folder.memory.make_full()
    return folder


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    (tmp_path / "snapshots").mkdir()
    return SnapshotStore(tmp_path / "snapshots")


def used(folder: SnapshotFolder, when: float) -> None:
    os.utime(folder.memory.folder / "full.json", (when, when))


def test_the_least_recently_used_go_first(store: SnapshotStore) -> None:
    folders = [with_memory(store, name, id=name * 2) for name in ("aa", "bb", "cc")]
    for folder, when in zip(folders, (300.0, 100.0, 200.0), strict=True):
        used(folder, when)
    assert [each.folder.path.name for each in whole_memories(store)] == ["bb", "cc", "aa"]
    assert bound(store, 3 * SIZE + 4096 * 3) == 0
    freed = bound(store, 2 * SIZE + 4096 * 3)
    assert freed >= SIZE
    assert [each.folder.path.name for each in whole_memories(store)] == ["cc", "aa"]
    folders[2].memory.note_use()  # so that it is not the oldest any more
    bound(store, SIZE + 4096)
    assert [each.folder.path.name for each in whole_memories(store)] == ["cc"]
    bound(store, 0, keep=folders[2])
    assert len(whole_memories(store)) == 1
    bound(store, 0)
    assert whole_memories(store) == []
    for folder in folders:
        assert folder.memory.root.exists() and not folder.memory.full_is_right()
        folder.memory.make_full()
        assert folder.memory.full.read_bytes() == folder.memory.root.read_bytes()


def test_what_is_mapped_or_being_made_stays(store: SnapshotStore, tmp_path: Path) -> None:
    folder = with_memory(store, "one")
    lock = FileLock.take(folder.lock_path)
    assert lock is not None
    assert not drop(folder) and bound(store, 0) == 0
    lock.release()
    folder.memory.link_to(tmp_path / "sandbox")
    assert whole_memories(store)[0].needed
    assert not drop(folder) and bound(store, 0) == 0 and folder.memory.full_is_right()
    (tmp_path / "sandbox" / "full").unlink()
    assert drop(folder) and not folder.memory.full.exists()
    assert not drop(folder)


def test_only_what_dead_programs_have_begun_is_half_made(store: SnapshotStore) -> None:
    folder = with_memory(store, "one")
    partial = folder.memory.folder / ".full-12"
    partial.write_bytes(b"")
    lock = FileLock.take(folder.lock_path)
    assert lock is not None
    assert half_made(store) == []
    lock.release()
    assert half_made(store) == [(folder, partial)]
