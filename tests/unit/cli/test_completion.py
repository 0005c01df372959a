"""Completion scripts."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from sandlot.cli.main import cli


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell: str) -> None:
    result = CliRunner().invoke(cli, ["completion", shell])
    assert result.exit_code == 0
    assert f"{shell}_complete" in result.output
