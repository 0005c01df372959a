from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path

import pytest

from sandlot.volume.ledger import BLOCK, NAME, Ledger, count, room, whole

fork = multiprocessing.get_context("fork")


def ledger(path: Path, size: int = 1 << 20) -> Ledger:
    data = path / "data"
    data.mkdir(exist_ok=True)
    made = Ledger(path / "usage", data, size)
    made.open()
    return made


def test_what_is_taken_is_counted_and_no_more_than_there_is(tmp_path: Path) -> None:
    one = ledger(tmp_path)
    assert (one.used, one.free) == (0, 1 << 20)
    assert one.take(1 << 19) == 1 << 19
    with pytest.raises(OSError) as caught:
        one.take((1 << 19) + 1)
    assert caught.value.errno == errno.ENOSPC
    assert one.take(1 << 20, least=BLOCK) == 1 << 19
    one.settle(-(1 << 20))
    assert one.used == 0
    one.settle(-5)
    assert one.used == 0, "it never goes below nothing"
    one.close()
    one.close()


def _take(path: Path, pieces: int) -> None:
    mine = Ledger(path / "usage", path / "data", 1 << 30)
    mine.open()
    for _ in range(pieces):
        mine.take(BLOCK)
    mine.close()


def test_several_programs_count_together(tmp_path: Path) -> None:
    mine = ledger(tmp_path, 1 << 30)
    others = [fork.Process(target=_take, args=(tmp_path, 500)) for _ in range(3)]
    for other in others:
        other.start()
    for _ in range(500):
        mine.take(BLOCK)
    for other in others:
        other.join()
        assert other.exitcode == 0
    assert mine.used == 2000 * BLOCK
    mine.close()


def _die(path: Path) -> None:
    mine = Ledger(path / "usage", path / "data", 1 << 20)
    mine.open()
    mine.take(100 * BLOCK)
    os._exit(9)


def test_after_a_death_it_is_counted_anew(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "file").write_bytes(bytes(5000))
    dead = fork.Process(target=_die, args=(tmp_path,))
    dead.start()
    dead.join()
    (tmp_path / "usage.slow").touch()  # as if counting took long: it is done after a death only
    mine = ledger(tmp_path)
    assert mine.used == NAME + 2 * BLOCK
    mine.close()
    (data / "other").write_bytes(bytes(5000))
    (tmp_path / "usage.slow").touch()
    mine = ledger(tmp_path)
    assert mine.used == NAME + 2 * BLOCK, "nobody died, and counting takes long"
    mine.close()


def _have_open(path: Path, ready: object, end: object) -> None:
    mine = Ledger(path / "usage", path / "data", 1 << 20)
    mine.open()
    mine.note_open(77)
    assert mine.try_turn(78)
    ready.set()  # type: ignore[attr-defined]
    end.wait()  # type: ignore[attr-defined]
    os._exit(0)


def test_turns_and_open_files_are_seen_by_other_programs(tmp_path: Path) -> None:
    mine = ledger(tmp_path)
    assert not mine.open_elsewhere(77)
    ready, end = fork.Event(), fork.Event()
    other = fork.Process(target=_have_open, args=(tmp_path, ready, end))
    other.start()
    ready.wait()
    assert mine.open_elsewhere(77) and not mine.open_elsewhere(76)
    assert not mine.try_turn(78) and mine.try_turn(79)
    mine.end_turn(79)
    end.set()
    other.join()
    assert not mine.open_elsewhere(77) and mine.try_turn(78)
    mine.close()


def test_counting_a_tree(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "file").write_bytes(bytes(1))
    (tmp_path / "a" / "b" / "again").hardlink_to(tmp_path / "a" / "file")
    (tmp_path / "link").symlink_to("/")
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(1 << 30)
    assert count(tmp_path) == 6 * NAME + 2 * BLOCK + BLOCK + room((tmp_path / "link").lstat())
    assert count(tmp_path, by_length=True) >= 1 << 30
    assert (whole(0), whole(1), whole(4097)) == (0, 4096, 8192)


def test_a_tree_deeper_than_paths_are_long(tmp_path: Path) -> None:
    from sandlot.state.removal import remove_tree

    top = tmp_path / "top"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("folder", dir_fd=here)
        below = os.open("folder", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert count(top) == 1500 * (NAME + BLOCK)
    remove_tree(top)
    assert not top.exists()
