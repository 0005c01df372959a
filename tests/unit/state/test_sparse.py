from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandlot.state.sparse import copy_sparse

MIB = 1 << 20


@pytest.mark.parametrize("pieces", [[], [(0, 4096)], [(8192, 100), (3 * MIB, 70000)]])
def test_a_sparse_copy_is_equal_and_sparse(tmp_path: Path, pieces: list[tuple[int, int]]) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    with source.open("wb") as file:
        file.truncate(8 * MIB)
        for at, size in pieces:
            file.seek(at)
            file.write(os.urandom(size))
    copy_sparse(source, target)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks <= source.stat().st_blocks + 16
    copy_sparse(source, target, at=1 << 40)
    assert target.stat().st_size == (1 << 40) + 8 * MIB
    assert target.stat().st_blocks <= source.stat().st_blocks + 16
    with target.open("rb") as file:
        assert not any(file.read(MIB))
        file.seek(1 << 40)
        assert file.read() == source.read_bytes()
