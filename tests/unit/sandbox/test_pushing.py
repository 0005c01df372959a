"""Snapshots into a remote and out of it, without a machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sandlot import (
    ConfigError,
    NameTaken,
    Remote,
    RemoteConflict,
    RemoteDamaged,
    RemoteNotFound,
    ResourceError,
    Snapshot,
    SnapshotDamaged,
    SnapshotMismatch,
)
from sandlot.remote.keys import new_key_file
from sandlot.remote.versions import begin_push
from sandlot.sandbox.host import Host
from tests.unit.snapshot.fakes import (
    FACTS,
    files_of,
    fitting_host,
    make_snapshot,
    nothing_half_made,
    source_record,
)


@pytest.fixture
def host(own_state: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return fitting_host(monkeypatch)


@pytest.fixture
def remote(host: Host, tmp_path: Path) -> Remote:
    new_key_file(tmp_path / "key")
    return Remote(str(tmp_path / "remote"), key=tmp_path / "key")


@pytest.fixture
def there(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Go to the other machine."""

    def go(facts: dict[str, str] = FACTS) -> Host:
        monkeypatch.setenv("SANDLOT_DATA", str(tmp_path / "elsewhere"))
        other = Host.current()

        async def engine() -> Any:
            return SimpleNamespace(facts=dict(facts))

        monkeypatch.setattr(other, "engine", engine)
        return other

    return go


def stored(remote: Path) -> bytes:
    return b"".join(path.read_bytes() for path in remote.rglob("*") if path.is_file())


async def test_there_and_back(host: Host, remote: Remote, there: Any, tmp_path: Path) -> None:
    before = make_snapshot(host)
    stages: list[tuple[str, float | None]] = []
    done = await Snapshot(host, before).push(remote, progress=lambda *what: stages.append(what))
    assert (done.name, done.kind, done.version) == ("demo", "snapshot", 1)
    assert stages[-1] == ("push", 1.0) and done.moved < 3 << 20
    other = there()
    said: list[str] = []
    other.tell = said.append
    snap = await Snapshot.pull("demo", remote=remote, progress=lambda *what: stages.append(what))
    assert snap.name == "demo" and snap.kind == "machine" and stages[-1] == ("pull", 1.0)
    assert files_of(snap.folder) == files_of(before)
    snap.folder.verify(whole=True)
    # Of the host nothing came along, and nothing opens this one.
    source = snap.record.sandbox_record
    assert source.env == source_record().env and source.placeholders == source_record().placeholders
    assert source.secrets["KEY"]["source"] == {"given": "value"}
    assert source.dns == [] and source.upstream_ca == "" and not source.ports[0]["host_port"]
    assert len(said) == 1 and "10.0.0.0/8" in said[0]
    with pytest.raises(NameTaken):
        await Snapshot.pull("demo", remote=remote)
    again = await Snapshot.pull("demo@1", "again", remote=remote)
    for path in files_of(again.folder):
        if not path.endswith((".vmdk", ".json")):
            assert (again.folder.path / path).samefile(snap.folder.path / path), path
    nothing_half_made(other)
    for word in (b"MY_KEY", b"demo", b"common", b"api.example.com", b"source", b"x" * 32):
        assert word not in stored(tmp_path / "remote"), word
    assert (await snap.push(remote)).version == 2
    assert (await again.push(remote, "other")).moved == 0


async def test_only_what_is_new_moves(host: Host, remote: Remote, there: Any) -> None:
    first = make_snapshot(host, "one", seed=1)
    await Snapshot(host, first).push(remote)
    same = make_snapshot(host, "two", seed=1)
    assert (await Snapshot(host, same).push(remote)).moved == 0
    there()
    await Snapshot.pull("one", remote=remote)
    await Snapshot.pull("two", remote=remote)


async def test_what_cannot_go_on_here_is_told_before_anything_is_fetched(
    host: Host, remote: Remote, there: Any, tmp_path: Path
) -> None:
    await Snapshot(host, make_snapshot(host)).push(remote)
    for path in (tmp_path / "remote" / "packs").rglob("*"):
        if path.is_file():
            path.rename(path.with_name(path.name + ".away"))
    other = there({**FACTS, "version": "9"})
    said: list[str] = []
    other.tell = said.append
    with pytest.raises(SnapshotMismatch, match="version of QEMU") as caught:
        await Snapshot.pull("demo", remote=remote)
    assert "fallback" in caught.value.hint and caught.value.differences["version"] == ("7.2", "9")
    for path in (tmp_path / "remote" / "packs").rglob("*.away"):
        path.rename(path.with_suffix(""))
    snap = await Snapshot.pull("demo", remote=remote, fallback=True)
    assert snap.kind == "disk" and "only the disk is pulled" in said[0]
    assert not (snap.folder.path / "memory").exists()
    assert (await Snapshot.pull("demo", "d", remote=remote, disk_only=True)).kind == "disk"


async def test_a_damaged_pack_keeps_nothing(
    host: Host, remote: Remote, there: Any, tmp_path: Path
) -> None:
    await Snapshot(host, make_snapshot(host)).push(remote)
    for path in (tmp_path / "remote" / "packs").rglob("*"):
        if path.is_file():
            data = bytearray(path.read_bytes())
            for at in range(0, len(data), 1000):
                data[at] ^= 1
            path.write_bytes(data)
    other = there()
    with pytest.raises(RemoteDamaged):
        await Snapshot.pull("demo", remote=remote)
    nothing_half_made(other)
    assert not await Snapshot.list()


async def test_a_full_disk_keeps_nothing(
    host: Host, remote: Remote, there: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Snapshot(host, make_snapshot(host)).push(remote)
    other = there()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(ResourceError, match="not enough disk"):
        await Snapshot.pull("demo", remote=remote)
    monkeypatch.undo()
    nothing_half_made(other)


async def test_names_are_told(host: Host, remote: Remote) -> None:
    with pytest.raises(RemoteNotFound, match="nothing was ever pushed"):
        await Snapshot.pull("demo", remote=remote)
    await Snapshot(host, make_snapshot(host)).push(remote)
    with pytest.raises(RemoteNotFound, match="no 'other'"):
        await Snapshot.pull("other", remote=remote)
    with pytest.raises(ConfigError, match="a name to push under"):
        await Snapshot(host, host.snapshots.find("demo")).push(remote, "a/b")
    twin = make_snapshot(host, "twin", seed=3)
    with pytest.raises(RemoteConflict, match="did not come from it"):
        await Snapshot(host, twin).push(remote, "demo")
    assert (await Snapshot(host, twin).push(remote, "demo", force=True)).version == 2


async def test_a_manifest_that_lies_is_refused(
    host: Host, remote: Remote, there: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One who may push could write anything there: it is checked as a file from a stranger is."""
    from sandlot.sandbox.pushing import parts

    folder = make_snapshot(host)
    for change, why in (
        ({"layers": ["../../x"]}, "missing"), ({"layers": "x"}, "layers"), ({"unknown": 1}, "unknown"),
        ({"source": {}}, "cannot be|whole"), ({"machine": {"memory": 1}}, "whole|cannot be"),
    ):  # fmt: skip
        config, files = parts(folder, folder.record(), {})
        lie = json.loads(json.dumps(config))
        lie["snapshot"] |= change
        async with (
            remote.open(create=True) as repository,
            begin_push(repository, "snapshot", "lie", "lie", force=True) as push,
        ):
            await push.send(lie, files)
        with pytest.raises(SnapshotDamaged, match=why):
            await Snapshot.pull("lie", "pulled", remote=remote)
    nothing_half_made(host)
