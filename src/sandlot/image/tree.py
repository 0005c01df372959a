"""The files of an image, in memory: what a tar stream or a stack of layers amounts to.

Contents are not here: a regular file's node says where the writer has put them. Paths come
from strangers. They are resolved inside the tree only, the way a process would see them whose
root directory is the image: a symbolic link in a parent position is followed, and neither it
nor `..` leads out.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from sandlot.errors import ImageError
from sandlot.image.ondisk import MAX_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_PATH = 32768  # bytes; Linux' own calls take 4096 at a time, but trees can be deeper
MAX_HOPS = 40  # the kernel's limit for symbolic links in one path


class Node:
    """One inode: what `stat` tells, and what kind needs.

    `mode` holds type and permissions like `st_mode`; `mtime` is in seconds since 1970, with
    `mtime_ns` nanoseconds on top; `device` is (major, minor); `target` is a symbolic link's;
    `block` is where a regular file's contents begin among those of its layer. `source` is the
    layer that it came with, `layer` the one that put it where it is. `nid` is the writer's.

    >>> Node(stat.S_IFREG | 0o4755, size=12).mode & stat.S_ISUID
    2048
    """

    __slots__ = (
        "block", "children", "device", "gid", "layer", "mode", "mtime", "mtime_ns", "nid",
        "size", "source", "target", "uid", "xattrs",
    )  # fmt: skip

    def __init__(
        self, mode: int, uid: int = 0, gid: int = 0, mtime: int = 0, mtime_ns: int = 0,
        size: int = 0, *, device: tuple[int, int] = (0, 0), target: bytes = b"",
        xattrs: dict[bytes, bytes] | None = None, block: int = 0,
    ) -> None:  # fmt: skip
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime = mtime
        self.mtime_ns = mtime_ns
        self.size = size
        self.device = device
        self.target = target
        self.xattrs = xattrs
        self.children: dict[bytes, Node] | None = {} if mode & 0o170000 == stat.S_IFDIR else None
        self.block = block
        self.source = self.layer = 0
        self.nid = 0

    @property
    def is_dir(self) -> bool:
        return self.children is not None

    @property
    def is_file(self) -> bool:
        return self.mode & 0o170000 == stat.S_IFREG

    @property
    def is_device(self) -> bool:
        return self.mode & 0o170000 in (stat.S_IFCHR, stat.S_IFBLK)

    @property
    def is_symlink(self) -> bool:
        return self.mode & 0o170000 == stat.S_IFLNK


def new_directory() -> Node:
    """What a parent becomes that nobody has described: root's, 0755, without a time."""
    return Node(stat.S_IFDIR | 0o755)


class Tree:
    """A tree that later entries and later layers override.

    `layer` counts up by `begin_layer`; `whiteout` and `opaque` hide what earlier layers have
    brought and spare what the current one has, in whatever order a layer tells them.

    >>> tree = Tree()
    >>> tree.add(b"etc/hostname", Node(stat.S_IFREG | 0o644))
    >>> tree.begin_layer()
    >>> tree.whiteout(b"etc/hostname")
    >>> [path for path, _ in tree.walk()]
    [b'', b'etc']
    """

    def __init__(self) -> None:
        self.root = new_directory()
        self.layer = 0
        self._parents: dict[bytes, Node] = {}  # resolved parents, until something is replaced

    def begin_layer(self) -> None:
        """What follows overrides what was added so far."""
        self.layer += 1

    def add(self, path: bytes, node: Node) -> None:
        """Put a node at a path; the last one wins.

        A directory over a directory keeps the files in it and changes its attributes; anything
        else replaces what was there. A parent that is missing, or is no directory, becomes one.
        Raises ImageError for a path that is empty, leads out or is too long.
        """
        self.put(*split(path), node)

    def put(self, parent_path: bytes, name: bytes, node: Node) -> None:
        """`add` for a path that went through `split` before."""
        node.source = node.layer = self.layer
        if not name:
            if not node.is_dir:
                raise ImageError("an image's root must be a directory")
            node.children = self.root.children
            self.root = node
            self._parents.clear()
            return
        children = self._make_parent(parent_path).children
        assert children is not None
        old = children.get(name)
        if old is not None and old.children is not None:
            if node.children is not None:
                node.children = old.children
            self._parents.clear()
        elif old is not None and old.is_symlink:
            self._parents.clear()
        children[name] = node

    def link(self, path: bytes, target: bytes) -> None:
        """Make `path` a hard link to the file that is at `target`."""
        node = self.find(target)
        if node is None or node.is_dir:
            what = "a directory" if node else "missing"
            raise ImageError(f"hard link {path!r} points to {target!r}, which is {what}")
        parent_path, name = split(path)
        if not name:
            raise ImageError("an image's root must be a directory")
        parent = self._make_parent(parent_path)
        assert parent.children is not None
        if parent.children.get(name) is not None:
            self._parents.clear()
        parent.children[name] = node
        node.layer = self.layer

    def find(self, path: bytes) -> Node | None:
        """The node at a path; a symbolic link at the end is not followed."""
        parent_path, name = split(path)
        if not name:
            return self.root
        parent = self._resolve(parent_path, create=False)
        return parent.children.get(name) if parent and parent.children else None

    def add_folder(self, path: bytes) -> None:
        """See to it that there is a folder at a path, as a process would see it: links are
        followed. What is there already stays, also what is no folder."""
        parts = [part for part in b"/".join(split(path)).split(b"/") if part]
        for end in range(1, len(parts) + 1):
            inside = b"/".join(parts[:end])
            if self._resolve(inside, create=False) is None:
                if self.find(inside) is not None:
                    return
                self.add(inside, new_directory())

    def remove(self, path: bytes) -> None:
        """Take away what is at a path, whichever layer it came from. Missing is fine."""
        parent, name = self._holder(path)
        if parent is not None and parent.children and parent.children.pop(name, None):
            self._parents.clear()

    def whiteout(self, path: bytes) -> None:
        """Hide what earlier layers have at a path."""
        parent, name = self._holder(path)
        if parent is None or not parent.children or name not in parent.children:
            return
        self._parents.clear()
        self._prune(parent.children, [name])

    def opaque(self, path: bytes) -> None:
        """Hide what earlier layers have inside a directory; the directory itself stays."""
        parent_path, name = split(path)
        node = self._resolve(parent_path + b"/" + name, create=False)
        if node is not None and node.children:
            self._parents.clear()
            self._prune(node.children, list(node.children))

    def walk(self) -> Iterator[tuple[bytes, Node]]:
        """Every path with its node, parents first and names in order; the root is `b""`."""
        stack = [(b"", self.root)]
        while stack:
            path, node = stack.pop()
            yield path, node
            if node.children:
                prefix = path + b"/" if path else b""
                stack += [
                    (prefix + name, node.children[name])
                    for name in sorted(node.children, reverse=True)
                ]

    def _holder(self, path: bytes) -> tuple[Node | None, bytes]:
        parent_path, name = split(path)
        if not name:
            raise ImageError("an image's root cannot be removed")
        return self._resolve(parent_path, create=False), name

    def _make_parent(self, path: bytes) -> Node:
        known = self._parents.get(path)
        if known is None:
            known = self._resolve(path, create=True)
            assert known is not None
            self._parents[path] = known
        return known

    def _resolve(self, path: bytes, *, create: bool) -> Node | None:
        """The directory at a path, with symbolic links followed inside the tree."""
        trail = [self.root]
        pending = path.split(b"/")[::-1]
        hops = 0
        while pending:
            name = pending.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":  # only a link's target can bring this
                if len(trail) > 1:
                    trail.pop()
                continue
            children = trail[-1].children
            assert children is not None
            child = children.get(name)
            if child is not None and child.is_symlink:
                hops += 1
                if hops > MAX_HOPS:
                    raise ImageError(f"{path!r} goes through too many symbolic links")
                if child.target.startswith(b"/"):
                    del trail[1:]
                pending += child.target.split(b"/")[::-1]
                continue
            if child is None or not child.is_dir:
                if not create:
                    return None
                check_name(name)
                if child is not None:
                    self._parents.clear()
                child = children[name] = new_directory()
                child.layer = self.layer
            trail.append(child)
        return trail[-1]

    def _prune(self, children: dict[bytes, Node], names: list[bytes]) -> None:
        """Delete, of these children, what no earlier call of the current layer has added."""
        # A directory of an earlier layer stays when the current layer has put something into
        # it, so what is empty can only be told on the way back.
        stack: list[tuple[dict[bytes, Node], bytes, bool]] = [(children, n, False) for n in names]
        while stack:
            holder, name, seen = stack.pop()
            node = holder[name]
            if node.children and not seen:
                stack.append((holder, name, True))
                stack += [(node.children, inner, False) for inner in node.children]
            elif node.layer != self.layer and not node.children:
                del holder[name]


def split(path: bytes) -> tuple[bytes, bytes]:
    """A path from a stranger as (parent, name), without empty and `.` parts.

    A slash in front is dropped: the path is one inside the image in any case. Raises ImageError
    when it contains `..` or NUL, or is too long.

    >>> split(b"./usr/bin/")
    (b'usr', b'bin')
    """
    if len(path) > MAX_PATH:
        raise ImageError(f"a path of {len(path)} bytes is too long: {path[:60]!r}…")
    if b"\0" in path:
        raise ImageError(f"path {path[:300]!r} contains a NUL byte")
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise ImageError(f"path {path[:300]!r} contains '..'")
    if not parts:
        return b"", b""
    for part in parts:
        check_name(part)
    return b"/".join(parts[:-1]), parts[-1]


def check_name(name: bytes) -> None:
    if len(name) > MAX_NAME:
        raise ImageError(f"a file name of {len(name)} bytes is too long: {name[:60]!r}…")
