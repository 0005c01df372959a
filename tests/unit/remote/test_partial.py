"""Which chunks of a file are here."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import RemoteDamaged, StateError
from sandlot.remote.index import Entry
from sandlot.remote.partial import Partial, keep_bits, keep_list, kept


def entries(*spans: tuple[int, int]) -> list[Entry]:
    return [Entry(at, length, bytes([n]) * 32) for n, (at, length) in enumerate(spans)]


SPANS = entries((0, 10), (10, 5), (40, 10), (60, 1))


@pytest.mark.parametrize(
    ("offset", "length", "touched"),
    [
        (0, 1, [0]), (9, 1, [0]), (9, 2, [0, 1]), (10, 5, [1]), (15, 25, []), (15, 26, [2]),
        (14, 27, [1, 2]), (49, 12, [2, 3]), (50, 10, []), (61, 100, []), (0, 200, [0, 1, 2, 3]),
    ],
)  # fmt: skip
def test_the_chunks_of_a_span(offset: int, length: int, touched: list[int]) -> None:
    assert list(Partial(100, SPANS).touched(offset, length)) == touched


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), max_size=12),
    st.integers(0, 300), st.integers(1, 200),
)  # fmt: skip
def test_touched_are_those_that_overlap(
    gaps: list[tuple[int, int]], offset: int, length: int
) -> None:
    spans, at = [], 0
    for gap, size in gaps:
        spans.append((at + gap, size))
        at += gap + size
    part = Partial(1000, entries(*spans))
    found = [n for n, (a, size) in enumerate(spans) if a < offset + length and offset < a + size]
    assert list(part.touched(offset, length)) == found


def test_what_is_noted_is_here_and_stays() -> None:
    part = Partial(100, SPANS)
    assert part.left == 4 and list(part.missing()) == [0, 1, 2, 3]
    part.note([1, 3])
    part.note([3])
    assert part.left == 2 and part.has(1) and not part.has(0)
    assert list(part.missing()) == [0, 2] and list(part.missing(range(1, 4))) == [2]
    again = Partial(100, SPANS, part.bits())
    assert again.left == 2 and list(again.missing()) == [0, 2]
    assert Partial(0, []).left == 0


def test_it_is_written_down(tmp_path: Path) -> None:
    keep_list(tmp_path, 2, SPANS)
    assert kept(tmp_path, 2, 100).left == 4
    part = kept(tmp_path, 2, 100)
    part.note([2])
    keep_bits(tmp_path, 2, part.bits())
    assert list(kept(tmp_path, 2, 100).missing()) == [0, 1, 3]
    (tmp_path / "2.here").write_bytes(b"\xff" * 50)  # more than there are chunks
    assert kept(tmp_path, 2, 100).left == 0
    with pytest.raises(StateError, match=r"3\.list"):
        kept(tmp_path, 3, 100)
    with pytest.raises(RemoteDamaged):
        kept(tmp_path, 2, 50)  # a list of another file
