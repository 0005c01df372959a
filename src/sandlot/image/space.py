"""Where things go in an image's metadata, which grows in memory and is written at once.

Block 0 belongs to the superblock and the root. Behind it, in the addresses of the image, stand
the contents of files; they are a gap in the file that holds the metadata.
"""

from __future__ import annotations

import os

from sandlot.errors import ImageError
from sandlot.image.ondisk import BLOCK, SLOT

_SLOTS = BLOCK // SLOT
_MAX_BLOCKS = 0xFFFFFFFF  # block addresses have 32 bits; this one means "none"


class Space:
    """The metadata of one image. All addresses given out count a gap of `gap` blocks behind
    block 0."""

    def __init__(self, gap: int = 0) -> None:
        self._gap = gap
        self._bytes = bytearray(BLOCK)

    def place(self, piece: bytes | bytearray, *, whole: bool = False) -> int:
        """Store a piece; returns its node id. A `whole` one, which has inline data, is not cut by
        a block's edge."""
        data = self._bytes
        data += bytes(-len(data) % SLOT)
        if whole and len(data) % BLOCK + len(piece) > BLOCK:
            data += bytes(-len(data) % BLOCK)
        at = len(data)
        data += piece
        return at // SLOT + self._gap * _SLOTS

    def blocks(self, data: bytes | bytearray | memoryview) -> int:
        """Store whole blocks, the last one filled up with zeros; returns the first one's
        address."""
        own = self._bytes
        own += bytes(-len(own) % BLOCK)
        first = len(own) // BLOCK + self._gap
        own += data
        if first + len(data) // BLOCK >= _MAX_BLOCKS:
            raise ImageError("the image is larger than 16 TiB")
        return first

    def patch(self, nid: int, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Overwrite a part of a placed piece, `offset` bytes after its start."""
        at = (nid - self._gap * _SLOTS) * SLOT + offset
        self._bytes[at : at + len(data)] = data

    def patch_blocks(self, first: int, data: bytes | bytearray | memoryview) -> None:
        """Overwrite stored blocks."""
        at = (first - self._gap) * BLOCK
        self._bytes[at : at + len(data)] = data

    def save(self, fd: int, block0: bytes | bytearray) -> int:
        """Write everything; returns its length in bytes, which is whole blocks."""
        self._bytes[:BLOCK] = block0
        self._bytes += bytes(-len(self._bytes) % BLOCK)
        view = memoryview(self._bytes)
        at = 0
        while at < len(view):
            at += os.pwrite(fd, view[at : at + (1 << 30)], at)
        return len(view)
