"""Messages and records from a hostile peer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import GuestProtocolError
from sandlot.wire.messages import (
    HEADER,
    MAX_MESSAGE_FROM_GUEST,
    Exec,
    Exited,
    Failed,
    MessageReader,
    Started,
    decode,
    encode,
)
from sandlot.wire.records import MAX_FIELDS, field, fields


@given(
    st.lists(st.binary(max_size=20)),
    st.lists(st.binary(max_size=20)),
    st.text(),
    st.integers(0, 2**64 - 1),
)
def test_round_trip(argv: list[bytes], env: list[bytes], user: str, number: int) -> None:
    message = Exec(process=number, argv=tuple(argv), env=tuple(env), user=user)
    raw = encode(message)
    if user.encode(errors="replace").decode() == user:
        assert decode(Exec.kind, raw[HEADER.size :]) == message


@given(st.binary(max_size=300), st.integers(0, 255))
def test_any_bytes_are_parsed_or_blamed(body: bytes, kind: int) -> None:
    try:
        decode(kind, body)
    except GuestProtocolError:
        pass


@given(st.lists(st.integers(1, 7), min_size=1))
def test_a_reader_needs_no_particular_cuts(cuts: list[int]) -> None:
    wanted = [Started(pid=7), Exited(code=1, wall_us=9), Failed(code="x", text="y" * 50)]
    raw = b"".join(map(encode, wanted))
    reader, got, position = MessageReader(), [], 0
    while position < len(raw):
        size = cuts[position % len(cuts)]
        got += reader.receive(raw[position : position + size])
        position += size
    assert got == wanted
    assert reader.rest() == b""


def test_a_message_that_is_too_long_is_refused_before_it_arrives() -> None:
    with pytest.raises(GuestProtocolError, match="bytes; at most"):
        MessageReader().receive(HEADER.pack(Started.kind, MAX_MESSAGE_FROM_GUEST + 1))


def test_a_field_given_twice_is_refused() -> None:
    one = field(1, (5).to_bytes(8, "big"))
    with pytest.raises(GuestProtocolError, match="given twice"):
        decode(Started.kind, one + one)


def test_unknown_fields_are_skipped() -> None:
    body = field(99, b"future") + field(1, (5).to_bytes(8, "big"))
    assert decode(Started.kind, body) == Started(pid=5)


@pytest.mark.parametrize("body", [b"\x01", b"\x01\x00\x00\x00\x09abc", b"\x01\xff\xff\xff\xff"])
def test_a_record_that_ends_early(body: bytes) -> None:
    with pytest.raises(GuestProtocolError):
        list(fields(body))


def test_a_number_of_a_wrong_size() -> None:
    with pytest.raises(GuestProtocolError, match="instead of 8"):
        decode(Started.kind, field(1, b"\0\0"))


def test_too_many_fields() -> None:
    with pytest.raises(GuestProtocolError, match="more than"):
        list(fields(field(9, b"") * (MAX_FIELDS + 1)))
