"""The server's side of the Network Block Device protocol, for reading alone. Pure and bounded.

By it the engine reads a file whose bytes are not all on this machine yet. Its other end is the
monitor, which may have fallen to its guest: whatever it says is checked.
Source: NBD proto.md, "Fixed newstyle negotiation", "Option haggling", "Transmission".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from sandlot.errors import GuestProtocolError

MOST = 2 << 20
"""Bytes of one read, at most; the client is told so."""
MOST_OPTIONS = 64
"""Options that a client may haggle about."""
_MOST_OPTION = 4096
_HELLO = b"NBDMAGICIHAVEOPT"
_HAVE_OPTION = b"IHAVEOPT"
_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2
_OPTION = struct.Struct(">8sII")
_OPTION_REPLY = struct.Struct(">QIII")
_OPTION_REPLY_MAGIC = 0x3E889045565A9
_EXPORT_NAME, _ABORT, _INFO, _GO = 1, 2, 6, 7
_ACK, _INFO_REPLY, _UNSUPPORTED, _INVALID = 1, 3, 0x80000001, 0x80000003
_INFO_EXPORT, _INFO_BLOCK_SIZE = 0, 3
_REQUEST = struct.Struct(">IHHQQI")
_REQUEST_MAGIC = 0x25609513
_REPLY = struct.Struct(">IIQ")
_REPLY_MAGIC = 0x67446698
_READ, _WRITE, _DISCONNECT = 0, 1, 2
_FLAGS = 1 | 2  # there are flags; it is read-only
_EPERM, _EIO, _EINVAL = 1, 5, 22


@dataclass(frozen=True)
class Read:
    """What the client wants; `handle` is its name for it."""

    handle: int
    offset: int
    length: int


class NbdServer:
    """What one client of one export is told.

        server = NbdServer(size)
        reads = server.feed(data)       # then send what server.take() has
        server.answer(reads[0], data)

    Args:
        size: of the export, in bytes.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._unread = bytearray()
        self._out = bytearray(_HELLO + struct.pack(">H", _FIXED_NEWSTYLE | _NO_ZEROES))
        self._flags: int | None = None
        self._options = 0
        self._transmitting = False
        self.over = False
        """Whether the client has said that it wants nothing more."""

    def take(self) -> bytes:
        """What is to be sent now."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def feed(self, data: bytes) -> list[Read]:
        """What the client wants, after it has sent more.

        Raises:
            GuestProtocolError: that is not this protocol, or not within its bounds.
        """
        self._unread += data
        reads: list[Read] = []
        while not self.over and self._step(reads):
            pass
        return reads

    def answer(self, read: Read, data: bytes) -> None:
        """The bytes that a read wanted."""
        if len(data) != read.length:
            raise ValueError(f"{len(data)} bytes for a read of {read.length}")
        self._out += _REPLY.pack(_REPLY_MAGIC, 0, read.handle)
        self._out += data

    def fail(self, read: Read) -> None:
        """They cannot be had."""
        self._refuse(read.handle, _EIO)

    def _refuse(self, handle: int, error: int) -> None:
        self._out += _REPLY.pack(_REPLY_MAGIC, error, handle)

    def _step(self, reads: list[Read]) -> bool:
        """Whether something was whole, and taken."""
        if self._transmitting:
            return self._request(reads)
        if self._flags is None:
            if len(self._unread) < 4:
                return False
            (self._flags,) = struct.unpack_from(">I", self._unread)
            del self._unread[:4]
            if self._flags & ~(_FIXED_NEWSTYLE | _NO_ZEROES) or not self._flags & _FIXED_NEWSTYLE:
                raise GuestProtocolError(f"a client of a disk has the flags {self._flags:#x}")
            return True
        return self._option()

    # -- before ----------------------------------------------------------------------------

    def _option(self) -> bool:
        if len(self._unread) < _OPTION.size:
            return False
        magic, option, length = _OPTION.unpack_from(self._unread)
        if magic != _HAVE_OPTION or length > _MOST_OPTION:
            raise GuestProtocolError("a client of a disk sent what is no option")
        end = _OPTION.size + length
        if len(self._unread) < end:
            return False
        data = bytes(self._unread[_OPTION.size : end])
        del self._unread[:end]
        self._options += 1
        if self._options > MOST_OPTIONS:
            raise GuestProtocolError(f"a client of a disk sent over {MOST_OPTIONS} options")
        if option == _EXPORT_NAME:
            self._out += struct.pack(">QH", self._size, _FLAGS)
            if not (self._flags or 0) & _NO_ZEROES:
                self._out += bytes(124)
            self._transmitting = True
        elif option == _ABORT:
            self._tell(option, _ACK)
            self.over = True
        elif option in (_INFO, _GO):
            self._inform(option, data)
        else:
            self._tell(option, _UNSUPPORTED)
        return True

    def _inform(self, option: int, data: bytes) -> None:
        """About the one export, whatever its name."""
        try:
            (named,) = struct.unpack_from(">I", data)
            (count,) = struct.unpack_from(">H", data, 4 + named)
            wanted = struct.unpack_from(f">{count}H", data, 6 + named)
            wrong = len(data) != 6 + named + 2 * count
        except struct.error:
            wrong = True
        if wrong:
            self._tell(option, _INVALID)
            return
        self._tell(option, _INFO_REPLY, struct.pack(">HQH", _INFO_EXPORT, self._size, _FLAGS))
        if _INFO_BLOCK_SIZE in wanted:
            sizes = struct.pack(">HIII", _INFO_BLOCK_SIZE, 1, 4096, MOST)
            self._tell(option, _INFO_REPLY, sizes)
        self._tell(option, _ACK)
        self._transmitting = option == _GO

    def _tell(self, option: int, kind: int, data: bytes = b"") -> None:
        self._out += _OPTION_REPLY.pack(_OPTION_REPLY_MAGIC, option, kind, len(data)) + data

    # -- after -----------------------------------------------------------------------------

    def _request(self, reads: list[Read]) -> bool:
        if len(self._unread) < _REQUEST.size:
            return False
        magic, _, kind, handle, offset, length = _REQUEST.unpack_from(self._unread)
        if magic != _REQUEST_MAGIC or kind == _WRITE:
            # What is written would follow: nothing is, to what was told to be read-only.
            raise GuestProtocolError("a client of a disk sent what is no request to read")
        del self._unread[: _REQUEST.size]
        if kind == _DISCONNECT:
            self.over = True
        elif kind != _READ:
            self._refuse(handle, _EPERM if kind in (4, 6) else _EINVAL)
        elif not 0 < length <= MOST or offset + length > self._size:
            self._refuse(handle, _EINVAL)
        else:
            reads.append(Read(handle, offset, length))
        return True
