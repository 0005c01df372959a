"""Replacing in streams."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from sandlot.secrets.replacer import Replacer

ALPHABET = b"abc"
WORDS = st.lists(st.sampled_from(ALPHABET), min_size=1, max_size=5).map(bytes)
TEXT = st.lists(st.sampled_from(ALPHABET + b"-"), max_size=60).map(bytes)


def at_once(table: dict[bytes, bytes], text: bytes) -> bytes:
    keys = sorted(table, key=len, reverse=True)
    pattern = re.compile(b"|".join(map(re.escape, keys)) or b"(?!)")
    return pattern.sub(lambda match: table[match[0]], text)


@example({b"a": b"", b"bab": b""}, b"aaaaabab", [1, 6])
@given(st.dictionaries(WORDS, TEXT, max_size=4), TEXT, st.lists(st.integers(1, 7), max_size=30))
def test_cuts_do_not_matter(table: dict[bytes, bytes], text: bytes, cuts: list[int]) -> None:
    found: list[bytes] = []
    replacer = Replacer(table, found.append)
    out, at = b"", 0
    for size in [*cuts, len(text)]:
        out += bytes(replacer.feed(text[at : at + size]))
        assert replacer.held < max(map(len, table), default=1)
        at += size
    out += replacer.finish()
    assert out == at_once(table, text)
    if not any(key in value for key in table for value in table.values()):
        assert set(found) <= set(table)


def test_what_needs_no_change_is_not_copied() -> None:
    data = memoryview(b"no such word" * 1000)
    assert Replacer({b"secret": b"x"}).feed(data) is data
    assert Replacer({}).feed(data) is data


def test_each_one_is_told() -> None:
    found: list[bytes] = []
    replacer = Replacer({b"key": b"k"}, found.append)
    assert (
        bytes(replacer.feed(b"key ke")) + bytes(replacer.feed(b"y")) + replacer.finish() == b"k k"
    )
    assert found == [b"key", b"key"]
