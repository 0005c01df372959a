from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sandlot.cli.volume import volume
from sandlot.errors import ConfigError, NameTaken, SandboxError
from sandlot.volume.store import VolumeStore


def call(*words: str) -> Result:
    result = CliRunner().invoke(volume, words)
    if isinstance(result.exception, SandboxError):
        raise result.exception
    return result


def test_from_create_to_rm(own_state: Path) -> None:
    assert call("create", "--size", "10M", "-l", "app=web", "data").stdout == "data\n"
    call("create", "other")
    with pytest.raises(NameTaken):
        call("create", "data")
    lines = call("ls").stdout.splitlines()
    assert lines[0].split() == ["NAME", "KIND", "LIMIT", "CREATED", "SANDBOXES", "LABELS"]
    assert "10M" in lines[1] and "app=web" in lines[1]
    assert call("ls", "-q").stdout == "data\nother\n"
    assert call("ls", "-q", "-f", "label=app=web").stdout == "data\n"
    assert call("ls", "-q", "-f", "name=oth", "-f", "dangling=true").stdout == "other\n"
    assert call("ls", "-q", "-f", "dangling=false").stdout == ""
    assert [each["name"] for each in json.loads(call("ls", "--json").stdout)] == ["data", "other"]
    with pytest.raises(ConfigError, match="filter"):
        call("ls", "-f", "driver=local")
    shown = call("inspect", "data", "none")
    assert shown.exit_code == 125 and json.loads(shown.stdout)[0]["size"] == 10 << 20
    removed = call("rm", "data", "none")
    assert removed.exit_code == 125 and removed.stdout == "data\n"
    assert call("rm", "-f", "none", "other").exit_code == 0
    assert call("ls", "-q").stdout == ""


def test_a_damaged_one_is_told_and_removed_by_force(own_state: Path) -> None:
    call("create", "data")
    (own_state / "volumes" / "data" / "volume.json").write_text("{")
    listed = call("ls")
    assert "cannot be read" in listed.stderr and "rm -f data" in listed.stderr
    assert call("rm", "data").exit_code == 125
    assert call("rm", "-f", "data").stdout == "data\n"


def test_copying_by_dockers_rules(own_state: Path, tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    (source / "file").write_text("x")
    call("create", "data")
    data = VolumeStore.current().find("data").data
    done = call("cp", str(source), "data:/")
    assert "copied 2 files, 1B, to data:/" in done.stderr and (data / "src" / "file").exists()
    call("cp", f"{source}/.", "data:/flat")
    call("cp", "-q", str(source / "file"), "data:/src/other")
    assert (data / "flat" / "file").exists() and (data / "src" / "other").exists()
    call("cp", "data:/src", str(tmp_path / "out"))
    assert sorted(os.listdir(tmp_path / "out")) == ["file", "other"]  # noqa: PTH208
    call("cp", "data:/src", str(tmp_path / "out"))
    assert (tmp_path / "out" / "src" / "file").exists()
    call("cp", "data:/src/file", str(tmp_path / "one"))
    assert (tmp_path / "one").read_text() == "x"
    call("cp", "data:/.", str(tmp_path / "all"))
    assert (tmp_path / "all" / "src" / "file").exists()
    wrong = (
        ("a:/x", "b:/y"),
        ("./a", "./b"),
        (f"{source}/file", "data:/none/"),
        ("data:/src", "-"),
    )
    for words in wrong:
        with pytest.raises(ConfigError):
            call("cp", *words)


def test_prune_removes_what_nobody_has(own_state: Path) -> None:
    store = VolumeStore.current()
    call("create", "named")
    anonymous = store.anonymous()
    assert "nothing" not in call("prune").stderr and anonymous.path.exists()
    assert anonymous.name in call("prune", "-f").stdout and not anonymous.path.exists()
    assert "there is nothing to remove" in call("prune", "-f").stderr
    assert "named" in call("prune", "-a", "-f").stdout
    assert store.all() == []
