"""`sandlot snapshot`: the tree, what is listed, named, and removed in which order."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sandlot.cli.main import cli
from sandlot.errors import SandboxError
from sandlot.sandbox.host import Host
from sandlot.snapshot.store import SnapshotStore
from tests.unit.snapshot.test_store import made
from tests.unit.state.test_records import make
from tests.unit.state.test_records import record as sandbox

IDS = {name: f"{number:012x}" for number, name in enumerate(("top", "a", "b", "deep", "lost"), 17)}


@pytest.fixture
def store(own_state: Path) -> SnapshotStore:
    """`top` with the children `a` (with `deep` below) and `b`, and one whose parent is gone."""
    store = Host.current().snapshots
    parents = {"a": IDS["top"], "b": IDS["top"], "deep": IDS["a"], "lost": "f" * 12}
    source = asdict(sandbox("box"))
    for time, name in enumerate(("top", "b", "a", "deep", "lost"), 1):
        made(
            store, name, id=IDS[name], parent=parents.get(name, ""), created=float(time),
            source=source, tags=["good"] if name == "a" else [],
        )  # fmt: skip
    return store


def snapshot(*words: str) -> Result:
    return CliRunner().invoke(cli, ["snapshot", *words])


def names(store: SnapshotStore) -> list[str]:
    return [folder.path.name for folder in store.all()]


def test_the_tree_has_children_below_their_parents(store: SnapshotStore) -> None:
    lines = snapshot("ls", "--tree").output.splitlines()
    assert [line.split("  disk")[0].rstrip() for line in lines[1:]] == [
        "top",
        "├─ b",
        "└─ a",
        "   └─ deep",
        "lost",
    ]
    assert lines[0].split()[:4] == ["NAME", "KIND", "SANDBOX", "CREATED"]


def test_listings(store: SnapshotStore) -> None:
    assert snapshot("ls", "-q").output.split() == [
        IDS[n] for n in ("a", "b", "deep", "lost", "top")
    ]
    assert snapshot("ls", "-q", "--tree").output.split() == [
        IDS[n] for n in ("top", "b", "a", "deep", "lost")
    ]
    listed = {each["name"]: each for each in json.loads(snapshot("ls", "--json").output)}
    assert listed["top"]["children"] == ["a", "b"] and listed["top"]["parent"] is None
    assert listed["a"]["tags"] == ["good"] and listed["a"]["own"] > 0
    assert json.loads(snapshot("inspect", "good").output) == [listed["a"]]


def test_what_cannot_be_read_is_told_and_can_be_removed(store: SnapshotStore) -> None:
    (store.find("lost").path / "snapshot.json").write_text("{")
    said = snapshot("ls", "-q")
    assert len(said.stdout.split()) == 4 and said.exit_code == 0
    assert "'lost' cannot be read" in said.stderr and "sandlot snapshot rm lost" in said.stderr
    assert snapshot("rm", "lost").stdout == "lost\n"
    assert "lost" not in names(store)


def test_inspecting_several_shows_those_that_are_there(store: SnapshotStore) -> None:
    said = snapshot("inspect", "top", "nobody")
    assert said.exit_code == 125 and "'nobody'" in said.stderr
    assert [each["name"] for each in json.loads(said.stdout)] == ["top"]


def test_parents_stay_while_their_children_do(store: SnapshotStore) -> None:
    said = snapshot("rm", "top", "b")
    assert said.exit_code == 125 and said.stdout == "b\n"
    assert "has children: snapshot a" in said.stderr and "--cascade" in said.stderr
    assert names(store) == ["a", "deep", "lost", "top"]
    # Named together they go, in whichever order.
    said = snapshot("rm", "top", "deep", "good", "good")
    assert (said.exit_code, said.output) == (0, "top\ndeep\ngood\n")
    assert names(store) == ["lost"]


def test_cascade(store: SnapshotStore, own_state: Path) -> None:
    make(Host.current().sandboxes, sandbox("worker", id="ab" * 6, snapshot=IDS["deep"]))
    assert "sandbox worker" in snapshot("rm", "deep").stderr
    listed = json.loads(snapshot("ls", "--json").output)
    assert listed == json.loads(snapshot("inspect", *(each["name"] for each in listed)).output)
    assert {each["name"]: each["sandboxes"] for each in listed}["deep"] == ["worker"]
    assert snapshot("rm", "--cascade", "top").output == "top\n"
    assert names(store) == ["lost"] and Host.current().sandboxes.all() == []


def test_a_missing_one_is_an_error_unless_forced(store: SnapshotStore) -> None:
    said = snapshot("rm", "nobody", "lost")
    assert (said.exit_code, said.stdout) == (125, "lost\n") and "snapshot ls" in said.stderr
    said = snapshot("rm", "-f", "nobody")
    assert (said.exit_code, said.stdout) == (0, "") and "nobody" in said.stderr


def test_names_and_tags(store: SnapshotStore) -> None:
    renamed = snapshot("rename", "top", "first")
    assert renamed.exit_code == 0 and renamed.output == "first\n"
    assert "first" in names(store) and "top" not in names(store)
    assert snapshot("tag", "first", "x", "y", "x").output == "x\ny\n"
    assert snapshot("tag", "first").output == "x\ny\n"
    assert snapshot("tag", "first", "--add", "z", "--remove", "x").output == "y\nz\n"
    assert snapshot("tag", "z").output == "y\nz\n"
    assert "no tag 'x'" in snapshot("tag", "first", "--remove", "x").output
    assert snapshot("tag", "first", "--clear").output == ""
    assert store.find("first").record().tags == []
    for wrong in (["one", "--add", "two"], ["--clear", "--add", "x"], ["one", "--clear"]):
        assert "name all tags" in snapshot("tag", "first", *wrong).output
    assert isinstance(snapshot("rename", "first", "lost").exception, SandboxError)
