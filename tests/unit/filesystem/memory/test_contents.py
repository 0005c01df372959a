"""Contents of files, against a plain bytearray."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandlot.filesystem.memory.contents import CHUNK, LARGEST, Contents
from sandlot.filesystem.memory.room import PAGE, Room

places = st.one_of(
    st.integers(0, 3 * CHUNK),
    st.sampled_from([0, 1, PAGE - 1, PAGE, PAGE + 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK]),
)
lengths = st.one_of(
    st.integers(1, 3000), st.sampled_from([PAGE, 2 * PAGE, CHUNK, CHUNK + PAGE, 2 * CHUNK])
)
steps = st.one_of(
    st.tuples(st.just("write"), places, lengths),
    st.tuples(st.just("punch"), places, lengths),
    st.tuples(st.just("truncate"), places, st.just(1)),
    st.tuples(st.just("allocate"), places, lengths),
    st.tuples(st.just("copy"), places, lengths),
)


@settings(deadline=None)
@given(st.lists(steps, max_size=25), st.integers(8, 200))
def test_it_is_what_plain_bytes_would_be(done: list[tuple[str, int, int]], pages: int) -> None:
    room = Room(pages * PAGE)
    contents, plain = Contents(room), bytearray()
    for number, (what, at, length) in enumerate(done):
        try:
            if what == "write":
                data = bytes([number % 255 + 1]) * length
                length = contents.write(at, data)
                plain.extend(bytes(max(0, at + length - len(plain))))
                plain[at : at + length] = data[:length]
            elif what == "punch":
                contents.punch(at, at + length)
                end = min(at + length, len(plain))
                plain[at:end] = bytes(max(0, end - at))
            elif what == "truncate":
                contents.truncate(at)
                del plain[at:]
                plain.extend(bytes(at - len(plain)))
            elif what == "allocate":
                contents.allocate(at, at + length)
            else:
                source = at // 2 + CHUNK
                if abs(source - at) >= length:
                    length = contents.copy_from(contents, source, at, length)
                    if length:
                        piece = bytes(plain[source : source + length])
                        plain.extend(bytes(max(0, at + length - len(plain))))
                        plain[at : at + length] = piece
        except OSError as error:
            assert error.errno == errno.ENOSPC
        assert contents.size == len(plain)
        assert contents.read(0, len(plain) + 10) == plain
        assert room.used == contents.pages * PAGE <= room.limit
    held = sum(
        (len(c) + PAGE - 1) // PAGE if isinstance(c, bytearray) else len(c)
        for c in contents._chunks.values()
    )
    assert held == contents.pages
    shown = bytearray(len(plain))
    for start, size in contents.extents(CHUNK):
        assert 0 < size <= CHUNK + PAGE
        shown[start : start + size] = plain[start : start + size]
    assert shown == plain
    at = 0
    while at < len(plain):  # data and holes take turns
        begins = contents.data_from(at)
        assert not any(plain[at : begins if begins is not None else len(plain)])
        if begins is None:
            break
        at = contents.hole_from(begins)
        assert at > begins
    del contents
    assert room.used == 0


def test_room_is_used_to_the_last_page() -> None:
    room = Room(10 * PAGE)
    contents = Contents(room)
    assert contents.write(0, b"x" * (9 * PAGE)) == 9 * PAGE
    assert contents.write(9 * PAGE, b"x" * (2 * PAGE)) == PAGE  # as much as there is room for
    with pytest.raises(OSError, match="no room"):
        contents.write(10 * PAGE, b"x")
    assert contents.write(0, b"y" * PAGE) == PAGE  # what is held already can be written
    contents.punch(0, PAGE)
    with pytest.raises(OSError, match="no room"):
        contents.write(20 * PAGE, b"x" * (2 * PAGE), whole=True)
    assert contents.size == 10 * PAGE
    assert contents.write(20 * PAGE, b"x" * PAGE, whole=True) == PAGE


def test_a_page_here_and_there_takes_pages_only() -> None:
    """Also of memory: a chunk is not held for one page of it."""
    room = Room(1 << 30)
    contents = Contents(room)
    for number in range(100):
        contents.write(number * CHUNK + 10 * PAGE, b"x")
    assert contents.pages == 100
    held = sum(
        len(page) for c in contents._chunks.values() if isinstance(c, dict) for page in c.values()
    )
    assert held == 100 * PAGE
    whole = Contents(room)
    whole.write(0, b"x" * (4 * CHUNK))
    for number in range(4):
        whole.punch(number * CHUNK, number * CHUNK + 15 * PAGE)
    assert whole.pages == 4


def test_far_and_too_far() -> None:
    contents = Contents(Room(1 << 20))
    contents.write(1 << 40, b"far")
    assert contents.read((1 << 40) - 2, 10) == b"\0\0far"
    assert contents.data_from(5) == (1 << 40)
    with pytest.raises(OSError, match="too large") as caught:
        contents.write(LARGEST, b"xx")
    assert caught.value.errno == errno.EFBIG
    with pytest.raises(OSError, match="too large"):
        contents.truncate(LARGEST + 1)
    with pytest.raises(OSError, match="no room"):
        contents.allocate(0, 1 << 50)
