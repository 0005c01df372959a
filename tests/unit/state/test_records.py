"""The sandboxes that exist, and what is left of those that do not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandlot.errors import NameTaken, SandboxNotFound, StateError, WrongState
from sandlot.state.lock import FileLock, is_held
from sandlot.state.records import SandboxFolder, SandboxFolders, SandboxRecord, write_json


def record(name: str = "box", **changes: object) -> SandboxRecord:
    values: dict[str, object] = {
        "id": "ab12cd34ef56", "name": name, "image": "demo", "image_digest": "sha256:0",
        "memory": 1 << 30, "cpus": 1, "disk": 1 << 30, "hostname": name, "machine_id": "0" * 32,
    }  # fmt: skip
    return SandboxRecord(**{**values, **changes})  # type: ignore[arg-type]


def make(folders: SandboxFolders, new: SandboxRecord) -> SandboxFolder:
    with folders.creating(new) as (folder, lock):
        pass
    lock.release()
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> SandboxFolders:
    return SandboxFolders(tmp_path)


def test_a_record_comes_back(folders: SandboxFolders) -> None:
    new = record(env={"A": "b"}, command=["sh"], created=5.0)
    assert make(folders, new).record() == new
    assert folders.find("box").record() == new
    assert [f.path.name for f in folders.all()] == ["box"]


def test_a_name_is_taken_once(folders: SandboxFolders, tmp_path: Path) -> None:
    make(folders, record())
    with pytest.raises(NameTaken, match="'box' exists already") as caught:
        make(folders, record(id="ff" * 6))
    assert "sandlot rm box" in caught.value.hint
    assert os.listdir(tmp_path) == ["box"]  # noqa: PTH208


def test_a_name_taken_meanwhile_leaves_nothing(folders: SandboxFolders, tmp_path: Path) -> None:
    with pytest.raises(NameTaken), folders.creating(record(id="11" * 6)):
        make(folders, record(id="22" * 6))
    assert folders.find("box").record().id == "22" * 6
    assert [p.name for p in tmp_path.iterdir()] == ["box"]


RACER = """
import sys
from pathlib import Path
from sandlot.errors import NameTaken
from sandlot.state.records import SandboxFolders, SandboxRecord
folders = SandboxFolders(Path(sys.argv[1]))
record = SandboxRecord(id=sys.argv[2], name="box", image="i", image_digest="", memory=1, cpus=1,
                       disk=1, hostname="box", machine_id="")
print("ready", flush=True)
sys.stdin.readline()
try:
    with folders.creating(record):
        pass
    print("won")
except NameTaken:
    print("lost")
"""


def test_one_of_several_processes_wins(folders: SandboxFolders, tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, tmp_path, f"{i:012x}"], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for i in range(4)
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdout is not None
        racer.stdout.readline()
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = [racer.communicate()[0].strip() for racer in racers]
    assert sorted(said) == ["lost", "lost", "lost", "won"]
    assert folders.find("box").record().id == f"{said.index('won'):012x}"
    assert [p.name for p in tmp_path.iterdir()] == ["box"]


def test_a_failure_while_filling_leaves_nothing(folders: SandboxFolders, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk"), folders.creating(record()) as (folder, _):
        assert not (tmp_path / "box").exists()
        (folder.path / "disk.img").touch()
        raise OSError("disk full")
    assert not list(tmp_path.iterdir())


def test_half_made_folders_of_the_dead_are_swept(folders: SandboxFolders, tmp_path: Path) -> None:
    for name in (".new-dead", ".rm-dead", ".new-held"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "owner.lock").touch()
    lock = FileLock.take(tmp_path / ".new-held" / "owner.lock")
    assert lock is not None
    with folders._sweeping(alone=False):  # somebody is about to take the lock of a new folder
        assert folders.all() == [] and folders.half_made() == []
    assert {p.name for p in tmp_path.iterdir()} == {".new-dead", ".rm-dead", ".new-held"}
    assert {p.name for p in folders.half_made()} == {".new-dead", ".rm-dead"}
    assert folders.all() == []
    assert {p.name for p in tmp_path.iterdir()} == {".new-held"}
    lock.release()


def test_what_a_dead_owner_should_have_removed_is_removed(
    folders: SandboxFolders, tmp_path: Path
) -> None:
    for name in ("ran", "fresh", "kept", "runs"):
        folder = make(folders, record(name, auto_remove=name != "kept"))
        if name != "fresh":
            folder.write_run_state(started=1.0)
    lock = FileLock.take(tmp_path / "runs" / "owner.lock")
    assert lock is not None
    assert [f.path.name for f in folders.all()] == ["fresh", "kept", "runs"]
    assert not (tmp_path / "ran").exists()
    lock.release()


@pytest.mark.parametrize("damage", ["", "[]", '{"id": "x"}', '"text"', '{"unknown": 1}'])
def test_a_damaged_record_is_told_with_the_remedy(
    folders: SandboxFolders, tmp_path: Path, damage: str
) -> None:
    make(folders, record())
    (tmp_path / "box" / "sandbox.json").write_text(damage)
    with pytest.raises(StateError, match="'box' cannot be read") as caught:
        folders.find("box").record()
    assert "sandlot rm -f box" in caught.value.hint
    make(folders, record("other", id="99" * 6))
    assert [f.path.name for f in folders.all()] == ["box", "other"]
    folders.remove(folders.find("box"))
    assert [f.path.name for f in folders.all()] == ["other"]


def test_finding_by_id(folders: SandboxFolders) -> None:
    make(folders, record("one", id="abc111222333"))
    make(folders, record("two", id="abd111222333"))
    assert folders.find("abc111222333").path.name == "one"
    assert folders.find("abd").path.name == "two"
    for missing in ("ab", "a", "", "x", "../one", ".", "one/"):
        with pytest.raises(SandboxNotFound):
            folders.find(missing)


@pytest.mark.parametrize("damage", [None, "", "{", "[]", '{"started": 1.5, "new": 2}'])
def test_the_run_state_never_fails(folders: SandboxFolders, damage: str | None) -> None:
    folder = make(folders, record())
    if damage is not None:
        (folder.path / "run.json").write_text(damage)
    state = folder.run_state()
    assert not state.running
    assert state.started == (1.5 if damage and "1.5" in damage else 0.0)


def test_the_exit_is_noted_beside_the_rest(folders: SandboxFolders) -> None:
    folder = make(folders, record())
    folder.write_run_state(started=3.0, owner=9)
    folder.note_exit(4)
    state = folder.run_state()
    assert (state.started, state.owner, state.exit_code) == (3.0, 9, 4)


def test_removing(folders: SandboxFolders, tmp_path: Path) -> None:
    folder = make(folders, record())
    lock = FileLock.take(folder.lock_path)
    assert lock is not None
    assert folder.run_state().running
    with pytest.raises(WrongState, match="'box' is running"):
        folders.remove(folder)
    folders.remove(folder, lock)
    assert not list(tmp_path.iterdir())
    with pytest.raises(SandboxNotFound):
        folders.remove(folder)
    with pytest.raises(SandboxNotFound):
        folder.record()


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot write"):
        write_json(tmp_path / "gone" / "x.json", {})
    write_json(tmp_path / "x.json", [1])
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_an_owner_that_was_killed_is_written_down_once(tmp_path: Path) -> None:
    (tmp_path / "sandboxes").mkdir()
    folders = SandboxFolders(tmp_path / "sandboxes")
    folder = make(folders, record())
    folder.write_run_state(owner=9, monitor=8, started=3.0, exit_code=None)
    for _ in range(2):
        assert [f.path.name for f in folders.all()] == ["box"]
    state = folder.run_state()
    assert (state.owner, state.started, state.reason) == (0, 3.0, "its program ended")
    kinds = [e.kind for e in folders.events.read() if e.id == folder.record().id]
    assert kinds.count("stopped") == 1


def test_renaming(folders: SandboxFolders) -> None:
    folder = make(folders, record())
    make(folders, record("other", id="99" * 6))
    with pytest.raises(NameTaken):
        folders.rename(folder, "other")
    lock = FileLock.take(folder.lock_path)
    assert lock is not None
    with pytest.raises(WrongState, match="is running"):
        folders.rename(folder, "new")
    lock.release()
    assert folders.rename(folder, "new").record().name == "new"
    assert [f.path.name for f in folders.all()] == ["new", "other"]
    with pytest.raises(SandboxNotFound):
        folders.find("box")


def test_a_lock_is_left_to_a_child(tmp_path: Path) -> None:
    lock = FileLock.take(tmp_path / "lock")
    assert lock is not None
    copy = FileLock.adopt(os.dup(lock.descriptor), tmp_path / "lock")
    lock.hand_over()
    lock.release()  # does nothing any more
    assert is_held(tmp_path / "lock")
    copy.release()
    assert not is_held(tmp_path / "lock")


def test_a_large_record_is_read_whole(folders: SandboxFolders) -> None:
    env = {f"NAME_{number}": "x" * 1000 for number in range(200)}
    assert make(folders, record(env=env)).record().env == env


def test_what_died_while_it_saved_is_tidied_away(folders: SandboxFolders) -> None:
    folder = make(folders, record())
    (folder.path / ".saved.new").mkdir()
    (folder.path / ".saved.new" / "full").write_bytes(b"x")
    (folder.path / ".run.json.1.ab").write_text("{")
    folder.tidy()  # no disk yet
    (folder.path / "disk").mkdir()
    for name in ("0-ab", "1-cd", "2-ef"):
        (folder.path / "disk" / name).write_bytes(b"x")
    folder.write_disk_files(["0-ab"], "1-cd")
    folder.tidy()
    assert not list(folder.path.glob(".*"))
    assert sorted(path.name for path in (folder.path / "disk").iterdir()) == ["0-ab", "1-cd"]
    assert folder.record().name == "box"


def test_a_saved_machine_is_forgotten_at_once(
    folders: SandboxFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(folders, record())
    folder.drop_saved()  # there is none
    folder.saved.mkdir()
    (folder.saved / "state").write_bytes(b"x")
    # As by a program that is killed before the files are gone.
    monkeypatch.setattr("sandlot.state.records._remove_tree", lambda path: None)
    folder.drop_saved()
    assert not folder.saved.exists()
