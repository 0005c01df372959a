"""What a machine remembers of remotes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandlot.errors import RemoteDamaged, StateError
from sandlot.remote.index import Entry
from sandlot.remote.known import UNUSED, Base, Known


def test_a_ring_is_remembered_by_address(tmp_path: Path) -> None:
    known = Known(tmp_path, "r1")
    assert not known.check_ring("s3://a", "f1")
    known.note_ring("s3://a", "f1")
    assert Known(tmp_path, "r2").check_ring("s3://a", "f1")
    with pytest.raises(RemoteDamaged, match="another ring"):
        known.check_ring("s3://a", "f2")


def test_what_was_seen_goes_up_only(tmp_path: Path) -> None:
    known = Known(tmp_path, "r")
    assert known.seen("n") is None
    for counter, digest in ((3, "c"), (2, "b"), (4, "d")):
        known.note_seen("n", counter, digest)
    assert Known(tmp_path, "r").seen("n") == (4, "d")
    assert Known(tmp_path, "other").seen("n") is None


def test_bases(tmp_path: Path) -> None:
    known = Known(tmp_path, "r")
    known.note_base("sandbox", "abc", Base("web", 2, "d"))
    known.note_base("sandbox", "abc", Base("copy", 1, "e"))  # pushed under another name too
    assert known.base("sandbox", "abc", "web") == Base("web", 2, "d")
    assert known.base("sandbox", "abc", "copy") == Base("copy", 1, "e")
    assert known.base("snapshot", "abc", "web") is None


def test_what_may_be_lost_is_whole_or_not_there(tmp_path: Path) -> None:
    known = Known(tmp_path, "r")
    known.note_index("a", b"data")
    known.note_sent(b"\1" * 16, b"pack")
    assert known.index("a") == b"data" and known.sent() == {b"\1" * 16: b"pack"}
    (tmp_path / "r" / "index" / "a").write_bytes(b"half")
    assert known.index("a") is None
    known.forget_sent([b"\1" * 16])
    known.note_index("b", b"x")
    known.forget_indexes({"b"})
    assert known.sent() == {} and known.index("a") is None and known.index("b") == b"x"


def test_the_chunks_of_a_file_count_until_it_changes(tmp_path: Path) -> None:
    known = Known(tmp_path, "r")
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100)
    entries = [Entry(0, 100, b"i" * 32)]
    known.note_chunks(file.stat(), "a" * 64, entries)
    assert known.chunks(file.stat()) == ("a" * 64, entries)
    os.utime(file, ns=(1, 1))
    assert known.chunks(file.stat()) is None
    (old,) = (tmp_path / "r" / "lists").iterdir()
    os.utime(old, (old.stat().st_mtime - UNUSED - 10,) * 2)
    known.tidy()
    assert not old.exists()


def test_a_record_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    known = Known(tmp_path, "r")
    (tmp_path / "r" / "seen.json").write_text("{")
    with pytest.raises(StateError, match=r"seen\.json cannot be read"):
        known.seen("n")
