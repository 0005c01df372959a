"""Where files are cut."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from sandlot.remote.chunking import GAP, LONGEST, PAGE, SEGMENT, SHORTEST, chunks


def pages(seed: int, count: int) -> bytes:
    return random.Random(seed).randbytes(count * PAGE)


def cut(data: bytes, number: int = 7) -> list[bytes]:
    return [data[begin:end] for begin, end in chunks(data, number)]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40)), max_size=12), st.integers(0, 99))
def test_all_that_is_no_zeros_is_in_a_chunk_once(runs: list[tuple[int, int]], tail: int) -> None:
    data = b"".join(bytes(n * PAGE) if not kind else pages(kind, n) for kind, n in runs)
    data += b"x" * tail
    end = 0
    for begin, stop in chunks(data, 7):
        assert begin >= end and begin % PAGE == 0 and not any(data[end:begin])
        assert 0 < stop - begin <= LONGEST
        end = stop
    assert not any(data[end:])


def test_the_same_pages_are_the_same_chunks_wherever_they_lie() -> None:
    data = pages(1, 1000)
    here = set(cut(data))
    moved = set(cut(pages(2, 37) + data))
    assert len(here & moved) / len(here) > 0.9
    lengths = [len(each) for each in cut(data)]
    assert 3 * SHORTEST < sum(lengths) / len(lengths) < 8 * SHORTEST


def test_other_numbers_cut_elsewhere() -> None:
    data = pages(1, 1000)
    assert len(set(cut(data, 1)) & set(cut(data, 2))) < 10


def test_long_zeros_are_left_out_and_short_ones_are_not() -> None:
    a, b = pages(1, 4), pages(2, 4)
    assert cut(a + bytes(GAP) + b) == [a, b]
    assert cut(a + bytes(GAP - PAGE) + b) == [a + bytes(GAP - PAGE) + b]
    assert cut(bytes(SEGMENT)) == []
    assert cut(bytes(PAGE) + a + bytes(GAP - PAGE)) == [a]


def test_a_file_may_end_within_a_page() -> None:
    assert cut(b"x") == [b"x"]
    assert cut(bytes(10)) == [bytes(10)]  # a page that is not whole is not looked at
