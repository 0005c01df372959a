"""The beginning of a session, with what an old one left in the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import GuestProtocolError
from sandlot.wire.frames import MAGIC, resync_reply
from sandlot.wire.resync import MAX_DISCARDED, Resync

NONCE = bytes(range(16))


@given(st.binary(max_size=100), st.binary(max_size=50), st.integers(1, 9))
def test_old_bytes_are_thrown_away(before: bytes, after: bytes, step: int) -> None:
    resync = Resync(bytes(16), NONCE)
    raw = before + resync_reply(NONCE) + after
    position, rest = 0, None
    while rest is None:
        rest = resync.receive(raw[position : position + step])
        position += step
    assert rest + raw[position:] == after


def test_an_answer_to_another_nonce_is_none() -> None:
    assert Resync(bytes(16), NONCE).receive(MAGIC + bytes(16)) is None


def test_a_flood_is_given_up() -> None:
    resync = Resync(bytes(16), NONCE)
    with pytest.raises(GuestProtocolError):
        for _ in range(MAX_DISCARDED // (1 << 20) + 2):
            resync.receive(bytes(1 << 20))
