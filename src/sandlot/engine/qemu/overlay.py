"""An empty QCOW2 overlay, as bytes. Pure.

Where it lies over is said on QEMU's command line, so the header names no backing file. Clusters
of 128 KiB have 32 parts of 4 KiB each (extended L2 entries): a write of a page copies nothing of
what is below it. Source: QEMU docs/interop/qcow2.txt.
"""

from __future__ import annotations

import struct

CLUSTER_BITS = 17
CLUSTER = 1 << CLUSTER_BITS
_EXTENDED_L2 = 1 << 4
_LAZY_REFCOUNTS = 1 << 0
_REFCOUNT_ORDER = 4  # 16 bits each
_L2_SPAN = CLUSTER // 16 * CLUSTER  # bytes of disk that one L2 table describes


def empty_overlay(size: int) -> bytes:
    """An overlay with nothing in it for a disk of `size` bytes.

    Clusters: the header, the table of refcounts, its one block, the table of L2 tables.
    """
    tables = -(-size // _L2_SPAN)
    if size % 512 or not 0 < tables <= CLUSTER // 8:
        raise ValueError(f"a disk of {size} bytes")
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        b"QFI\xfb", 3, 0, 0, CLUSTER_BITS, size, 0, tables, 3 * CLUSTER, CLUSTER, 1, 0, 0,
        _EXTENDED_L2, _LAZY_REFCOUNTS, 0, _REFCOUNT_ORDER, 104,
    )  # fmt: skip
    image = bytearray(4 * CLUSTER)
    image[: len(header)] = header  # the end of the extensions, zeros, follows
    struct.pack_into(">Q", image, CLUSTER, 2 * CLUSTER)
    struct.pack_into(">4H", image, 2 * CLUSTER, 1, 1, 1, 1)
    return bytes(image)
