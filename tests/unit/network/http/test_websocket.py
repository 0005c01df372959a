"""Frames of a WebSocket's server, with values in them, cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.network.http.head import Malformed
from sandlot.network.http.websocket import MaskedFrames

VALUE, MARK = b"sk-the-value", b"sk-a-longer-placeholder"
TABLE = {VALUE: MARK}


def frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    first = opcode | (0x80 if fin else 0)
    if len(payload) < 126:
        return bytes([first, len(payload)]) + payload
    if len(payload) < 65536:
        return bytes([first, 126]) + len(payload).to_bytes(2, "big") + payload
    return bytes([first, 127]) + len(payload).to_bytes(8, "big") + payload


def read(data: bytes) -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]:
    """The messages and the control frames of a stream, as a client reads it."""
    messages: list[tuple[int, bytes]] = []
    control: list[tuple[int, bytes]] = []
    kind, text = 0, b""
    while data:
        size, at = data[1] & 127, 2
        assert not data[0] & 0x70 and not data[1] & 0x80
        if size >= 126:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(data[2 : 2 + width], "big"), 2 + width
        opcode, payload = data[0] & 15, data[at : at + size]
        assert len(payload) == size
        if opcode >= 8:
            assert size <= 125 and data[0] & 0x80
            control.append((opcode, payload))
        else:
            assert (opcode == 0) is (kind != 0)
            kind, text = kind or opcode, text + payload
            if data[0] & 0x80:
                messages.append((kind, text))
                kind, text = 0, b""
        data = data[at + size :]
    assert not kind
    return messages, control


def fed(data: bytes, step: int) -> bytes:
    frames = MaskedFrames(lambda: TABLE)
    return b"".join(frames.feed(data[at : at + step]) for at in range(0, len(data), step))


MESSAGE = st.tuples(
    st.sampled_from([1, 2]),
    st.lists(st.one_of(st.binary(max_size=200), st.just(VALUE), st.just(VALUE[:5])), max_size=4),
    st.lists(st.integers(0, 500), max_size=3),
)


@given(st.lists(MESSAGE, max_size=5), st.integers(1, 700))
def test_messages_are_masked_wherever_they_are_cut(
    messages: list[tuple[int, list[bytes], list[int]]], step: int
) -> None:
    sent, expected = b"", []
    for opcode, parts, cuts in messages:
        whole = b"".join(parts)
        ends = [*sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
        at = 0
        for number, end in enumerate(ends):
            sent += frame(0 if number else opcode, whole[at:end], fin=number == len(ends) - 1)
            sent += frame(9, VALUE)
            at = end
        expected.append((opcode, whole.replace(VALUE, MARK)))
    got, control = read(fed(sent, step))
    assert got == expected
    assert set(control) <= {(9, MARK)}


def test_what_is_complete_is_passed_on_at_once() -> None:
    """A message that ends as a value begins does not wait for another one."""
    frames = MaskedFrames(lambda: TABLE)
    assert frames.feed(frame(1, b"sk-the")) == frame(1, b"sk-the")
    assert frames.feed(frame(1, b"")) == frame(1, b"")
    assert frames.feed(frame(1, VALUE)[:-1]) == b""
    assert frames.feed(VALUE[-1:]) == frame(1, MARK)


def test_a_value_that_was_rotated_is_masked_in_the_next_message() -> None:
    table = dict(TABLE)
    frames = MaskedFrames(lambda: table)
    table[b"sk-the-next!"] = MARK
    assert frames.feed(frame(1, b"sk-the-next!")) == frame(1, MARK)


def test_large_frames() -> None:
    for size in (125, 126, 65535, 65536, 200_000):
        data = b"x" * (size - len(VALUE)) + VALUE
        assert read(fed(frame(2, data), 10_000))[0] == [(2, data.replace(VALUE, MARK))]


def test_a_control_frame_stays_short_enough() -> None:
    got = fed(frame(8, b"\x03\xe8" + VALUE * 10), 1000)
    assert len(got) == 127 and VALUE not in got


@pytest.mark.parametrize(
    "wrong",
    [
        b"\xc1\x00", b"\x81\x80abcd", b"\x83\x00", b"\x80\x00", b"\x09\x00", b"\x89\x7e\x00\xff",
        b"\x01\x00\x81\x00", b"\x8b\x00",
    ],
)  # fmt: skip
def test_other_frames_end_the_connection(wrong: bytes) -> None:
    with pytest.raises(Malformed):
        fed(wrong, 1)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes(data: bytes, step: int) -> None:
    try:
        assert VALUE not in fed(data, step)
    except Malformed:
        pass
