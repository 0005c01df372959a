"""What `df` and `prune` say."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from sandlot.cli.main import cli
from sandlot.sandbox.host import Host


def said(*words: str) -> tuple[str, str]:
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def test_what_is_reclaimable_is_told_with_the_command(own_state: Path) -> None:
    assert said("prune") == ("", "sandlot: there is nothing to remove\n")
    assert said("df")[1] == ""
    cached = Host.current().paths.disks / "ext4-1.img"
    cached.write_bytes(b"x" * 300_000)
    out, err = said("df")
    assert "sandlot prune -a --stopped" in err and "hint" not in out
    out, err = said("prune")
    assert out == "" and "`sandlot prune -a --stopped` would give back 2" in err
    assert said("df", "--json")[1] == ""
    listed = json.loads(said("prune", "-a", "--stopped", "--json")[0])
    assert [each["name"] for each in listed] == ["ext4-1.img"] and cached.exists()
    assert "given back" in said("prune", "-a", "--stopped", "-f")[1] and not cached.exists()
