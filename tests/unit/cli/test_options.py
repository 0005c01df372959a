"""Flags that several commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandlot.cli.options import command_words, environment
from sandlot.errors import ConfigError


def test_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FROM_HOST", "h")
    monkeypatch.delenv("NOT_SET", raising=False)
    file = tmp_path / "env"
    file.write_text("# comment\n\nA=file\nC=x=y\n")
    got = environment(["A=1", "B=", "FROM_HOST", "NOT_SET"], [str(file)])
    assert got == {"A": "1", "B": "", "C": "x=y", "FROM_HOST": "h"}


def test_environment_refusals(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'=x'"):
        environment(["=x"])
    with pytest.raises(ConfigError, match="cannot read env file"):
        environment([], [str(tmp_path / "gone")])


def test_dashes_before_the_command() -> None:
    assert command_words(["--", "ls", "--", "x"]) == ["ls", "--", "x"]
    assert command_words(["ls", "--"]) == ["ls", "--"]
    assert command_words([]) == []
