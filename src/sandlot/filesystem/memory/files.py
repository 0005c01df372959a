"""A file system in memory as a file: what `MemFs.dump` writes and `MemFs.load` reads. Pure.

After a line that names the format come records: four bytes of length, little-endian, then a JSON
array, then as many bytes of data as it says.

    ["node", ino, mode, uid, gid, rdev, atime, mtime, ctime, size, target]
    ["data", offset, length]            of the node before, and that many bytes
    ["xattr", name, length]             likewise
    ["name", folder, name, ino]         after all nodes
    ["open", ino]                       a node that has no name, but is open
    ["end"]

A file is not trusted: it may have been sent by others. Sizes are bounded before they are read.
"""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass
from typing import Any, BinaryIO

from sandlot.errors import SnapshotDamaged
from sandlot.filesystem.memory import tree
from sandlot.filesystem.memory.contents import LARGEST
from sandlot.filesystem.memory.room import Room
from sandlot.filesystem.memory.tree import Node

MAGIC = b"sandlot memory 1 "
_MOST_RECORD = 65536
_MOST_DATA = 1 << 20
_KINDS = frozenset(
    (
        stat.S_IFREG,
        stat.S_IFDIR,
        stat.S_IFLNK,
        stat.S_IFIFO,
        stat.S_IFSOCK,
        stat.S_IFCHR,
        stat.S_IFBLK,
    )
)


@dataclass(slots=True)
class Loaded:
    """What was in a file."""

    identity: str
    root: Node
    orphans: list[Node]
    highest: int


def dump(file: BinaryIO, root: Node, orphans: list[Node], identity: str) -> None:
    """Write a tree, and nodes without a name."""

    def record(*what: Any, data: bytes = b"") -> None:
        text = json.dumps(what).encode()
        file.write(len(text).to_bytes(4, "little") + text + data)

    file.write(MAGIC + identity.encode() + b"\n")
    known, look = {root.ino: root}, [root]
    while look:
        for child in (look.pop().entries or {}).values():
            if child.ino not in known:
                known[child.ino] = child
                look.append(child)
    for node in (*known.values(), *orphans):
        size = node.contents.size if node.contents is not None else 0
        record(
            "node", node.ino, node.mode, node.uid, node.gid, node.rdev, node.atime, node.mtime,
            node.ctime, size, node.target,
        )  # fmt: skip
        if node.contents is not None:
            for offset, length in node.contents.extents(_MOST_DATA):
                record("data", offset, length, data=node.contents.read(offset, length))
        for name, value in (node.xattrs or {}).items():
            record("xattr", name, len(value), data=value)
    for node in known.values():
        for name, child in (node.entries or {}).items():
            record("name", node.ino, name, child.ino)
    for node in orphans:
        record("open", node.ino)
    record("end")


def load(file: BinaryIO, room: Room) -> Loaded:
    """Read what `dump` wrote.

    Raises:
        SnapshotDamaged: it is not that.
        OSError: there is no room for it.
    """
    first = file.readline(len(MAGIC) + 65)
    if not first.startswith(MAGIC) or not first.endswith(b"\n"):
        raise _damaged("it does not begin as one")
    try:
        loading = _Loading(room)
        while loading.take(file, _record(file)):
            pass
        return loading.done(first[len(MAGIC) : -1].decode("ascii"))
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise _damaged(str(error)) from None


def _damaged(why: str) -> SnapshotDamaged:
    return SnapshotDamaged(
        f"the contents of a file system in memory cannot be read: {why}",
        hint="the file is damaged or was cut off: make the snapshot again",
    )


def _read(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise ValueError("it ends too early")
    return data


def _record(file: BinaryIO) -> list[Any]:
    size = int.from_bytes(_read(file, 4), "little")
    if size > _MOST_RECORD:
        raise ValueError(f"a record of {size} bytes")
    record = json.loads(_read(file, size))
    if not isinstance(record, list) or not record:
        raise ValueError("a record is no list")
    return record


def _number(value: Any, most: int = LARGEST, least: int = 0) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{value!r} is no number of that kind")
    return value


def _text(value: Any, most: int) -> str:
    if not isinstance(value, str) or not 0 < len(value.encode("utf-8", "surrogateescape")) <= most:
        raise ValueError("a text is missing or too long")
    return value


class _Loading:
    def __init__(self, room: Room) -> None:
        self.room = room
        self.nodes: dict[int, Node] = {}
        self.times: dict[int, tuple[int, int, int]] = {}
        self.last: Node | None = None
        self.orphans: dict[int, Node] = {}

    def take(self, file: BinaryIO, record: list[Any]) -> bool:
        """One record; False after the last."""
        kind, *rest = record
        if kind == "node":
            self._node(*rest)
        elif kind == "data":
            offset, length = rest
            contents = self.last.contents if self.last is not None else None
            if contents is None or _number(offset) + _number(length, _MOST_DATA) > contents.size:
                raise ValueError("data where none can be")
            contents.write(offset, _read(file, length), whole=True)
        elif kind == "xattr":
            name, length = rest
            if self.last is None:
                raise ValueError("an attribute of nothing")
            value = _read(file, _number(length, 65536))
            self.last.charge(len(_text(name, 255).encode("utf-8", "surrogateescape")) + length)
            self.last.xattrs = {**(self.last.xattrs or {}), name: value}
        elif kind == "name":
            folder, name, ino = rest
            self._name(self.nodes[folder], _text(name, 255), self.nodes[ino])
        elif kind == "open":
            node = self.nodes[rest[0]]
            if node.nlink or node.entries:
                raise ValueError("it has a name, or names")
            self.orphans[node.ino] = node
        elif kind == "end":
            return False
        else:
            raise ValueError(f"a record {kind!r}")
        return True

    def _node(
        self, ino: Any, mode: Any, uid: Any, gid: Any, rdev: Any, atime: Any, mtime: Any,
        ctime: Any, size: Any, target: Any,
    ) -> None:  # fmt: skip
        if (
            _number(ino, least=1) in self.nodes
            or stat.S_IFMT(_number(mode, 0o177777)) not in _KINDS
        ):
            raise ValueError("a node that cannot be")
        word = (1 << 32) - 1
        node = Node(self.room, ino, mode, _number(uid, word), _number(gid, word))
        node.rdev = _number(rdev, word)
        times = [_number(each, least=-LARGEST) for each in (atime, mtime, ctime)]
        self.times[ino] = times[0], times[1], times[2]
        if node.contents is not None:
            node.contents.size = _number(size)
        if stat.S_ISLNK(mode):
            node.target = _text(target, 4096)
            node.charge(len(node.target.encode("utf-8", "surrogateescape")))
        if not self.nodes:
            if node.entries is None:
                raise ValueError("the root is no folder")
            node.nlink = 2
        self.nodes[ino] = self.last = node

    def _name(self, folder: Node, name: str, node: Node) -> None:
        if "/" in name or "\0" in name or name in (".", ".."):
            raise ValueError(f"{name!r} is no name")
        if folder.entries is None or name in folder.entries:
            raise ValueError(f"{name!r} has no place")
        if node.entries is not None and (node.parent is not None or node is self.root):
            raise ValueError("a folder in two places")
        if node.nlink and node.entries is None:
            self.room.take_node()
        tree.add(folder, name, node)

    @property
    def root(self) -> Node:
        return next(iter(self.nodes.values()))

    def done(self, identity: str) -> Loaded:
        """All of it, once nothing hangs in the air."""
        if not self.nodes:
            raise ValueError("it is empty")
        reached, look = {self.root.ino}, [self.root]
        while look:
            for child in (look.pop().entries or {}).values():
                if child.ino not in reached:
                    reached.add(child.ino)
                    look.append(child)
        if len(reached) + len(self.orphans) != len(self.nodes):
            raise ValueError("a folder within itself")
        for node in self.nodes.values():
            node.atime, node.mtime, node.ctime = self.times[node.ino]
        return Loaded(identity, self.root, list(self.orphans.values()), max(self.nodes))
