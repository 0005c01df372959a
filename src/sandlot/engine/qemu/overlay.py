"""An empty QCOW2 overlay, as bytes. Pure.

Where it lies over is said on QEMU's command line, so the header names no backing file. Clusters are
of 4 KiB, as the blocks of the guest's file system: a write copies nothing of what is below it.
(Larger ones with subclusters would do the same, but QEMU 7.2 dies when it joins layers of such.)
Source: QEMU docs/interop/qcow2.txt.
"""

from __future__ import annotations

import struct

CLUSTER_BITS = 12
CLUSTER = 1 << CLUSTER_BITS
_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")
_DIRTY = 1 << 0
_LAZY_REFCOUNTS = 1 << 0
_REFCOUNT_ORDER = 4  # 16 bits each
_L2_SPAN = CLUSTER // 8 * CLUSTER  # bytes of disk that one L2 table describes
_FIRST = 3  # clusters before the table of L2 tables
_MOST_CLUSTERS = CLUSTER // 2  # that one block of refcounts describes


def empty_overlay(size: int) -> bytes:
    """An overlay with nothing in it for a disk of `size` bytes.

    Clusters: the header, the table of refcounts, its one block, the table of L2 tables.
    """
    tables = -(-size // _L2_SPAN)
    clusters = _FIRST + -(-tables * 8 // CLUSTER)
    if size % 512 or tables <= 0 or clusters > _MOST_CLUSTERS:
        raise ValueError(f"a disk of {size} bytes")
    header = _HEADER.pack(
        b"QFI\xfb", 3, 0, 0, CLUSTER_BITS, size, 0, tables, _FIRST * CLUSTER, CLUSTER, 1, 0, 0,
        0, _LAZY_REFCOUNTS, 0, _REFCOUNT_ORDER, 104,
    )  # fmt: skip
    image = bytearray(clusters * CLUSTER)
    image[: len(header)] = header  # the end of the extensions, zeros, follows
    struct.pack_into(">Q", image, CLUSTER, 2 * CLUSTER)
    struct.pack_into(f">{clusters}H", image, 2 * CLUSTER, *[1] * clusters)
    return bytes(image)


def check_overlay(start: bytes | bytearray, most: int) -> None:
    """Refuse an overlay that is not of the kind above, or of a disk of more than `most` bytes:
    one from a stranger could name other files of the host. `start` are its first bytes.

    Raises:
        ValueError: with what is wrong.
    """
    if len(start) < _HEADER.size:
        raise ValueError("it is cut off")
    (
        magic, version, backing, backing_length, bits, size, encryption, tables, _, _, _, saved, _,
        incompatible, _, _, order, length,
    ) = _HEADER.unpack_from(start)  # fmt: skip
    if magic != b"QFI\xfb" or version != 3 or bits != CLUSTER_BITS or order != _REFCOUNT_ORDER:
        raise ValueError("it is no overlay of this kind")
    if backing > CLUSTER or backing_length:  # the place alone names nothing
        raise ValueError("it names a file below it")
    if encryption or saved or incompatible & ~_DIRTY:
        raise ValueError("it uses features that no overlay of this kind has")
    if not _HEADER.size <= length <= CLUSTER:
        raise ValueError("it is no overlay of this kind")
    if not 0 < size <= most or size % 512 or tables > -(-most // _L2_SPAN):
        raise ValueError(f"it is a disk of {size} bytes")
