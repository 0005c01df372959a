"""From answers to bytes for the guest's kernel. Pure."""

from __future__ import annotations

import os
from struct import Struct

from sandlot.filesystem.fuse.opcodes import Notify
from sandlot.filesystem.types import Attr, DirEntry, Entry, Statistics

HEADER = Struct("<IiQ")  # struct fuse_out_header
HEADER_SIZE = HEADER.size
_ATTR = "QQQQQQIIIIIIIIII"
_ATTR_OUT = Struct("<QII" + _ATTR)
_ENTRY_OUT = Struct("<QQQQII" + _ATTR)
ENTRY_SIZE = _ENTRY_OUT.size
_OPEN_OUT = Struct("<QII")
_WRITE_OUT = Struct("<II")
_STATFS_OUT = Struct("<QQQQQIIII24x")
_LOCK_OUT = Struct("<QQII")
_INIT_OUT = Struct("<IIIIHHIIHHI28x")
_DIRENT = Struct("<QQII")
_INVAL_INODE = Struct("<Qqq")
_INVAL_ENTRY = Struct("<QII")
_DELETE = Struct("<QQII")
_BILLION = 1_000_000_000


def reply(unique: int, body: bytes | bytearray | memoryview = b"") -> bytes:
    """A success."""
    return b"".join((HEADER.pack(HEADER_SIZE + len(body), 0, unique), body))


def failure(unique: int, errno: int) -> bytes:
    """A failure, by Linux's number."""
    return HEADER.pack(HEADER_SIZE, -errno, unique)


def _moment(seconds: float) -> tuple[int, int]:
    whole = int(seconds)
    return whole, int((seconds - whole) * _BILLION)


def _attr(attr: Attr) -> tuple[int, ...]:
    atime, atime_ns = divmod(attr.atime_ns, _BILLION)
    mtime, mtime_ns = divmod(attr.mtime_ns, _BILLION)
    ctime, ctime_ns = divmod(attr.ctime_ns, _BILLION)
    mask = 0xFFFFFFFFFFFFFFFF  # times before 1970 are negative
    return (
        attr.ino, attr.size, attr.blocks, atime & mask, mtime & mask, ctime & mask,
        atime_ns, mtime_ns, ctime_ns, attr.mode, attr.nlink, attr.uid, attr.gid, attr.rdev,
        attr.blksize, 0,
    )  # fmt: skip


def attr_body(attr: Attr, timeout: float) -> bytes:
    """What a node is (struct fuse_attr_out)."""
    return _ATTR_OUT.pack(*_moment(timeout), 0, *_attr(attr))


def entry_body(number: int, entry: Entry) -> bytes:
    """A name's node and what it is (struct fuse_entry_out)."""
    entry_s, entry_ns = _moment(entry.entry_timeout)
    attr_s, attr_ns = _moment(entry.attr_timeout)
    return _ENTRY_OUT.pack(number, 0, entry_s, attr_s, entry_ns, attr_ns, *_attr(entry.attr))


def no_entry_body(timeout: float) -> bytes:
    """That there is no such name, which may be remembered for a while."""
    whole, part = _moment(timeout)
    return _ENTRY_OUT.pack(0, 0, whole, 0, part, 0, *(0,) * 16)


def open_body(handle: int, flags: int) -> bytes:
    """An open file (struct fuse_open_out)."""
    return _OPEN_OUT.pack(handle, flags, 0)


def write_body(size: int) -> bytes:
    """How much was written; also the size of an attribute that does not fit (same layout)."""
    return _WRITE_OUT.pack(size, 0)


def statfs_body(s: Statistics) -> bytes:
    """How full it is (struct fuse_kstatfs)."""
    return _STATFS_OUT.pack(
        s.blocks, s.free, s.available, s.files, s.files_free, s.block_size, s.name_length,
        s.block_size, 0,
    )  # fmt: skip


def lock_body(start: int, end: int, kind: int, pid: int) -> bytes:
    """A lock that is in the way (struct fuse_file_lock)."""
    return _LOCK_OUT.pack(start, end, kind, pid)


def offset_body(offset: int) -> bytes:
    """A place in a file (struct fuse_lseek_out)."""
    return offset.to_bytes(8, "little")


def init_body(
    minor: int, readahead: int, flags: int, max_write: int, max_pages: int, background: int
) -> bytes:
    """What this side can do (struct fuse_init_out)."""
    return _INIT_OUT.pack(
        7, minor, readahead, flags & 0xFFFFFFFF, background, background * 3 // 4, max_write, 1,
        max_pages, 0, 0,
    )  # fmt: skip


def padded_dirent(name: bytes, ino: int, kind: int, offset: int) -> bytes:
    """A name in a folder (struct fuse_dirent)."""
    head = _DIRENT.pack(ino, offset, len(name), kind)
    return head + name + bytes(-(len(head) + len(name)) % 8)


def dirent_size(name: str) -> int:
    """How many bytes a name takes in a listing."""
    return (_DIRENT.size + len(os.fsencode(name)) + 7) & ~7


def dirent(entry: DirEntry, ino: int, offset: int) -> bytes:
    """A name in a folder; `offset` is where the listing goes on after it."""
    return padded_dirent(os.fsencode(entry.name), ino, entry.mode >> 12 & 0xF, offset)


def _notification(code: Notify, *parts: bytes) -> bytes:
    return HEADER.pack(HEADER_SIZE + sum(map(len, parts)), code, 0) + b"".join(parts)


def forget_data(node: int, offset: int = 0, length: int = 0) -> bytes:
    """The guest is to read this part of a file again, and what it is; length 0 is to the end, and
    a negative offset keeps the contents."""
    return _notification(Notify.INVAL_INODE, _INVAL_INODE.pack(node, offset, length))


def forget_name(parent: int, name: bytes) -> bytes:
    """The guest is to look a name up again."""
    return _notification(Notify.INVAL_ENTRY, _INVAL_ENTRY.pack(parent, len(name), 0), name, b"\0")


def deleted(parent: int, node: int, name: bytes) -> bytes:
    """A name is gone from a folder."""
    head = _DELETE.pack(parent, node, len(name), 0)
    return _notification(Notify.DELETE, head, name, b"\0")
