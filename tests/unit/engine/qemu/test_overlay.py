"""An empty overlay: the fields of its header and of its tables, as the specification has them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.engine.qemu.overlay import CLUSTER, check_overlay, empty_overlay


@pytest.mark.parametrize("size", [1 << 20, 4 << 30, 64 << 30])
def test_an_empty_overlay_describes_itself(size: int) -> None:
    image = empty_overlay(size)
    assert image[:8] == b"QFI\xfb\0\0\0\3"
    backing, _, bits, virtual = struct.unpack_from(">QIIQ", image, 8)
    assert (backing, 1 << bits, virtual) == (0, CLUSTER, size)
    _, tables, table, refcounts, blocks = struct.unpack_from(">IIQQI", image, 32)
    assert tables * (CLUSTER // 8) * CLUSTER >= size
    assert len(image) >= table + 8 * tables
    assert not any(image[table : table + 8 * tables])
    assert blocks == 1
    (block,) = struct.unpack_from(">Q", image, refcounts)
    used = struct.unpack_from(f">{len(image) // CLUSTER}H", image, block)
    assert set(used) == {1}
    incompatible, compatible, _, order, length = struct.unpack_from(">QQQII", image, 72)
    assert (incompatible, compatible, order, length) == (0, 1, 4, 104)
    assert not any(image[length : length + 8])  # no extensions


@pytest.mark.parametrize("size", [0, 100, 1 << 60])
def test_what_is_no_disk_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="disk"):
        empty_overlay(size)


def test_overlays_from_elsewhere() -> None:
    image = empty_overlay(4 << 30)
    check_overlay(image, 4 << 30)
    dirty = bytearray(image)
    dirty[79] |= 1  # as QEMU leaves it in a snapshot of a machine that runs
    dirty[8:16] = (1 << 10).to_bytes(8)  # where a name would be, as QEMU leaves it after joining
    check_overlay(dirty, 64 << 30)
    fields = (
        (0, b"\0\0\0\0", "no overlay"), (4, b"\0\0\0\2", "no overlay"),
        (8, b"\0\0\0\0\0\1\0\0", "file below"), (16, b"\0\0\0\1", "file below"),
        (20, b"\0\0\0\x10", "no overlay"), (24, bytes(8), "disk of 0"),
        (32, b"\0\0\0\1", "features"), (36, b"\xff" * 4, "disk of"), (60, b"\0\0\0\1", "features"),
        (72, b"\0\0\0\0\0\0\0\x10", "features"), (72, b"\0\0\0\0\0\0\0\4", "features"),
        (100, bytes(4), "no overlay"),
    )  # fmt: skip
    for at, value, why in fields:
        bad = bytearray(image)
        bad[at : at + len(value)] = value
        with pytest.raises(ValueError, match=why):
            check_overlay(bad, 4 << 30)
    for most, start, why in ((2 << 30, image, "disk of"), (4 << 30, image[:50], "cut off")):
        with pytest.raises(ValueError, match=why):
            check_overlay(start, most)


@given(st.binary(max_size=200))
def test_any_start_is_taken_or_refused(start: bytes) -> None:
    with pytest.raises(ValueError):
        check_overlay(start, 64 << 30)
