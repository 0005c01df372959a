"""From bytes of the guest's kernel to requests: bounded, and nothing is believed. Pure.

The guest may send anything. What cannot be a FUSE message is a breach of the protocol, told as
`GuestProtocolError`; a message that is one but asks for nonsense is answered with an errno.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from struct import Struct
from typing import Any

from sandlot.errors import GuestProtocolError
from sandlot.filesystem.fuse.opcodes import Op

HEADER = Struct("<IIQQIIIHH")  # struct fuse_in_header: 40 bytes
HEADER_SIZE = HEADER.size
MAX_PAGES = 255
"""Of one READ or WRITE: with its header it fits into one frame of the channel."""
MAX_DATA = MAX_PAGES * 4096
MAX_REQUEST = MAX_DATA + 4096
MAX_NAME = 255
MAX_PATH = 4096
MAX_XATTR = 65536
MAX_FORGETS = 65536

# The fixed parts of requests, after the header.
GETATTR = Struct("<IIQ")
SETATTR = Struct("<IIQQQQQQIIIIIIII")
MKNOD = Struct("<IIII")
MKDIR = Struct("<II")
RENAME = Struct("<Q")
RENAME2 = Struct("<QII")
LINK = Struct("<Q")
OPEN = Struct("<II")
CREATE = Struct("<IIII")
RELEASE = Struct("<QIIQ")
FLUSH = Struct("<QIIQ")
READ = Struct("<QQIIQII")
WRITE = Struct("<QQIIQII")
FSYNC = Struct("<QII")
SETXATTR = Struct("<II")
GETXATTR = Struct("<II")
LOCK = Struct("<QQQQIIII")
INIT = Struct("<IIII")
INTERRUPT = Struct("<Q")
FORGET = Struct("<Q")
BATCH_FORGET = Struct("<II")
FORGET_ONE = Struct("<QQ")
FALLOCATE = Struct("<QQQII")
LSEEK = Struct("<QQII")
COPY_FILE_RANGE = Struct("<QQQQQQQ")


@dataclass(slots=True)
class Request:
    """One request: who asks for what about which node, and its whole bytes."""

    op: int
    unique: int
    node: int
    uid: int
    gid: int
    pid: int
    data: bytes

    def fields(self, layout: Struct) -> tuple[Any, ...]:
        """The fixed part of the body.

        Raises:
            GuestProtocolError: the message is shorter.
        """
        try:
            return layout.unpack_from(self.data, HEADER_SIZE)
        except struct.error:
            raise GuestProtocolError(
                f"a FUSE request {self.op} of {len(self.data)} bytes"
            ) from None

    def text(self, skip: int, most: int = MAX_PATH) -> tuple[str, int]:
        """A text that ends with NUL, after `skip` bytes of the body; and where it ended.

        Raises:
            GuestProtocolError: there is no NUL.
            OSError: it is longer than `most` bytes.
        """
        start = HEADER_SIZE + skip
        end = self.data.find(b"\0", start)
        if end < 0:
            raise GuestProtocolError(f"a FUSE request {self.op} with a text that does not end")
        if end - start > most:
            raise OSError(errno.ENAMETOOLONG, "the name is too long")
        return self.data[start:end].decode("utf-8", "surrogateescape"), end + 1 - HEADER_SIZE

    def name(self, skip: int = 0) -> tuple[str, int]:
        """The name of something in a folder; never a path, nor `.` or `..`.

        Raises:
            GuestProtocolError: the guest's kernel would never send it.
            OSError: it is too long.
        """
        text, end = self.text(skip, MAX_NAME)
        if not text or "/" in text or text in (".", ".."):
            raise GuestProtocolError(f"a FUSE request {self.op} names {text!r} in a folder")
        return text, end

    def rest(self, skip: int, length: int) -> memoryview:
        """`length` bytes after `skip` of the body.

        Raises:
            GuestProtocolError: there are fewer.
        """
        start = HEADER_SIZE + skip
        if len(self.data) - start < length:
            raise GuestProtocolError(f"a FUSE request {self.op} lacks its data")
        return memoryview(self.data)[start : start + length]

    def forgets(self) -> list[tuple[int, int]]:
        """Nodes, and how many of the times that they were told the guest forgets.

        Raises:
            GuestProtocolError: it is no list of such.
        """
        if self.op == Op.FORGET:
            return [(self.node, self.fields(FORGET)[0])]
        count = self.fields(BATCH_FORGET)[0]
        if count > MAX_FORGETS:
            raise GuestProtocolError(f"a FUSE request forgets {count} nodes at once")
        body = self.rest(BATCH_FORGET.size, count * FORGET_ONE.size)
        return [(node, times) for node, times in FORGET_ONE.iter_unpack(body)]


class Splitter:
    """Cuts a stream of bytes into requests."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def feed(self, data: bytes) -> list[Request]:
        """The requests that are whole now.

        Raises:
            GuestProtocolError: this is no stream of requests.
        """
        kept = self._kept
        if kept:
            kept += data
            data = bytes(kept)
            kept.clear()
        requests = []
        start, end = 0, len(data)
        while end - start >= HEADER_SIZE:
            length, op, unique, node, uid, gid, pid, _, _ = HEADER.unpack_from(data, start)
            if not HEADER_SIZE <= length <= MAX_REQUEST:
                raise GuestProtocolError(f"a FUSE request of {length} bytes")
            if end - start < length:
                break
            whole = data if length == end else data[start : start + length]
            requests.append(Request(op, unique, node, uid, gid, pid, whole))
            start += length
        if start < end:
            kept += data[start:]
        return requests
