"""A disk that is made of pieces of files, one behind the other. Pure.

Its description is a VMDK with flat extents, which QEMU and others read, and which is text: one
line for each piece. Files are named relative to the description.
"""

from __future__ import annotations

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
