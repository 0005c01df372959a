"""The size of a terminal, however little it knows of itself."""

from __future__ import annotations

import os

import pytest

from sandlot.cli.terminal import terminal_size

Sizes = dict[int, tuple[int, int] | None]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({0: (100, 40)}, (40, 100)),
        ({0: None, 1: None, 2: (90, 30)}, (30, 90)),
        ({0: (0, 0), 1: (90, 30)}, (30, 90)),
        ({0: (0, 0), 1: (0, 0), 2: (80, 0)}, (24, 80)),
        ({}, (24, 80)),
    ],
)
def test_sizes(monkeypatch: pytest.MonkeyPatch, sizes: Sizes, expected: tuple[int, int]) -> None:
    def size(descriptor: int) -> os.terminal_size:
        found = sizes.get(descriptor)
        if found is None:
            raise OSError("not a terminal")
        return os.terminal_size(found)

    monkeypatch.setattr(os, "get_terminal_size", size)
    assert terminal_size() == expected
