"""The authority in a bundle of certificates."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sandlot.sandbox.trusting import with_authority


def test_it_stands_at_the_end_once() -> None:
    first = with_authority(b"others", b"one\n")
    assert first.startswith(b"others\n") and b"one\n" in first
    second = with_authority(first, b"two\n")
    assert b"one" not in second and second.startswith(b"others\n") and second.count(b"two") == 1
    assert with_authority(second, b"two\n") == second


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_what_was_there_stays(bundle: bytes, certificate: bytes) -> None:
    assert with_authority(bundle, certificate).startswith(bundle)
