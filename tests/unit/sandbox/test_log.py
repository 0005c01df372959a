"""The kept output."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandlot.sandbox import log
from sandlot.sandbox.log import OutputLog, parse, read_log


def test_binary_output_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "output.jsonl"
    written = OutputLog(path)
    everything = bytes(range(256)) + "ä\n".encode()
    written.write("stdout", everything)
    written.write("stderr", b"")
    written.close()
    assert [(e.stream, e.data) for e in read_log(path)] == [("stdout", everything), ("stderr", b"")]


def test_it_stays_bounded_and_keeps_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "LIMIT", 1000)
    path = tmp_path / "output.jsonl"
    written = OutputLog(path)
    for number in range(200):
        written.write("stdout", b"%d" % number)
    written.close()
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 2500
    kept = [int(entry.data) for entry in read_log(path)]
    assert kept == list(range(kept[0], 200))
    assert len(kept) > 10


@pytest.mark.parametrize("line", [b"", b'[1, "stdout", "cu', b"{}", b"[]", b"[null, 1, 2]", b"3"])
def test_a_cut_line_is_left_out(tmp_path: Path, line: bytes) -> None:
    assert parse(line) is None
    path = tmp_path / "output.jsonl"
    path.write_bytes(b'[1, "stdout", "a"]\n' + line)
    assert [e.data for e in read_log(path)] == [b"a"]


def test_no_log_is_empty(tmp_path: Path) -> None:
    assert list(read_log(tmp_path / "output.jsonl")) == []
