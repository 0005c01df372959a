"""A reader of uncompressed EROFS images that is as strict as the kernel, for tests.

Written from the kernel's `erofs_fs.h`, `inode.c`, `data.c`, `namei.c` and `xattr.c` (6.1), and
not from the writer: the two share no code.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = 4096
_PREFIXES = {
    1: b"user.", 2: b"system.posix_acl_access", 3: b"system.posix_acl_default", 4: b"trusted.",
    6: b"security.",
}  # fmt: skip


@dataclass
class Inode:
    """What the image says about one inode."""

    nid: int
    mode: int
    uid: int
    gid: int
    size: int
    nlink: int
    mtime: tuple[int, int]
    union: int
    layout: int
    tail_at: int  # where inline data would begin
    xattrs: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def device(self) -> tuple[int, int]:
        return self.union >> 8 & 0xFFF, self.union & 0xFF | self.union >> 12 & 0xFFF00


class ErofsReader:
    """Reads an image file; every violation of the format is an AssertionError."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY)
        first = os.pread(self.fd, BLOCK, 0)
        (
            magic, checksum, compat, bits, slots, root, self.inodes, self.build_time, nsec,
            self.blocks, self.meta, _, _, _, incompat, _, devices, _,
        ) = struct.unpack_from("<IIIBBHQQIIII16s16sIHHH", first, 1024)  # fmt: skip
        assert magic == 0xE0F5E1E2
        assert (bits, slots, nsec, incompat, devices) == (12, 0, 0, 0, 0)
        assert compat & 1
        assert checksum == _crc32c(first[1024:1028] + bytes(4) + first[1032:])
        self.blocks = os.fstat(self.fd).st_size // BLOCK
        self.top = root
        self.root = self.entries(self.inode(root))[b"root"][0]

    def close(self) -> None:
        os.close(self.fd)

    def inode(self, nid: int) -> Inode:
        at = self.meta * BLOCK + nid * 32
        head = os.pread(self.fd, 64, at)
        form, xcount, mode = struct.unpack_from("<HHH", head)
        layout = form >> 1 & 7
        assert layout in (0, 2) and form < 16
        if form & 1:
            (size, union, _, uid, gid, seconds, nanoseconds, nlink) = struct.unpack_from(
                "<QIIIIqII", head, 8
            )
            end = at + 64
        else:
            nlink, size = struct.unpack_from("<HI", head, 6)
            union, _, uid, gid = struct.unpack_from("<IIHH", head, 16)
            seconds, nanoseconds, end = self.build_time, 0, at + 32
        assert nanoseconds < 10**9 and nlink > 0
        xsize = 12 + 4 * (xcount - 1) if xcount else 0
        mtime = (seconds, nanoseconds)
        inode = Inode(nid, mode, uid, gid, size, nlink, mtime, union, layout, end + xsize)
        if xsize:
            inode.xattrs = self._xattrs(os.pread(self.fd, xsize, end))
        return inode

    def data(self, inode: Inode) -> bytes:
        return self.read(inode, 0, inode.size)

    def read(self, inode: Inode, offset: int, size: int) -> bytes:
        tail = inode.size % BLOCK if inode.layout == 2 else 0
        body = inode.size - tail
        out = b""
        if offset < body:
            at = inode.union * BLOCK + offset
            assert inode.union * BLOCK + body <= self.blocks * BLOCK
            out = os.pread(self.fd, min(size, body - offset), at)
            assert len(out) == min(size, body - offset)
        if tail and offset + size > body:
            assert inode.tail_at % BLOCK + tail <= BLOCK, "inline data crosses a block's edge"
            assert inode.tail_at + tail <= self.blocks * BLOCK
            start = max(0, offset - body)
            out += os.pread(self.fd, min(tail, offset + size - body) - start, inode.tail_at + start)
        return out

    def entries(self, inode: Inode) -> dict[bytes, tuple[int, int]]:
        """A directory's names with node ids and file types, checked to be in order."""
        assert stat.S_ISDIR(inode.mode)
        data = self.data(inode)
        found: dict[bytes, tuple[int, int]] = {}
        names = []
        for start in range(0, len(data), BLOCK):
            block = data[start : start + BLOCK]
            first = struct.unpack_from("<H", block, 8)[0]
            assert 12 <= first < len(block) and first % 12 == 0
            count = first // 12
            heads = [struct.unpack_from("<QHB", block, 12 * i) for i in range(count)]
            for index, (nid, offset, kind) in enumerate(heads):
                end = heads[index + 1][1] if index + 1 < count else len(block)
                name = block[offset:end]
                if index + 1 == count:
                    name = name.split(b"\0", 1)[0]
                assert 0 < len(name) <= 255
                names.append(name)
                found[name] = (nid, kind)
        assert names == sorted(names) and len(names) == len(found)
        assert b"." in found and b".." in found
        return found

    def walk(self) -> dict[bytes, Inode]:
        """All paths with their inodes; the root is `b""`."""
        found = {b"": self.inode(self.root)}
        stack = [(b"", self.root, self.top)]
        while stack:
            path, nid, parent = stack.pop()
            inode = found[path]
            entries = self.entries(inode)
            assert entries[b"."][0] == nid and entries[b".."][0] == parent
            for name, (child_nid, kind) in entries.items():
                if name in (b".", b".."):
                    continue
                child = self.inode(child_nid)
                assert kind == _kind(child.mode)
                inner = path + b"/" + name if path else name
                found[inner] = child
                if stat.S_ISDIR(child.mode):
                    stack.append((inner, child_nid, nid))
        return found

    def _xattrs(self, area: bytes) -> dict[bytes, bytes]:
        assert area[4] == 0, "shared attributes are not expected"
        found = {}
        at = 12
        while at < len(area):
            length, index, size = struct.unpack_from("<BBH", area, at)
            name = _PREFIXES[index] + area[at + 4 : at + 4 + length]
            at += 4 + length
            found[name] = area[at : at + size]
            at += size + -(at + size) % 4
        assert at == len(area)
        return found


def _kind(mode: int) -> int:
    order = (
        stat.S_ISREG, stat.S_ISDIR, stat.S_ISCHR, stat.S_ISBLK, stat.S_ISFIFO, stat.S_ISSOCK,
        stat.S_ISLNK,
    )  # fmt: skip
    return 1 + next(i for i, test in enumerate(order) if test(mode))


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 & -(crc & 1))
    return crc
