"""Lines of a fleet's output."""

from __future__ import annotations

import json

import pytest

from sandlot.cli.fleet_logs import Lines
from sandlot.sandbox.log import LogEntry


def test_whole_lines_behind_names(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines("shop")
    lines("shop-api", LogEntry(1.0, "stdout", b"one\ntw"))
    lines("shop-worker", LogEntry(2.0, "stderr", b"bad\x1b[31m\n"))
    lines("shop-api", LogEntry(3.0, "stdout", b"o\nrest"))
    lines.close()
    said = capsys.readouterr()
    assert said.out == "api | one\napi    | two\napi    | rest\n"
    assert said.err == "worker | bad?[31m\n"


def test_colours_are_for_terminals_and_without_no_color(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    Lines("f")("f-a", LogEntry(1.0, "stdout", b"x\n"))
    assert capsys.readouterr().out == "\x1b[36ma |\x1b[0m x\n"
    monkeypatch.setenv("NO_COLOR", "1")
    Lines("f")("f-a", LogEntry(1.0, "stdout", b"x\n"))
    assert capsys.readouterr().out == "a | x\n"


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    Lines("f", json_=True)("f-a", LogEntry(0.0, "stdout", b"x"))
    assert json.loads(capsys.readouterr().out)["sandbox"] == "f-a"
