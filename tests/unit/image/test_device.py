from __future__ import annotations

import pytest

from sandlot.errors import ImageError
from sandlot.image.device import DEVICE_SIZE, MAX_CONTENTS, Layout, check_room

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def test_pieces() -> None:
    layout = Layout(((A, 8192), (B, 0)), 12288)
    assert layout.pieces() == [
        ("", 0, 4096), (A, 0, 8192), ("", 4096, DEVICE_SIZE - 8192 - 4096)
    ]  # fmt: skip
    assert layout.size == 20480 and Layout.from_json(layout.to_json()) == layout


def test_damage() -> None:
    good = Layout(((A, 8192),), 4096).to_json()
    for damage in ({"layers": [["../x", 4096]]}, {"layers": [[A, 5]]}, {"layers": [[A, -4096]]}):
        with pytest.raises(ValueError, match="layers"):
            Layout.from_json(good | damage)


def test_room() -> None:
    check_room([MAX_CONTENTS])
    with pytest.raises(ImageError, match="MAX_CONTENTS"):
        check_room([MAX_CONTENTS, 4096])
