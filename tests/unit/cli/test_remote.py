from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sandlot.cli.remote import remote
from sandlot.errors import ConfigError, SandboxError


@pytest.fixture(autouse=True)
def _file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDLOT_REMOTES", str(tmp_path / "remotes.toml"))


def call(*words: str) -> Result:
    result = CliRunner().invoke(remote, words)
    if isinstance(result.exception, SandboxError):
        raise result.exception
    return result


def test_from_add_to_rm() -> None:
    assert call("ls").stdout.split() == ["NAME", "ADDRESS", "DEFAULT"]
    assert call("ls", "--json").stdout == "[]\n"
    added = call(
        "add", "--default", "--endpoint", "https://store.example.com", "team", "s3://bucket/a"
    )
    assert added.stdout == "team\n"
    call("add", "nas", "/mnt/nas")
    assert [line.split() for line in call("ls").stdout.splitlines()[1:]] == [
        ["nas", "/mnt/nas", "-"],
        ["team", "s3://bucket/a?endpoint=https://store.example.com", "yes"],
    ]
    assert json.loads(call("ls", "--json").stdout)[0] == {
        "name": "nas", "address": "/mnt/nas", "default": False,
    }  # fmt: skip
    assert call("ls", "-q").stdout == "nas\nteam\n"
    removed = call("rm", "team", "none")
    assert removed.exit_code == 125 and removed.stdout == "team\n"
    assert "no remote 'none'" in removed.stderr
    assert call("ls", "-q").stdout == "nas\n"


def test_what_is_wrong_is_told() -> None:
    with pytest.raises(ConfigError, match="unknown beginning"):
        call("add", "team", "gs://bucket")
    with pytest.raises(ConfigError, match="has no endpoint"):
        call("add", "--endpoint", "https://x", "team", "/mnt")
    with pytest.raises(ConfigError, match="not a name"):
        call("add", "a/b", "/mnt")
