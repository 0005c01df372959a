"""The bytes of one connection, also such as nobody should send."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot import GuestProtocolError
from sandlot.runtime.frames import HEADER, MAX_PAYLOAD, FrameReader, Kind, frame, frames


@given(st.binary(max_size=300), st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 50))
def test_frames_arrive_however_they_are_cut(request: bytes, inputs: list[bytes], size: int) -> None:
    data = frame(Kind.REQUEST, request) + b"".join(frame(Kind.INPUT, each) for each in inputs)
    reader, found = FrameReader(), []
    for start in range(0, len(data), size):
        found += reader.receive(data[start : start + size])
    assert found == [(Kind.REQUEST, request), *((Kind.INPUT, each) for each in inputs)]


@given(st.lists(st.binary(max_size=100), max_size=20))
def test_any_bytes_are_frames_or_a_breach(pieces: list[bytes]) -> None:
    reader = FrameReader()
    with contextlib.suppress(GuestProtocolError):
        for each in pieces:
            for kind, payload in reader.receive(each):
                assert kind in (Kind.REQUEST, Kind.INPUT)
                assert len(payload) <= MAX_PAYLOAD


@pytest.mark.parametrize(
    "data",
    [
        frame(Kind.INPUT), frame(Kind.ANSWER), bytes(5), HEADER.pack(200, 0),
        frame(Kind.REQUEST) + frame(Kind.REQUEST), HEADER.pack(Kind.REQUEST, MAX_PAYLOAD + 1),
    ],
)  # fmt: skip
def test_what_a_guest_may_not_send_is_a_breach(data: bytes) -> None:
    with pytest.raises(GuestProtocolError):
        FrameReader().receive(data)


def test_long_data_takes_several_frames() -> None:
    assert [len(each) - HEADER.size for each in frames(Kind.OUTPUT, bytes(MAX_PAYLOAD + 1))] == [
        MAX_PAYLOAD, 1,
    ]  # fmt: skip
    assert frames(Kind.OUTPUT, b"") == []
    with pytest.raises(ValueError, match="bytes"):
        frame(Kind.OUTPUT, bytes(MAX_PAYLOAD + 1))
