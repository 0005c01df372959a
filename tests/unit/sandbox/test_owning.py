"""Users of an image, as numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.sandbox.owning import ids

PASSWD = "root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:1234:99::/home/app:\nodd:x:-1:x::/:\n"
GROUPS = "root:x:0:\nstaff:x:77:\n"


@pytest.mark.parametrize(
    ("user", "expected"),
    [("app", (1234, 99)), ("1234", (1234, 99)), ("app:staff", (1234, 77)), ("5", (5, 0)),
     ("5:6", (5, 6)), ("app:nobody", (1234, 99)), ("nobody", (0, 0)), ("root", (0, 0)),
     ("odd", (0, 0)), ("", (0, 0)), (":staff", (0, 77)), ("9" * 30, ((1 << 32) - 2, 0)),
     ("9" * 5000, ((1 << 32) - 2, 0)), ("²", (0, 0)), ("app:³", (1234, 99))],
)  # fmt: skip
def test_ids(user: str, expected: tuple[int, int]) -> None:
    assert ids(user, PASSWD, GROUPS) == expected


@given(st.text(), st.text(), st.text())
def test_whatever_an_image_says_is_two_numbers(user: str, passwd: str, groups: str) -> None:
    assert all(0 <= number < 1 << 32 for number in ids(user, passwd, groups))
