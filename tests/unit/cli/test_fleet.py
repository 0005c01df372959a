"""The commands about fleets, as far as no machine is needed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from sandlot.cli.main import main

FILE = """
sandboxes:
  api: {image: x, depends_on: [db], scripts: {start: run, test: pytest}}
  db: {image: y, env: {A: '${A:-1}'}}
"""


@pytest.fixture
def folder(tmp_path: Path, own_state: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "Sandboxfile.yaml").write_text(FILE)
    monkeypatch.chdir(tmp_path / "shop")
    return tmp_path / "shop"


def sandlot(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    sys.argv = ["sandlot", *words]
    with pytest.raises(SystemExit) as stop:
        main()
    said = capsys.readouterr()
    return int(stop.value.code or 0), said.out, said.err


def test_a_dry_run_and_diff_show_the_plan(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = "create shop-db\ncreate shop-api\n"
    assert sandlot(capsys, "up", "--dry-run") == (0, plan, "")
    assert sandlot(capsys, "diff") == (1, plan, "")
    assert sandlot(capsys, "diff", "-q") == (1, "", "")
    assert sandlot(capsys, "up", "--dry-run", "db")[1] == "create shop-db\n"
    assert sandlot(capsys, "down", "--dry-run") == (0, "", "")
    status, out, _ = sandlot(capsys, "diff", "--json", "-p", "other")
    assert status == 1 and [each["sandbox"] for each in json.loads(out)] == [
        "other-db",
        "other-api",
    ]
    assert json.loads(out)[1]["needs"] == {"other-db": "started"}


def test_config(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = sandlot(capsys, "config", "--json")
    assert status == 0 and json.loads(out)["sandboxes"]["db"]["env"] == {"A": "1"}
    assert "depends_on:\n      db:\n        condition: started" in sandlot(capsys, "config")[1]
    assert sandlot(capsys, "fleet", "config", "-q") == (0, "", "")
    assert json.loads(sandlot(capsys, "config", "--schema")[1])["title"] == "Sandboxfile"


def test_what_is_wrong_is_told_whole(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "Sandboxfile.yaml").write_text(
        "sandboxes:\n  a: {imag: x}\n  b: {image: y, cpus: z}\n"
    )
    assert sandlot(capsys, "up", "-d") == (
        125, "",
        ("sandlot: Sandboxfile.yaml:2:7: there is no 'imag' here (did you mean image?)\n"
        "Sandboxfile.yaml:3:23: cpus is the text 'z', not a whole number\n"),
    )  # fmt: skip
    status, _, err = sandlot(capsys, "config", "-f", "none.yaml")
    assert status == 125 and err.startswith("sandlot: cannot read none.yaml: no such file")


def test_ps_shows_what_is_missing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = sandlot(capsys, "fleet", "ps", "--json")
    assert status == 0
    assert [(each["member"], each["status"]) for each in json.loads(out)] == [
        ("api", "missing"), ("db", "missing"),
    ]  # fmt: skip
    assert sandlot(capsys, "fleet", "ls", "--json") == (0, "[]\n", "")
    assert sandlot(capsys, "fleet", "ls")[1].split() == ["NAME", "RUNNING", "FILE"]


def test_members_that_there_are_not(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = sandlot(capsys, "fleet", "exec", "ap", "ls")
    assert status == 125 and "no member 'ap'\nhint: did you mean api?" in err
    status, _, err = sandlot(capsys, "fleet", "run", "tset")
    assert status == 125 and "no script 'tset'\nhint: did you mean test?" in err
    status, _, err = sandlot(capsys, "fleet", "run", "test")
    assert status == 125 and "api of the fleet 'shop' is not there\nhint: `sandlot up -d`" in err


def test_options_of_the_group_count(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "other.yaml").write_text("name: other\nsandboxes: {z: {image: x, profiles: [p]}}\n")
    assert sandlot(capsys, "fleet", "-f", "other.yaml", "--profile", "p", "diff")[1] == (
        "create other-z\n"
    )
