"""What begins a QUIC connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.network.quic import begins_quic


@pytest.mark.parametrize(
    ("head", "size", "expected"),
    [
        ("c300000001", 1200, True),
        ("8300000001", 1200, True),  # the fixed bit may be missing, RFC 9287
        ("d36b3343cf", 1252, True),
        ("c0ff00001d", 1200, True),
        ("c051303436", 1200, True),
        ("c300000001", 1199, False),  # no server takes it
        ("c300000000", 1200, False),  # a negotiation of versions, which servers send
        ("4300000001", 1200, False),  # of a connection that stands
        ("16fefd0000", 1300, False),  # DTLS
    ],
)
def test_first_datagrams(head: str, size: int, expected: bool) -> None:
    assert begins_quic(bytes.fromhex(head).ljust(size, b"\0")) is expected


@given(st.binary(max_size=1300))
def test_any_bytes(data: bytes) -> None:
    assert begins_quic(data) in (True, False)
