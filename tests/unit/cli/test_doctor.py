"""What `doctor` says to programs."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
from click.testing import CliRunner

from sandlot.cli.main import cli


def test_json(own_state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDLOT_ACCELERATOR", "tcg")
    result = CliRunner().invoke(cli, ["doctor", "--json"])
    checks = json.loads(result.stdout)
    assert {"engine", "agent", "kernel", "disks", "state"} <= {c["name"] for c in checks}
    assert {"files", "leftovers", "confinement"} <= {c["name"] for c in checks}
    for check in checks:
        assert set(check) == {"name", "status", "reason", "remedy"}
        assert check["reason"]
        assert check["status"] == "ok" or check["remedy"], check
    assert result.exit_code == any(c["status"] == "missing" for c in checks)


def test_no_qemu_is_told_with_the_remedy(own_state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDLOT_QEMU", "/no/such/qemu")
    result = CliRunner().invoke(cli, ["doctor", "--json"])
    assert result.exit_code == 1
    engine = json.loads(result.stdout)[0]
    assert (engine["name"], engine["status"]) == ("engine", "missing")
    assert "install" in engine["remedy"]


def test_leftovers_are_told_with_the_remedy(
    own_state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDLOT_ACCELERATOR", "tcg")
    (own_state / "sandboxes" / ".new-dead").mkdir(parents=True)
    checks = json.loads(CliRunner().invoke(cli, ["doctor", "--json"]).stdout)
    (found,) = [c for c in checks if c["name"] == "leftovers"]
    assert (found["status"], found["remedy"]) == ("warning", "sandlot prune -f")


def test_a_limit_of_file_sizes_is_told(own_state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Disks begin at 1 TiB of their files."""
    monkeypatch.setenv("SANDLOT_QEMU", "/no/such/qemu")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100 << 30, before[1]))
    try:
        checks = json.loads(CliRunner().invoke(cli, ["doctor", "--json"]).stdout)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (found,) = [c for c in checks if c["name"] == "files"]
    assert found["status"] == "missing" and "1T" in found["reason"]
    assert "ulimit -f" in found["remedy"]
