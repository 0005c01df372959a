from __future__ import annotations

import pytest

from sandlot.engine.concatenation import describe, pieces_of


def test_no_blank_line_before_the_first_piece() -> None:
    text = describe([("a.img", 0, 4096), ("b.img", 512, 1 << 36)])
    assert "\n\n" not in text and text.endswith(
        'RW 8 FLAT "a.img" 0\nRW 134217728 FLAT "b.img" 1\n'
    )


@pytest.mark.parametrize(
    "piece",
    [("a", 1, 512), ("a", 0, 511), ("a", 0, 0), ("", 0, 512), ('"', 0, 512), ("a/b", 0, 512), ("a\n", 0, 512)],
)  # fmt: skip
def test_refused(piece: tuple[str, int, int]) -> None:
    with pytest.raises(ValueError):
        describe([piece])


def test_the_pieces_are_read_back() -> None:
    pieces = [("a.img", 0, 1024), ("b c.img", 512, 512), ("a.img", 1024, 1 << 40)]
    assert pieces_of(describe(pieces)) == pieces
    good = describe(pieces)
    for bad in ("", good[1:], good + "x", good.replace("FLAT", "SPARSE"),
                good.replace("a.img", "/etc/passwd"), good + "\n", good.replace("RW 2", "RW 02")):  # fmt: skip
        with pytest.raises(ValueError):
            pieces_of(bad)
