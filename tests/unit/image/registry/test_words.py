from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.image.registry.words import complaint, duration, printable


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"errors":[{"code":"A","message":"no"}]}', ": no"),
        (b'{"errors":[{"code":"A"}]}', ": A"),
        (b'{"details":"wrong password"}', ": wrong password"),
        (b'{"errors":[]}', ""),
        (b'{"errors":[5]}', ""),
        (b'{"message":{"a":1}}', ""),
        (b"<html>", ""),
        (b"", ""),
    ],
)
def test_complaints(body: bytes, expected: str) -> None:
    assert complaint(body) == expected


@given(st.binary() | st.text().map(lambda t: b'{"message":"' + t.encode(errors="replace") + b'"}'))
def test_any_complaint_is_fit_to_be_shown(body: bytes) -> None:
    shown = complaint(body)
    assert shown.isprintable() and len(shown) < 210


def test_control_characters_are_taken_out() -> None:
    assert printable("a\x1b[31m\nb") == "a [31m b"


def test_durations() -> None:
    assert [duration(s) for s in (0, 1, 59, 60, 3600, 21600)] == [
        "1 second", "1 second", "59 seconds", "1 minute", "1 hour", "6 hours",
    ]  # fmt: skip
