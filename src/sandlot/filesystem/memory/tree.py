"""Nodes in memory and the folders that name them: what rename, link and unlink do. Pure.

The guest's kernel checks most of this before it asks. It is checked again here, because nothing that
a guest asks for may bend the tree: a folder below itself, a name in a folder that is no more.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from sandlot.filesystem.locks import Owner
from sandlot.filesystem.memory.contents import Contents
from sandlot.filesystem.memory.room import PAGE, Names, Room
from sandlot.filesystem.types import Attr

MOST_LINKS = 65000  # as ext4
DEEPEST = 100_000
"""Folders above one another that are walked to see whether one lies within another."""
MOST_PARTS = 4096
MOST_NAMES = 65536
"""Bytes of the names of a node's attributes: Linux's XATTR_LIST_MAX."""
NOREPLACE, EXCHANGE = 1, 2


def error(number: int, name: str = "") -> OSError:
    """An OSError by its number."""
    return OSError(number, os.strerror(number), name)


class Node:
    """A file, folder, link or device. Which it is says `mode`; one of `contents`, `entries` and
    `target` is set by that."""

    __slots__ = (
        "__weakref__", "atime", "contents", "ctime", "entries", "extra", "gid", "ino", "listed",
        "mode", "mtime", "name", "nlink", "parent", "rdev", "room", "target", "uid", "xattrs",
    )  # fmt: skip

    def __init__(self, room: Room, ino: int, mode: int, uid: int, gid: int) -> None:
        self.extra = 0  # bytes counted for it besides its contents
        self.room: Room | None = None  # until it is counted
        room.take_node()
        self.room = room
        self.ino = ino
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.nlink = 0
        self.rdev = 0
        self.atime = self.mtime = self.ctime = time.time_ns()
        self.contents: Contents | None = None
        self.entries: dict[str, Node] | None = None
        self.target: str | None = None
        self.parent: Node | None = None  # of a file with several names that of one
        self.name = ""
        self.listed: Names | None = None
        self.xattrs: dict[str, bytes] | None = None
        kind = mode & 0o170000
        if kind == stat.S_IFREG:
            self.contents = Contents(room)
        elif kind == stat.S_IFDIR:
            self.entries = {}

    def __del__(self) -> None:
        if self.room is not None:
            self.room.nodes -= 1
            self.room.used -= self.extra

    def attr(self) -> Attr:
        """What it is."""
        contents = self.contents
        if contents is not None:
            size, blocks = contents.size, contents.pages * (PAGE // 512)
        elif self.entries is not None:
            size, blocks = 20 * len(self.entries), 0
        else:
            size, blocks = len(os.fsencode(self.target or "")), 0
        return Attr(
            self.mode, self.ino, size, self.nlink, self.uid, self.gid, self.rdev, self.atime,
            self.mtime, self.ctime, blocks, PAGE,
        )  # fmt: skip

    def folder(self) -> dict[str, Node]:
        """The names in it.

        Raises:
            OSError: it is no folder, or was removed.
        """
        if self.entries is None:
            raise error(errno.ENOTDIR)
        return self.entries

    def names(self) -> Names:
        """The names in it at this moment; shared by all who ask until they change."""
        if self.listed is None:
            assert self.room is not None
            self.listed = Names(self.folder(), self.room)
        return self.listed

    def touch(self) -> None:
        """It was changed: its data and so its state."""
        self.mtime = self.ctime = time.time_ns()

    def charge(self, size: int) -> None:
        """Count bytes that it takes besides its contents; negative gives back."""
        assert self.room is not None
        self.room.take(size)
        self.extra += size


class OpenFile:
    """An open file: the flags of open(2), and who locks the whole of it."""

    __slots__ = ("flags", "locked")

    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.locked: Owner | None = None


def check_open(parent: Node, name: str) -> dict[str, Node]:
    """The names of a folder that is to get one more.

    Raises:
        OSError: it has it already, or is no folder or no more one.
    """
    entries = parent.folder()
    if name in entries:
        raise error(errno.EEXIST, name)
    if not parent.nlink:
        raise error(errno.ENOENT, name)
    if len(os.fsencode(name)) > 255:
        raise error(errno.ENAMETOOLONG, name)
    return entries


def add(parent: Node, name: str, node: Node) -> None:
    """Give a node a name that `check_open` let pass."""
    entries = parent.folder()
    entries[name] = node
    parent.listed = None
    node.parent, node.name = parent, name
    if node.entries is not None:
        node.nlink = 2
        parent.nlink += 1
    else:
        node.nlink += 1
    parent.touch()


def found(parent: Node, name: str) -> Node:
    """The node of a name.

    Raises:
        FileNotFoundError: there is none.
    """
    node = parent.folder().get(name)
    if node is None:
        raise error(errno.ENOENT, name)
    return node


def link(node: Node, parent: Node, name: str) -> None:
    """One more name of a file. It counts as a node, so that names are bounded as well."""
    if node.entries is not None:
        raise error(errno.EPERM, name)
    if not node.nlink:
        raise error(errno.ENOENT, name)
    if node.nlink >= MOST_LINKS:
        raise error(errno.EMLINK, name)
    check_open(parent, name)
    assert node.room is not None
    node.room.take_node()
    add(parent, name, node)
    node.ctime = parent.ctime


def remove(parent: Node, name: str, *, folder: bool) -> Node:
    """Take a name away: of an empty folder, or of anything else."""
    node = found(parent, name)
    if folder:
        if node.entries is None:
            raise error(errno.ENOTDIR, name)
        if node.entries:
            raise error(errno.ENOTEMPTY, name)
    elif node.entries is not None:
        raise error(errno.EISDIR, name)
    _drop(parent, name, node)
    parent.touch()
    return node


def _drop(parent: Node, name: str, node: Node) -> None:
    del parent.folder()[name]
    parent.listed = None
    if node.entries is not None:
        node.nlink = 0
        node.parent = None
        parent.nlink -= 1
    else:
        node.nlink -= 1
        if node.parent is parent and node.name == name:
            node.parent = None
        if node.nlink:
            assert node.room is not None
            node.room.nodes -= 1  # the name that was counted as a node
    node.ctime = time.time_ns()


def path(node: Node) -> str:
    """Where a node is found below the root, empty for the root; of several names one."""
    parts: list[str] = []
    here: Node | None = node
    while here is not None and here.name and len(parts) < MOST_PARTS:
        parts.append(here.name)
        here = here.parent
    return "/".join(reversed(parts))


def within(folder: Node, other: Node) -> bool:
    """Whether a folder is another one or lies in it."""
    here: Node | None = folder
    for _ in range(DEEPEST):
        if here is other:
            return True
        if here is None:
            return False
        here = here.parent
    raise error(errno.ELOOP)


def rename(
    parent: Node, name: str, new_parent: Node, new_name: str, flags: int
) -> tuple[Node, Node | None]:
    """Move a name; the node that had it, and the one whose name was taken or exchanged."""
    node = found(parent, name)
    entries = new_parent.folder()
    other = entries.get(new_name)
    if flags & ~(NOREPLACE | EXCHANGE) or flags == NOREPLACE | EXCHANGE:
        raise error(errno.EINVAL, name)
    if not new_parent.nlink:
        raise error(errno.ENOENT, new_name)
    if len(os.fsencode(new_name)) > 255:
        raise error(errno.ENAMETOOLONG, new_name)
    # In the order in which Linux looks (fs/namei.c, do_renameat2).
    if other is None and flags == EXCHANGE:
        raise error(errno.ENOENT, new_name)
    if other is not None and flags == NOREPLACE:
        raise error(errno.EEXIST, new_name)
    if node.entries is not None and parent is not new_parent and within(new_parent, node):
        raise error(errno.EINVAL, name)
    if flags != EXCHANGE and other is not None and within(parent, other):
        raise error(errno.ENOTEMPTY, new_name)
    if flags == EXCHANGE:
        return node, _exchange(parent, name, new_parent, new_name)
    if other is not None:
        if other is node:
            return node, None
        if node.entries is not None:
            if other.entries is None:
                raise error(errno.ENOTDIR, new_name)
        elif other.entries is not None:
            raise error(errno.EISDIR, new_name)
        if other.entries:
            raise error(errno.ENOTEMPTY, new_name)
        _drop(new_parent, new_name, other)
    del parent.folder()[name]
    entries[new_name] = node
    parent.listed = new_parent.listed = None
    if node.entries is not None:
        parent.nlink -= 1
        new_parent.nlink += 1
    node.parent, node.name = new_parent, new_name
    parent.touch()
    new_parent.touch()
    node.ctime = parent.ctime
    return node, other


def _exchange(parent: Node, name: str, new_parent: Node, new_name: str) -> Node:
    node, other = found(parent, name), found(new_parent, new_name)
    if other.entries is not None and parent is not new_parent and within(parent, other):
        raise error(errno.EINVAL, new_name)
    parent.folder()[name], new_parent.folder()[new_name] = other, node
    parent.listed = new_parent.listed = None
    moves = ((node, parent, new_parent, new_name), (other, new_parent, parent, name))
    for moved, old, new, called in moves:
        moved.parent, moved.name = new, called
        if moved.entries is not None:
            old.nlink -= 1
            new.nlink += 1
    parent.touch()
    new_parent.touch()
    node.ctime = other.ctime = parent.ctime
    return other


def set_xattr(node: Node, name: str, value: bytes, flags: int) -> None:
    """Set an extended attribute, as setxattr(2)."""
    xattrs = node.xattrs if node.xattrs is not None else {}
    old = xattrs.get(name)
    if flags & 1 and old is not None:
        raise error(errno.EEXIST, name)
    if flags & 2 and old is None:
        raise error(errno.ENODATA, name)
    if old is None and sum(map(len, xattrs)) + len(name) > MOST_NAMES // 4:
        raise error(errno.ENOSPC, name)
    before = len(old) if old is not None else -len(os.fsencode(name))
    node.charge(len(value) - before)
    xattrs[name] = bytes(value)
    node.xattrs = xattrs
    node.ctime = time.time_ns()
