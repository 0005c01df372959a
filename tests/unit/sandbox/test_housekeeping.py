"""What can go, and what must stay."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from sandlot.sandbox.host import Host
from sandlot.sandbox.housekeeping import KEEP_UNUSED, disk_usage, prune, size
from sandlot.state.lock import FileLock
from tests.unit.snapshot.test_cache import with_memory
from tests.unit.state.test_records import make, record


@pytest.fixture
def host(own_state: Path) -> Host:
    host = Host.current()
    for folder in (host.paths.images, host.paths.cache, host.paths.sockets):
        assert folder.is_dir()
    return host


def old(path: Path) -> None:
    then = time.time() - KEEP_UNUSED - 10
    os.utime(path, (then, then))


def filled(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    (folder / name / "data").write_bytes(b"x" * 10_000)
    return folder / name


def names(found: object) -> set[str]:
    return {each.name for each in found}  # type: ignore[attr-defined]


def test_nothing_is_removed_before_it_was_said(host: Host) -> None:
    dead = filled(host.paths.sandboxes, ".new-dead")
    half = filled(host.paths.templates, "abc.new123")
    partial = filled(host.paths.kernels, ".new-kernel")
    (host.paths.disks / ".new-5.img").write_bytes(b"x")
    door = host.paths.sockets / "abc.sock"
    door.touch()
    old(door)
    said = prune()
    assert names(said) == {".new-dead", "abc.new123", ".new-kernel", ".new-5.img", "abc.sock"}
    assert all(each.why for each in said) and sum(each.size for each in said) > 30_000
    assert dead.exists() and half.exists() and partial.exists() and door.exists()
    assert names(prune(dry_run=False)) == names(said)
    assert not dead.exists() and not half.exists() and not partial.exists() and not door.exists()
    assert prune() == []


def test_the_door_of_a_killed_owner_counts_at_once(host: Host) -> None:
    folder = make(host.sandboxes, record("dead"))
    doors = []
    for name in (folder.record().id, "abc"):
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(host.paths.sockets / f"{name}.sock"))
        doors.append(host.paths.sockets / f"{name}.sock")
        os.utime(doors[-1], (time.time() - 5,) * 2)
        sock.close()  # as when its owner was killed
    assert names(prune()) == {path.name for path in doors}
    lock = FileLock.take(folder.lock_path)  # now it has an owner, who is about to listen
    assert lock is not None
    assert names(prune()) == {"abc.sock"}
    lock.release()
    assert names(prune(dry_run=False)) == {path.name for path in doors}
    assert not any(path.exists() for path in doors)


def test_parts_that_no_image_needs_are_said_before(host: Host) -> None:
    digest = host.images.blobs.put(os.urandom(50_000))
    blob = host.images.blobs.path(digest)
    assert prune() == [] and disk_usage()[0].reclaimable > 50_000
    said = prune(everything=True)
    assert [(g.kind, g.name) for g in said] == [("images", "parts of images")]
    assert blob.exists()
    old(blob)
    assert prune()[0].size == said[0].size > 50_000
    assert prune(dry_run=False) == said and not blob.exists()
    assert prune(everything=True) == []


def test_what_somebody_holds_stays(host: Host) -> None:
    busy = filled(host.paths.sandboxes, ".new-busy")
    template = filled(host.paths.templates, "key.new1")
    locks = [
        FileLock.take(busy / "owner.lock"),
        FileLock.take(host.paths.templates / "key.lock"),
    ]
    assert all(locks)
    assert prune(dry_run=False, everything=True, stopped=True) == []
    assert busy.exists() and template.exists()
    for lock in locks:
        assert lock is not None
        lock.release()
    assert names(prune(dry_run=False)) == {".new-busy", "key.new1"}


def test_caches_by_age_or_when_asked(host: Host) -> None:
    filled(host.paths.templates, "fresh")
    old(filled(host.paths.templates, "stale"))
    (host.paths.disks / "ext4-1.img").write_bytes(b"x")
    filled(host.paths.kernels, "linux-1")
    filled(host.paths.kernels, "linux-2")
    (host.paths.kernels / "current-x86_64").write_text("linux-2")
    assert names(prune()) == {"stale"}
    assert names(prune(everything=True)) == {"fresh", "stale", "ext4-1.img", "linux-1"}


def test_stopped_sandboxes_only_when_asked(host: Host) -> None:
    make(host.sandboxes, record("stopped"))
    running = make(host.sandboxes, record("running", id="99" * 6))
    lock = FileLock.take(running.lock_path)
    assert lock is not None
    assert prune(everything=True) == []
    assert names(prune(dry_run=False, stopped=True)) == {"stopped"}
    assert [f.path.name for f in host.sandboxes.all()] == ["running"]
    lock.release()


def test_snapshots_stay_and_their_whole_memory_goes(host: Host) -> None:
    dead = filled(host.paths.snapshots, ".new-0123")
    old(dead)
    made_ones = {name: with_memory(host.snapshots, name, id=name * 2) for name in ("aa", "bb")}
    assert names(prune()) == {".new-0123"}
    old(made_ones["aa"].memory.folder / "full.json")
    (made_ones["bb"].memory.folder / ".full-77").write_bytes(b"x" * 9000)
    said = prune()
    assert names(said) == {".new-0123", "aa/memory/full", "bb/memory/.full-77"}
    assert all(each.kind == "snapshots" and each.size > 8000 for each in said)
    assert {u.kind: u for u in disk_usage()}["snapshots"].count == 2
    assert dead.exists() and made_ones["aa"].memory.full.exists()
    assert names(prune(dry_run=False)) == names(said)
    assert not dead.exists() and not made_ones["aa"].memory.full.exists()
    # A sandbox that goes on from it has a name of its own for it.
    mapped = make(host.sandboxes, record("worker"))
    made_ones["bb"].memory.link_to(mapped.memory)
    mapped.saved.mkdir()
    assert prune(everything=True) == []
    mapped.saved.rmdir()  # now it is what the machine of a killed owner has left
    assert names(prune()) == {"worker/memory"}
    lock = FileLock.take(mapped.lock_path)
    assert lock is not None
    assert prune() == []
    lock.release()
    assert names(prune(dry_run=False)) == {"worker/memory"} and not mapped.memory.exists()
    assert names(prune(dry_run=False, everything=True)) == {"bb/memory/full"}
    assert [each.path.name for each in host.snapshots.all()] == ["aa", "bb"]
    made_ones["bb"].memory.make_full()
    assert made_ones["bb"].memory.full_is_right()


def test_usage_counts_space_once(host: Host, tmp_path: Path) -> None:
    folder = filled(tmp_path, "folder")
    once = size(folder)
    os.link(folder / "data", folder / "again")
    assert size(folder) == once
    assert size(folder, alone=True) == once  # all its names are here
    (folder / "again").rename(tmp_path / "again")
    assert size(folder) == once and size(folder, alone=True) <= once - 10_000
    (tmp_path / "again").unlink()
    assert size(folder, alone=True) == once
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    assert size(tmp_path / "sparse") < 1 << 20
    filled(host.paths.templates, "one")
    usage = {u.kind: u for u in disk_usage()}
    assert usage["templates"].count == 1 and usage["templates"].size >= 10_000
    assert usage["templates"].reclaimable >= 10_000 and usage["sandboxes"].count == 0
    # What a snapshot has of a template is counted once, and is not given back with the template.
    snapshot = filled(host.paths.snapshots, "saved")
    (snapshot / "data").unlink()
    os.link(host.paths.templates / "one" / "data", snapshot / "data")
    after = {u.kind: u for u in disk_usage()}
    assert after["templates"].size == usage["templates"].size
    assert after["snapshots"].size < 10_000 and after["snapshots"].count == 1
    assert after["templates"].reclaimable < 10_000
