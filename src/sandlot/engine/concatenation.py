"""A disk that is made of pieces of files, one behind the other. Pure.

Its description is a VMDK with flat extents, which QEMU and others read, and which is text: one
line for each piece. Files are named relative to the description.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

SECTOR = 512

# A blank line before the first extent makes QEMU 7.2 count that extent twice.
_HEAD = """# Disk DescriptorFile
version=1
CID=fffffffe
parentCID=ffffffff
createType="twoGbMaxExtentFlat"
"""


def describe(pieces: Sequence[tuple[str, int, int]]) -> str:
    """The description of (file, offset, length) in bytes, which must be whole sectors.

    >>> print(describe([("a.img", 0, 1024), ("b.img", 512, 512)]).splitlines()[-1])
    RW 1 FLAT "b.img" 1
    """
    lines = []
    for name, offset, length in pieces:
        if offset % SECTOR or length % SECTOR or length <= 0:
            raise ValueError(f"{name}: offset {offset}, length {length}")
        if not name or set(name) & set('"/\r\n'):
            raise ValueError(f"{name!r} cannot name an extent")
        lines.append(f'RW {length // SECTOR} FLAT "{name}" {offset // SECTOR}')
    return _HEAD + "\n".join(lines) + "\n"


def pieces_of(description: str) -> list[tuple[str, int, int]]:
    """The opposite of `describe`.

    Raises:
        ValueError: it did not come from there.

    >>> pieces_of(describe([("a.img", 0, 1024)]))
    [('a.img', 0, 1024)]
    """
    pieces = []
    for line in description.removeprefix(_HEAD).splitlines():
        found = re.fullmatch(r'RW ([0-9]{1,12}) FLAT "([^"/]+)" ([0-9]{1,12})', line)
        if found is None:
            raise ValueError(f"{line[:80]!r} is no extent")
        pieces.append((found[2], int(found[3]) * SECTOR, int(found[1]) * SECTOR))
    if describe(pieces) != description:
        raise ValueError("another program described it")
    return pieces
