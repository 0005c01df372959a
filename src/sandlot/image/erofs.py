"""The writer of uncompressed EROFS images, in one pass and without root.

File contents go to the image as they arrive, from the first block on; the directories, which
only the whole tree can tell, go behind them, and the superblock last. So a tar stream becomes
an image without being stored in between, and memory holds the tree, never contents. Equal
input gives an equal image.

The superblock and the top directory are the same in every image: the top directory has one
entry, `root`, which is the image's own root. So a machine that was saved with one image
mounted can be given another one without mounting it anew (docs/design/0009-mounted-before.md).
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sandlot.errors import ImageError
from sandlot.image import ondisk
from sandlot.image.ondisk import BLOCK, SLOT
from sandlot.image.space import Space, write_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sandlot.image.tree import Node, Tree

CHUNK = 1 << 20  # bytes that are copied at once
MAX_SIZE = 1 << 43  # bytes in one file: 8 TiB, half of what block addresses reach
ROOT_NAME = b"root"  # the image's root directory is the only entry of the file system's root
_TOP_OFFSET = ondisk.SUPER_OFFSET + ondisk.SUPER_SIZE
_ROOT_OFFSET = _TOP_OFFSET + 3 * SLOT  # behind the top directory and its three entries
_NLINK_OFFSET = {ondisk.COMPACT_SIZE: 6, ondisk.EXTENDED_SIZE: 44}


class Reader(Protocol):
    """Where contents come from: `read(n)` gives up to n bytes, none at the end."""

    def read(self, size: int, /) -> bytes: ...


class _Place(NamedTuple):
    nid: int
    inode_size: int


class _Directory:
    """A directory whose place is chosen and whose entries are not written yet."""

    __slots__ = ("first", "head", "inline", "layout", "nid", "node", "parent")

    def __init__(self, node: Node, parent: int) -> None:
        assert node.children is not None
        self.node = node
        self.parent = parent
        self.layout = ondisk.DirectoryLayout(node.children)
        self.first = self.head = self.nid = 0
        self.inline = False


class ErofsWriter:
    """Builds one image in the file that `fd` is, which must be empty, seekable and writable.

    A file whose time is 0 and whose owner fits into 16 bits has an inode half as large. The
    descriptor stays the caller's.

        writer = ErofsWriter(fd)
        tree = Tree()
        node = Node(stat.S_IFREG | 0o644, size=6)
        writer.store(node, io.BytesIO(b"hello\\n"))
        tree.add(b"etc/motd", node)
        length = writer.finish(tree)
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._space = Space(fd)
        self._count = 0  # of inodes, for the 32-bit number that each carries

    def store(
        self, node: Node, content: Reader, extents: Sequence[tuple[int, int]] | None = None
    ) -> None:
        """Write a regular file's contents and its inode; to be called once per node.

        `content` must give `node.size` bytes. For a sparse file, `extents` tells (offset,
        length) of the pieces that `content` gives in a row; the rest are holes. Raises
        ImageError when contents end early.
        """
        size = node.size
        if not 0 <= size <= MAX_SIZE:
            raise ImageError(f"a file of {size} bytes cannot be stored")
        head, area = self._head_size(node, size)
        rest = size % BLOCK
        inline = 0 < rest <= BLOCK - head
        body = size - rest if inline else size
        first = self._space.data(-(-body // BLOCK)) if body else 0
        tail = self._copy(
            content, ((0, size),) if extents is None else extents, first * BLOCK, body, size
        )
        inode = self._inode(node, head - len(area), area, size, first, inline, 1)
        node.place = _Place(self._put(inode + area + tail), head - len(area))

    def finish(self, tree: Tree) -> int:
        """Write all that is not regular files, then the superblock; returns the length in bytes.

        Every regular file in the tree must have been stored.
        """
        links: dict[Node, int] = {}
        directories = self._place_directories(tree, links)
        block0 = bytearray(BLOCK)
        for directory in directories:
            self._write_directory(directory, block0)
        blocks = self._space.finish()
        for node, count in links.items():
            if count > 1:
                self._patch_links(node, count)
        block0[ondisk.SUPER_OFFSET : _TOP_OFFSET] = ondisk.superblock(_TOP_OFFSET // SLOT)
        block0[_TOP_OFFSET:_ROOT_OFFSET] = _top_directory()
        ondisk.seal_superblock(block0)
        write_all(self._fd, block0, 0)
        return blocks * BLOCK

    # Section: regular files

    def _copy(
        self, content: Reader, extents: Iterable[tuple[int, int]], base: int, body: int, size: int
    ) -> bytes:
        """Contents below `body` go to the file at `base`; those above are returned."""
        tail = bytearray(size - body)
        end = 0
        for offset, length in extents:
            if offset < end or length < 0 or offset + length > size:
                raise ImageError("a sparse file's map is damaged")
            end = offset + length
            while offset < end:
                limit = body if offset < body else end
                data = content.read(min(limit - offset, end - offset, CHUNK))
                if not data:
                    raise ImageError("a file's contents end too early")
                if offset < body:
                    write_all(self._fd, data, base + offset)
                else:
                    tail[offset - body : offset - body + len(data)] = data
                offset += len(data)
        return bytes(tail)

    def _patch_links(self, node: Node, count: int) -> None:
        assert isinstance(node.place, _Place)
        wide = node.place.inode_size == ondisk.EXTENDED_SIZE
        if count > (0xFFFFFFFF if wide else 0xFFFF):
            raise ImageError(f"a file has {count} hard links, which is too many")
        value = count.to_bytes(4 if wide else 2, "little")
        self._space.patch(node.place.nid, _NLINK_OFFSET[node.place.inode_size], value)

    # Section: directories and the rest

    def _place_directories(self, tree: Tree, links: dict[Node, int]) -> list[_Directory]:
        """Give every inode its place, and count the hard links of what is no directory."""
        directories: list[_Directory] = []
        root_nid = _ROOT_OFFSET // SLOT
        stack = [(tree.root, _TOP_OFFSET // SLOT)]
        while stack:
            node, parent = stack.pop()
            directory = _Directory(node, parent)
            directories.append(directory)
            self._place_directory(directory, root_nid if len(directories) == 1 else None)
            children = node.children
            assert children is not None
            for name in sorted(children, reverse=True):
                child = children[name]
                if child.is_dir:
                    stack.append((child, directory.nid))
                    continue
                links[child] = links.get(child, 0) + 1
                if links[child] == 1 and not isinstance(child.place, _Place):
                    self._place_special(child)
        return directories

    def _place_directory(self, directory: _Directory, nid: int | None) -> None:
        node, size = directory.node, directory.layout.size
        children = node.children
        assert children is not None
        nlink = 2 + sum(child.is_dir for child in children.values())
        directory.head, area = self._head_size(node, size, nlink)
        rest = size % BLOCK
        room = BLOCK if nid is None else BLOCK - _ROOT_OFFSET
        if nid is not None and directory.head > room:
            raise ImageError("the root directory's extended attributes are too large")
        directory.inline = 0 < rest <= room - directory.head
        blocks = size // BLOCK + (rest > 0 and not directory.inline)
        directory.first = self._space.data(blocks) if blocks else 0
        inode = self._inode(
            node, directory.head - len(area), area, size, directory.first, directory.inline, nlink
        )
        piece = inode + area
        if nid is None:
            nid = self._put(piece + bytes(rest) if directory.inline else piece)
        else:
            directory.node.place = piece  # block 0 is written last
        directory.nid = nid
        if not isinstance(node.place, bytes):
            node.place = _Place(nid, directory.head - len(area))

    def _write_directory(self, directory: _Directory, block0: bytearray) -> None:
        node = directory.node
        assert node.children is not None
        kind = ondisk.file_type(stat.S_IFDIR)
        entries = {b".": (directory.nid, kind), b"..": (directory.parent, kind)}
        for name, child in node.children.items():
            assert isinstance(child.place, _Place)
            entries[name] = (child.place.nid, ondisk.file_type(child.mode))
        data = directory.layout.pack(entries)
        inline = len(data) % BLOCK if directory.inline else 0
        body = len(data) - inline
        if body:
            write_all(self._fd, memoryview(data)[:body], directory.first * BLOCK)
        if isinstance(node.place, bytes):
            piece = node.place + data[body:]
            block0[_ROOT_OFFSET : _ROOT_OFFSET + len(piece)] = piece
            node.place = None
        elif inline:
            self._space.patch(directory.nid, directory.head, data[body:])

    def _place_special(self, node: Node) -> None:
        """Symbolic links, devices, pipes and sockets."""
        if stat.S_ISREG(node.mode):
            raise ImageError("a regular file has no contents: a bug in Sandlot")
        target = node.target if node.is_symlink else b""
        if node.is_symlink and not 0 < len(target) <= ondisk.MAX_SYMLINK:
            raise ImageError(f"a symbolic link's target has {len(target)} bytes")
        head, area = self._head_size(node, len(target))
        inline = 0 < len(target) <= BLOCK - head
        union = 0
        if target and not inline:
            union = self._space.data(1)
            write_all(self._fd, target, union * BLOCK)
        elif stat.S_ISCHR(node.mode) or stat.S_ISBLK(node.mode):
            union = ondisk.device_number(*node.device)
        inode = self._inode(node, head - len(area), area, len(target), union, inline, 1)
        piece = inode + area + (target if inline else b"")
        node.place = _Place(self._put(piece), head - len(area))

    # Section: inodes

    def _head_size(self, node: Node, size: int, nlink: int = 1) -> tuple[int, bytes]:
        """The bytes in front of inline data, and the attributes that are a part of them."""
        compact = (
            node.mtime == node.mtime_ns == 0
            and max(node.uid, node.gid, nlink) <= 0xFFFF
            and size <= 0xFFFFFFFF
        )
        area = ondisk.pack_xattrs(node.xattrs) if node.xattrs else b""
        return (ondisk.COMPACT_SIZE if compact else ondisk.EXTENDED_SIZE) + len(area), area

    def _inode(
        self, node: Node, inode_size: int, area: bytes, size: int, union: int, inline: bool,
        nlink: int,
    ) -> bytes:  # fmt: skip
        self._count += 1
        if not (0 <= node.uid <= 0xFFFFFFFF and 0 <= node.gid <= 0xFFFFFFFF):
            raise ImageError(f"owner {node.uid}:{node.gid} is out of range")
        if not (-(1 << 63) <= node.mtime < 1 << 63 and 0 <= node.mtime_ns < 1_000_000_000):
            raise ImageError(f"time {node.mtime} is out of range")
        layout = ondisk.FLAT_INLINE if inline else ondisk.FLAT_PLAIN
        count = ondisk.xattr_count(len(area))
        if inode_size == ondisk.COMPACT_SIZE:
            return ondisk.compact_inode(
                layout=layout, xattr_count=count, mode=node.mode, nlink=nlink, size=size,
                union=union, ino=self._count, uid=node.uid, gid=node.gid,
            )  # fmt: skip
        return ondisk.extended_inode(
            layout=layout, xattr_count=count, mode=node.mode, nlink=nlink, size=size,
            union=union, ino=self._count, uid=node.uid, gid=node.gid, mtime=node.mtime,
            mtime_ns=node.mtime_ns,
        )  # fmt: skip

    def _put(self, piece: bytes) -> int:
        return self._space.place(piece) if len(piece) <= BLOCK else self._space.place_large(piece)


def _top_directory() -> bytes:
    """The inode of the file system's root with its entries, in three slots."""
    top, root, kind = _TOP_OFFSET // SLOT, _ROOT_OFFSET // SLOT, ondisk.file_type(stat.S_IFDIR)
    entries = {b".": (top, kind), b"..": (top, kind), ROOT_NAME: (root, kind)}
    data = ondisk.DirectoryLayout([ROOT_NAME]).pack(entries)
    inode = ondisk.compact_inode(
        layout=ondisk.FLAT_INLINE, xattr_count=0, mode=stat.S_IFDIR | 0o755, nlink=3,
        size=len(data), union=0, ino=0, uid=0, gid=0,
    )  # fmt: skip
    return (inode + data).ljust(_ROOT_OFFSET - _TOP_OFFSET, b"\0")
