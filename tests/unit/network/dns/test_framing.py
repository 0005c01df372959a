"""DNS over TCP."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.network.dns.framing import Messages, frame
from sandlot.network.dns.message import Malformed


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.integers(1, 50))
def test_messages_arrive_whole_however_they_are_cut(messages: list[bytes], step: int) -> None:
    stream = b"".join(map(frame, messages))
    reader = Messages()
    found: list[bytes] = []
    for at in range(0, len(stream), step):
        found += reader.feed(stream[at : at + step])
    assert found == messages


@pytest.mark.parametrize("start", [b"\0\0", b"\xff\xff", b"\x08\x01"])
def test_a_length_that_no_question_has_ends_it(start: bytes) -> None:
    with pytest.raises(Malformed):
        Messages().feed(start)


def test_answers_may_be_longer() -> None:
    long = bytes(65535)
    assert Messages(65535).feed(frame(long)) == [long]
