"""Where a file is cut into chunks: by what is in it, at whole pages. Pure.

What machines write lies at pages of 4 KiB: blocks of file systems, memory, clusters of disks. So a
cut is after a page whose checksum, with the ring's own number, says so: the same run of pages makes
the same chunks in any file at any page. Runs of zeros are no chunks, they are left out. Measured at
docs/design/0022-push-and-pull.md.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

PAGE = 4096
SHORTEST = 8 * PAGE
LONGEST = 128 * PAGE
SEGMENT = 4 << 20
"""Bytes that are cut by themselves, at multiples of it, so that several are at the same time."""
_ONE_IN = 24
_LIMIT = (1 << 32) // _ONE_IN
GAP = 16 * PAGE
"""Bytes of zeros that are left out; fewer stay in their chunk, where they compress to nothing."""
_ZEROS = bytes(PAGE)
_ODD = 0x9E3779B1


def chunks(data: bytes | memoryview, number: int) -> Iterator[tuple[int, int]]:
    """Where the chunks of a segment are: (begin, end), without the zeros between them.

    Args:
        data: a segment, whole pages but for the end of a file.
        number: the ring's own, of 32 bits.
    """
    view = memoryview(data)
    crc32, size = zlib.crc32, len(view)
    begin, zeros = -1, 0  # of the chunk, and where the zeros at its end begin
    nothing = crc32(_ZEROS)
    for at in range(0, size, PAGE):
        page = view[at : at + PAGE]
        found = crc32(page)
        if found == nothing and page == _ZEROS:
            if begin >= 0 and at + PAGE - zeros >= GAP:
                yield begin, zeros
                begin = -1
        else:
            if begin < 0:
                begin = at
            zeros = at + PAGE
        length = at + PAGE - begin
        if begin >= 0 and (
            length >= LONGEST
            or (length >= SHORTEST and ((found ^ number) * _ODD & 0xFFFFFFFF) < _LIMIT)
        ):
            yield begin, min(zeros, size)
            begin = -1
    if begin >= 0:
        yield begin, min(zeros, size)
