"""Templates: what they are known by, and when they are trusted."""

from __future__ import annotations

import json
import os
from pathlib import Path

from sandlot.engine.config import DISK_OFFSET
from sandlot.snapshot import template
from sandlot.snapshot.integrity import digest_sparse
from tests.unit.snapshot.test_integrity import sparse


async def no_disk() -> Path:
    raise AssertionError("no template is made here")


def store(folder: Path) -> template.TemplateStore:
    return template.TemplateStore(folder, folder, "x86_64", no_disk)


def sealed(store: Path, key: str) -> Path:
    folder = store / key
    folder.mkdir()
    sparse(folder / "ram", 1 << 20, (4096, b"memory"))
    sparse(folder / "disk", DISK_OFFSET + (1 << 20), (DISK_OFFSET + 4096, b"disk"))
    (folder / "state").write_bytes(b"state")
    template._seal(folder, b"t" * 16)
    return folder


def test_a_whole_template_is_trusted_and_a_damaged_one_not(tmp_path: Path) -> None:
    folder = sealed(tmp_path, "key")
    found = store(tmp_path)._usable("key", 1 << 20, 1)
    assert found is not None
    assert found.disk_size == 1 << 20
    assert found.token == b"t" * 16
    for damage in ("ram", "state", "disk"):
        times = (folder / damage).stat()
        (folder / damage).rename(tmp_path / "whole")
        (folder / damage).write_bytes(b"abc")
        assert store(tmp_path)._usable("key", 1 << 20, 1) is None
        (tmp_path / "whole").rename(folder / damage)
        os.utime(folder / damage, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert store(tmp_path)._usable("key", 1 << 20, 1) is not None
    (folder / "manifest.json").write_text("{}")
    assert store(tmp_path)._usable("key", 1, 1) is None


def test_a_disk_that_is_not_fresh_leaves_the_templates_alone(tmp_path: Path) -> None:
    sealed(tmp_path, "key")
    found = store(tmp_path)._usable("key", 1 << 20, 1)
    assert found is not None
    ram, image, disk = tmp_path / "ram", tmp_path / "image", tmp_path / "mine"
    _, staged, other = found.config(ram, image, disk, 7 << 20, fresh=True).disks
    assert (staged.path, staged.readonly, staged.size) == (disk, False, 1 << 20)
    assert other.path is None
    assert staged.offset == DISK_OFFSET
    _, staged, other = found.config(ram, image, disk, 7 << 20, fresh=False).disks
    assert staged.offset == other.offset == DISK_OFFSET
    assert (staged.path, staged.readonly) == (found.disk, True)
    assert (other.path, other.readonly, other.size) == (disk, False, 7 << 20)


def test_unused_templates_are_forgotten(tmp_path: Path) -> None:
    old, fresh = sealed(tmp_path, "old"), sealed(tmp_path, "fresh")
    then = old.stat().st_mtime - template.KEEP_UNUSED - 60
    os.utime(old, (then, then))
    store(tmp_path)._forget_unused()
    assert fresh.exists()
    assert not old.exists()


def test_the_digest_of_a_templates_memory_is_known_by_any_name(tmp_path: Path) -> None:
    folder = sealed(tmp_path, "key")
    linked, other = tmp_path / "linked", tmp_path / "other"
    os.link(folder / "ram", linked)
    other.write_bytes(b"abc")
    known = store(tmp_path).known_digest(linked)
    assert known == digest_sparse(linked) != ""
    assert store(tmp_path).known_digest(other) == ""
    assert store(tmp_path).known_digest(tmp_path / "missing") == ""
    # Neither when it was changed, nor when this boot of the host has not read it.
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "boot": "another"}))
    assert store(tmp_path).known_digest(linked) == ""
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert store(tmp_path).known_digest(linked) == known
    with linked.open("r+b") as file:
        file.write(b"x")
    assert store(tmp_path).known_digest(linked) == ""
