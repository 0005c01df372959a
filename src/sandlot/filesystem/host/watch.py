"""Changes that others make on the host: seen by inotify in the folders that a guest has looked into.

The guest's own changes are seen, too. A change is its own when nothing is found but what was last
done by it or told to it: `own_name` and `Node.wrote` say what it did in this round, which is the
time between two readings. What it did not touch in a round was changed by somebody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from struct import Struct
from typing import Any, Literal, Protocol
from weakref import ref

from sandlot.filesystem.host import syscalls
from sandlot.filesystem.host.tree import Key, Node, Tree, stamp_of

Kind = Literal["created", "folder", "deleted", "folder-deleted", "modified", "attributes", "moved"]

PAUSE = 0.02
"""Seconds that changes are gathered for before they are read."""
TELL_EACH = 0.1
MOST_TOLD = 300
"""Changes that are told to callbacks in `TELL_EACH` seconds; more are dropped."""
FORGET_AT_ONCE = 2000
"""Nodes that the guests are told to look at again in one go, when changes were missed."""

_EVENT = Struct("=iIII")
_MODIFY, _ATTRIB, _MOVED_FROM, _MOVED_TO = 0x2, 0x4, 0x40, 0x80
_CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x100, 0x200, 0x400, 0x800
_OVERFLOW, _IGNORED, _IS_FOLDER = 0x4000, 0x8000, 0x40000000
_ONLYDIR, _EXCL_UNLINK = 0x01000000, 0x04000000
_NAMES = _CREATE | _DELETE | _MOVED_FROM | _MOVED_TO
_MASK = _NAMES | _MODIFY | _ATTRIB | _DELETE_SELF | _MOVE_SELF | _ONLYDIR | _EXCL_UNLINK
_READ = 65536


@dataclass(frozen=True, slots=True)
class Change:
    """Something that another program did: `path` and `to` (of `moved`) are from the root on."""

    kind: Kind
    path: str
    to: str = ""


Callback = Callable[[Kind, str, str], object]
"""What is told of a change: its kind, its path and, for `moved`, the new one."""


class Told(Protocol):
    """Who is told: the file system."""

    @property
    def tree(self) -> Tree: ...
    @property
    def callbacks(self) -> list[Callback]: ...
    def changed(self, node: Any, *, data: bool = True) -> None: ...
    def changed_name(self, parent: Any, name: str) -> None: ...


@dataclass(slots=True)
class _Batch:
    """What was read in one go."""

    names: dict[tuple[int, str], int] = field(default_factory=dict)
    """By watch and name: all that happened to it."""
    folders: dict[int, int] = field(default_factory=dict)
    moves: dict[int, list[tuple[int, str] | None]] = field(default_factory=dict)


class Watch:
    """See the module."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fd = syscalls.watch_init() if syscalls.has_proc() else None
        self._folders: dict[int, ref[Node]] = {}
        self._own: dict[tuple[Node, str], Key | None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._telling: asyncio.TimerHandle | None = None
        self._changes: dict[Change, None] = {}
        self._forgetting: list[Node] = []
        self.round = 0
        """Counts the readings."""

    @property
    def works(self) -> bool:
        """Whether this host tells of changes at all."""
        return self._fd is not None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin, in this event loop."""
        if self._fd is None:
            self._fd = syscalls.watch_init() if syscalls.has_proc() else None
        if self._fd is not None and self._loop is None:
            self._loop = loop
            loop.add_reader(self._fd, self._readable)

    def stop(self) -> None:
        """Watch nothing any more."""
        for timer in (self._timer, self._telling):
            if timer is not None:
                timer.cancel()
        self._timer = self._telling = None
        if self._fd is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._fd)
            os.close(self._fd)
        self._fd = self._loop = None
        for node in self._told.tree.nodes():
            node.watch = 0
        self._folders.clear()
        self._own.clear()

    def __del__(self) -> None:
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.close(self._fd)

    def add(self, folder: Node) -> None:
        """Watch a folder, if it can be."""
        if self._loop is None or self._fd is None:
            return
        try:
            descriptor = self._told.tree.folder(folder)
            number = syscalls.watch_add(self._fd, descriptor.number, _MASK)
        except OSError as error:
            if error.errno in (errno.ESTALE, errno.ENOTDIR):
                return
            folder.watch = -1  # there are too many, or it cannot be read
            return
        folder.watch = number
        fd = self._fd

        def gone(_: ref[Node]) -> None:
            # The number is never given again, so that this cannot end another's watch.
            if self._folders.pop(number, None) is not None and self._fd == fd:
                syscalls.watch_remove(fd, number)

        self._folders[number] = ref(folder, gone)

    def own_name(self, parent: Node, name: str, key: Key | None) -> None:
        """The guest made a name in a watched folder be this inode, or nothing."""
        self._own[parent, name] = key

    # -- reading ---------------------------------------------------------------------------

    def _readable(self) -> None:
        assert self._loop is not None and self._fd is not None
        self._loop.remove_reader(self._fd)
        self._timer = self._loop.call_later(PAUSE, self._pause_over)

    def _pause_over(self) -> None:
        self._timer = None
        self.drain()
        if self._loop is not None and self._fd is not None:
            self._loop.add_reader(self._fd, self._readable)

    def drain(self) -> None:
        """Read what has happened, and tell of what others did."""
        batch = _Batch()
        missed = False
        while self._fd is not None:
            try:
                data = os.read(self._fd, _READ)
            except BlockingIOError:
                break
            missed = self._sort(data, batch) or missed
        try:
            if missed:
                self._missed()
            else:
                self._tell(batch)
        finally:
            self._own.clear()
            self.round += 1

    def _sort(self, data: bytes, batch: _Batch) -> bool:
        """Put events by name; whether some were lost."""
        at, end, missed = 0, len(data), False
        names = batch.names
        while at < end:
            watch, mask, cookie, length = _EVENT.unpack_from(data, at)
            at += 16
            if not length:
                if mask & _OVERFLOW:
                    missed = True
                elif mask & _IGNORED:
                    self._ended(watch)
                else:
                    batch.folders[watch] = batch.folders.get(watch, 0) | mask
                continue
            name = os.fsdecode(data[at : at + length].rstrip(b"\0"))
            at += length
            where = (watch, name)
            names[where] = names.get(where, 0) | mask
            if cookie:
                move = batch.moves.setdefault(cookie, [None, None])
                move[0 if mask & _MOVED_FROM else 1] = where
        return missed

    def _ended(self, watch: int) -> None:
        found = self._folders.pop(watch, None)
        folder = found() if found is not None else None
        if folder is not None and folder.watch == watch:
            folder.watch = 0

    def _missed(self) -> None:
        """Changes were lost: the guests are to look at everything again."""
        idle = not self._forgetting
        self._forgetting = self._told.tree.nodes()
        if idle:
            self._forget_some()

    def _forget_some(self) -> None:
        some, self._forgetting = (
            self._forgetting[:FORGET_AT_ONCE], self._forgetting[FORGET_AT_ONCE:]
        )  # fmt: skip
        for node in some:
            self._told.changed(node)
            if node.parent is not None:
                self._told.changed_name(node.parent, node.name)
        if self._forgetting and self._loop is not None:
            self._loop.call_later(PAUSE, self._forget_some)

    # -- telling ---------------------------------------------------------------------------

    def _folder(self, watch: int) -> Node | None:
        found = self._folders.get(watch)
        return found() if found is not None else None

    def _tell(self, batch: _Batch) -> None:
        others: dict[tuple[int, str], bool] = {}
        changed: set[Node] = set()
        for where, mask in batch.names.items():
            folder = self._folder(where[0])
            if folder is not None:
                named, written = self._look(folder, where[1], mask, changed)
                if named or written:
                    others[where] = named
        for folder in changed:
            self._told.changed(folder)
        for watch, mask in batch.folders.items():
            folder = self._folder(watch)
            if folder is None:
                continue
            if mask & (_MOVE_SELF | _DELETE_SELF):
                folder.checked = -1
            if mask & _ATTRIB and folder.parent is None and folder.wrote < self.round:
                self._told.changed(folder, data=False)
        if self._told.callbacks and others:
            self._gather(batch, others)

    def _look(self, folder: Node, name: str, mask: int, changed: set[Node]) -> tuple[bool, bool]:
        """Find out what became of a name, and tell the guests.

        Returns:
            Whether somebody else made or removed the name, and whether they changed what it is.
        """
        tree = self._told.tree
        try:
            at = tree.folder(folder)
            st = os.stat(name, dir_fd=at.number, follow_symlinks=False)
        except OSError:
            st = None
        key = (st.st_dev, st.st_ino) if st is not None else None
        foreign = False
        if mask & _NAMES and self._own.get((folder, name), False) != key:
            self._told.changed_name(folder, name)
            changed.add(folder)
            foreign = True
        if st is None or key is None or not mask & (_MODIFY | _ATTRIB):
            return foreign, False
        node = tree.find(key)
        if node is None:  # the guest does not know it
            return foreign, not mask & _NAMES
        if node.busy:
            return foreign, False
        stamp = stamp_of(st)
        if node.wrote >= self.round and (node.stamp is None or node.stamp == stamp):
            if node.stamp is None and stat.S_ISDIR(node.kind):
                # The guest changed what is in it, and somebody may have changed its mode as well.
                self._told.changed(node, data=False)
            return foreign, False
        same = node.stamp is not None and node.stamp[::2] == stamp[::2]
        node.stamp = stamp
        self._told.changed(node, data=bool(mask & _MODIFY) or not same or stat.S_ISDIR(node.kind))
        return foreign, True

    def _gather(self, batch: _Batch, others: dict[tuple[int, str], bool]) -> None:
        """Put together what callbacks are told: `others` says whether the name is another's doing."""
        moved: set[tuple[int, str]] = set()
        for old, new in batch.moves.values():
            if old is not None and new is not None and others.get(old) and others.get(new):
                moved |= {old, new}
                self._change("moved", self._path(old), self._path(new))
        for where, mask in batch.names.items():
            if where not in others:
                continue
            path = self._path(where)
            if others[where] and where not in moved:
                if mask & (_DELETE | _MOVED_FROM):
                    self._change("folder-deleted" if mask & _IS_FOLDER else "deleted", path)
                if mask & (_CREATE | _MOVED_TO):
                    self._change("folder" if mask & _IS_FOLDER else "created", path)
            if mask & _MODIFY:
                self._change("modified", path)
            elif mask & _ATTRIB and not (others[where] and mask & _NAMES):
                self._change("attributes", path)

    def _path(self, where: tuple[int, str]) -> str:
        folder = self._folder(where[0])
        return self._told.tree.path(folder, where[1]) if folder is not None else where[1]

    def _change(self, kind: Kind, path: str, to: str = "") -> None:
        if len(self._changes) >= MOST_TOLD or self._loop is None:
            return
        self._changes[Change(kind, path, to)] = None
        if self._telling is None:
            self._telling = self._loop.call_later(0, self._tell_callbacks)

    def _tell_callbacks(self) -> None:
        changes, self._changes = self._changes, {}
        self._telling = None
        if changes and self._loop is not None:
            self._telling = self._loop.call_later(TELL_EACH, self._tell_callbacks)
        self._call(changes)

    def _call(self, changes: Iterable[Change]) -> None:
        for change in changes:
            for callback in list(self._told.callbacks):
                try:
                    callback(change.kind, change.path, change.to)
                except Exception as error:
                    if self._loop is None:
                        raise
                    self._loop.call_exception_handler(
                        {"message": "a callback for changes on the host failed", "exception": error}
                    )
