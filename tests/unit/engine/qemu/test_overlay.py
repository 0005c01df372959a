"""An empty overlay: the fields of its header and of its tables, as the specification has them."""

from __future__ import annotations

import struct

import pytest

from sandlot.engine.qemu.overlay import CLUSTER, empty_overlay


@pytest.mark.parametrize("size", [1 << 20, 4 << 30, 64 << 30])
def test_an_empty_overlay_describes_itself(size: int) -> None:
    image = empty_overlay(size)
    assert image[:8] == b"QFI\xfb\0\0\0\3"
    backing, _, bits, virtual = struct.unpack_from(">QIIQ", image, 8)
    assert (backing, 1 << bits, virtual) == (0, CLUSTER, size)
    _, tables, table, refcounts, blocks = struct.unpack_from(">IIQQI", image, 32)
    assert tables * (CLUSTER // 16) * CLUSTER >= size
    assert len(image) == 4 * CLUSTER
    assert not any(image[table : table + 8 * tables])
    assert blocks == 1
    (block,) = struct.unpack_from(">Q", image, refcounts)
    used = struct.unpack_from(f">{len(image) // CLUSTER}H", image, block)
    assert set(used) == {1}
    incompatible, compatible, _, order, length = struct.unpack_from(">QQQII", image, 72)
    assert (incompatible, compatible, order, length) == (16, 1, 4, 104)
    assert not any(image[length : length + 8])  # no extensions


@pytest.mark.parametrize("size", [0, 100, 1 << 60])
def test_what_is_no_disk_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="disk"):
        empty_overlay(size)
