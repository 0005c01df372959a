"""The pace of all connections together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sandlot.network.limits import Pace


@given(st.lists(st.integers(1, 100_000), min_size=1, max_size=50), st.integers(1, 1_000_000))
def test_who_waits_as_told_never_goes_over_the_rate(moved: list[int], rate: int) -> None:
    now = 0.0
    pace = Pace(rate, clock=lambda: now)
    for size in moved:
        now += pace(size)
    # A quarter second's worth is free.
    assert sum(moved) <= rate * now + rate / 4 + 1 + 1e-6 * sum(moved)


def test_a_pause_fills_the_bucket_but_not_beyond() -> None:
    now = 0.0
    pace = Pace(1000, clock=lambda: now)
    assert pace(250) == 0
    assert pace(100) == 0.1
    now = 100.0
    assert pace(250) == 0
    assert pace(1) > 0
