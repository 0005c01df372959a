"""Files of pages: what is written is read again, and anything else is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.engine.memory import PAGE, buffer
from sandlot.errors import SnapshotDamaged
from sandlot.snapshot.pages import apply_pages, put_pages, read_pages, write_joined, write_pages

MEMORY = 64 * PAGE


def runs_of(pages: set[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for page in sorted(pages):
        if runs and sum(runs[-1]) == page:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((page, 1))
    return runs


@given(st.dictionaries(st.integers(0, 63), st.integers(0, 255)))
def test_pages_come_back_where_they_were(contents: dict[int, int]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = buffer(MEMORY)
        for page, value in contents.items():
            source[page * PAGE : (page + 1) * PAGE] = bytes([value]) * PAGE
        runs = runs_of(set(contents))
        written = write_pages(folder / "pages", source, runs)
        read = read_pages(folder / "pages")
        assert read == written
        assert read.size == PAGE * sum(1 for value in contents.values() if value)
        target, other = folder / "target", folder / "other"
        for path in (target, other):
            path.write_bytes(b"x" * MEMORY)
            with path.open("r+b") as file:
                if path is target:
                    apply_pages(folder / "pages", file.fileno())
                else:
                    put_pages(file.fileno(), source, runs)
        expected = bytearray(b"x" * MEMORY)
        for page, value in contents.items():
            expected[page * PAGE : (page + 1) * PAGE] = bytes([value]) * PAGE
        assert target.read_bytes() == expected == other.read_bytes()
        source.close()


@given(st.data())
def test_a_damaged_file_is_refused_or_still_whole(data: st.DataObject) -> None:
    """Its table never leads outside the file or the memory, whatever stands in it."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "pages"
        source = buffer(MEMORY)
        source[: 3 * PAGE] = b"a" * 3 * PAGE
        write_pages(path, source, [(0, 3), (9, 2), (60, 4)])
        raw = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, 47))
        raw[at] = data.draw(st.integers(0, 255))
        cut = data.draw(st.one_of(st.none(), st.integers(0, len(raw))))
        path.write_bytes(raw[:cut] if cut is not None else raw)
        try:
            pages = read_pages(path)
        except SnapshotDamaged:
            return
        assert pages.memory % PAGE == 0
        for first, count in (*pages.runs, *pages.zeros):
            assert first >= 0 and count > 0 and (first + count) * PAGE <= pages.memory
        assert pages.start + pages.size == path.stat().st_size


def test_a_file_that_is_cut_off_is_damaged(tmp_path: Path) -> None:
    source = buffer(MEMORY)
    source[:PAGE] = b"a" * PAGE
    write_pages(tmp_path / "pages", source, [(0, 1)])
    os.truncate(tmp_path / "pages", 2 * PAGE - 1)
    with pytest.raises(SnapshotDamaged, match="damaged"):
        read_pages(tmp_path / "pages")
    with pytest.raises(SnapshotDamaged, match="damaged"):
        read_pages(tmp_path / "missing")


def test_files_of_pages_are_joined_to_one(tmp_path: Path) -> None:
    full = tmp_path / "full"
    contents = bytearray(b"r" * MEMORY)
    below = []
    for level, page in enumerate((3, 9, 10)):
        source = buffer(MEMORY)
        source[page * PAGE : (page + 1) * PAGE] = bytes([level]) * PAGE
        contents[page * PAGE : (page + 1) * PAGE] = bytes([level]) * PAGE
        below.append(tmp_path / f"pages-{level}")
        write_pages(below[-1], source, [(page, 1)])
        source.close()
    contents[9 * PAGE : 10 * PAGE] = b"n" * PAGE  # changed again by the last
    full.write_bytes(contents)
    joined = write_joined(tmp_path / "joined", full, below, [(9, 1)])
    assert joined.runs == [(9, 2)] and joined.zeros == [(3, 1)]
    target = tmp_path / "target"
    target.write_bytes(b"r" * MEMORY)
    with target.open("r+b") as file:
        apply_pages(tmp_path / "joined", file.fileno())
    assert target.read_bytes() == contents
