from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandlot.errors import ImageError
from sandlot.image.contents import ContentsWriter


def test_files_begin_at_blocks(tmp_path: Path) -> None:
    with (tmp_path / "data").open("w+b") as file:
        contents = ContentsWriter(file.fileno(), limit=1 << 30)
        assert contents.store(io.BytesIO(b"a" * 5000), 5000) == 0
        assert contents.store(io.BytesIO(b""), 0) == 0
        assert contents.store(io.BytesIO(b"b"), 1) == 2
        assert contents.close() == 3 * 4096 and contents.blocks == 3
    data = (tmp_path / "data").read_bytes()
    assert data == b"a" * 5000 + bytes(3192) + b"b" + bytes(4095)


def test_zeros_cost_nothing(tmp_path: Path) -> None:
    with (tmp_path / "data").open("w+b") as file:
        contents = ContentsWriter(file.fileno(), limit=1 << 40)
        contents.store(io.BytesIO(bytes(50_000_000) + b"end"), 50_000_003)
        contents.store(io.BytesIO(b"x"), 1 << 36, [(1 << 35, 1)])
        contents.close()
    assert (tmp_path / "data").stat().st_blocks * 512 < 1 << 20


@pytest.mark.parametrize(
    ("size", "extents", "what"),
    [
        (10, None, "too early"),
        (10, [(0, 3), (2, 3)], "map"),
        (10, [(8, 3)], "map"),
        (10, [(0, -1)], "map"),
        (1 << 31, None, "MAX_CONTENTS"),
    ],
)
def test_refused(
    tmp_path: Path, size: int, extents: list[tuple[int, int]] | None, what: str
) -> None:
    with (tmp_path / "data").open("w+b") as file:
        contents = ContentsWriter(file.fileno(), limit=1 << 30)
        with pytest.raises(ImageError, match=what):
            contents.store(io.BytesIO(b"short"), size, extents)


files = st.tuples(st.integers(0, 70_000), st.integers(0, 255), st.booleans())


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(files, max_size=12))
def test_all_comes_back(tmp_path: Path, entries: list[tuple[int, int, bool]]) -> None:
    with (tmp_path / "data").open("w+b") as file:
        contents = ContentsWriter(file.fileno(), limit=1 << 30)
        expected = []
        for size, byte, sparse in entries:
            data = bytes([byte]) * size
            extents = None
            if sparse and size > 9000:
                data = data[:100] + bytes(8000) + data[8100:]
                extents = [(0, 100), (8100, size - 8100)]
                stored = data[:100] + data[8100:]
            else:
                stored = data
            expected.append((contents.store(io.BytesIO(stored), size, extents), data))
        contents.close()
        for block, data in expected:
            file.seek(block * 4096)
            assert file.read(len(data)) == data
