"""The events file: bounded, shared by programs, read while it is written."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from sandlot.state import events
from sandlot.state.events import EventLog, parse_event


def test_what_was_written_is_read(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    assert list(log.read()) == []
    log.append("created", "box", "abc", "demo")
    log.append("exited", "box", "abc", "demo", exit_code=3)
    first, second = log.read()
    assert (first.kind, first.name, first.id, first.image) == ("created", "box", "abc", "demo")
    assert second.details == {"exit_code": 3}
    assert list(log.read(since=second.time)) == [second]


def test_it_stays_bounded_and_a_follower_misses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LIMIT", 2000)
    log = EventLog(tmp_path / "events.jsonl")
    following, seen = log.follow(), []
    for number in range(300):
        log.append("created", str(number), "id")
        while (event := next(following)) is not None:
            seen.append(int(event.name))
    assert seen == list(range(300))
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 4500
    kept = [int(e.name) for e in log.read()]
    assert kept == list(range(kept[0], 300)) and len(kept) > 10


def _write(path: Path, mark: int) -> None:
    for number in range(200):
        EventLog(path).append("created", f"{mark}-{number}", "id")


def test_programs_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(path, mark)) for mark in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert {e.name for e in EventLog(path).read()} == {
        f"{mark}-{number}" for mark in range(3) for number in range(200)
    }


@pytest.mark.parametrize("line", [b"", b"[1, 2", b"{}", b"[]", b'[null, "a", "b", "c", "d", {}]'])
def test_a_cut_line_is_left_out(tmp_path: Path, line: bytes) -> None:
    assert parse_event(line) is None
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'[1, "created", "a", "b", "c", {}]\n' + line + b"\n")
    assert [e.name for e in EventLog(path).read()] == ["a"]


def test_a_file_that_cannot_be_written_fails_nobody(tmp_path: Path) -> None:
    EventLog(tmp_path / "no" / "such" / "folder.jsonl").append("created", "a", "b")
