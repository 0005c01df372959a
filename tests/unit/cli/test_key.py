"""`sandlot key`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from sandlot import KeyMissing, Remote, Volume
from sandlot.cli.key import key


@pytest.fixture
def file(own_state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config" / "key"
    monkeypatch.setenv("SANDLOT_KEY", str(path))
    return path


def said(*words: str) -> str:
    return CliRunner().invoke(key, list(words), catch_exceptions=False).stdout


def test_a_key_is_made_once_and_shown(file: Path) -> None:
    with pytest.raises(KeyMissing):
        said("ls")
    recipient = said("new")
    assert recipient.startswith("age1") and file.exists()
    assert said("ls") == recipient
    assert json.loads(said("ls", "--json")) == {
        "file": str(file), "recipients": [recipient.strip()],
    }  # fmt: skip
    other = said("new", str(file.with_name("other")))
    assert said("ls", "--key", str(file.with_name("other"))) == other != recipient


def test_who_may_read_is_shown_and_changed(file: Path, tmp_path: Path) -> None:
    from sandlot.sync.portal import run

    mine = said("new").strip()
    theirs = said("new", str(tmp_path / "theirs")).strip()
    address = str(tmp_path / "remote")

    async def push() -> None:
        await (await Volume.create("data")).push(Remote(address))

    run(push())
    shown = CliRunner().invoke(key, ["ls", address], catch_exceptions=False)
    assert shown.stdout == f"{mine}\n" and "fingerprint" in shown.stderr
    assert said("rotate", "--recipient", theirs, address).split() == [mine, theirs]
    found = json.loads(said("ls", "--json", "--key", str(tmp_path / "theirs"), address))
    assert found["recipients"] == [mine, theirs] and not found["endorsed"]
    assert said("rotate", "--remove", theirs, address).split() == [mine]
