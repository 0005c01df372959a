"""The snapshots of one state directory: a folder each, whose name is the lock on the name.

A folder is filled under another name, whose maker holds a lock in it, and renamed when its files
are on the disk: a snapshot is there whole or not at all. What it is made of never changes; names
and tags do, and `memory/full`, which is made from the rest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sandlot.engine.accelerator import boot_identity
from sandlot.errors import NameTaken, SnapshotDamaged, SnapshotError, SnapshotNotFound, StateError
from sandlot.snapshot.integrity import digest_sparse, marks
from sandlot.snapshot.memory import MemoryFiles
from sandlot.snapshot.record import SnapshotRecord, read_record
from sandlot.state.lock import FileLock, is_held
from sandlot.state.records import write_json

VOLUMES = "volumes.json"
CONTENTS = "contents-"
VERIFIED = "verified.json"


@dataclasses.dataclass(frozen=True)
class SnapshotFolder:
    """One snapshot on disk."""

    path: Path

    @property
    def state(self) -> Path:
        """The device state."""
        return self.path / "state"

    @property
    def memory(self) -> MemoryFiles:
        """The memory."""
        return MemoryFiles(self.path / "memory")

    @property
    def disk(self) -> Path:
        """The folder of the layers of the disk."""
        return self.path / "disk"

    @property
    def image(self) -> Path:
        """The folder with the image's files."""
        return self.path / "image"

    @property
    def volumes(self) -> Path:
        """What the guest knew of its volumes, when it had any."""
        return self.path / VOLUMES

    def contents(self) -> list[Path]:
        """The contents of volumes that the machine held itself."""
        return sorted(self.path.glob(CONTENTS + "*"))

    @property
    def lock_path(self) -> Path:
        """Held by who makes it, or makes its memory."""
        return self.path / "lock"

    def record(self) -> SnapshotRecord:
        """What is known of it.

        Raises:
            SnapshotNotFound, SnapshotDamaged
        """
        return read_record(self.path)

    def files(self) -> list[str]:
        """The files that make it up, below its folder."""
        record = self.record()
        names = [f"disk/{name}" for name in record.layers]
        if record.machine is not None:
            names += ["state", *(f"memory/{path.name}" for path in self.memory.chain())]
        return names

    def verify(self, *, whole: bool = False, disk_only: bool = False) -> None:
        """Refuse a snapshot that is not what it was when it was made.

        The files are read once per boot of the host, and again when size or time of one changed.

        Args:
            whole: read them in any case.
            disk_only: only those of the disk, when something else is damaged.

        Raises:
            SnapshotDamaged: with the file.
        """
        record = self.record()
        wanted = {
            name: digest for name, digest in record.digests.items()
            if not disk_only or name.startswith("disk/")
        }  # fmt: skip
        try:
            now = self._marks(record) if not disk_only else self._seal(wanted)
        except FileNotFoundError as error:
            if not self.path.exists():
                raise SnapshotNotFound(
                    f"snapshot {record.name!r} was removed", hint="`sandlot snapshot ls` lists them"
                ) from None
            raise self._damaged(Path(error.filename).name, "it is missing") from None
        if not whole:
            with contextlib.suppress(OSError, ValueError):
                if json.loads((self.path / VERIFIED).read_text()) == now:
                    return
        for name, expected in wanted.items():
            if digest_sparse(self.path / name) != expected:
                raise self._damaged(name, "it was changed or cut off")
        if not disk_only:
            write_json(self.path / VERIFIED, now)

    def note_verified(self, record: SnapshotRecord) -> None:
        """The files were read at this moment and are right."""
        write_json(self.path / VERIFIED, self._marks(record))

    def _marks(self, record: SnapshotRecord) -> dict[str, Any]:
        return self._seal(record.digests)

    def _seal(self, names: Iterable[str]) -> dict[str, Any]:
        return {"boot": boot_identity(), "marks": marks(self.path / name for name in names)}

    def _damaged(self, name: str, why: str) -> SnapshotDamaged:
        return SnapshotDamaged(
            f"snapshot {self.path.name!r} is damaged: {name}: {why}",
            hint="nothing was run from it; "
            + (
                "remove it, and make it again or import it"
                if name.startswith("disk/")
                else "its disk may be whole: restore with --disk-only (disk_only=True)"
            ),
        )


class SnapshotStore:
    """The snapshots below one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextlib.contextmanager
    def making(self) -> Iterator[SnapshotFolder]:
        """A folder to fill, which is removed at the end of the block unless it was published."""
        path = self._root / f".new-{secrets.token_hex(6)}"
        path.mkdir(mode=0o700)
        folder = SnapshotFolder(path)
        lock = None
        try:
            lock = FileLock.take(folder.lock_path)
            yield folder
        finally:
            if lock is not None:
                lock.release()
            shutil.rmtree(path, ignore_errors=True)

    def refuse_taken(self, name: str) -> None:
        """Refuse a name that is another snapshot's.

        Raises:
            NameTaken
        """
        if (self._root / name).exists():
            raise NameTaken(
                f"a snapshot named {name!r} exists already",
                hint=f"choose another name, or remove it with `sandlot snapshot rm {name}`",
            )

    def publish(self, folder: SnapshotFolder, record: SnapshotRecord) -> SnapshotFolder:
        """Give a folder that was filled its record and its name.

        Raises:
            NameTaken: another has it.
        """
        write_json(folder.path / "snapshot.json", record.to_json())
        return self._move(folder, record.name)

    def _move(self, folder: SnapshotFolder, name: str) -> SnapshotFolder:
        self.refuse_taken(name)
        try:
            folder.path.rename(self._root / name)
        except OSError as error:
            self.refuse_taken(name)
            raise StateError(f"cannot name the snapshot {name!r}: {error.strerror}") from error
        return SnapshotFolder(self._root / name)

    def all(self, *, sweep: bool = True) -> list[SnapshotFolder]:
        """Every snapshot, by name; with `sweep`, what dead programs have left is cleaned away."""
        found = []
        for path in sorted(self._root.iterdir()):
            if not path.name.startswith("."):
                found.append(SnapshotFolder(path))
            elif sweep and self._dead(path):
                shutil.rmtree(path, ignore_errors=True)
        return found

    def half_made(self) -> list[Path]:
        """What dead programs have left."""
        return [path for path in self._root.iterdir() if self._dead(path)]

    @staticmethod
    def _dead(path: Path) -> bool:
        if not path.name.startswith((".new-", ".rm-")):
            return False
        lock = path / "lock"
        # A maker has made its folder a moment before it holds the lock.
        if not lock.exists():
            with contextlib.suppress(OSError):
                return time.time() - path.stat().st_mtime > 60
            return False
        return not is_held(lock)

    def find(self, name_or_id: str) -> SnapshotFolder:
        """By name, by id, by tag, which is the newest that has it, or by the unique beginning of an
        id: the first of these that there is.

        Raises:
            SnapshotNotFound: there is none.
        """
        if name_or_id and "/" not in name_or_id and not name_or_id.startswith("."):
            path = self._root / name_or_id
            if (path / "snapshot.json").exists():
                return SnapshotFolder(path)
            known = list(self._records())
            if whole := [f for f, r in known if r.id == name_or_id]:
                return whole[0]
            if tagged := [(r.created, f) for f, r in known if name_or_id in r.tags]:
                return max(tagged, key=lambda each: each[0])[1]
            if len(name_or_id) >= 2:
                matches = [f for f, r in known if r.id.startswith(name_or_id)]
                if len(matches) == 1:
                    return matches[0]
        raise SnapshotNotFound(
            f"no snapshot is named {name_or_id!r}", hint="`sandlot snapshot ls` lists them"
        )

    def _records(self) -> Iterator[tuple[SnapshotFolder, SnapshotRecord]]:
        for folder in self.all():
            with contextlib.suppress(SnapshotError):
                yield folder, folder.record()

    def children(self, id: str) -> list[SnapshotRecord]:
        """The snapshots whose sandboxes were restored from this one."""
        return [record for _, record in self._records() if record.parent == id]

    def newest_of(self, sandbox: str) -> SnapshotFolder | None:
        """The last snapshot that was made of the sandbox with this id."""
        made = [(r.created, f) for f, r in self._records() if r.source.get("id") == sandbox]
        return max(made, key=lambda each: each[0])[1] if made else None

    def change(self, folder: SnapshotFolder, **fields: Any) -> SnapshotRecord:
        """Change what may be changed of a record: its tags."""
        record = dataclasses.replace(folder.record(), **fields)
        write_json(folder.path / "snapshot.json", record.to_json())
        return record

    def rename(self, folder: SnapshotFolder, name: str) -> SnapshotFolder:
        """Give a snapshot another name.

        Raises:
            NameTaken: another has it.
        """
        folder.record()
        return self._move(folder, name)

    def remove(self, folder: SnapshotFolder) -> None:
        """Remove a snapshot. What its children need of it, they have themselves.

        Raises:
            SnapshotNotFound: it is gone already.
        """
        doomed = self._root / f".rm-{secrets.token_hex(6)}"
        try:
            folder.path.rename(doomed)
        except FileNotFoundError:
            raise SnapshotNotFound(
                f"no snapshot is named {folder.path.name!r}",
                hint="`sandlot snapshot ls` lists them",
            ) from None
        shutil.rmtree(doomed, ignore_errors=True)
