"""What a guest says of a file and the host must not hear: owners, set-user-id bits, devices, and
attributes that mean something to a kernel. It is noted in an extended attribute of the host's file.

    user.sandlot.notes      on the volume's root: there are notes below it
    user.sandlot.note       `1 UID GID MODE HOST RDEV`, octal modes, `-` for what is not noted
    user.sandlot.x.NAME     the guest's attribute NAME of `trusted.` or `security.`

A noted mode counts as long as the host's own is what it was then (HOST): a chmod on the host is seen.
Where the host's file system has no such attributes, and for symbolic links, which cannot have any,
notes are kept in memory and live as long as the program.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, replace
from time import monotonic
from typing import TypedDict, Unpack

from sandlot.filesystem.host import syscalls
from sandlot.filesystem.host.tree import Descriptor, Key, Node, Tree
from sandlot.filesystem.host.writable import writing

PREFIX = "user.sandlot."
MARK = PREFIX + "notes"
NOTE = PREFIX + "note"
KERNEL = PREFIX + "x."
MOST_KEPT = 100_000
"""Notes in memory; a guest that makes more gets ENOSPC."""
MOST_VALUED, MOST_VALUES = 1000, 4 << 20
"""Files that have attributes in memory, and the bytes in all of these."""
NO_ATTRIBUTE: int = getattr(errno, "ENODATA", getattr(errno, "ENOATTR", 61))
_NOWHERE = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EROFS)
_LOOK_AGAIN = 1.0


@dataclass(frozen=True, slots=True)
class Note:
    """What is noted of a file; None is as on the host. `mode` has type bits, and counts while the
    host's is `host`."""

    uid: int | None = None
    gid: int | None = None
    mode: int | None = None
    host: int = 0
    rdev: int = 0

    def encode(self) -> bytes:
        """As the value of an attribute."""
        words = (
            "1", "-" if self.uid is None else str(self.uid),
            "-" if self.gid is None else str(self.gid),
            "-" if self.mode is None else f"{self.mode:o}", f"{self.host:o}", str(self.rdev),
        )  # fmt: skip
        return " ".join(words).encode()


class Changes(TypedDict, total=False):
    """Fields of a note."""

    uid: int | None
    gid: int | None
    mode: int | None
    host: int
    rdev: int


def parse_note(value: bytes) -> Note | None:
    """A note from its bytes, which anybody on the host may have written; None when it is none."""
    words = value.split(b" ")
    if len(words) != 6 or words[0] != b"1" or len(value) > 100:
        return None
    try:
        uid, gid = (None if word == b"-" else int(word) for word in words[1:3])
        mode = None if words[3] == b"-" else int(words[3], 8)
        host, rdev = int(words[4], 8), int(words[5])
    except ValueError:
        return None
    numbers = [number for number in (uid, gid, rdev) if number is not None]
    modes = [number for number in (mode, host) if number is not None]
    if any(not 0 <= n < 1 << 32 for n in numbers) or any(not 0 <= n < 1 << 16 for n in modes):
        return None
    if mode is not None and stat.S_IFMT(mode) not in _TYPES:
        return None
    return Note(uid, gid, mode, host, rdev)


_TYPES = {
    0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR,
    stat.S_IFBLK,
}  # fmt: skip


def is_special(mode: int) -> bool:
    """Whether a mode is that of a FIFO, a socket or a device."""
    return stat.S_IFMT(mode) in (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)


def host_mode(mode: int, *, folder: bool) -> int:
    """The mode that a file gets on the host, whose user is to be able to read it and remove it."""
    return mode & 0o777 | (0o700 if folder else 0o400)


class Notes:
    """The notes of one volume."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._proc = syscalls.has_proc()
        self._stored = self._proc
        """Whether the host's file system keeps them, as far as is known."""
        self._marked = False
        self._look_at = 0.0
        self._kept: dict[Key, Note] = {}
        self._kept_values: dict[Key, dict[str, bytes]] = {}

    def present(self) -> bool:
        """Whether there are any; when not, nothing more is to be asked of any file."""
        now = monotonic()
        # Another program's guest may make the first note at any moment.
        if self._stored and (not self._marked or now >= self._look_at):
            self._look_at = now + _LOOK_AGAIN
            root = self._tree.root.descriptor
            assert root is not None
            try:
                self._marked = bool(os.getxattr(f"{syscalls.PROC}{root.number}", MARK))
            except OSError:
                self._marked = False
        return self._marked or bool(self._kept) or bool(self._kept_values)

    def find(self, node: Node) -> Note | None:
        """What is noted of a node."""
        note = self._kept.get(node.key)
        if note is not None or not self._marked or node.kind == stat.S_IFLNK:
            return note
        try:
            where = self._tree.path_of(node)
            return (
                parse_note(os.getxattr(where[0], NOTE, follow_symlinks=where[1])) if where else None
            )
        except OSError:
            return None

    def found(self, key: Key, folder: int, name: str) -> Note | None:
        """What is noted of a name in an open folder."""
        note = self._kept.get(key)
        if note is not None or not self._marked:
            return note
        try:
            path = f"{syscalls.PROC}{folder}/{name}"
            return parse_note(os.getxattr(path, NOTE, follow_symlinks=False))
        except OSError:
            return None

    def write(self, node: Node, exact: Descriptor, **changes: Unpack[Changes]) -> None:
        """Note something of a node, besides what is noted of it already.

        Raises:
            OSError: the host refuses, or there are too many.
        """
        known = (self.find(node) if self.present() else None) or Note()
        self.set(node, exact, replace(known, **changes))

    def set(self, node: Node, exact: Descriptor, note: Note) -> None:
        """Note this of a node, in place of what was noted."""
        if node.kind == stat.S_IFLNK:
            if node.key in self._kept or len(self._kept) < MOST_KEPT:  # else it is nobody's loss
                self._kept[node.key] = note
            return
        if self._store(exact, NOTE, note.encode(), 0):
            self._kept.pop(node.key, None)
            return
        if node.key not in self._kept and len(self._kept) >= MOST_KEPT:
            raise OSError(errno.ENOSPC, "too many notes for a file system without attributes")
        self._kept[node.key] = note

    def _store(self, exact: Descriptor, name: str, value: bytes, flags: int) -> bool:
        """Write an attribute; False when the host's file system has none."""
        if not self._stored:
            return False
        root = self._tree.root.descriptor
        assert root is not None
        try:
            if not self._marked:
                os.setxattr(f"{syscalls.PROC}{root.number}", MARK, b"1")
                self._marked = True
            writing(exact, lambda path: os.setxattr(path, name, value, flags))
        except OSError as error:
            if error.errno not in _NOWHERE:
                raise
            self._stored = False
            return False
        return True

    def forget(self, key: Key) -> None:
        """An inode is new, or gone: what is kept of its number was another's."""
        if self._kept or self._kept_values:
            self._kept.pop(key, None)
            self._kept_values.pop(key, None)

    # -- the guest's attributes ------------------------------------------------------------

    def value(self, node: Node, name: str) -> bytes:
        """The value of an attribute of the guest's.

        Raises:
            OSError: ENODATA when there is none.
        """
        kept = self._kept_values.get(node.key)
        if kept is not None and name in kept:
            return kept[name]
        if not self._proc:
            raise OSError(NO_ATTRIBUTE, "no such attribute")
        if not name.startswith("user."):
            if not self.present():
                raise OSError(NO_ATTRIBUTE, "no such attribute")
            name = KERNEL + name
        where = self._tree.path_of(node)
        assert where is not None
        return os.getxattr(where[0], name, follow_symlinks=where[1])

    def set_value(self, node: Node, exact: Descriptor, name: str, value: bytes, flags: int) -> None:
        """Set an attribute of the guest's; flags as setxattr(2).

        Raises:
            OSError: EOPNOTSUPP for `user.` where the host has none.
        """
        if name.startswith("user."):
            if not self._proc:
                raise OSError(errno.EOPNOTSUPP, "this host keeps no attributes")
            writing(exact, lambda path: os.setxattr(path, name, value, flags))
            return
        if node.kind != stat.S_IFLNK and self._store(exact, KERNEL + name, value, flags):
            return
        kept = self._kept_values.get(node.key, {})
        if flags & 1 and name in kept:
            raise FileExistsError(errno.EEXIST, "there is such an attribute")
        if flags & 2 and name not in kept:
            raise OSError(NO_ATTRIBUTE, "no such attribute")
        size = sum(len(each) for more in self._kept_values.values() for each in more.values())
        if len(self._kept_values) >= MOST_VALUED or size + len(value) > MOST_VALUES:
            raise OSError(errno.ENOSPC, "too many attributes for a file system without any")
        self._kept_values[node.key] = {**kept, name: value}

    def names(self, node: Node) -> list[str]:
        """The attributes of the guest's that a node has."""
        found = list(self._kept_values.get(node.key, ()))
        where = self._tree.path_of(node)
        if where is None:
            return found
        try:
            names = os.listxattr(where[0], follow_symlinks=where[1])
        except OSError as error:
            if error.errno in _NOWHERE:
                return found
            raise
        for name in names:
            if name.startswith(KERNEL):
                found.append(name.removeprefix(KERNEL))
            elif name.startswith("user.") and not name.startswith(PREFIX):
                found.append(name)
        return found

    def remove_value(self, node: Node, exact: Descriptor, name: str) -> None:
        """Remove one.

        Raises:
            OSError: ENODATA when there is none.
        """
        kept = self._kept_values.get(node.key)
        if kept is not None and name in kept:
            del kept[name]
            if not kept:
                del self._kept_values[node.key]
            return
        if not self._proc or (not name.startswith("user.") and not self.present()):
            raise OSError(NO_ATTRIBUTE, "no such attribute")
        hosts = name if name.startswith("user.") else KERNEL + name
        writing(exact, lambda path: os.removexattr(path, hosts))
