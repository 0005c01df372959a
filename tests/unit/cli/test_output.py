"""How times and sizes look."""

from __future__ import annotations

import time

import pytest

from sandlot.cli.output import ago, human_size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1.5, "1 second ago"), (0, "0 seconds ago"), (59.5, "59 seconds ago"),
        (61, "1 minute ago"), (7201, "2 hours ago"), (90000, "1 day ago"), (-5, "0 seconds ago"),
    ],
)  # fmt: skip
def test_times(monkeypatch: pytest.MonkeyPatch, seconds: float, text: str) -> None:
    monkeypatch.setattr(time, "time", lambda: 1e9)
    assert ago(1e9 - seconds) == text


def test_sizes() -> None:
    assert [human_size(n) for n in (0, 1023, 1 << 20, 3 << 29)] == ["0B", "1023B", "1M", "1.5G"]
