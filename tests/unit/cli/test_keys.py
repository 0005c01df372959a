"""Ctrl-P Ctrl-Q is seen however it arrives."""

from __future__ import annotations

import os
import pty
import select
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.cli.keys import DetachKeys, lines_that_can_be_left

TYPED = st.lists(st.sampled_from([b"\x10", b"\x11", b"a", b"\r", b"\x10\x11"])).map(b"".join)


def typed(pieces: list[bytes]) -> tuple[bytes, bool]:
    keys, sent = DetachKeys(), b""
    for piece in pieces:
        part, left = keys.feed(piece)
        sent += part
        if left:
            return sent, True
    return sent + keys.rest(), False


@given(TYPED, st.lists(st.integers(1, 3)))
def test_cut_into_any_pieces(data: bytes, cuts: list[int]) -> None:
    before, found, _ = data.partition(b"\x10\x11")
    pieces = []
    rest = data
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    assert typed([*[p for p in pieces if p], rest]) == (before, bool(found))


def test_one_key_waits_for_the_next() -> None:
    keys = DetachKeys()
    assert keys.feed(b"ls\x10") == (b"ls", False)
    assert keys.feed(b"\r") == (b"\x10\r", False)
    assert keys.feed(b"\x10") == (b"", False)
    assert keys.feed(b"\x10") == (b"\x10", False)
    assert keys.feed(b"\x11") == (b"", True)


def test_a_terminal_in_line_mode_gives_them_out_at_once() -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    with lines_that_can_be_left(theirs):
        os.write(ours, b"wrong\x15right\n")
        assert os.read(theirs, 100) == b"right\n"  # lines are edited as ever
        os.write(ours, b"abc\x10")
        assert not select.select([theirs], [], [], 0)[0]
        os.write(ours, b"\x11")
        assert select.select([theirs], [], [], 30)[0]
        assert os.read(theirs, 100) == b"abc\x10\x11"
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


def test_a_pipe_is_left_alone() -> None:
    reader, writer = os.pipe()
    with lines_that_can_be_left(reader):
        os.write(writer, b"x")
    with pytest.raises(termios.error):
        termios.tcgetattr(reader)
    os.close(reader)
    os.close(writer)
