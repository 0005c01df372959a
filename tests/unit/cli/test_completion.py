"""Completion scripts."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from sandlot.cli.main import cli
from sandlot.errors import ConfigError


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell: str) -> None:
    result = CliRunner().invoke(cli, ["completion", shell])
    assert result.exit_code == 0
    assert f"{shell}_complete" in result.output


@pytest.mark.parametrize("shell", ["/bin/bash", "/usr/bin/fish"])
def test_without_a_shell_it_is_the_users(monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    monkeypatch.setenv("SHELL", shell)
    named = CliRunner().invoke(cli, ["completion", shell.rpartition("/")[2]])
    assert CliRunner().invoke(cli, ["completion"]).output == named.output != ""


@pytest.mark.parametrize(("shell", "says"), [("/bin/tcsh", "'tcsh'"), ("", "no shell was named")])
def test_no_shell_that_is_known(monkeypatch: pytest.MonkeyPatch, shell: str, says: str) -> None:
    monkeypatch.setenv("SHELL", shell)
    error = CliRunner().invoke(cli, ["completion"]).exception
    assert isinstance(error, ConfigError) and says in error.message
    assert "sandlot completion bash|zsh|fish" in error.hint
