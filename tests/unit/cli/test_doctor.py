"""What `doctor` says to programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from sandlot.cli.main import cli


def test_json(own_state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDLOT_ACCELERATOR", "tcg")
    result = CliRunner().invoke(cli, ["doctor", "--json"])
    checks = json.loads(result.stdout)
    assert {"engine", "agent", "kernel", "disks", "state"} <= {c["name"] for c in checks}
    for check in checks:
        assert set(check) == {"name", "status", "reason", "remedy"}
    assert result.exit_code == any(c["status"] == "missing" for c in checks)


def test_no_qemu_is_told_with_the_remedy(own_state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDLOT_QEMU", "/no/such/qemu")
    result = CliRunner().invoke(cli, ["doctor", "--json"])
    assert result.exit_code == 1
    engine = json.loads(result.stdout)[0]
    assert (engine["name"], engine["status"]) == ("engine", "missing")
    assert "install" in engine["remedy"]
