"""Where things go in an image: runs of data blocks, and small pieces packed into metadata.

An image is written in one pass while its size is unknown, so metadata cannot have a place of
its own at the front. It lives in extents of `EXTENT` blocks between the data: few enough seeks
for the guest, and nothing is kept in memory but the blocks that still have room.
"""

from __future__ import annotations

import os

from sandlot.errors import ImageError
from sandlot.image.ondisk import BLOCK, SLOT

EXTENT = 64  # blocks of metadata that stand together
OPEN_BLOCKS = 256  # metadata blocks with room left that are kept in memory: 1 MiB
_SLOTS = BLOCK // SLOT
_MAX_BLOCKS = 0xFFFFFFFF  # block addresses have 32 bits; this one means "none"


def write_all(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """`pwrite` until everything is written."""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view = view[done:]
        offset += done


class Space:
    """The allocator of one image file, which also writes what it placed."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._next = 1  # block 0 belongs to the superblock and the root
        self._extent: list[int] = []  # free blocks of the current extent, last one first
        self._open: dict[int, bytearray] = {}
        # The open blocks with n free slots, which are always at the block's end.
        self._by_room: list[list[int]] = [[] for _ in range(_SLOTS + 1)]
        self._rooms = 0  # bit n: some open block has n slots of room

    def data(self, count: int) -> int:
        """Reserve `count` blocks in a row; returns the first."""
        first = self._next
        self._next += count
        if self._next > _MAX_BLOCKS:
            raise ImageError("the image is larger than 16 TiB")
        return first

    def place(self, piece: bytes | bytearray) -> int:
        """Store a piece of at most one block, uncut by a block's edge; returns its node id."""
        need = -(-len(piece) // SLOT)
        fitting = self._rooms >> need
        if fitting:
            room = need + (fitting & -fitting).bit_length() - 1
            block = self._take(room)
        else:
            block, room = self._fresh(), _SLOTS
        used = _SLOTS - room
        buffer = self._open[block]
        buffer[used * SLOT : used * SLOT + len(piece)] = piece
        self._offer(block, room - need)
        return block * _SLOTS + used

    def place_large(self, piece: bytes | bytearray) -> int:
        """Store a piece larger than a block; returns its node id."""
        first = self.data(-(-len(piece) // BLOCK))
        write_all(self._fd, piece, first * BLOCK)
        return first * _SLOTS

    def patch(self, nid: int, offset: int, data: bytes) -> None:
        """Overwrite a part of a placed piece, `offset` bytes after its start."""
        at = nid * SLOT + offset
        buffer = self._open.get(at // BLOCK)
        if buffer is None:
            write_all(self._fd, data, at)
        else:
            buffer[at % BLOCK : at % BLOCK + len(data)] = data

    def finish(self) -> int:
        """Write what is still in memory; returns the image's length in blocks.

        No piece may be placed after this, but patches are welcome.
        """
        for block in sorted(self._open):
            write_all(self._fd, self._open[block], block * BLOCK)
        self._open.clear()
        if self._extent and self._extent[0] == self._next - 1:
            self._next = self._extent[-1]
        return self._next

    def _fresh(self) -> int:
        if not self._extent:
            first = self.data(EXTENT)
            self._extent = list(range(first + EXTENT - 1, first - 1, -1))
        if len(self._open) >= OPEN_BLOCKS:
            self._close_fullest()
        block = self._extent.pop()
        self._open[block] = bytearray(BLOCK)
        return block

    def _take(self, room: int) -> int:
        bucket = self._by_room[room]
        block = bucket.pop()
        if not bucket:
            self._rooms &= ~(1 << room)
        return block

    def _offer(self, block: int, room: int) -> None:
        if room:
            self._by_room[room].append(block)
            self._rooms |= 1 << room
        else:
            write_all(self._fd, self._open.pop(block), block * BLOCK)

    def _close_fullest(self) -> None:
        room = (self._rooms & -self._rooms).bit_length() - 1
        block = self._take(room)
        write_all(self._fd, self._open.pop(block), block * BLOCK)
