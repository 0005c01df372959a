"""What a saved machine's memory is made of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandlot.engine.memory import PAGE, buffer
from sandlot.errors import SnapshotDamaged
from sandlot.snapshot.memory import MemoryFiles
from sandlot.snapshot.pages import write_pages

SIZE = 16 * PAGE


def changed(path: Path, page: int, value: int) -> None:
    room = buffer(SIZE)
    room[page * PAGE : (page + 1) * PAGE] = bytes([value]) * PAGE
    write_pages(path, room, [(page, 1)])
    room.close()


def base(folder: Path) -> MemoryFiles:
    (folder / "template").write_bytes(b"t" * SIZE)
    return MemoryFiles.begin(folder / "memory", folder / "template")


def test_a_sandbox_begins_with_a_templates_memory(tmp_path: Path) -> None:
    memory = base(tmp_path)
    assert memory.depth == 0
    assert memory.full.samefile(tmp_path / "template") and memory.root.samefile(memory.full)
    (tmp_path / "other").write_bytes(b"o" * SIZE)
    again = MemoryFiles.begin(memory.folder, tmp_path / "other")
    assert again.full.read_bytes() == b"o" * SIZE


def test_later_changes_lie_over_earlier_ones(tmp_path: Path) -> None:
    memory = base(tmp_path)
    changed(memory.pages(1), 3, 1)
    changed(memory.pages(2), 3, 2)
    changed(memory.pages(3), 5, 0)
    assert memory.depth == 3
    memory.drop_full()
    assert not memory.full_is_right()
    memory.make_full()
    assert memory.full_is_right()
    expected = bytearray(b"t" * SIZE)
    expected[3 * PAGE : 4 * PAGE] = b"\2" * PAGE
    expected[5 * PAGE : 6 * PAGE] = bytes(PAGE)
    assert memory.full.read_bytes() == expected
    assert (tmp_path / "template").read_bytes() == b"t" * SIZE


def test_links_are_the_same_memory(tmp_path: Path) -> None:
    memory = base(tmp_path)
    changed(memory.pages(1), 1, 1)
    memory.make_full()
    twin = memory.link_to(tmp_path / "twin")
    assert twin.full_is_right() and twin.full.samefile(memory.full) and twin.depth == 1
    memory.drop_full()
    assert twin.full_is_right()


def test_a_full_file_that_was_changed_is_not_trusted(tmp_path: Path) -> None:
    memory = base(tmp_path)
    changed(memory.pages(1), 1, 1)
    memory.make_full()
    times = memory.full.stat()
    with memory.full.open("r+b") as file:
        file.write(b"x")
    os.utime(memory.full, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert not memory.full_is_right()


def test_pages_of_a_machine_of_another_size_are_refused(tmp_path: Path) -> None:
    memory = base(tmp_path)
    room = buffer(2 * SIZE)
    write_pages(memory.pages(1), room, [(0, 1)])
    room.close()
    with pytest.raises(SnapshotDamaged, match="another size"):
        memory.make_full()
    assert not list(memory.folder.glob(".full*"))


def test_what_a_dead_program_had_begun_to_make_is_removed(tmp_path: Path) -> None:
    memory = base(tmp_path)
    (memory.folder / ".full-1").write_bytes(b"half")
    memory.make_full()
    assert not list(memory.folder.glob(".full*"))
