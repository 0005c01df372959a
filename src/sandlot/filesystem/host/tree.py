"""Nodes of a host folder, and how each is reached: by descriptors of folders and single names.

A node is an inode, known by (device, number). It remembers under which name in which folder it was
last seen, and what is there is compared with it each time: another inode is ESTALE, upon which the
guest's kernel looks the names up again. Folders have descriptors, a bounded number of them; they are
compared with what their names lead to once a second, so that a folder which the host moves out of
the volume is soon reached no more.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import ClassVar
from weakref import WeakValueDictionary, ref

from sandlot.filesystem.host import syscalls
from sandlot.filesystem.host.syscalls import O_PATH
from sandlot.filesystem.types import Attr

Key = tuple[int, int]
Stamp = tuple[int, int, int]
"""By which a change of a file is seen: its mtime, ctime and size."""

MOST_NAMES = 256
"""Names that are remembered of one file with hard links, besides the last that was seen."""
_LONGEST = 3840  # bytes of a path for one system call
_FOLDER = O_PATH | os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What names an inode exactly: O_SYMLINK (macOS) opens a symbolic link itself.
_SYMLINK: int = getattr(os, "O_SYMLINK", 0)
_EXACT = O_PATH | os.O_CLOEXEC | (os.O_NOFOLLOW if O_PATH or not _SYMLINK else _SYMLINK)


class Descriptor:
    """A descriptor that is closed when nothing needs it any more, a thread's call included.

    Raises:
        OSError: it is one of the last that this program can have, which are not for guests (ENFILE).
    """

    __slots__ = ("number",)
    most: ClassVar[int] = 1 << 30
    """The first of those that are kept back (place.py)."""

    def __init__(self, number: int) -> None:
        self.number = number
        if number >= Descriptor.most:
            os.close(number)
            self.number = -1
            raise OSError(errno.ENFILE, "this program has too many files open")

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if self.number >= 0:
            with contextlib.suppress(OSError):
                close(self.number)


class Node:
    """An inode of the volume."""

    __slots__ = (
        "__weakref__", "busy", "cached", "checked", "descriptor", "files", "ghost", "gid", "gone",
        "key",
        "kind", "links", "mode", "name", "others", "parent", "stamp", "watch", "wrote",
    )  # fmt: skip

    def __init__(self, key: Key, kind: int, parent: Node | None, name: str) -> None:
        self.key = key
        self.kind = kind
        """Its type on the host, as in `st_mode`."""
        self.parent = parent
        self.name = name
        self.others: list[tuple[Node, str]] | None = None
        """More names of it that the guest may know."""
        self.descriptor: Descriptor | None = None
        self.checked = -1
        """In which second the descriptor was last compared with the name."""
        self.files: list[Descriptor] = []
        """Descriptors of those that have it open, which are it whatever its name is."""
        self.gone = False
        self.ghost: Attr | None = None
        """What it was when its last name was removed, for those who still have it but not open."""
        self.links = 1
        self.mode = 0
        self.gid = 0
        self.stamp: Stamp | None = None
        """What was last told to the guest, or done by it."""
        self.cached = False
        """Whether the guest may have contents of it."""
        self.watch = 0
        """The number of the watch on a folder, 0 for none yet, -1 where there can be none."""
        self.wrote = -1
        """In which round of the watch the guest last changed it."""
        self.busy = 0
        """Changes by the guest that are under way in threads."""

    def __repr__(self) -> str:
        return f"<Node {self.name!r} {self.key}>"


def stale(node: Node) -> OSError:
    """A node is not any more where it was."""
    return OSError(errno.ESTALE, os.strerror(errno.ESTALE), node.name)


def stamp_of(st: os.stat_result) -> Stamp:
    """By what a change is seen."""
    return st.st_mtime_ns, st.st_ctime_ns, st.st_size


class Tree:
    """The nodes below one root. Methods may be called in threads, too."""

    def __init__(self, root: Descriptor, *, reopen: tuple[Descriptor, str], folders: int) -> None:
        """`reopen` is the folder and the name where the root was found; `folders` is how many
        descriptors of folders may be open."""
        st = os.fstat(root.number)
        self.root = Node((st.st_dev, st.st_ino), stat.S_IFMT(st.st_mode), None, "")
        self.root.descriptor = root
        self.device = st.st_dev
        self.hidden: frozenset[Key] = frozenset()
        """What the guest must not see, such as Sandlot's own state."""
        self._reopen = reopen
        self._most = folders
        self._lock = threading.Lock()
        self._nodes: WeakValueDictionary[Key, Node] = WeakValueDictionary()
        self._nodes[self.root.key] = self.root
        self._folders: OrderedDict[Key, ref[Node]] = OrderedDict()
        self._devices: dict[int, int] = {self.device: 0}
        self._proc = syscalls.has_proc()

    # -- the table -------------------------------------------------------------------------

    def find(self, key: Key) -> Node | None:
        """The node of an inode, if it is known."""
        return self._nodes.get(key)

    def nodes(self) -> list[Node]:
        """All that are known."""
        return list(self._nodes.values())

    def known(self, st: os.stat_result, parent: Node, name: str) -> Node:
        """The node of what was found under a name.

        Raises:
            OSError: the guest must not see it, or it is a folder above itself.
        """
        key = (st.st_dev, st.st_ino)
        node = self._nodes.get(key)
        if node is not None and node.kind == st.st_mode & 0o170000 and not node.gone:
            if node.name != name or node.parent is not parent:
                self.place(node, parent, name, links=st.st_nlink)
            return node
        if key in self.hidden:
            raise PermissionError(errno.EACCES, "not part of the volume", name)
        with self._lock:
            again = self._nodes.get(key)
            if again is not None and again is not node:
                return again
            node = Node(key, stat.S_IFMT(st.st_mode), parent, name)
            self._nodes[key] = node
        return node

    def references(self) -> list[ref[Node]]:
        """The same, without keeping them: cheap for a million."""
        return list(self._nodes.valuerefs())

    def place(self, node: Node, parent: Node, name: str, *, links: int = 1) -> None:
        """A node is under this name now.

        Raises:
            OSError: it would be inside itself (the host moves folders about; look again).
        """
        if node.parent is None:
            raise OSError(errno.ELOOP, "the root of the volume is inside itself", name)
        if node.kind == stat.S_IFDIR:
            above: Node | None = parent
            while above is not None:
                if above is node:
                    parent.checked = -1
                    raise stale(parent)
                above = above.parent
            node.checked = -1
        elif links > 1:
            others = node.others or []
            here = (parent, name)
            others = [other for other in others if other != here][-MOST_NAMES:]
            others.append((node.parent, node.name))
            node.others = others
        else:
            node.others = None
        node.parent, node.name = parent, name

    def removed(self, node: Node, parent: Node, name: str, *, last: bool) -> None:
        """A name of a node is gone; `last` when it has no other."""
        if last:
            node.gone = True
            self._nodes.pop(node.key, None)
            return
        if node.others:
            node.others = [other for other in node.others if other != (parent, name)]
        if node.parent is parent and node.name == name and node.others:
            node.parent, node.name = node.others.pop()

    def number(self, st: os.stat_result) -> int:
        """The number of an inode for the guest, which sees one device only."""
        if st.st_dev == self.device:
            return st.st_ino
        with self._lock:
            which = self._devices.setdefault(st.st_dev, len(self._devices))
        return (st.st_ino ^ (which << 48)) & 0xFFFFFFFFFFFFFFFF

    def path(self, node: Node, name: str = "") -> str:
        """Where a node was last seen, from the root on."""
        names = [name] if name else []
        here: Node | None = node
        while here is not None and here.parent is not None:
            names.append(here.name)
            here = here.parent
        return "/".join(reversed(names))

    # -- folders ---------------------------------------------------------------------------

    def folder(self, node: Node) -> Descriptor:
        """The descriptor of a folder, for calls with single names.

        Raises:
            OSError: it is no folder (ENOTDIR), or is not where it was (ESTALE).
        """
        descriptor = node.descriptor
        if descriptor is not None and node.checked == int(monotonic()):
            return descriptor
        return self._reach(node)

    def _reach(self, node: Node) -> Descriptor:
        if node.kind != stat.S_IFDIR:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), node.name)
        root = self.root.descriptor
        assert root is not None
        if node.parent is None:
            return root
        if node.gone:  # removed by the guest, which may still be in it
            if node.descriptor is None:
                raise stale(node)
            return node.descriptor
        second = int(monotonic())
        chain, start = [node], root
        above: Node | None = node.parent
        while above is not None and above.parent is not None:
            if above.checked == second and above.descriptor is not None:
                start = above.descriptor
                break
            chain.append(above)
            above = above.parent
        chain.reverse()
        try:
            found = self._walk(start, chain)
        except OSError as error:
            node.descriptor, node.checked = None, -1
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EIO, errno.ENOMEM):
                raise
            raise stale(node) from None
        if node.descriptor is None:
            node.descriptor = found
        node.checked = second
        self._used(node)
        return node.descriptor

    def _walk(self, start: Descriptor, chain: list[Node]) -> Descriptor:
        """From an open folder down the names of nodes, as long as each still is that node."""
        here = start
        last = chain[-1]
        at = 0
        while at < len(chain):
            if len(chain) - at > 1:
                end, path = at + 1, chain[at].name
                while end < len(chain) and len(path) + len(chain[end].name) < _LONGEST // 4:
                    path += "/" + chain[end].name
                    end += 1
                number = syscalls.open_beneath(here.number, path, _FOLDER)
                if number is not None:
                    here = self._same(number, chain[end - 1])
                    at = end
                    continue
            node = chain[at]
            if node is last and node.descriptor is not None:
                st = os.stat(node.name, dir_fd=here.number, follow_symlinks=False)
                if (st.st_dev, st.st_ino) != node.key:
                    raise stale(node)
                return node.descriptor
            here = self._same(os.open(node.name, _FOLDER, dir_fd=here.number), node)
            at += 1
        return here

    def _same(self, number: int, node: Node) -> Descriptor:
        descriptor = Descriptor(number)
        st = os.fstat(number)
        if (st.st_dev, st.st_ino) != node.key:
            raise stale(node)
        return descriptor

    def _used(self, node: Node) -> None:
        """It is the folder that was used last; one that was not used for long is closed."""
        with self._lock:
            self._folders[node.key] = ref(node)
            self._folders.move_to_end(node.key)
            while len(self._folders) > self._most:
                _, old = self._folders.popitem(last=False)
                other = old()
                if other is not None and not other.gone:
                    other.descriptor = None

    def open_folders(self) -> int:
        """How many folders have a descriptor, the root not counted."""
        return sum(node.descriptor is not None for node in self.nodes() if node.parent is not None)

    # -- inodes ----------------------------------------------------------------------------

    def stat(self, node: Node) -> os.stat_result:
        """What a node is on the host.

        Raises:
            OSError: it is not where it was (ESTALE).
        """
        if node.files:
            held = node.files[-1]
            return os.fstat(held.number)
        descriptor = node.descriptor
        if descriptor is not None and (node.checked == int(monotonic()) or node.parent is None):
            return os.fstat(descriptor.number)
        if node.gone:
            if descriptor is None:
                raise stale(node)
            return os.fstat(descriptor.number)
        while True:
            assert node.parent is not None
            try:
                folder = self.folder(node.parent)
                st = os.stat(node.name, dir_fd=folder.number, follow_symlinks=False)
                if (st.st_dev, st.st_ino) == node.key:
                    return st
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ESTALE, errno.ENOTDIR):
                    raise
            self._other_name(node)

    def _other_name(self, node: Node) -> None:
        """Go on with another name of a node, the one at hand being wrong."""
        if not node.others:
            raise stale(node) from None
        node.parent, node.name = node.others.pop()

    def exact(self, node: Node) -> Descriptor:
        """A descriptor of the very inode, for calls that take one; it can read and write nothing.

        Raises:
            OSError: it is not where it was (ESTALE).
        """
        if node.files:
            return node.files[-1]
        if node.kind == stat.S_IFDIR:
            return self.folder(node)
        if node.parent is None:
            assert node.descriptor is not None
            return node.descriptor
        if node.gone:
            raise stale(node)
        self.stat(node)
        folder = self.folder(node.parent)
        flags = _EXACT if O_PATH else _EXACT | os.O_NONBLOCK
        try:
            number = os.open(node.name, flags, dir_fd=folder.number)
        except FileNotFoundError:
            raise stale(node) from None
        return self._same(number, node)

    def open(self, node: Node, flags: int) -> tuple[Descriptor, os.stat_result]:
        """Open a regular file.

        Raises:
            OSError: it is none (EACCES), is not where it was (ESTALE), or the host refuses.
        """
        if node.kind != stat.S_IFREG:
            raise PermissionError(errno.EACCES, "not a regular file on the host", node.name)
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        held = node.files[-1] if node.files else None
        if held is None and node.parent is None:
            held = node.descriptor
        if held is not None and (self._proc or node.gone):
            if not self._proc:
                raise stale(node)
            number = os.open(f"{syscalls.PROC}{held.number}", flags & ~os.O_NOFOLLOW)
        elif node.parent is None:
            number = os.open(self._reopen[1], flags, dir_fd=self._reopen[0].number)
        else:
            if node.gone:
                raise stale(node)
            if node.others:
                self.stat(node)  # chooses a name that still is it
            folder = self.folder(node.parent)
            try:
                number = os.open(node.name, flags, dir_fd=folder.number)
            except (FileNotFoundError, IsADirectoryError):
                raise stale(node) from None
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENXIO):
                    raise stale(node) from None
                raise
        descriptor = Descriptor(number)
        st = os.fstat(number)
        if (st.st_dev, st.st_ino) != node.key:
            raise stale(node)
        return descriptor, st

    def path_of(self, node: Node) -> tuple[str, bool] | None:
        """A path that leads to the very inode or, when the second is False, to what has its name
        in its folder and must not be followed; None on hosts where descriptors have no paths."""
        if not self._proc:
            return None
        if node.files:
            return f"{syscalls.PROC}{node.files[-1].number}", True
        if node.descriptor is not None:
            return f"{syscalls.PROC}{node.descriptor.number}", True
        assert node.parent is not None
        return f"{syscalls.PROC}{self.folder(node.parent).number}/{node.name}", False
