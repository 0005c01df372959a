"""Recordings of terminals."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from sandlot import ConfigError, ExecContext, ExecEndContext, Recorder, StopContext, TerminalContext

EXEC = ExecContext(sandbox="my box", id=1, argv=("sh", "-c", "ls"), tty=(24, 80))
END = ExecEndContext(sandbox="my box", id=1, argv=("sh",), exit_code=0, duration=1)


def terminal(kind: str, data: bytes = b"", rows: int = 0, columns: int = 0) -> TerminalContext:
    return TerminalContext(sandbox="my box", id=1, kind=kind, data=data, rows=rows, columns=columns)


def casts(folder: Path) -> list[list[object]]:
    return [
        [json.loads(line) for line in f.read_text().splitlines()] for f in sorted(folder.iterdir())
    ]


def test_a_session_is_a_file_that_asciinema_plays(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.on_exec(EXEC)
    euro = "€".encode()
    recorder.on_terminal(terminal("output", b"cost: " + euro[:1]))
    recorder.on_terminal(terminal("output", euro[1:] + b"\r\n"))
    recorder.on_terminal(terminal("input", b"password"))
    recorder.on_terminal(terminal("resize", rows=30, columns=100))
    recorder.on_terminal(terminal("output", euro[:2]))
    recorder.on_exec_end(END)
    recorder.on_terminal(terminal("output", b"late"))
    ((head, *events),) = casts(tmp_path)
    assert isinstance(head, dict) and (head["version"], head["width"], head["height"]) == (
        2,
        80,
        24,
    )
    assert head["command"] == "sh -c ls"
    assert [event[1:] for event in events] == [  # type: ignore[index]
        ["o", "cost: "], ["o", "€\r\n"], ["r", "100x30"], ["o", "\ufffd"],
    ]  # fmt: skip
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600 and path.name.startswith("my_box-")


def test_input_only_when_asked_and_nothing_without_a_terminal(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, record_input=True)
    recorder.on_exec(dataclasses.replace(EXEC, tty=None))
    recorder.on_exec(dataclasses.replace(EXEC, detached=True))
    assert not list(tmp_path.iterdir())
    recorder.on_exec(EXEC)
    recorder.on_terminal(terminal("input", b"ls\n"))
    recorder.on_stop(StopContext(sandbox="another"))
    recorder.on_stop(StopContext(sandbox="my box"))
    ((_, event),) = casts(tmp_path)
    assert event[1:] == ["i", "ls\n"]  # type: ignore[index]


def test_a_file_is_bounded(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, max_bytes=2000)
    recorder.on_exec(EXEC)
    for _ in range(100):
        recorder.on_terminal(terminal("output", b"x" * 100))
    recorder.on_exec_end(END)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size < 3000
    assert json.loads(path.read_text().splitlines()[-1])[1:] == ["m", "cut here"]


def test_two_of_one_moment_have_two_files(tmp_path: Path) -> None:
    for _ in range(2):
        recorder = Recorder(tmp_path)
        recorder.on_exec(EXEC)
        recorder.on_exec_end(END)
    assert len(list(tmp_path.iterdir())) == 2


def test_its_argument_is_a_folder(tmp_path: Path) -> None:
    assert Recorder.from_argument("casts", tmp_path).folder == tmp_path / "casts"
    with pytest.raises(ConfigError):
        Recorder.from_argument("", tmp_path)
