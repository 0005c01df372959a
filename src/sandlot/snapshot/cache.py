"""The whole memory files of snapshots, which machines map: made again when they are needed, and so
the first thing to go when room is short."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from sandlot.snapshot.store import SnapshotFolder, SnapshotStore
from sandlot.state.lock import FileLock, is_held


@dataclass(frozen=True)
class WholeMemory:
    """The memory of one snapshot in one file. `size` is in bytes on disk, `used` the time of its
    last restore in seconds since 1970, `needed` whether a sandbox maps it or is about to."""

    folder: SnapshotFolder
    size: int
    used: float
    needed: bool


def whole_memories(store: SnapshotStore) -> list[WholeMemory]:
    """Those that are there, the one that was not used for longest first."""
    found = []
    for folder in store.all(sweep=False):
        with contextlib.suppress(OSError):
            status = folder.memory.full.stat()
            # A sandbox that goes on from it has a name of its own for it, until its machine ends.
            found.append(
                WholeMemory(
                    folder, status.st_blocks * 512, folder.memory.last_use, status.st_nlink > 1
                )
            )
    return sorted(found, key=lambda each: each.used)


def drop(folder: SnapshotFolder) -> bool:
    """Drop a whole memory file, unless somebody needs it or makes it now; whether it is gone."""
    lock = FileLock.take(folder.lock_path)
    if lock is None:
        return False
    try:
        if folder.memory.full.stat().st_nlink > 1:
            return False
        folder.memory.drop_full()
        return True
    except OSError:
        return False
    finally:
        lock.release()


def bound(store: SnapshotStore, limit: int, *, keep: SnapshotFolder | None = None) -> int:
    """Drop those that were not used for longest until all together take no more than `limit` bytes.

    Args:
        keep: one that stays, because somebody is about to use it.

    Returns:
        How many bytes were given back.
    """
    there = whole_memories(store)
    over = sum(each.size for each in there) - limit
    freed = 0
    for each in there:
        if freed >= over:
            break
        if not each.needed and each.folder != keep and drop(each.folder):
            freed += each.size
    return freed


def half_made(store: SnapshotStore) -> list[tuple[SnapshotFolder, Path]]:
    """Whole memory files that a program had begun to make when it died."""
    return [
        (folder, path)
        for folder in store.all(sweep=False)
        for path in folder.memory.folder.glob(".full-*")
        if not is_held(folder.lock_path)
    ]
