"""What a saved machine's memory is made of.

A folder with `root`, a whole memory file (a template's, or one where a fork began), and `pages-1`,
`pages-2`, ... the pages that each snapshot on the way here changed. `full` is all of it in one
file, which machines map; it can be made anew and so may be removed. Files are hard links: each is
there as long as somebody needs it, whatever happens to the snapshot that it was made for.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from sandlot.engine.accelerator import boot_identity
from sandlot.errors import SnapshotDamaged
from sandlot.snapshot.integrity import marks
from sandlot.snapshot.pages import apply_pages, read_pages
from sandlot.state.records import write_json
from sandlot.state.sparse import copy_sparse, link_or_copy

DEEPEST = 8
"""How many files of pages, or layers of a disk, may lie over each other before they are joined."""


@dataclass(frozen=True)
class MemoryFiles:
    """The memory in one folder."""

    folder: Path

    @property
    def root(self) -> Path:
        """The memory that everything else changes."""
        return self.folder / "root"

    @property
    def full(self) -> Path:
        """All of it, for machines; may be missing."""
        return self.folder / "full"

    @property
    def depth(self) -> int:
        """How many files of pages there are."""
        depth = 0
        while self.pages(depth + 1).exists():
            depth += 1
        return depth

    def pages(self, level: int) -> Path:
        """The changes of one snapshot; levels begin at 1."""
        return self.folder / f"pages-{level}"

    def chain(self) -> list[Path]:
        """The files that everything can be made from, the lowest first."""
        return [self.root, *(self.pages(level) for level in range(1, self.depth + 1))]

    def link_to(self, folder: Path, *, full: bool = True) -> MemoryFiles:
        """The same memory in another folder, which is made."""
        folder.mkdir(exist_ok=True, mode=0o700)
        for path in self.chain():
            link_or_copy(path, folder / path.name)
        if full:
            link_or_copy(self.full, folder / "full")
            with contextlib.suppress(FileNotFoundError):
                link_or_copy(self._seal, folder / self._seal.name)
        return MemoryFiles(folder)

    @classmethod
    def begin(cls, folder: Path, root: Path) -> MemoryFiles:
        """Memory that is one file: nothing was changed yet. What was in the folder is replaced."""
        folder.mkdir(exist_ok=True, mode=0o700)
        for old in folder.iterdir():
            old.unlink()
        link_or_copy(root, folder / "root")
        link_or_copy(root, folder / "full")
        return cls(folder)

    # -- the whole -------------------------------------------------------------------------

    @property
    def _seal(self) -> Path:
        return self.folder / "full.json"

    def seal_full(self) -> None:
        """Write down that `full` is right."""
        write_json(self._seal, {"boot": boot_identity(), "marks": marks([self.full])})

    def full_is_right(self) -> bool:
        """Whether `full` is there and was not changed. It is not trusted over a boot of the host:
        it is not written out with care."""
        try:
            seal = json.loads(self._seal.read_text())
            return bool(seal["boot"] == boot_identity() and seal["marks"] == marks([self.full]))
        except (OSError, ValueError, KeyError, TypeError):
            return False

    @property
    def last_use(self) -> float:
        """When a machine was last given `full`, in seconds since 1970; 0 when nobody knows."""
        with contextlib.suppress(OSError):
            return self._seal.stat().st_mtime
        return 0.0

    def note_use(self) -> None:
        """A machine is given `full` now."""
        with contextlib.suppress(OSError):
            os.utime(self._seal)

    def make_full(self) -> None:
        """Make `full` from the chain. Nobody else may do so at the same time.

        Raises:
            SnapshotDamaged: a file of pages is not whole.
        """
        for left in self.folder.glob(".full*"):
            left.unlink()  # by a program that died
        partial = self.folder / f".full-{os.getpid()}"
        try:
            copy_sparse(self.root, partial)
            descriptor = os.open(partial, os.O_RDWR | os.O_CLOEXEC)
            try:
                size = os.fstat(descriptor).st_size
                for path in self.chain()[1:]:
                    if read_pages(path).memory != size:
                        raise SnapshotDamaged(f"{path} belongs to a machine of another size")
                    apply_pages(path, descriptor)
            finally:
                os.close(descriptor)
            self._seal.unlink(missing_ok=True)
            partial.replace(self.full)
        finally:
            partial.unlink(missing_ok=True)
        self.seal_full()

    def drop_full(self) -> None:
        """Give back the room of `full`. Machines that have mapped it keep it."""
        self._seal.unlink(missing_ok=True)
        self.full.unlink(missing_ok=True)
