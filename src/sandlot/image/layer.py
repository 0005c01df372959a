"""What a layer does to the tree below it, in order: the index that lies beside its contents. Pure.

A layer's entries cannot be resolved before the layers below are known: a parent may be a
symbolic link there, a hard link may point to a file of theirs, and whiteouts hide them. So the
index keeps what the tar stream said, without the contents, in a form that is quick to replay.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from sandlot.errors import ImageError
from sandlot.image.ondisk import pack_xattrs
from sandlot.image.tree import Node, Tree, split

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandlot.image.contents import ContentsWriter
    from sandlot.image.tar import Member

WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_AUFS = b".wh..wh."  # other marks of the file system that brought these names

_NODE, _LINK, _WHITEOUT, _OPAQUE_MARK = range(4)
_MAGIC = b"SLINDEX1"
_HEAD = struct.Struct("<8sIQQQQQ")  # magic, checksum, blocks, entries, and three lengths
# kind, mode, uid, gid, seconds, nanoseconds, size or major, block or minor, attributes
_ENTRY = struct.Struct("<BxHIIqIQII")
_PAIR = struct.Struct("<HI")

_Entry = tuple[int, int, int, int, int, int, int, int, int]


class LayerIndex:
    """The entries of one layer.

    `blocks` is the length of its contents in blocks.
    """

    def __init__(self) -> None:
        self.blocks = 0
        self._entries: list[_Entry] = []
        self._paths: list[bytes] = []
        self._targets: list[bytes] = []  # of the links among the entries, in order
        self._xattrs: list[dict[bytes, bytes]] = []
        self._xattr_numbers: dict[tuple[tuple[bytes, bytes], ...], int] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, member: Member, contents: ContentsWriter) -> None:
        """Take one entry of the layer's tar stream. Raises ImageError when no image may hold it."""
        parent, name = split(member.path)
        if name.startswith(WHITEOUT):
            self._mark(parent, name)
            return
        path = parent + b"/" + name if parent else name
        node = member.node
        if node is None:
            parent, name = split(member.link or b"")
            self._append(path, (_LINK, 0, 0, 0, 0, 0, 0, 0, 0), parent + b"/" + name)
            return
        size, block = node.device if node.is_device else (node.size, 0)
        if node.is_file:
            block = contents.store(member.content, node.size, member.extents)
        _check_ranges(node, path)
        entry = (
            _NODE, node.mode, node.uid, node.gid, node.mtime, node.mtime_ns, size, block,
            self._xattr_number(node.xattrs),
        )  # fmt: skip
        self._append(path, entry, node.target if node.is_symlink else None)

    def replay(self, tree: Tree) -> None:
        """Lay this layer over what is in the tree. Raises ImageError when it does not fit."""
        tree.begin_layer()
        put, targets = tree.put, iter(self._targets)
        xattrs = [None, *self._xattrs]
        for (kind, mode, uid, gid, mtime, mtime_ns, size, block, attributes), path in zip(
            self._entries, self._paths, strict=True
        ):
            if kind == _NODE:
                node = Node(
                    mode, uid, gid, mtime, mtime_ns, size, xattrs=xattrs[attributes], block=block
                )
                if node.is_symlink:
                    node.target = next(targets)
                elif node.is_device:
                    node.device, node.size, node.block = (size, block), 0, 0
                parent, _, name = path.rpartition(b"/")
                put(parent, name, node)
            elif kind == _LINK:
                tree.link(path, next(targets))
            elif kind == _WHITEOUT:
                tree.whiteout(path)
            else:
                tree.opaque(path)

    def encode(self) -> bytes:
        """As bytes, to be kept."""
        parts = (
            b"".join(_ENTRY.pack(*entry) for entry in self._entries),
            b"\0".join(self._paths),
            b"\0".join(self._targets),
            b"".join(_pack_xattrs(each) for each in self._xattrs),
        )
        lengths = (self.blocks, len(self._entries), *(len(part) for part in parts[1:]))
        body = b"".join(parts)
        checksum = zlib.crc32(body, zlib.crc32(repr(lengths).encode()))
        return _HEAD.pack(_MAGIC, checksum, *lengths) + body

    @classmethod
    def decode(cls, data: bytes) -> LayerIndex:
        """The opposite of `encode`. Raises ImageError when the bytes are damaged."""
        index = cls()
        if len(data) < _HEAD.size:
            raise _damaged()
        magic, checksum, index.blocks, count, paths, targets, xattrs = _HEAD.unpack_from(data)
        body = memoryview(data)[_HEAD.size :]
        end = count * _ENTRY.size
        lengths = (index.blocks, count, paths, targets, xattrs)
        if magic != _MAGIC or zlib.crc32(body, zlib.crc32(repr(lengths).encode())) != checksum:
            raise _damaged()
        if len(body) != end + paths + targets + xattrs:
            raise _damaged()
        index._entries = list(_ENTRY.iter_unpack(body[:end]))
        index._paths = bytes(body[end : end + paths]).split(b"\0") if count else []
        end += paths
        if targets:
            index._targets = bytes(body[end : end + targets]).split(b"\0")
        index._xattrs = list(_unpack_xattrs(body[end + targets :]))
        return index

    # Section: helpers

    def _mark(self, parent: bytes, name: bytes) -> None:
        if name == _OPAQUE:
            self._append(parent, (_OPAQUE_MARK, 0, 0, 0, 0, 0, 0, 0, 0))
            return
        if name.startswith(_AUFS):
            return
        hidden = name[len(WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise ImageError(f"whiteout {parent + b'/' + name!r} hides nothing that can be")
        path = parent + b"/" + hidden if parent else hidden
        self._append(path, (_WHITEOUT, 0, 0, 0, 0, 0, 0, 0, 0))

    def _append(self, path: bytes, entry: _Entry, target: bytes | None = None) -> None:
        self._entries.append(entry)
        self._paths.append(path)
        if target is not None:
            self._targets.append(target)

    def _xattr_number(self, xattrs: dict[bytes, bytes] | None) -> int:
        if not xattrs:
            return 0
        key = tuple(sorted(xattrs.items()))
        number = self._xattr_numbers.get(key)
        if number is None:
            pack_xattrs(xattrs)  # says what cannot be stored
            self._xattrs.append(xattrs)
            number = self._xattr_numbers[key] = len(self._xattrs)
        return number


def _check_ranges(node: Node, path: bytes) -> None:
    """What the index and the image have fields for."""
    if not (0 <= node.uid <= 0xFFFFFFFF and 0 <= node.gid <= 0xFFFFFFFF):
        raise ImageError(f"{path[:300]!r} has the impossible owner {node.uid}:{node.gid}")
    if not (-(1 << 63) <= node.mtime < 1 << 63 and 0 <= node.mtime_ns < 1_000_000_000):
        raise ImageError(f"{path[:300]!r} has the impossible time {node.mtime}")
    if node.is_device and not (0 <= node.device[0] < 1 << 12 and 0 <= node.device[1] < 1 << 20):
        raise ImageError(f"{path[:300]!r} has the impossible device number {node.device}")
    if node.is_symlink and not node.target:
        raise ImageError(f"symbolic link {path[:300]!r} points nowhere")


def _pack_xattrs(xattrs: dict[bytes, bytes]) -> bytes:
    pairs = [_PAIR.pack(len(n), len(v)) + n + v for n, v in sorted(xattrs.items())]
    return len(pairs).to_bytes(4, "little") + b"".join(pairs)


def _unpack_xattrs(data: memoryview) -> Iterator[dict[bytes, bytes]]:
    at = 0
    while at < len(data):
        count = int.from_bytes(data[at : at + 4], "little")
        at += 4
        found: dict[bytes, bytes] = {}
        for _ in range(count):
            name, value = _PAIR.unpack_from(data, at)
            at += _PAIR.size
            found[bytes(data[at : at + name])] = bytes(data[at + name : at + name + value])
            at += name + value
        yield found


def _damaged() -> ImageError:
    return ImageError("an unpacked layer's index is damaged", hint="fetch or load the image again")
