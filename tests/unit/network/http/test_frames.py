"""Frames of HTTP/2."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.network.http import frames
from sandlot.network.http.frames import MAX_FRAME, PREFACE, ConnectionFault, FrameReader, Type

SENT = st.lists(
    st.tuples(
        st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**31 - 1), st.binary(max_size=40)
    ),
    max_size=6,
)


@given(SENT, st.integers(1, 30))
def test_what_is_written_is_read(sent: list[tuple[int, int, int, bytes]], size: int) -> None:
    data = PREFACE + b"".join(frames.frame(*one) for one in sent)
    reader = FrameReader(preface=True)
    seen = [
        (kind, flags, stream, bytes(payload))
        for at in range(0, len(data), size)
        for kind, flags, stream, payload in reader.feed(data[at : at + size])
    ]
    assert seen == sent


def test_the_beginning() -> None:
    with pytest.raises(ConnectionFault, match="does not begin"):
        list(FrameReader(preface=True).feed(b"GET / HTTP/1.1\r\n"))
    reader = FrameReader(preface=True)
    assert [list(reader.feed(PREFACE[n : n + 1])) for n in range(len(PREFACE))]


def test_long_header_blocks_are_continued() -> None:
    block = bytes(range(256)) * 150
    parts = list(FrameReader(preface=False).feed(frames.header_block(7, block, end_stream=True)))
    assert [kind for kind, _, _, _ in parts] == [Type.HEADERS, *[Type.CONTINUATION] * 2]
    assert [flags for _, flags, _, _ in parts] == [1, 0, 4]
    assert b"".join(bytes(payload) for _, _, _, payload in parts) == block
    assert all(len(payload) <= MAX_FRAME for _, _, _, payload in parts)
    assert frames.header_block(1, b"", end_stream=False) == frames.frame(Type.HEADERS, 4, 1)


def test_padding() -> None:
    view = memoryview(b"\x02abXX")
    assert bytes(frames.unpadded(8, view)) == b"ab" and frames.unpadded(0, view) == view
    for bad in (b"", b"\x01", b"\xffabc"):
        with pytest.raises(ConnectionFault):
            frames.unpadded(8, memoryview(bad))
