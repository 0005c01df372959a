"""Placeholders look like values and tell nothing of them."""

from __future__ import annotations

import re
import string
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.secrets.placeholder import MAX_LENGTH, PUBLIC_PREFIXES, make_placeholder

SAFE = set(string.ascii_letters + string.digits + "-_.")


@pytest.mark.parametrize(
    ("value", "pattern"),
    [
        ("sk-proj-" + "aZ09_-" * 20, r"sk-proj-[\w-]{120}"),
        ("ghp_" + "aB3" * 12, r"ghp_[A-Za-z0-9]{36}"),
        ("AKIA" + "A1B2C3D4E5F6G7H8", r"AKIA[A-Z0-9]{24}"),
        ("0123456789abcdef" * 4, r"[0-9a-f]{64}"),
        ("hunter2", r"[a-z0-9]{24}"),
        ("12345678901234567890123456789012", r"[A-Za-z0-9]{32}"),
        ("p4ss wörd with \"quotes\" and 'more'!", r"[A-Za-z0-9]{35}"),
    ],
)
def test_forms(value: str, pattern: str) -> None:
    assert re.fullmatch(pattern, make_placeholder(value.encode()))


def test_a_uuid_stays_one() -> None:
    made = make_placeholder(str(uuid.uuid4()).encode())
    assert uuid.UUID(made).version == 4


@given(st.binary(max_size=600))
def test_any_value(value: bytes) -> None:
    made = make_placeholder(value or None)
    assert set(made) <= SAFE
    assert 20 <= len(made) <= MAX_LENGTH
    assert made.encode() not in value
    assert make_placeholder(value or None) != made
    # nothing of the value but a public prefix
    text = value.decode("utf-8", "replace")
    prefix = max((p for p in PUBLIC_PREFIXES if text.startswith(p)), key=len, default="")
    shared = next((n for n, (a, b) in enumerate(zip(made, text, strict=False)) if a != b), 0)
    assert shared <= len(prefix) + 8  # equal by chance


def test_none_is_inside_of_another() -> None:
    taken: list[str] = []
    for _ in range(50):
        taken.append(make_placeholder(b"sk-" + b"x" * 40, taken))
    assert not any(a != b and a in b for a in taken for b in taken)
    assert len(set(taken)) == 50
