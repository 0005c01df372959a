"""The EROFS on-disk format: records as bytes, and nothing that does I/O.

Source: the kernel's `Documentation/filesystems/erofs.rst` and `fs/erofs/erofs_fs.h` (6.1).
Only what an uncompressed image needs is here. All integers are little-endian, all sizes are
in bytes.
"""

from __future__ import annotations

import stat
import struct
from typing import TYPE_CHECKING

from sandlot.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BLOCK = 4096
BLOCK_BITS = 12
SLOT = 32  # node ids count slots of this size
SUPER_OFFSET = 1024
SUPER_SIZE = 128
EXTENDED_SIZE = 64
NLINK_OFFSET = 44  # in an inode
DIRENT_SIZE = 12

MAX_NAME = 255
MAX_SYMLINK = 4095  # the kernel's PATH_MAX without the NUL
MAX_XATTR_VALUE = 0xFFFF  # e_value_size is 16 bits wide, and so is Linux' own limit (64 KiB)
MAX_XATTRS = 4 * 0xFFFE  # i_xattr_icount is 16 bits wide and counts words

FLAT_PLAIN = 0
FLAT_INLINE = 2

_MAGIC = 0xE0F5E1E2
_FEATURE_SB_CHECKSUM = 1
_FEATURE_MTIME = 2

_SUPER = struct.Struct("<IIIBBHQQIIII16s16sIHHH38x")
_EXTENDED = struct.Struct("<HHHHQIIIIQII16x")
_DIRENT = struct.Struct("<QHBx")
_XATTR_ENTRY = struct.Struct("<BBH")

_FILE_TYPES = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}

# The ACL names have no suffix: the index is the whole name.
_XATTR_PREFIXES = (
    (b"user.", 1),
    (b"trusted.", 4),
    (b"security.", 6),
)
_XATTR_WHOLE = {b"system.posix_acl_access": 2, b"system.posix_acl_default": 3}


def file_type(mode: int) -> int:
    """The directory entry's type number for a `st_mode`."""
    return _FILE_TYPES[mode & 0o170000]


def device_number(major: int, minor: int) -> int:
    """The kernel's 32-bit `new_encode_dev` form: 12 bits of major, 20 of minor.

    >>> hex(device_number(8, 1))
    '0x801'
    """
    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
        raise ImageError(f"device number {major}:{minor} is out of range")
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def extended_inode(
    layout: int, xattr_count: int, mode: int, size: int, union: int, ino: int, uid: int,
    gid: int, mtime: int, mtime_ns: int, nlink: int,
) -> bytes:  # fmt: skip
    """A 64-byte inode, with 64-bit size and its own time. The small form, whose time is the
    superblock's, is not worth its second way."""
    return _EXTENDED.pack(
        layout << 1 | 1, xattr_count, mode, 0, size, union, ino & 0xFFFFFFFF, uid, gid,
        mtime & 0xFFFFFFFFFFFFFFFF, mtime_ns, nlink,
    )  # fmt: skip


def superblock(root_nid: int) -> bytes:
    """The superblock, not yet summed: `SUPER_SIZE` bytes, the same for every image.

    `meta_blkaddr` is zero, so that a node id is the absolute position of an inode in slots and
    inodes may stand anywhere in the image. The root's id has only 16 bits and must be low. The
    numbers of blocks and inodes only serve statfs(2); they are those of the largest image.
    """
    return _SUPER.pack(
        _MAGIC, 0, _FEATURE_SB_CHECKSUM | _FEATURE_MTIME, BLOCK_BITS, 0, root_nid, 1 << 32,
        0, 0, 0xFFFFFFFF, 0, 0, bytes(16), bytes(16), 0, 0, 0, 0,
    )  # fmt: skip


def seal_superblock(block: bytearray) -> None:
    """Write the checksum into `block`, the image's whole first block, in place.

    The sum goes from the superblock to the end of the block, with the field itself zero.
    """
    struct.pack_into("<I", block, SUPER_OFFSET + 4, 0)
    struct.pack_into("<I", block, SUPER_OFFSET + 4, crc32c(block[SUPER_OFFSET:BLOCK]))


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC_TABLE = _crc_table()


def crc32c(data: Iterable[int]) -> int:
    """CRC-32C as the kernel's `crc32c(~0, …)` computes it: without the final inversion."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc


def xattr_supported(name: bytes) -> bool:
    """Whether EROFS can hold an extended attribute of this full name."""
    if name in _XATTR_WHOLE:
        return True
    return any(name.startswith(p) and len(p) < len(name) for p, _ in _XATTR_PREFIXES)


def pack_xattrs(xattrs: Mapping[bytes, bytes]) -> bytes:
    """The attribute area that follows an inode; empty when there are none.

    Raises ImageError for a name or a value that cannot be stored.
    """
    if not xattrs:
        return b""
    area = bytearray(12)
    for name in sorted(xattrs):
        value = xattrs[name]
        index, suffix = _split_xattr(name)
        if len(suffix) > MAX_NAME or len(value) > MAX_XATTR_VALUE:
            raise ImageError(f"extended attribute {name!r} is too long")
        area += _XATTR_ENTRY.pack(len(suffix), index, len(value)) + suffix + value
        area += bytes(-len(area) % 4)
    if len(area) > MAX_XATTRS:
        raise ImageError("a file has too many extended attributes")
    return bytes(area)


def xattr_count(area_size: int) -> int:
    """The inode's `i_xattr_icount` for an area of this many bytes."""
    return (area_size - 12) // 4 + 1 if area_size else 0


def _split_xattr(name: bytes) -> tuple[int, bytes]:
    whole = _XATTR_WHOLE.get(name)
    if whole is not None:
        return whole, b""
    for prefix, index in _XATTR_PREFIXES:
        if name.startswith(prefix) and len(name) > len(prefix):
            return index, name[len(prefix) :]
    raise ImageError(f"extended attribute {name!r} has a name space that EROFS cannot hold")


class DirectoryLayout:
    """How a directory's names fall into blocks; the node ids can come later.

    Names are sorted as bytes over the whole directory, `.` and `..` among them: the kernel
    searches by bisection. Each block but the last is filled up to BLOCK with zeros.
    """

    def __init__(self, names: Iterable[bytes]) -> None:
        self.blocks: list[list[bytes]] = []
        block: list[bytes] = []
        used = 0
        for name in sorted((b".", b"..", *names)):
            need = DIRENT_SIZE + len(name)
            if used + need > BLOCK:
                self.blocks.append(block)
                block, used = [], 0
            block.append(name)
            used += need
        self.blocks.append(block)
        self.size = (len(self.blocks) - 1) * BLOCK + used

    def pack(self, entries: Mapping[bytes, tuple[int, int]]) -> bytes:
        """The directory's data; `entries` maps each name to its node id and file type."""
        out = bytearray()
        for block in self.blocks:
            out += bytes(-len(out) % BLOCK)
            offset = DIRENT_SIZE * len(block)
            for name in block:
                nid, kind = entries[name]
                out += _DIRENT.pack(nid, offset, kind)
                offset += len(name)
            out += b"".join(block)
        return bytes(out)
