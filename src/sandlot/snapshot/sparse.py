"""A sparse file as a stream: what it holds besides zeros, and where. Sans-io.

    "SLSPARSE", u64 bytes of the file
    for each piece: u64 offset, u32 length, the bytes
    at the end: u64 bytes of the file, u32 0

Numbers are little-endian. Offsets are multiples of 64 KiB and rise; pieces are as long, but the
last one's end may be that of the file (`integrity.sparse_pieces`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from sandlot.errors import SnapshotDamaged
from sandlot.snapshot.integrity import PIECE

_HEAD = struct.Struct("<8sQ")
_PIECE = struct.Struct("<QI")
_MAGIC = b"SLSPARSE"


def head(size: int) -> bytes:
    """The beginning, for a file of `size` bytes."""
    return _HEAD.pack(_MAGIC, size)


def piece_head(at: int, length: int) -> bytes:
    """What stands before a piece."""
    return _PIECE.pack(at, length)


def end(size: int) -> bytes:
    """The end, for a file of `size` bytes."""
    return _PIECE.pack(size, 0)


class SparseReader:
    """Takes a stream as it comes, for a file of `size` bytes of which `data` are no zeros.

        for at, piece in reader.feed(data):
            os.pwrite(descriptor, piece, at)
        reader.finish()

    It keeps less than one piece in memory.
    """

    def __init__(self, size: int, data: int) -> None:
        self._size = size
        self._left = data
        self._rest = b""
        self._begun = False
        self._ended = False
        self._next = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The pieces that have come whole: (offset, bytes).

        Raises:
            SnapshotDamaged: it is no such stream, or of another file.
        """
        data = self._rest + data
        at = 0
        if not self._begun and len(data) >= _HEAD.size:
            if _HEAD.unpack_from(data) != (_MAGIC, self._size):
                raise SnapshotDamaged("a file in the archive has a wrong beginning")
            at, self._begun = _HEAD.size, True
        while self._begun and len(data) - at >= _PIECE.size:
            offset, length = _PIECE.unpack_from(data, at)
            self._check(offset, length)
            if self._ended:
                at += _PIECE.size
                continue
            if len(data) - at - _PIECE.size < length:
                break
            at += _PIECE.size
            self._left -= length
            self._next = offset + length
            yield offset, data[at : at + length]
            at += length
        self._rest = data[at:]
        if self._ended and self._rest:
            raise SnapshotDamaged("a file in the archive has something behind its end")

    def _check(self, offset: int, length: int) -> None:
        if self._ended:
            raise SnapshotDamaged("a file in the archive has something behind its end")
        if (offset, length) == (self._size, 0):
            self._ended = True
            return
        whole = length == PIECE or (0 < length < PIECE and offset + length == self._size)
        if not whole or offset % PIECE or offset < self._next or offset + length > self._size:
            raise SnapshotDamaged("a file in the archive has a piece in a wrong place")
        if length > self._left:
            raise SnapshotDamaged("a file in the archive is larger than it says")

    def finish(self) -> None:
        """Nothing more comes.

        Raises:
            SnapshotDamaged: something is missing.
        """
        if not self._ended or self._left:
            raise SnapshotDamaged("a file in the archive is cut off")
