"""The writer of EROFS metadata: a tree becomes superblock, inodes and directories.

Contents of files are written elsewhere before (contents.py), and an inode tells by block address
where they lie. Addresses count, in this order: block 0, the contents of all layers, the rest of
the metadata. So layers that several images have in common are the same files on the host,
whatever follows them. Equal input gives an equal image.

The superblock and the top directory are the same in every image: the top directory has one
entry, `root`, which is the image's own root. So a machine that was saved with one image
mounted can be given another one without mounting it anew (docs/design/0009-mounted-before.md).
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from sandlot.errors import ImageError
from sandlot.image import ondisk
from sandlot.image.ondisk import BLOCK, SLOT
from sandlot.image.space import Space

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandlot.image.tree import Node, Tree

MAX_SIZE = 1 << 43  # bytes in one file: 8 TiB, half of what block addresses reach
ROOT_NAME = b"root"  # the image's root directory is the only entry of the file system's root
_TOP_OFFSET = ondisk.SUPER_OFFSET + ondisk.SUPER_SIZE
_ROOT_OFFSET = _TOP_OFFSET + 4 * SLOT  # behind the top directory and its three entries
_TOP_NID, _ROOT_NID = _TOP_OFFSET // SLOT, _ROOT_OFFSET // SLOT


class _Directory:
    """A directory whose place is chosen and whose entries are not written yet."""

    __slots__ = ("first", "head", "inline", "layout", "nid", "node", "parent", "piece")

    def __init__(self, node: Node, parent: int) -> None:
        assert node.children is not None
        self.node = node
        self.parent = parent
        self.layout = ondisk.DirectoryLayout(node.children)
        self.first = self.head = self.nid = 0
        self.inline = False
        self.piece = b""  # the root's, which is written last


class ErofsWriter:
    """Builds one image's metadata.

    `layers` are the lengths in blocks of the layers' contents; a regular file's node has in
    `source` the number of the one that it came with, and in `block` where its contents begin in
    it.

        writer = ErofsWriter([contents.blocks])
        length = writer.finish(tree, fd)
    """

    def __init__(self, layers: Sequence[int] = ()) -> None:
        self._bases = [1]
        for blocks in layers:
            self._bases.append(self._bases[-1] + blocks)
        self._space = Space(self._bases[-1] - 1)
        self._count = 0  # of inodes, for the 32-bit number that each carries

    def finish(self, tree: Tree, fd: int) -> int:
        """Write everything to the file that `fd` is, which must be empty and seekable; returns
        the metadata's length in bytes."""
        links: dict[Node, int] = {}
        directories = self._place_directories(tree, links)
        block0 = bytearray(BLOCK)
        for directory in directories:
            self._write_directory(directory, block0)
        for node, count in links.items():
            if count > 1:
                self._space.patch(node.nid, ondisk.NLINK_OFFSET, count.to_bytes(4, "little"))
        block0[ondisk.SUPER_OFFSET : _TOP_OFFSET] = ondisk.superblock(_TOP_NID)
        block0[_TOP_OFFSET:_ROOT_OFFSET] = _top_directory()
        ondisk.seal_superblock(block0)
        return self._space.save(fd, block0)

    # Section: directories

    def _place_directories(self, tree: Tree, links: dict[Node, int]) -> list[_Directory]:
        """Give every inode its place, and count the hard links of what is no directory."""
        directories: list[_Directory] = []
        stack = [(tree.root, _TOP_NID)]
        while stack:
            node, parent = stack.pop()
            directory = _Directory(node, parent)
            self._place_directory(directory, root=not directories)
            directories.append(directory)
            children = node.children
            assert children is not None
            for name in sorted(children, reverse=True):
                child = children[name]
                if child.children is not None:
                    stack.append((child, directory.nid))
                elif child in links:
                    links[child] += 1
                else:
                    links[child] = 1
                    place = self._place_file if child.is_file else self._place_special
                    place(child)
        return directories

    def _place_directory(self, directory: _Directory, *, root: bool) -> None:
        node, size = directory.node, directory.layout.size
        assert node.children is not None
        nlink = 2 + sum(child.children is not None for child in node.children.values())
        area = ondisk.pack_xattrs(node.xattrs) if node.xattrs else b""
        directory.head = ondisk.EXTENDED_SIZE + len(area)
        rest = size % BLOCK
        room = BLOCK - _ROOT_OFFSET if root else BLOCK
        if root and directory.head > room:
            raise ImageError("the root directory's extended attributes are too large")
        directory.inline = 0 < rest <= room - directory.head
        body = size - rest if directory.inline else size
        directory.first = self._space.blocks(bytes(body + -body % BLOCK)) if body else 0
        piece = self._inode(node, area, size, directory.first, directory.inline, nlink) + area
        if root:
            directory.piece, directory.nid = piece, _ROOT_NID
        elif directory.inline:
            directory.nid = self._space.place(piece + bytes(rest), whole=True)
        else:
            directory.nid = self._space.place(piece)
        node.nid = directory.nid

    def _write_directory(self, directory: _Directory, block0: bytearray) -> None:
        node = directory.node
        assert node.children is not None
        kind = ondisk.file_type(stat.S_IFDIR)
        entries = {b".": (directory.nid, kind), b"..": (directory.parent, kind)}
        for name, child in node.children.items():
            entries[name] = (child.nid, ondisk.file_type(child.mode))
        data = directory.layout.pack(entries)
        body = len(data) - (len(data) % BLOCK if directory.inline else 0)
        if body:
            self._space.patch_blocks(directory.first, memoryview(data)[:body])
        if directory.piece:
            piece = directory.piece + data[body:]
            block0[_ROOT_OFFSET : _ROOT_OFFSET + len(piece)] = piece
        elif directory.inline:
            self._space.patch(directory.nid, directory.head, data[body:])

    # Section: the rest

    def _place_file(self, node: Node) -> None:
        size = node.size
        if not 0 <= size <= MAX_SIZE:
            raise ImageError(f"a file of {size} bytes cannot be stored")
        area = ondisk.pack_xattrs(node.xattrs) if node.xattrs else b""
        first = self._bases[node.source] + node.block if size else 0
        node.nid = self._space.place(self._inode(node, area, size, first, False, 1) + area)

    def _place_special(self, node: Node) -> None:
        """Symbolic links, devices, pipes and sockets."""
        target = node.target if node.is_symlink else b""
        if node.is_symlink and not 0 < len(target) <= ondisk.MAX_SYMLINK:
            raise ImageError(f"a symbolic link's target has {len(target)} bytes")
        area = ondisk.pack_xattrs(node.xattrs) if node.xattrs else b""
        inline = 0 < len(target) <= BLOCK - ondisk.EXTENDED_SIZE - len(area)
        union = 0
        if target and not inline:
            union = self._space.blocks(target)
        elif node.is_device:
            union = ondisk.device_number(*node.device)
        piece = self._inode(node, area, len(target), union, inline, 1) + area
        node.nid = self._space.place(piece + target if inline else piece, whole=inline)

    def _inode(
        self, node: Node, area: bytes, size: int, union: int, inline: bool, nlink: int
    ) -> bytes:  # fmt: skip
        self._count += 1
        if not (0 <= node.uid <= 0xFFFFFFFF and 0 <= node.gid <= 0xFFFFFFFF):
            raise ImageError(f"owner {node.uid}:{node.gid} is out of range")
        if not (-(1 << 63) <= node.mtime < 1 << 63 and 0 <= node.mtime_ns < 1_000_000_000):
            raise ImageError(f"time {node.mtime} is out of range")
        return ondisk.extended_inode(
            ondisk.FLAT_INLINE if inline else ondisk.FLAT_PLAIN, ondisk.xattr_count(len(area)),
            node.mode, size, union, self._count, node.uid, node.gid, node.mtime, node.mtime_ns,
            nlink,
        )  # fmt: skip


def _top_directory() -> bytes:
    """The inode of the file system's root with its entries, in four slots."""
    kind = ondisk.file_type(stat.S_IFDIR)
    entries = {b".": (_TOP_NID, kind), b"..": (_TOP_NID, kind), ROOT_NAME: (_ROOT_NID, kind)}
    data = ondisk.DirectoryLayout([ROOT_NAME]).pack(entries)
    inode = ondisk.extended_inode(
        ondisk.FLAT_INLINE, 0, stat.S_IFDIR | 0o755, len(data), 0, 0, 0, 0, 0, 0, 3
    )
    return (inode + data).ljust(_ROOT_OFFSET - _TOP_OFFSET, b"\0")
