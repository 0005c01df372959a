"""Snapshots into files and out of them."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sandlot import (
    ConfigError,
    NameTaken,
    ResourceError,
    Snapshot,
    SnapshotDamaged,
    SnapshotError,
    SnapshotMismatch,
    SnapshotNotFound,
    StateError,
)
from sandlot.sandbox.host import Host
from sandlot.snapshot import exporting, importing
from tests.unit.snapshot.fakes import (
    FACTS,
    exported,
    files_of,
    fitting_host,
    make_snapshot,
    nothing_half_made,
    source_record,
)


@pytest.fixture
def host(own_state: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host whose engine fits what `make_snapshot` made."""
    return fitting_host(monkeypatch)


async def test_there_and_back(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "demo.snapshot"
    before = await exported(host, target)
    nothing_half_made(host, tmp_path)
    stages: list[tuple[str, float | None]] = []
    monkeypatch.setenv("SANDLOT_DATA", str(tmp_path / "elsewhere"))
    there = Host.current()
    assert there is not host
    monkeypatch.setattr(there, "engine", host.engine)
    said: list[str] = []
    there.tell = said.append
    snap = await Snapshot.import_(target, progress=lambda *what: stages.append(what))
    assert snap.name == "demo" and snap.tags == ("one", "two") and snap.kind == "machine"
    assert snap.id != before.record().id == snap.record.origin
    assert files_of(snap.folder) == files_of(before)
    assert (snap.folder.image / "device.vmdk").read_text() == (
        before.image / "device.vmdk"
    ).read_text()
    snap.folder.verify(whole=True)
    assert stages[-1] == ("import", 1.0)
    # Of the host nothing came along, and nothing opens this one.
    source = snap.record.sandbox_record
    assert source.env == source_record().env and source.placeholders == source_record().placeholders
    assert source.secrets["KEY"]["source"] == {"given": "value"}
    assert source.dns == [] and source.upstream_ca == ""
    assert source.ports[0]["address"] == "127.0.0.1" and not source.ports[0]["host_port"]
    assert source.network["allow"] == ["api.example.com"] and source.network["default"] == "deny"
    assert len(said) == 1 and "10.0.0.0/8" in said[0]
    assert b"MY_KEY" not in target.read_bytes() and b"10.0.0.53" not in target.read_bytes()
    # Again under the name that is taken.
    with pytest.raises(NameTaken, match="demo"):
        await Snapshot.import_(target)
    again = await Snapshot.import_(target, "again")
    for path in files_of(again.folder):
        if not path.endswith((".vmdk", ".json")):
            assert (again.folder.path / path).samefile(snap.folder.path / path), path
    nothing_half_made(there)


async def test_an_archive_is_an_image_layout(host: Host, tmp_path: Path) -> None:
    target = tmp_path / "demo.snapshot"
    await exported(host, target)
    with tarfile.open(target) as tar:
        names = tar.getnames()
        read = {name: tar.extractfile(name).read() for name in names}  # type: ignore[union-attr]
    assert names[:2] == ["oci-layout", "index.json"] and len(set(names)) == len(names)
    for name, data in read.items():
        if name.startswith("blobs/sha256/"):
            assert name[-64:] == hashlib.sha256(data).hexdigest()
    (entry,) = json.loads(read["index.json"])["manifests"]
    manifest = json.loads(read[f"blobs/sha256/{entry['digest'][7:]}"])
    assert names[2:4] == [
        f"blobs/sha256/{entry['digest'][7:]}", f"blobs/sha256/{manifest['config']['digest'][7:]}"
    ]  # fmt: skip
    for each in (entry, manifest["config"], *manifest["layers"]):
        assert each["size"] == len(read[f"blobs/sha256/{each['digest'][7:]}"])
    # Holes and zeros are left out: 64 GiB of image, a disk far behind its file's beginning.
    assert target.stat().st_size < 2 << 20


async def test_streams(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snap = Snapshot(host, make_snapshot(host))
    out = io.BytesIO()
    await snap.export(out)
    read, write = os.pipe()

    def feed() -> None:
        with os.fdopen(write, "wb") as file:
            file.write(out.getvalue())

    with os.fdopen(read, "rb", buffering=0) as file:
        made, _ = await asyncio.gather(Snapshot.import_(file, "piped"), asyncio.to_thread(feed))
    assert files_of(made.folder) == files_of(snap.folder)
    # A pipe with a name is one too, and not replaced by a file.
    named = tmp_path / "named"
    os.mkfifo(named)
    reading = asyncio.create_task(asyncio.to_thread(named.read_bytes))
    await snap.export(named)
    assert await reading == out.getvalue() and named.is_fifo()
    # One whose documents come last, as other tools pack: a file will do, a stream not.
    packed = tmp_path / "packed.tar"
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar, tarfile.open(packed, "w") as new:
        for member in reversed(tar.getmembers()):
            new.addfile(member, tar.extractfile(member))
    assert (await Snapshot.import_(packed, "packed")).record.layers == made.record.layers
    monkeypatch.setattr(importing, "MAX_DOCUMENT", 100_000)
    assert await Snapshot.import_(packed, "packed-2")

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    with pytest.raises(SnapshotError, match="comes after its files"):
        await Snapshot.import_(Pipe(packed.read_bytes()), "packed-3")
    nothing_half_made(host)


async def test_a_mismatch_is_told_before_anything_is_copied(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "demo.snapshot"
    await exported(host, target)

    async def other() -> Any:
        return SimpleNamespace(facts={**FACTS, "version": "9.1"})

    monkeypatch.setattr(host, "engine", other)
    data = target.read_bytes()
    with tarfile.open(target) as tar:
        begin = tar.getmembers()[4].offset  # where the files begin
    short = tmp_path / "short"
    short.write_bytes(data[:begin])
    with pytest.raises(SnapshotMismatch, match=r"QEMU was 7\.2 and is 9\.1") as caught:
        await Snapshot.import_(short, "other")
    assert caught.value.differences == {"version": ("7.2", "9.1")}
    snap = await Snapshot.import_(target, "disk", disk_only=True)
    assert snap.kind == "disk" and not snap.folder.memory.folder.exists()
    assert {path.split("/")[0] for path in snap.record.digests} == {"disk"}
    snap.folder.verify(whole=True)


async def test_what_cannot_be_exported(host: Host, tmp_path: Path) -> None:
    folder = make_snapshot(host)
    snap = Snapshot(host, folder)
    target = tmp_path / "out" / "demo"
    with pytest.raises(StateError, match="cannot be written"):
        await snap.export(target)
    target.parent.mkdir()
    with pytest.raises(ConfigError, match="level 20"):
        await snap.export(target, level=20)
    with pytest.raises(ConfigError, match="is a folder"):
        await snap.export(tmp_path)
    there = tmp_path / "there"
    there.write_bytes(b"mine")
    with pytest.raises(ConfigError, match="there is there already"):
        await snap.export(there)
    assert there.read_bytes() == b"mine"
    await snap.export(there, force=True)
    assert there.stat().st_size > 1000
    with folder.state.open("r+b") as file:
        file.write(b"other")
    with pytest.raises(SnapshotDamaged, match="state"):
        await snap.export(target)
    host.snapshots.remove(folder)
    with pytest.raises(SnapshotNotFound):
        await snap.export(target)
    assert not list(target.parent.iterdir())


async def test_a_full_disk_and_cancelling_leave_nothing(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "demo.snapshot"
    folder = await exported(host, target)
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    go_on = threading.Event()

    def tell(stage: str, fraction: float | None) -> None:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait()

    for work in (
        lambda: Snapshot(host, folder).export(tmp_path / "second", progress=tell),
        lambda: Snapshot.import_(target, "second", progress=tell),
    ):
        begun.clear()
        go_on.clear()
        task = asyncio.ensure_future(work())
        await begun.wait()
        task.cancel()
        await asyncio.sleep(0)  # it has to hear of it
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        nothing_half_made(host, tmp_path)
    assert not (tmp_path / "second").exists()
    assert [each.path.name for each in host.snapshots.all()] == ["demo"]
    host.snapshots.remove(folder)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(importing.os, "pwrite", full)  # type: ignore[attr-defined]
    with pytest.raises(ResourceError, match="no space left"):
        await Snapshot.import_(target, "third")
    nothing_half_made(host)
    monkeypatch.undo()


KILLED = """
import asyncio, os, sys
from sandlot import Snapshot
if sys.argv[1] == "export":
    snap = asyncio.run(Snapshot.get("demo"))
    asyncio.run(snap.export(sys.argv[2], progress=lambda *_: (os.write(1, b"x"), sys.stdin.read())))
else:
    asyncio.run(Snapshot.import_(open(0, "rb", buffering=0, closefd=False), "in", disk_only=True))
"""


@pytest.mark.parametrize("what", ["export", "import"])
async def test_killed_in_the_middle_nothing_is_left(host: Host, tmp_path: Path, what: str) -> None:
    target = tmp_path / "demo.snapshot"
    await exported(host, target)
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, what, str(tmp_path / "other"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert program.stdin is not None and program.stdout is not None
    if what == "export":
        assert await program.stdout.read(1)
    else:
        data = target.read_bytes()
        program.stdin.write(data[: len(data) * 2 // 3])
        while not list(host.paths.snapshots.glob(".new-*/disk/*")):
            await asyncio.sleep(0.02)  # another process makes them
    program.kill()
    await program.communicate()
    assert [each.path.name for each in host.snapshots.all()] == ["demo"]
    nothing_half_made(host)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [target.name]


async def test_no_room_is_told_before_anything_is_copied(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "demo.snapshot"
    await exported(host, target)
    for each in host.snapshots.all():
        host.snapshots.remove(each)
    monkeypatch.setattr(
        "sandlot.sandbox.exchange.shutil.disk_usage", lambda path: SimpleNamespace(free=1 << 20)
    )
    with pytest.raises(ResourceError, match="not enough disk"):
        await Snapshot.import_(target)


def test_levels_are_those_of_zstd() -> None:
    assert exporting.LEVELS.start == 1
