"""Where chunks lie, as rows of numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import RemoteDamaged
from sandlot.remote.index import (
    Entry,
    make_index,
    make_list,
    pack_key,
    pack_of,
    parse_index,
    parse_list,
)

ids = st.binary(min_size=32, max_size=32)
packs = st.dictionaries(
    st.binary(min_size=16, max_size=16),
    st.lists(st.tuples(ids, st.integers(0, 1 << 24), st.integers(30, 1 << 20)), max_size=5),
    max_size=4,
)


@given(packs)
def test_an_index_there_and_back(found: dict[bytes, list[tuple[bytes, int, int]]]) -> None:
    data = make_index(found)
    assert parse_index(data) == found
    for wrong in (data[:-1], data + b"x"):
        with pytest.raises(RemoteDamaged):
            parse_index(wrong)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_index_or_refused(data: bytes) -> None:
    try:
        parse_index(data)
    except RemoteDamaged:
        pass


def test_an_index_of_more_than_there_is_takes_no_room() -> None:
    for data in (b"\xff\xff\xff\xff", b"\1\0\0\0" + bytes(16) + b"\xff\xff\xff\xff"):
        with pytest.raises(RemoteDamaged):
            parse_index(data)
    with pytest.raises(RemoteDamaged, match="where none can be"):
        parse_index(make_index({bytes(16): [(bytes(32), 1 << 31, 100)]}))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9), ids), max_size=6))
def test_a_list_there_and_back(gaps: list[tuple[int, int, bytes]]) -> None:
    entries, end = [], 0
    for gap, length, id in gaps:
        entries.append(Entry(end + gap, length, id))
        end += gap + length
    assert parse_list(make_list(entries), end) == entries
    if entries:
        with pytest.raises(RemoteDamaged):
            parse_list(make_list(entries), end - 1)
        with pytest.raises(RemoteDamaged):
            parse_list(make_list(entries)[:-1], end)


def test_chunks_that_overlap_or_are_too_long_are_refused() -> None:
    for entries in (
        [Entry(0, 5, bytes(32)), Entry(4, 5, bytes(32))], [Entry(5, 5, bytes(32)), Entry(0, 5, bytes(32))],
        [Entry(0, 0, bytes(32))], [Entry(0, 1 << 25, bytes(32))],
    ):  # fmt: skip
        with pytest.raises(RemoteDamaged):
            parse_list(make_list(entries), 1 << 30)


def test_packs_and_their_keys() -> None:
    pack = bytes(range(16))
    assert pack_of(pack_key(pack)) == pack
    for key in ("packs/00/zz", "index/" + pack.hex(), "packs/01/" + pack.hex()):
        assert pack_of(key) is None
