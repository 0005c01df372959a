"""The space that a snapshot takes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from sandlot.snapshot.store import SnapshotFolder


@dataclass(frozen=True)
class SnapshotUsage:
    """Bytes on disk. `own` is what its removal gives back at once, `shared` what others have too:
    its parents and children, sandboxes, images; `cached` what is made again when it is needed."""

    own: int
    shared: int
    cached: int


def usage_of(folder: SnapshotFolder) -> SnapshotUsage:
    """What the files in a snapshot's folder take."""
    own = shared = cached = 0
    for path in folder.path.rglob("*"):
        with contextlib.suppress(OSError):
            status = path.lstat()
            if path.is_dir():
                continue
            taken = status.st_blocks * 512
            if path == folder.memory.full:
                cached += taken
            elif status.st_nlink > 1:
                shared += taken
            else:
                own += taken
    return SnapshotUsage(own, shared, cached)
