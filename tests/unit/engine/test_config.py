"""What a machine is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandlot.engine.config import DISK_OFFSET, MIB, Disk


def test_a_writable_disk_lies_where_holes_may_be_punched() -> None:
    for offset in (0, DISK_OFFSET - MIB):
        with pytest.raises(ValueError, match="begins at"):
            Disk(path=Path("/d"), readonly=False, offset=offset)
    assert Disk(path=Path("/d"), readonly=False, offset=DISK_OFFSET).opened == Path("/d")
    assert Disk(path=None, readonly=False).opened is None
    assert Disk(path=Path("/i/about"), readonly=True, concatenated=True).opened == Path("/i")
