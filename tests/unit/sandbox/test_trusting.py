"""The authority in a bundle of certificates."""

from __future__ import annotations

import time

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


def test_a_bundle_of_the_guest_s_making_costs_one_look() -> None:
    begins = b"# Sandlot's authority\n" * 190_000  # 4 MiB, and not one end
    began = time.monotonic()
    assert with_authority(begins, b"one\n").startswith(begins)
    assert time.monotonic() - began < 5
