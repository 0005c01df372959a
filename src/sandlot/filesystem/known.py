"""What the guest of one mount knows: nodes and open files by its numbers, and who holds locks.

What it can make the host keep is bounded: `MOST_NODES` nodes, `MOST_FILES` open files, and of those
`MOST_FOLDERS` folders with up to `listing.REMEMBERED` names each, and `MOST_LOCKS` ranges that are
locked.
"""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandlot.filesystem.fuse import opcodes, replies
from sandlot.filesystem.listing import Listing
from sandlot.filesystem.locks import with_lock
from sandlot.filesystem.types import NO_LOCK, WHOLE_FILE, Attr, Context, Entry, Lock

if TYPE_CHECKING:
    from sandlot.filesystem.base import FileSystem

MOST_NODES = 2_000_000
MOST_FILES = 65536
MOST_FOLDERS = 4096
MOST_LOCKS = 65536

log = logging.getLogger("sandlot.filesystem")

ECHO = object()
"""The handle of a file that the agent has open for a nudge (echoes.py)."""


@dataclass(slots=True)
class OpenFile:
    """A file that the guest has open."""

    number: int
    node: Any
    handle: Any
    flags: int
    listing: Listing | None = None
    owners: set[int] = field(default_factory=set)
    """Who has locked by it: those of the open file itself end with it, unasked."""
    whole: Lock | None = None
    """Its lock of flock(2)."""


class Known:
    """The numbers of one mount."""

    def __init__(self, fs: FileSystem, sandbox: str, path: str) -> None:
        self.fs = fs
        self.sandbox = sandbox
        self.path = path
        self.files: dict[int, OpenFile] = {}
        self.unopened = False
        """Whether its kernel lists folders without opening them."""
        self.plus = False
        """Whether listings tell nodes along with the names."""
        self._nodes: dict[int, Any] = {opcodes.ROOT: fs.root}
        self._numbers: dict[Any, int] = {fs.root: opcodes.ROOT}
        self._told: dict[int, int] = {}
        self._next = opcodes.ROOT + 1
        self._next_file = 1
        self._locked: dict[int, dict[int, list[Lock]]] = {}
        self._locks = 0
        self._context = Context(0, 0, 0, sandbox, path)

    # -- nodes -----------------------------------------------------------------------------

    def node(self, number: int) -> Any:
        """The node that the guest calls by a number.

        Raises:
            OSError: it was never told it, or has forgotten it, or it is no more (ESTALE).
        """
        node = self._nodes.get(number)
        if node is None:
            raise OSError(errno.ESTALE, "no such node")
        return node

    def number(self, node: Any) -> int:
        """The number of a node that was told."""
        return self._numbers[node]

    def count(self, entry: Entry) -> int:
        """The number of a node that is being told to the guest.

        Raises:
            OSError: the guest knows too many (ENFILE).
        """
        node = entry.node
        number = self._numbers.get(node)
        if number is None:
            if len(self._nodes) >= MOST_NODES:
                raise OSError(errno.ENFILE, "the guest knows too many files")
            number = self._next
            self._next += 1
            self._nodes[number] = node
            self._numbers[node] = number
            self._told[number] = 1
        elif number != opcodes.ROOT:
            self._told[number] += 1
        if not entry.attr.ino:
            entry.attr.ino = number
        if self.fs.cache == "none":
            entry.entry_timeout = entry.attr_timeout = 0.0
        return number

    def told(self, entry: Entry) -> bytes:
        """The answer that tells a node."""
        return replies.entry_body(self.count(entry), entry)

    @property
    def crowded(self) -> bool:
        """Whether listings should not tell nodes along with the names."""
        return len(self._nodes) >= MOST_NODES // 2

    def numbered(self, number: int, attr: Attr) -> Attr:
        """With an inode number, also from a file system that gives none."""
        if not attr.ino:
            attr.ino = number
        return attr

    def attr_timeout(self, node: Any) -> float:
        """For how many seconds the guest may rely on what a node is."""
        if self.fs.cache == "none":
            return 0.0
        return self.fs.attr_timeout(node)

    def forget(self, number: int, times: int) -> None:
        told = self._told.get(number)
        if told is None:
            return  # a number that it never got
        if told > times:
            self._told[number] = told - times
            return
        del self._told[number]
        node = self._nodes.pop(number)
        if self._numbers.get(node) == number:
            del self._numbers[node]

    # -- open files and locks --------------------------------------------------------------

    def refuse_too_many(self, *, folder: bool = False) -> None:
        """Refuse to open another file, or folder, whose listing is kept in part.

        Raises:
            OSError: the guest has too many open (ENFILE).
        """
        full = len(self.files) >= MOST_FILES
        if folder and not full and len(self.files) >= MOST_FOLDERS:
            listed = sum(file.listing is not None for file in self.files.values())
            full = listed >= MOST_FOLDERS
        if full:
            raise OSError(errno.ENFILE, "the guest has too many files open")

    def opened(self, number: int, node: Any, handle: Any, flags: int) -> int:
        """The number of a file that was opened, of a node that may be forgotten meanwhile."""
        file = self._next_file
        self._next_file += 1
        self.files[file] = OpenFile(number, node, handle, flags)
        return file

    def file(self, handle: int, *, folder: bool = False) -> OpenFile:
        """An open file, or an open folder, by its number.

        Raises:
            OSError: it is not, or it is in this volume no more (EIO), or it is the other (EBADF).
        """
        file = self.files.get(handle)
        if file is None or file.node is None:
            raise OSError(errno.EIO, "what was open is not in this volume")
        if (file.listing is not None) != folder:
            raise OSError(errno.EBADF, "it is open, but as something else")
        return file

    def handle_of(self, handle: int, number: int) -> Any:
        """What a file system calls an open file, where it is one of this node; else None."""
        file = self.files.get(handle)
        same = file is not None and file.number == number and file.listing is None
        return file.handle if same and file is not None else None

    def refuse_too_many_locks(self, lock: Lock) -> None:
        """Refuse another lock.

        Raises:
            OSError: the guest has too many (ENOLCK).
        """
        if lock.kind != NO_LOCK and self._locks >= MOST_LOCKS:
            raise OSError(errno.ENOLCK, "the guest has too many locks")

    def locked(self, file: OpenFile, lock: Lock) -> None:
        """Remember who holds which locks on a node, to let go of them when it closes it."""
        if lock.whole:
            file.whole = lock if lock.kind != NO_LOCK else None
            return
        owners = self._locked.setdefault(file.number, {})
        before = owners.get(lock.owner, [])
        after = with_lock(before, lock)
        self._locks += len(after) - len(before)
        if after:
            owners[lock.owner] = after
            file.owners.add(lock.owner)
            return
        owners.pop(lock.owner, None)
        if not owners:
            del self._locked[file.number]

    async def unlock(self, ctx: Context, file: OpenFile, owner: int) -> None:
        """Let go of what a process that closes a file had locked in it."""
        owners = self._locked.get(file.number)
        if owners is None or owner not in owners:
            return
        free = Lock(0, WHOLE_FILE, NO_LOCK, owner)
        self.locked(file, free)
        await self.fs.setlk(ctx, file.node, file.handle, free, False)

    # -- snapshots -------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        """What the guest knows of it, as JSON, for a machine that is saved now."""
        numbers = [
            number for number, node in self._nodes.items()
            if number != opcodes.ROOT and node is not None  # one that is gone stays unknown
        ]  # fmt: skip
        nodes = [self._nodes[number] for number in numbers]
        files = [
            (key, file) for key, file in self.files.items()
            if file.node is not None and file.handle is not ECHO
        ]  # fmt: skip
        handles = [(file.node, file.handle, file.flags) for _, file in files]
        return {
            "kind": type(self.fs).__name__, "next": self._next, "next_file": self._next_file,
            "plus": self.plus, "unopened": self.unopened,
            "nodes": [[number, self._told[number]] for number in numbers],
            "files": [
                [key, file.number, file.flags, file.listing is not None] for key, file in files
            ],
            "locks": [
                [number, owner, [[each.start, each.end, each.kind, each.pid] for each in ranges]]
                for number, owners in self._locked.items() for owner, ranges in owners.items()
            ],
            "flocks": [
                [key, file.whole.kind, file.whole.owner, file.whole.pid]
                for key, file in files if file.whole is not None
            ],
            "owners": [[key, sorted(file.owners)] for key, file in files if file.owners],
            "fs": self.fs.save(nodes, handles),
        }  # fmt: skip

    async def recall(self, saved: dict[str, Any] | None) -> None:
        """Go on with what a guest knows that was saved. What is no more gets ESTALE, and EIO where
        it was open. With None nothing of it is known here."""
        if saved is None:
            # Numbers that the guest knows must not come to stand for something else.
            self._next = self._next_file = 1 << 40 | int.from_bytes(os.urandom(4)) << 8
            self.plus = True
            return
        known = saved["nodes"]
        nodes, handles = await self.fs.recall(saved["fs"], len(known), len(saved["files"]))
        for (number, told), node in zip(known, nodes, strict=True):
            self._told[number] = told
            self._nodes[number] = node
            if node is not None:
                self._numbers.setdefault(node, number)
        for (key, number, flags, folder), handle in zip(saved["files"], handles, strict=True):
            node = self._nodes.get(number) if handle is not None else None
            file = self.files[key] = OpenFile(number, node, handle, flags)
            if folder and node is not None:
                file.listing = self.listing(file)
        self._next, self._next_file = saved["next"], saved["next_file"]
        self.plus = saved["plus"]
        self.unopened = saved.get("unopened", False)
        await self._take_locks_again(saved)

    async def _take_locks_again(self, saved: dict[str, Any]) -> None:
        """What is locked by somebody else now, as by the machine that was saved, is lost: who had it
        open gets EIO, lest it writes without its lock."""
        for key, owners in saved.get("owners", ()):
            self.files[key].owners.update(owners)
        wanted = []
        for number, owner, ranges in saved.get("locks", ()):
            having = [file for file in self.files.values() if file.number == number]
            mine = [file for file in having if owner in file.owners]
            locks = [Lock(start, end, kind, owner, pid) for start, end, kind, pid in ranges]
            wanted.append((mine or having, locks))
        for key, kind, owner, pid in saved.get("flocks", ()):
            wanted.append(([self.files[key]], [Lock(0, WHOLE_FILE, kind, owner, pid, whole=True)]))
        for files, locks in wanted:
            there = [file for file in files if file.node is not None]
            try:
                for lock in locks if there else ():
                    file = there[0]
                    await self.fs.setlk(self._context, file.node, file.handle, lock, False)
                    self.locked(file, lock)
            except OSError:
                log.warning(
                    "%s of sandbox %s: a lock was not had again; its file is not open any more",
                    self.path, self.sandbox,
                )  # fmt: skip
                for file in there:
                    node, file.node = file.node, None
                    await self.fs.release(self._context, node, file.handle)
                    file.handle = None

    def listing(self, file: OpenFile) -> Listing:
        """A reading of an open folder."""

        async def begin() -> Any:
            method = self.fs.readdirplus if self.plus else self.fs.readdir
            return await method(self._context, file.node, file.handle)

        return Listing(begin)
