"""Sparse files as streams."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import SnapshotDamaged
from sandlot.snapshot.integrity import PIECE
from sandlot.snapshot.sparse import SparseReader, end, head, piece_head

SIZE = 10 * PIECE + 100


def stream(*places: int) -> tuple[bytes, list[tuple[int, bytes]]]:
    pieces = [(at * PIECE, bytes([at + 1]) * min(PIECE, SIZE - at * PIECE)) for at in places]
    data = head(SIZE) + b"".join(piece_head(at, len(piece)) + piece for at, piece in pieces)
    return data + end(SIZE), pieces


@given(places=st.sets(st.integers(0, 10)), cuts=st.lists(st.integers(0, 12 * PIECE), max_size=9))
def test_pieces_come_whole_however_the_stream_is_cut(places: set[int], cuts: list[int]) -> None:
    data, pieces = stream(*sorted(places))
    reader = SparseReader(SIZE, sum(len(piece) for _, piece in pieces))
    found: list[tuple[int, bytes]] = []
    last = 0
    for cut in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        found += reader.feed(data[last:cut])
        last = cut
    reader.finish()
    assert found == pieces


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes(first: bytes, rest: bytes) -> None:
    """Whatever comes: pieces that lie in the file, or a refusal."""
    for begin in (b"", head(SIZE)):
        reader = SparseReader(SIZE, SIZE)
        try:
            for at, piece in [*reader.feed(begin + first), *reader.feed(rest)]:
                assert at >= 0 and at + len(piece) <= SIZE
            reader.finish()
        except SnapshotDamaged:
            continue
        assert begin + first + rest == head(SIZE) + end(SIZE)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (head(SIZE + 1), "wrong beginning"),
        (b"X" * 16, "wrong beginning"),
        (head(SIZE) + piece_head(1, PIECE), "wrong place"),
        (head(SIZE) + piece_head(PIECE, 10), "wrong place"),
        (head(SIZE) + piece_head(10 * PIECE, PIECE), "wrong place"),
        (head(SIZE) + piece_head(0, 1 << 31), "wrong place"),
        (stream(3, 2)[0], "wrong place"),
        (stream(2, 2)[0], "wrong place"),
        (stream(1, 2, 3)[0], "larger than it says"),
        (stream(1, 2)[0] + b"x", "behind its end"),
        (stream(1, 2)[0] + end(SIZE), "behind its end"),
        (stream(1)[0], "cut off"),
        (stream(1, 2)[0][:-1], "cut off"),
        (b"", "cut off"),
    ],
)  # fmt: skip
def test_wrong_streams_are_refused(data: bytes, why: str) -> None:
    reader = SparseReader(SIZE, 2 * PIECE)
    with pytest.raises(SnapshotDamaged, match=why):
        list(reader.feed(data))
        reader.finish()
