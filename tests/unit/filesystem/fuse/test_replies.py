"""Answers, packed as include/uapi/linux/fuse.h lays them out."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from sandlot.filesystem.fuse import replies
from sandlot.filesystem.types import Attr, Entry, Statistics


def test_heads() -> None:
    assert replies.reply(7, b"abc") == struct.pack("<IiQ", 19, 0, 7) + b"abc"
    assert replies.failure(7, 2) == struct.pack("<IiQ", 16, -2, 7)


def test_sizes_are_those_of_the_kernel() -> None:
    entry = Entry("n", Attr(0o100644))
    assert len(replies.attr_body(entry.attr, 1.0)) == 104
    assert len(replies.entry_body(1, entry)) == len(replies.no_entry_body(1.0)) == 128
    assert len(replies.open_body(1, 0)) == 16
    assert len(replies.write_body(1)) == 8
    assert len(replies.statfs_body(Statistics())) == 80
    assert len(replies.lock_body(0, 1, 2, 3)) == 24
    assert len(replies.init_body(38, 0, 0, 4096, 1, 1)) == 64
    assert len(replies.offset_body(5)) == 8


@given(st.integers(-(2**62), 2**62))
def test_times(when: int) -> None:
    body = replies.attr_body(Attr(0o100644, mtime_ns=when), 1.25)
    seconds, part = struct.unpack_from("<II", body, 0)[0], struct.unpack_from("<I", body, 8)[0]
    assert (seconds, part) == (1, 250_000_000)
    whole = struct.unpack_from("<q", body, 16 + 32)[0]
    nanoseconds = struct.unpack_from("<I", body, 16 + 52)[0]
    assert whole * 10**9 + nanoseconds == when
    assert 0 <= nanoseconds < 10**9


def test_notifications_answer_nothing() -> None:
    data = replies.forget_name(1, b"name")
    assert data == struct.pack("<IiQQII", len(data), 3, 0, 1, 4, 0) + b"name\0"
    data = replies.forget_data(5, -1, 0)
    assert data == struct.pack("<IiQQqq", len(data), 2, 0, 5, -1, 0)
    data = replies.deleted(1, 5, b"name")
    assert data == struct.pack("<IiQQQII", len(data), 6, 0, 1, 5, 4, 0) + b"name\0"


@given(st.binary(min_size=1, max_size=255))
def test_names_are_padded_to_eight_bytes(name: bytes) -> None:
    piece = replies.padded_dirent(name, 5, 8, 9)
    assert len(piece) % 8 == 0
    assert struct.unpack_from("<QQII", piece) == (5, 9, len(name), 8)
    assert piece[24:] == name + bytes(len(piece) - 24 - len(name))
