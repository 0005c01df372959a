"""Paths in a guest."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot import ConfigError
from sandlot.files.paths import join, shown, to_bytes, to_text


@given(st.binary(min_size=1, max_size=300).filter(lambda b: b"\0" not in b))
def test_any_bytes_come_back(path: bytes) -> None:
    assert to_bytes(to_text(path)) == path
    assert to_bytes(path) == path


def test_kinds_of_paths() -> None:
    assert to_bytes(PurePosixPath("/a/b")) == b"/a/b"
    for wrong in ("", b"", "a\0b", 5, None, "x" * 40_000):
        with pytest.raises(ConfigError):
            to_bytes(wrong)


def test_what_people_see() -> None:
    assert shown(b"a\nb\x1b[31m\xff") == "a?b?[31m\ufffd"
    assert len(shown("x" * 5000)) == 200
    assert join("/a/", b"b") == "/a/b" and join("/", b"b") == "/b" and join("/a", b"") == "/a"
